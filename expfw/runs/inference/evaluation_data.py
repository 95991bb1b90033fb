"""Data to evaluate a saved model on: those of its run or others, as the model wants them."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from expfw.api.contracts import Dataset
from expfw.api.data import Affine, DataSpec, Preprocessed, Splits, by_name, checked, each
from expfw.api.plain_values import flat, plain
from expfw.api.run import Run
from expfw.api.settings import RunConfig
from expfw.config.freeze import freeze, make_plugins
from expfw.errors import ConfigError, DataError
from expfw.plugins.catalogue import catalogue
from expfw.plugins.manager import manager
from expfw.runs.resume import with_overrides
from expfw.runs.saved_model import Description


def configured(model: Description, overrides: Sequence[str], runs_dir: Path) -> RunConfig:
    """The configuration of the model's run, with the dataset that these overrides make of it.

    Raises:
        ConfigError: one of them is not about the dataset, or does not fit it.
    """
    for word in overrides:
        if not word.lstrip("+").startswith(("dataset=", "dataset.")):
            raise ConfigError(
                f"{word}: only the data can be others here; expected dataset=NAME or dataset.OPTION=VALUE"
            )
    config = dataclasses.replace(model.config, runs_dir=str(runs_dir.absolute()))
    if not overrides:
        return config
    if any(word.lstrip("+").startswith("dataset=") for word in overrides):
        from expfw.config.compose import compose

        return dataclasses.replace(config, dataset=compose(overrides, model.files).dataset)
    values = plain(config)
    taken = values.pop("from_environment")
    changed, from_environment = with_overrides(values, overrides)
    return freeze(changed, catalogue(model.files), {**taken, **from_environment})


def load(model: Description, config: RunConfig, own: bool) -> Splits:
    """The data, preprocessed as the model was trained.

    Args:
        own: whether they are those of the run, limited as they were there.

    Raises:
        DataError: they are not there, or not for this model.
    """
    plugins = make_plugins(config, catalogue(model.files), kinds=("dataset",))
    run = Run("data", "data", Path(), config, config.objective, record=lambda kind, **fields: None, training=False)
    hook = manager(plugins, report=lambda line: None).hook
    train = config.train if own else dataclasses.replace(config.train, limit_batches=None)
    found = checked(hook.expfw_load_data(config=config, run=run), dataclasses.replace(config, train=train))
    _check(model.data, found.spec)
    return _as_trained(found, model.data)


def identity(model: Description) -> dict[str, Any]:
    """What tells the data of the model's run, as they are now, from others; flat, as JSON values."""
    (dataset,) = make_plugins(model.config, catalogue(model.files), kinds=("dataset",))
    assert isinstance(dataset, Dataset)
    return flat(json.loads(json.dumps(plain(dataset.identity()), default=str)))


def name(config: RunConfig) -> str:
    """What the data are called on the screen."""
    path = config.dataset.get("path")
    return f"{config.dataset['plugin']} in {path}" if path else str(config.dataset["plugin"])


def _check(trained: DataSpec, given: DataSpec) -> None:
    """Refuses data that the model was not made for; fewer classes, without names, may be some of its classes."""
    shapes = [each(tuple, spec.input_shape) for spec in (trained, given)]
    if shapes[0] != shapes[1]:
        raise DataError(f"samples of these data have shape {shapes[1]}; the model takes {shapes[0]}")
    targets, others = trained.targets(), given.targets()
    for part in targets.keys() | others.keys():
        expected, found = (_what(spec.get(part)) for spec in (targets, others))
        if expected != found and not _some_of(targets.get(part), others.get(part), given.class_names):
            raise DataError(f"targets {part}{' ' if part else ''}of these data are {found}; the model gives {expected}")
    if trained.class_names and given.class_names and tuple(trained.class_names) != tuple(given.class_names):
        first, second = next((a, b) for a, b in zip(trained.class_names, given.class_names, strict=True) if a != b)
        raise DataError(f"these data have a class {second!r} where the model has {first!r}; expected the same classes")


def _what(target: Any) -> str:
    if target is None:
        return "absent"
    classes, shape = target
    return f"{classes} classes" if classes is not None else f"values of shape {shape}" if shape else "values"


def _some_of(trained: Any, given: Any, names: Sequence[str]) -> bool:
    return bool(trained and given and trained[0] and given[0] and given[0] <= trained[0] and not names)


def _as_trained(data: Splits, spec: DataSpec) -> Splits:
    """The same samples with the preprocessing that the model was trained with."""
    if _same(data.spec.preprocessing, spec.preprocessing):
        return data
    own, wanted = (_by_part(one.preprocessing, spec.input_shape) for one in (data.spec, spec))

    def again(x: Any, before: Affine, after: Affine) -> Any:
        return Preprocessed(_Raw(x, before), after)

    splits = {
        name: dataclasses.replace(split, x=each(again, split.x, own, wanted)) for name, split in data.present().items()
    }
    return Splits(dataclasses.replace(data.spec, preprocessing=spec.preprocessing), **splits)


def _by_part(preprocessing: Any, shape: Any) -> Any:
    if isinstance(shape, Mapping) and not isinstance(preprocessing, Mapping):
        return dict.fromkeys(shape, preprocessing)
    return preprocessing


def _same(one: Any, other: Any) -> bool:
    import numpy as np

    first, second = by_name(one), by_name(other)
    return first.keys() == second.keys() and all(
        np.array_equal(np.float32(getattr(first[name], what)), np.float32(getattr(second[name], what)))
        for name in first
        for what in ("scale", "offset")
    )


class _Raw:
    """Raw samples of preprocessed ones, made when they are asked for."""

    def __init__(self, x: Any, preprocessing: Affine) -> None:
        self.x, self.preprocessing, self.shape = x, preprocessing, tuple(x.shape)

    def __len__(self) -> int:
        return int(self.shape[0])

    def __getitem__(self, rows: Any) -> Any:
        return self.preprocessing.inverse(self.x[rows])
