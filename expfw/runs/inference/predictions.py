"""What a model made of samples: classes with their probabilities, or values; as a table, as JSON, as files."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from expfw.api.data import DataSpec, by_name
from expfw.errors import ConfigError, RunsFolderError, did_you_mean
from expfw.system.formatting import number
from expfw.system.json_output import as_json

FORMATS = (".csv", ".npz", ".json")


@dataclass(frozen=True)
class Output:
    """One output of the model.

    Attributes:
        name: of the output; empty where there is only one.
        values: `(n, ...)`.
        classes: how many there are; None for values.
    """

    name: str
    values: Any
    classes: int | None
    class_names: Sequence[str]

    @cached_property
    def flat(self) -> Any:
        """`(n, numbers)`; of a single probability, of the second of two classes, both."""
        import numpy as np

        flat = np.asarray(self.values, np.float64).reshape((len(self.values), -1))
        return np.hstack([1 - flat, flat]) if self.classes == 2 and flat.shape[1] == 1 else flat

    @cached_property
    def score(self) -> str:
        """What the numbers of classes are: `probability`, or `score` where they are none."""
        import numpy as np

        ones = np.allclose(self.flat.sum(axis=1), 1, atol=1e-3) and self.flat.min() >= 0
        return "probability" if ones else "score"

    @cached_property
    def order(self) -> Any:
        """Of each sample, its classes, likeliest first."""
        return (-self.flat).argsort(axis=1, kind="stable")

    def called(self, number: int) -> str:
        """The name of a class."""
        return self.class_names[number] if self.class_names else str(number)

    def described(self, row: int) -> dict[str, Any]:
        """What is said of one sample, as JSON values."""
        values = self.flat[row]
        if self.classes is None:
            return {"values": values.tolist() if len(values) > 1 else float(values[0])}
        first, *others = (int(number) for number in self.order[row])
        found = {"class": first, "class_name": self.called(first), self.score: float(values[first])}
        if others:
            found |= {"runner_up": others[0], f"runner_up_{self.score}": float(values[others[0]])}
        return found | {"outputs": values.tolist()}

    def header(self) -> list[str]:
        """Of the columns on the screen."""
        prefix = f"{self.name} " if self.name else ""
        return [
            f"{prefix}{word}" for word in (("value",) if self.classes is None else ("class", self.score, "runner-up"))
        ]

    def cells(self, row: int) -> list[str]:
        """Those columns for one sample."""
        values = self.flat[row]
        if self.classes is None:
            shown = "  ".join(number(value) for value in values[:6])
            return [shown if len(values) <= 6 else f"{shown}  and {len(values) - 6} more"]
        ranked = self.order[row][:2]
        said = [self._share(values[one]) for one in ranked]
        second = f"{self.called(int(ranked[1]))} ({said[1]})" if len(ranked) > 1 else ""
        return [self.called(int(ranked[0])), said[0], second]

    def _share(self, value: float) -> str:
        if self.score != "probability" or math.isnan(value):
            return number(value)
        return f"{value:.1%}"


@dataclass(frozen=True)
class Predictions:
    """What was predicted of some samples."""

    names: Sequence[str]
    outputs: Sequence[Output]

    def as_json(self) -> list[dict[str, Any]]:
        """One dictionary for each sample."""
        return [
            {"sample": name, **self._merged({one.name: one.described(row) for one in self.outputs})}
            for row, name in enumerate(self.names)
        ]

    @staticmethod
    def _merged(described: Mapping[str, dict[str, Any]]) -> Mapping[str, Any]:
        return described[""] if list(described) == [""] else described

    def write(self, path: Path) -> None:
        """Writes all of it, in the format that the name ends with; there as a whole or not at all.

        Raises:
            RunsFolderError: it cannot be written.
        """
        unfinished = path.with_name(f".unfinished-{path.name}")
        try:
            {".csv": self._csv, ".npz": self._npz, ".json": self._json}[path.suffix.lower()](unfinished)
            unfinished.replace(path)
        except OSError as error:
            unfinished.unlink(missing_ok=True)
            raise RunsFolderError(f"{path} cannot be written ({error.strerror}); choose another --output") from error

    def _json(self, path: Path) -> None:
        path.write_text(as_json(self.as_json()))

    def _csv(self, path: Path) -> None:
        with open(path, "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["sample", *(column for one in self.outputs for column in _columns(one))])
            for row, name in enumerate(self.names):
                writer.writerow([name, *(cell for one in self.outputs for cell in _row(one, row))])

    def _npz(self, path: Path) -> None:
        import numpy as np

        found: dict[str, Any] = {"samples": np.array(self.names)}
        for one in self.outputs:
            end = f"_{one.name}" if one.name else ""
            found[f"outputs{end}"] = one.values
            if one.classes is not None:
                found[f"classes{end}"] = one.order[:, 0].astype(np.int32)
        with open(path, "wb") as file:
            np.savez(file, **found)


def _columns(one: Output) -> list[str]:
    prefix, count = f"{one.name}_" if one.name else "", one.flat.shape[1]
    if one.classes is None:
        return [f"{prefix}value_{i}" for i in range(count)] if count > 1 else [f"{prefix}value"]
    return [f"{prefix}class", f"{prefix}class_name", *(f"{prefix}{one.score}_{one.called(i)}" for i in range(count))]


def _row(one: Output, row: int) -> list[Any]:
    values = [repr(float(value)) for value in one.flat[row]]
    if one.classes is None:
        return values
    first = int(one.order[row][0])
    return [first, one.called(first), *values]


def predictions(names: Sequence[str], output: Any, data: DataSpec) -> Predictions:
    """From the outputs of a model for data of that kind."""
    targets, parts = data.targets(), by_name(output)
    classes = {name: of for name, (of, _) in targets.items()}
    if classes.keys() != parts.keys():  # a model that names its outputs in its own way
        classes = dict.fromkeys(parts)
    return Predictions(names, [Output(name, part, classes[name], data.class_names) for name, part in parts.items()])


def check_output(path: Path) -> None:
    """Refuses a name whose format nobody can tell, before anything is computed."""
    if path.suffix.lower() not in FORMATS:
        suggestion = did_you_mean(path.suffix, FORMATS)
        raise ConfigError(f"--output {path}: unknown format {path.suffix!r}.{suggestion} Expected {', '.join(FORMATS)}")
    if not path.absolute().parent.is_dir():
        raise ConfigError(f"--output {path}: there is no folder {path.absolute().parent}")
