"""Groups of configurations with the same network and training step, which take the same time."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from typing import Any

from expfw.api.contracts import Plugin
from expfw.api.hookspecs import Providers
from expfw.api.optimizer import Optimizer
from expfw.api.run_config import RunConfig
from expfw.config.run_plugins import make_plugins
from expfw.plugins.catalogue import Catalogue, get_catalogue
from expfw.runs.request import Request

_STEP_SETTINGS = ("batch_size", "limit_batches", "deterministic", "accumulate")
_STEP_SWITCHES = ("clip_norm", "clip_value", "average")


def make_step_key(request: Request) -> str:
    """Returns a key that is equal for configurations with the same network and the same training step.

    Such configurations may differ in the numbers of an optimizer, the limits of clipping and averaging in `train`, the
    length of the training, seeds, and plugins that only observe. Every other option of a plugin may change its network.
    """
    train = request.config.train
    return json.dumps(
        [
            [[plugin.kind, plugin.name, _describe_structure(plugin.config)] for plugin in _make_step_plugins(request)],
            [getattr(train, name) for name in _STEP_SETTINGS],
            [getattr(train, name) is not None for name in _STEP_SWITCHES],
            bool(train.class_weight),
        ],
        sort_keys=True,
        default=str,
    )


def get_learning_rates(request: Request) -> list[float]:
    """Returns the learning rates of its optimizers."""
    return [
        optimizer.learning_rate
        for plugin in _make_step_plugins(request)
        for optimizer in _find_optimizers(plugin.config)
    ]


def strip_observers(config: RunConfig, catalogue: Catalogue) -> RunConfig:
    """Returns the configuration without trackers and without callbacks that only observe."""
    callbacks = {
        name: node
        for name, node in config.callback.items()
        for plugin in make_plugins(dataclasses.replace(config, callback={name: node}), catalogue, ("callback",))
        if _is_provider(plugin)
    }
    return dataclasses.replace(config, callback=callbacks, tracker={}, quiet=True)


def _make_step_plugins(request: Request) -> list[Plugin]:
    plugins = make_plugins(request.config, get_catalogue(request.files), ("dataset", "model", "backend", "callback"))
    return [plugin for plugin in plugins if plugin.kind != "callback" or _is_provider(plugin)]


def _is_provider(plugin: Plugin) -> bool:
    """Returns whether the plugin implements or wraps a providing hook: for data, a model or the training."""
    return any(hasattr(plugin, name) for name in vars(Providers) if name.startswith("expfw_"))


def _describe_structure(options: Any) -> Any:
    """Returns a plugin's options as JSON-like values; for optimizers, only the structure without its numbers."""
    if isinstance(options, Optimizer):
        momentum, decay = bool(options.momentum), options.weight_decay is not None
        schedule = [options.schedule.name, options.schedule.warmup > 0]
        return [options.name, momentum, decay, schedule, _describe_structure(options.options)]
    if dataclasses.is_dataclass(options):
        return {field.name: _describe_structure(getattr(options, field.name)) for field in dataclasses.fields(options)}
    if isinstance(options, Mapping):
        return {str(key): _describe_structure(value) for key, value in options.items()}
    return [_describe_structure(value) for value in options] if isinstance(options, (list, tuple)) else options


def _find_optimizers(options: Any) -> Iterator[Optimizer]:
    if isinstance(options, Optimizer):
        yield options
    elif dataclasses.is_dataclass(options):
        for field in dataclasses.fields(options):
            yield from _find_optimizers(getattr(options, field.name))
