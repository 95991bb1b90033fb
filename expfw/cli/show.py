"""The command `show`: layers, parameters, FLOPs and memory of a model."""

from __future__ import annotations

import argparse
import dataclasses
import os
import tempfile
from pathlib import Path
from typing import Any

from expfw.api.data import Splits, check_loaded_data
from expfw.api.model_summary import ModelSummary
from expfw.api.run import Run
from expfw.api.run_config import RunConfig
from expfw.cli.output import Output
from expfw.config.compose import compose
from expfw.config.freeze import redact_config
from expfw.config.run_plugins import make_plugins
from expfw.errors import PluginError
from expfw.plugins.catalogue import Catalogue
from expfw.plugins.manager import list_preload_modules, make_manager
from expfw.reports.console import make_console
from expfw.reports.tables import make_plain_table
from expfw.system import formatting
from expfw.system.garbage_collection import import_modules
from expfw.system.json_output import print_json, reserve_stdout_for_json
from expfw.system.redirection import redirect_noise
from expfw.tracking import journal


def show_model(catalogue: Catalogue, options: argparse.Namespace, output: Output) -> None:
    """Composes the configuration, builds the model and prints its summary.

    Trains nothing and writes nothing to the runs folder.
    """
    config = compose(options.overrides, catalogue, options.config_name or "config", options.config_dir)
    with redirect_noise(Path(os.devnull)), reserve_stdout_for_json():
        summary, data, unsaved = _build_model(config, catalogue)
    samples = {name: len(split) for name, split in data.get_splits().items()}
    if output.is_json:
        results = {"config": redact_config(config), "samples": samples, "input_shape": data.spec.input_shape}
        print_json({**results, **dataclasses.asdict(summary), "unsaved_random": unsaved})
        return
    plugin_choices = " ".join(f"{kind}={getattr(config, kind)['plugin']}" for kind in ("model", "dataset", "backend"))
    counts = ", ".join(f"{count:,} {name}" for name, count in samples.items())
    console = make_console()
    console.print(
        f"{plugin_choices}\nsamples: {counts}, each {_format_shape(data.spec.input_shape)}; "
        f"{_format_steps(config, samples)}\n"
    )
    console.print(_make_layer_table(summary))
    console.print("\n".join(_format_totals(summary)))
    if unsaved:
        warning = "state not in checkpoints; a resumed run gets different random numbers"
        console.print(f"random: {', '.join(unsaved)} ({warning})")


def _build_model(config: RunConfig, catalogue: Catalogue) -> tuple[ModelSummary, Splits, list[str]]:
    plugins = make_plugins(config, catalogue)
    hook = make_manager(plugins, report=lambda line: None).hook
    with tempfile.TemporaryDirectory(prefix="expfw-") as folder:
        run = Run(
            "show",
            "show",
            Path(folder),
            config,
            config.objective,
            record=journal.discard_record,
            hook=hook,
            training=False,
        )
        data = check_loaded_data(hook.expfw_load_data(config=config, run=run), config)
        import_modules(list_preload_modules(plugins))
        model = hook.expfw_build_model(config=config, run=run, data=data)
        if model is None:
            raise PluginError(f"model plugin {config.model['plugin']!r}: build returned None; expected a model")
        unsaved = list(hook.expfw_unsaved_random(model=model, data=data) or ())
        return hook.expfw_summary(config=config, model=model, data=data), data, unsaved


def _format_steps(config: RunConfig, samples: dict[str, int]) -> str:
    per_epoch = -(-samples["train"] // config.train.batch_size)
    total = config.train.steps or config.train.epochs * per_epoch
    steps, batch = formatting.pluralize(total, "step"), formatting.pluralize(config.train.batch_size, "sample")
    return f"{steps} of {batch}, {per_epoch:,} per epoch"


def _make_layer_table(summary: ModelSummary) -> Any:
    has_flops = any(layer.flops is not None for layer in summary.layers)
    rows = [
        [layer.name, layer.kind, layer.output_shape, f"{layer.parameters:,}", *[_format_count(layer.flops)] * has_flops]
        for layer in summary.layers
    ]
    table = make_plain_table(["layer", "kind", "output", "parameters", *["FLOPs"] * has_flops], rows)
    for column in table.columns[3:]:
        column.justify = "right"
    return table


def _format_totals(summary: ModelSummary) -> list[str]:
    parts = " + ".join(f"{part} {formatting.format_size(size)}" for part, size in summary.memory.items())
    operations = ", ".join(f"{kind} {count}" for kind, count in summary.operations.items())
    return [
        f"parameters: {summary.parameters:,} trained" + (f", {summary.fixed:,} fixed" if summary.fixed else ""),
        f"FLOPs: {summary.flops:,} per sample for a forward pass; a training step needs about three times as many",
        f"memory: at most {formatting.format_size(sum(summary.memory.values()))} in training = {parts}",
        f"operations: {operations}",
    ]


def _format_count(value: int | None) -> str:
    return "" if value is None else f"{value:,}"


def _format_shape(shape: Any) -> str:
    if isinstance(shape, dict):
        return ", ".join(f"{name} {_format_shape(part)}" for name, part in shape.items())
    return "x".join(map(str, shape)) or "scalar"
