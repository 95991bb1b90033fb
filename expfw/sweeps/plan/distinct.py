"""Which of many configurations have the same network and the same training step, so that they take the same time."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from typing import Any

from expfw.api.contracts import Plugin
from expfw.api.hookspecs import Providers
from expfw.api.optimizer import Optimizer
from expfw.api.settings import RunConfig
from expfw.config.freeze import make_plugins
from expfw.plugins.catalogue import catalogue
from expfw.runs.request import Request

_TAKEN = ("batch_size", "limit_batches", "deterministic", "accumulate")
_ON_OR_OFF = ("clip_norm", "clip_value", "average")


def step_key(request: Request) -> str:
    """The same for configurations that differ only in numbers which a step is computed with.

    Those are the numbers of an optimizer and what `train` clips or averages by; how long is trained, seeds, and plugins
    that only watch. All other options of a plugin may change its network, for all that we know.
    """
    train = request.config.train
    return json.dumps(
        [
            [[plugin.kind, plugin.name, _essence(plugin.config)] for plugin in _taking_part(request)],
            [getattr(train, name) for name in _TAKEN],
            [getattr(train, name) is not None for name in _ON_OR_OFF],
            bool(train.class_weight),
        ],
        sort_keys=True,
        default=str,
    )


def learning_rates(request: Request) -> list[float]:
    """Those of its optimizers."""
    return [one.learning_rate for plugin in _taking_part(request) for one in _optimizers(plugin.config)]


def alone(config: RunConfig, files: tuple[str, ...]) -> RunConfig:
    """The same without trackers and without callbacks that only watch."""
    kept = {
        name: node
        for name, node in config.callback.items()
        for plugin in make_plugins(dataclasses.replace(config, callback={name: node}), catalogue(files), ("callback",))
        if _provides(plugin)
    }
    return dataclasses.replace(config, callback=kept, tracker={}, quiet=True)


def _taking_part(request: Request) -> list[Plugin]:
    made = make_plugins(request.config, catalogue(request.files), ("dataset", "model", "backend", "callback"))
    return [plugin for plugin in made if plugin.kind != "callback" or _provides(plugin)]


def _provides(plugin: Plugin) -> bool:
    """Whether it answers or wraps a hook that provides something: data, a model, a training."""
    return any(hasattr(plugin, name) for name in vars(Providers) if name.startswith("expfw_"))


def _essence(options: Any) -> Any:
    """A plugin's options as JSON-like values, of optimizers only what they are, not the numbers they compute with."""
    if isinstance(options, Optimizer):
        momentum, decay = bool(options.momentum), options.weight_decay is not None
        schedule = [options.schedule.name, options.schedule.warmup > 0]
        return [options.name, momentum, decay, schedule, _essence(options.options)]
    if dataclasses.is_dataclass(options):
        return {field.name: _essence(getattr(options, field.name)) for field in dataclasses.fields(options)}
    if isinstance(options, Mapping):
        return {str(key): _essence(value) for key, value in options.items()}
    return [_essence(value) for value in options] if isinstance(options, (list, tuple)) else options


def _optimizers(options: Any) -> Iterator[Optimizer]:
    if isinstance(options, Optimizer):
        yield options
    elif dataclasses.is_dataclass(options):
        for field in dataclasses.fields(options):
            yield from _optimizers(getattr(options, field.name))
