"""Predictions of a model: classes with probabilities, or values; as a table, JSON or files."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from expfw.api.data import DataSpec, get_named_parts
from expfw.errors import ConfigError, RunsFolderError, did_you_mean
from expfw.system.formatting import format_number
from expfw.system.json_output import format_json

FORMATS = (".csv", ".npz", ".json")


@dataclass(frozen=True)
class ModelOutput:
    """One output of the model.

    Attributes:
        name: name of the output; empty if there is only one.
        values: predictions of shape `(n, ...)`.
        classes: number of classes; None for regression.
        class_names: names of the classes; empty if they have no names.
    """

    name: str
    values: Any
    classes: int | None
    class_names: Sequence[str]

    @cached_property
    def flat_values(self) -> Any:
        """Values of shape `(n, numbers)`; a single probability (of class 1 of 2) is expanded to both classes."""
        import numpy as np

        values = np.asarray(self.values, np.float64).reshape((len(self.values), -1))
        return np.hstack([1 - values, values]) if self.classes == 2 and values.shape[1] == 1 else values

    @cached_property
    def score_name(self) -> str:
        """`probability` if the values are a probability distribution, otherwise `score`."""
        import numpy as np

        is_distribution = np.allclose(self.flat_values.sum(axis=1), 1, atol=1e-3) and self.flat_values.min() >= 0
        return "probability" if is_distribution else "score"

    @cached_property
    def ranked_classes(self) -> Any:
        """Classes of each sample, the most probable first."""
        return (-self.flat_values).argsort(axis=1, kind="stable")

    def get_class_name(self, class_number: int) -> str:
        """Returns the name of a class."""
        return self.class_names[class_number] if self.class_names else str(class_number)

    def describe_sample(self, row: int) -> dict[str, Any]:
        """Returns the prediction for one sample, as JSON values."""
        values = self.flat_values[row]
        if self.classes is None:
            return {"values": values.tolist() if len(values) > 1 else float(values[0])}
        first, *others = (int(number) for number in self.ranked_classes[row])
        description = {"class": first, "class_name": self.get_class_name(first), self.score_name: float(values[first])}
        if others:
            description |= {"runner_up": others[0], f"runner_up_{self.score_name}": float(values[others[0]])}
        return description | {"outputs": values.tolist()}

    def make_header(self) -> list[str]:
        """Returns the header of the printed columns."""
        prefix = f"{self.name} " if self.name else ""
        return [
            f"{prefix}{word}"
            for word in (("value",) if self.classes is None else ("class", self.score_name, "runner-up"))
        ]

    def format_cells(self, row: int) -> list[str]:
        """Returns the printed columns of one sample."""
        values = self.flat_values[row]
        if self.classes is None:
            text = "  ".join(format_number(value) for value in values[:6])
            return [text if len(values) <= 6 else f"{text}  and {len(values) - 6} more"]
        top_classes = self.ranked_classes[row][:2]
        scores = [self._format_score(values[class_number]) for class_number in top_classes]
        second = f"{self.get_class_name(int(top_classes[1]))} ({scores[1]})" if len(top_classes) > 1 else ""
        return [self.get_class_name(int(top_classes[0])), scores[0], second]

    def _format_score(self, value: float) -> str:
        if self.score_name != "probability" or math.isnan(value):
            return format_number(value)
        return f"{value:.1%}"


@dataclass(frozen=True)
class Predictions:
    """Predictions for some samples.

    Attributes:
        sample_names: name of each sample.
        outputs: outputs of the model.
    """

    sample_names: Sequence[str]
    outputs: Sequence[ModelOutput]

    def describe_samples(self) -> list[dict[str, Any]]:
        """Returns one dictionary per sample."""
        return [
            {
                "sample": name,
                **self._merge_outputs({output.name: output.describe_sample(row) for output in self.outputs}),
            }
            for row, name in enumerate(self.sample_names)
        ]

    @staticmethod
    def _merge_outputs(descriptions: Mapping[str, dict[str, Any]]) -> Mapping[str, Any]:
        return descriptions[""] if list(descriptions) == [""] else descriptions

    def write(self, path: Path) -> None:
        """Writes the predictions atomically, in the format of the file name suffix.

        Raises:
            RunsFolderError: if the file cannot be written.
        """
        unfinished = path.with_name(f".unfinished-{path.name}")
        try:
            {".csv": self._write_csv, ".npz": self._write_npz, ".json": self._write_json}[path.suffix.lower()](
                unfinished
            )
            unfinished.replace(path)
        except OSError as error:
            unfinished.unlink(missing_ok=True)
            raise RunsFolderError(f"cannot write {path}: {error.strerror}; choose another --output") from error

    def _write_json(self, path: Path) -> None:
        path.write_text(format_json(self.describe_samples()))

    def _write_csv(self, path: Path) -> None:
        with open(path, "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["sample", *(column for output in self.outputs for column in _list_columns(output))])
            for row, name in enumerate(self.sample_names):
                writer.writerow([name, *(cell for output in self.outputs for cell in _make_row(output, row))])

    def _write_npz(self, path: Path) -> None:
        import numpy as np

        arrays: dict[str, Any] = {"samples": np.array(self.sample_names)}
        for output in self.outputs:
            suffix = f"_{output.name}" if output.name else ""
            arrays[f"outputs{suffix}"] = output.values
            if output.classes is not None:
                arrays[f"classes{suffix}"] = output.ranked_classes[:, 0].astype(np.int32)
        with open(path, "wb") as file:
            np.savez(file, **arrays)


def _list_columns(output: ModelOutput) -> list[str]:
    prefix, count = f"{output.name}_" if output.name else "", output.flat_values.shape[1]
    if output.classes is None:
        return [f"{prefix}value_{i}" for i in range(count)] if count > 1 else [f"{prefix}value"]
    return [
        f"{prefix}class",
        f"{prefix}class_name",
        *(f"{prefix}{output.score_name}_{output.get_class_name(i)}" for i in range(count)),
    ]


def _make_row(output: ModelOutput, row: int) -> list[Any]:
    values = [repr(float(value)) for value in output.flat_values[row]]
    if output.classes is None:
        return values
    first = int(output.ranked_classes[row][0])
    return [first, output.get_class_name(first), *values]


def make_predictions(names: Sequence[str], output: Any, data: DataSpec) -> Predictions:
    """Returns the predictions for named samples, from the outputs of a model."""
    targets, parts = data.targets(), get_named_parts(output)
    classes = {name: class_count for name, (class_count, _) in targets.items()}
    if classes.keys() != parts.keys():  # a model with other output names
        classes = dict.fromkeys(parts)
    return Predictions(
        names, [ModelOutput(name, part, classes[name], data.class_names) for name, part in parts.items()]
    )


def check_output(path: Path) -> None:
    """Rejects a path with an unknown format or a missing folder, before the predictions are computed."""
    if path.suffix.lower() not in FORMATS:
        suggestion = did_you_mean(path.suffix, FORMATS)
        raise ConfigError(
            f"--output {path}: unknown format {path.suffix!r}.{suggestion} Available: {', '.join(FORMATS)}"
        )
    if not path.absolute().parent.is_dir():
        raise ConfigError(f"--output {path}: the folder {path.absolute().parent} does not exist")
