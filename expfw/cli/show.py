"""What `expfw show` prints: the model that would be trained, in numbers."""

from __future__ import annotations

import argparse
import dataclasses
import os
import tempfile
from pathlib import Path
from typing import Any

from expfw.api.data import Splits, checked
from expfw.api.model_summary import ModelSummary
from expfw.api.run import Run
from expfw.api.settings import RunConfig
from expfw.config.compose import compose
from expfw.config.freeze import make_plugins, shown
from expfw.errors import PluginError
from expfw.plugins.catalogue import catalogue
from expfw.plugins.manager import manager, preloads
from expfw.reports import console
from expfw.reports.tables import plain_table
from expfw.system import formatting, output
from expfw.system.garbage_collection import import_modules
from expfw.system.json_output import people_on_stderr, print_json


def show(files: tuple[str, ...], options: argparse.Namespace, as_json: bool) -> None:
    """Composes the configuration, builds the model, trains nothing and writes nothing into the runs folder."""
    config = compose(options.overrides, files, options.config_name or "config", options.config_dir)
    with output.noise_to(Path(os.devnull)), people_on_stderr():
        summary, data, unsaved = _built(config, files)
    samples = {name: len(split) for name, split in data.present().items()}
    if as_json:
        content = {"config": shown(config), "samples": samples, "input_shape": data.spec.input_shape}
        print_json({**content, **dataclasses.asdict(summary), "unsaved_random": unsaved})
        return
    chosen = " ".join(f"{kind}={getattr(config, kind)['plugin']}" for kind in ("model", "dataset", "backend"))
    counts = ", ".join(f"{count:,} {name}" for name, count in samples.items())
    screen = console.screen()
    screen.print(f"{chosen}\nsamples: {counts}, each {_times(data.spec.input_shape)}; {_plan(config, samples)}\n")
    screen.print(_table(summary))
    screen.print("\n".join(_lines(summary)))
    if unsaved:
        what = "draw from a state that no checkpoint has; a run that goes on comes to other numbers"
        screen.print(f"random: {', '.join(unsaved)} {what}")


def _built(config: RunConfig, files: tuple[str, ...]) -> tuple[ModelSummary, Splits, list[str]]:
    plugins = make_plugins(config, catalogue(files))
    hook = manager(plugins, report=lambda line: None).hook
    with tempfile.TemporaryDirectory(prefix="expfw-") as folder:
        run = Run("show", "show", Path(folder), config, config.objective, record=_forget, hook=hook, training=False)
        data = checked(hook.expfw_load_data(config=config, run=run), config)
        import_modules(preloads(plugins))
        model = hook.expfw_build_model(config=config, run=run, data=data)
        if model is None:
            raise PluginError(f"model plugin {config.model['plugin']!r} built nothing; its build must return the model")
        unsaved = list(hook.expfw_unsaved_random(model=model, data=data) or ())
        return hook.expfw_summary(config=config, model=model, data=data), data, unsaved


def _forget(kind: str, **fields: Any) -> None:
    """Nothing of this is recorded."""


def _plan(config: RunConfig, samples: dict[str, int]) -> str:
    per_epoch = -(-samples["train"] // config.train.batch_size)
    total = config.train.steps or config.train.epochs * per_epoch
    steps, batch = formatting.many(total, "step"), formatting.many(config.train.batch_size, "sample")
    return f"{steps} of {batch}, {per_epoch:,} an epoch"


def _table(summary: ModelSummary) -> Any:
    counted = any(layer.flops is not None for layer in summary.layers)
    rows = [
        [layer.name, layer.kind, layer.output_shape, f"{layer.parameters:,}", *[_count(layer.flops)] * counted]
        for layer in summary.layers
    ]
    made = plain_table(["layer", "kind", "output", "parameters", *["FLOPs"] * counted], rows)
    for column in made.columns[3:]:
        column.justify = "right"
    return made


def _lines(summary: ModelSummary) -> list[str]:
    parts = " + ".join(f"{what} {formatting.size(size)}" for what, size in summary.memory.items())
    operations = ", ".join(f"{kind} {count}" for kind, count in summary.operations.items())
    return [
        f"parameters: {summary.parameters:,} trained" + (f", {summary.fixed:,} fixed" if summary.fixed else ""),
        f"FLOPs: {summary.flops:,} per sample, forward; a training step takes about three times as many",
        f"memory: {formatting.size(sum(summary.memory.values()))} in training at most = {parts}",
        f"operations: {operations}",
    ]


def _count(value: int | None) -> str:
    return "" if value is None else f"{value:,}"


def _times(shape: Any) -> str:
    if isinstance(shape, dict):
        return ", ".join(f"{name} {_times(part)}" for name, part in shape.items())
    return "x".join(map(str, shape)) or "one number"
