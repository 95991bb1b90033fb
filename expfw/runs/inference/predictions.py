"""Predictions of a model: classes with probabilities, or values; as a table, JSON or files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from expfw.api.data import DataSpec, get_named_parts
from expfw.errors import ConfigError, RunsFolderError, list_choices
from expfw.system.formatting import format_number
from expfw.system.json_output import format_json

FORMATS = (".csv", ".npz", ".json")


class ModelOutput:
    """One output of the model for all samples, `(n, ...)`; its name is empty if it is the only output.

    Attributes:
        classes: number of classes; None for regression.
        flat_values: values of shape `(n, numbers)`; a single probability (of class 1 of 2) is expanded to both classes.
        score_name: `probability` if the values are a probability distribution, otherwise `score`.
        ranked_classes: classes of each sample, the most probable first.
    """

    def __init__(self, name: str, values: Any, classes: int | None, class_names: Sequence[str]) -> None:
        import numpy as np

        self.name, self.values, self.classes = name, values, classes
        flat_values = np.asarray(values, np.float64).reshape((len(values), -1))
        is_single = classes == 2 and flat_values.shape[1] == 1
        self.flat_values = np.hstack([1 - flat_values, flat_values]) if is_single else flat_values
        is_distribution = np.allclose(self.flat_values.sum(axis=1), 1, atol=1e-3) and self.flat_values.min() >= 0
        self.score_name = "probability" if is_distribution else "score"
        self.ranked_classes = (-self.flat_values).argsort(axis=1, kind="stable")
        self.class_names = class_names or [str(number) for number in range(self.flat_values.shape[1])]

    def describe_sample(self, row: int) -> dict[str, Any]:
        """Returns the prediction for one sample, as JSON values."""
        values = self.flat_values[row]
        if self.classes is None:
            return {"values": values.tolist() if len(values) > 1 else float(values[0])}
        first, *others = (int(number) for number in self.ranked_classes[row])
        description = {"class": first, "class_name": self.class_names[first], self.score_name: float(values[first])}
        if others:
            description |= {"runner_up": others[0], f"runner_up_{self.score_name}": float(values[others[0]])}
        return description | {"outputs": values.tolist()}

    def make_columns(self) -> dict[str, Sequence[Any]]:
        """Returns the columns of the written table, by title."""
        prefix, values = f"{self.name}_" if self.name else "", self.flat_values.T.tolist()
        if self.classes is None:
            return {f"{prefix}value_{i}" if len(values) > 1 else f"{prefix}value": v for i, v in enumerate(values)}
        first = self.ranked_classes[:, 0].tolist()
        names = [f"{prefix}{self.score_name}_{class_name}" for class_name in self.class_names]
        return {
            f"{prefix}class": first,
            f"{prefix}class_name": [self.class_names[i] for i in first],
            **dict(zip(names, values, strict=True)),
        }

    def format_cells(self, row: int) -> dict[str, str]:
        """Returns the printed cells of one sample, by title."""
        prefix, values = f"{self.name} " if self.name else "", self.flat_values[row]
        if self.classes is None:
            text = "  ".join(format_number(value) for value in values[:6])
            return {f"{prefix}value": text if len(values) <= 6 else f"{text}  and {len(values) - 6} more"}
        top_classes = [int(number) for number in self.ranked_classes[row][:2]]
        names = [self.class_names[number] for number in top_classes]
        is_probability = self.score_name == "probability"
        scores = [f"{values[i]:.1%}" if is_probability else format_number(values[i]) for i in top_classes]
        runner_up = f"{names[1]} ({scores[1]})" if len(names) > 1 else ""
        return {f"{prefix}class": names[0], f"{prefix}{self.score_name}": scores[0], f"{prefix}runner-up": runner_up}


class Predictions:
    """Predictions for named samples, from the outputs of a model."""

    def __init__(self, sample_names: Sequence[str], output: Any, data: DataSpec) -> None:
        parts = get_named_parts(output)
        classes = {name: class_count for name, (class_count, _) in data.targets().items()}
        if classes.keys() != parts.keys():  # a model with other output names
            classes = dict.fromkeys(parts)
        self.sample_names = sample_names
        self.outputs = [ModelOutput(name, part, classes[name], data.class_names) for name, part in parts.items()]

    def describe_samples(self) -> list[dict[str, Any]]:
        """Returns one dictionary per sample; for several outputs with one dictionary per output."""
        descriptions = []
        for row, name in enumerate(self.sample_names):
            by_output = {output.name: output.describe_sample(row) for output in self.outputs}
            descriptions.append({"sample": name, **by_output.get("", by_output)})
        return descriptions

    def write(self, path: Path) -> None:
        """Writes the predictions atomically, in the format of the file name suffix."""
        unfinished = path.with_name(f".unfinished-{path.name}")
        try:
            if path.suffix.lower() == ".json":
                unfinished.write_text(format_json(self.describe_samples()))
            elif path.suffix.lower() == ".csv":
                import pandas

                columns = {title: column for output in self.outputs for title, column in output.make_columns().items()}
                pandas.DataFrame({"sample": self.sample_names, **columns}).to_csv(unfinished, index=False)
            else:
                import numpy as np

                arrays: dict[str, Any] = {"samples": np.array(self.sample_names)}
                for output in self.outputs:
                    suffix = f"_{output.name}" if output.name else ""
                    arrays[f"outputs{suffix}"] = output.values
                    if output.classes is not None:
                        arrays[f"classes{suffix}"] = output.ranked_classes[:, 0].astype(np.int32)
                with open(unfinished, "wb") as file:
                    np.savez(file, **arrays)
            unfinished.replace(path)
        except OSError as error:
            unfinished.unlink(missing_ok=True)
            raise RunsFolderError(f"cannot write {path}: {error.strerror}; choose another --output") from error


def check_output(path: Path) -> None:
    """Rejects a path with an unknown format or a missing folder, before the predictions are computed."""
    if path.suffix.lower() not in FORMATS:
        raise ConfigError(f"--output {path}: unknown format {path.suffix!r}.{list_choices(path.suffix, FORMATS)}")
    if not path.absolute().parent.is_dir():
        raise ConfigError(f"--output {path}: the folder {path.absolute().parent} does not exist")
