"""The command `show`: layers, parameters, FLOPs and memory of a model."""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path
from typing import Any

from expfw.api.data import check_loaded_data
from expfw.api.model_summary import ModelSummary
from expfw.api.run import Run
from expfw.config.compose import Composition
from expfw.config.freeze import redact_config
from expfw.config.run_plugins import make_plugins
from expfw.errors import PluginError
from expfw.plugins.manager import list_preload_modules, make_manager
from expfw.reports.console import make_console
from expfw.reports.table import Column, Table
from expfw.system.formatting import format_size, pluralize
from expfw.system.garbage_collection import import_modules
from expfw.system.json_output import print_json, reserve_stdout_for_json
from expfw.system.redirection import redirect_noise
from expfw.tracking import journal


def show_model(composition: Composition, as_json: bool) -> None:
    """Builds the model and prints its summary; trains nothing and writes nothing to the runs folder."""
    config = composition.compose()
    with redirect_noise(), reserve_stdout_for_json(), tempfile.TemporaryDirectory(prefix="expfw-") as folder:
        plugins = make_plugins(config, composition.catalogue)
        hook = make_manager(plugins, report=lambda line: None).hook
        run = Run("show", "show", Path(folder), config, config.objective, journal.discard_record, hook, training=False)
        data = check_loaded_data(hook.expfw_load_data(config=config, run=run), config)
        import_modules(list_preload_modules(plugins))
        model = hook.expfw_build_model(config=config, run=run, data=data)
        if model is None:
            raise PluginError(f"model plugin {config.model['plugin']!r}: build returned None; expected a model")
        unsaved = list(hook.expfw_unsaved_random(model=model, data=data) or ())
        summary: ModelSummary = hook.expfw_summary(config=config, model=model, data=data)
    samples = {name: len(split) for name, split in data.get_splits().items()}
    if as_json:
        results = {"config": redact_config(config), "samples": samples, "input_shape": data.spec.input_shape}
        print_json({**results, **dataclasses.asdict(summary), "unsaved_random": unsaved})
        return
    console = make_console()
    batch_size = config.train.batch_size
    steps_per_epoch = -(-samples["train"] // batch_size)
    step_count = config.train.steps or config.train.epochs * steps_per_epoch
    console.print(
        " ".join(f"{kind}={getattr(config, kind)['plugin']}" for kind in ("model", "dataset", "backend")),
        f"\nsamples: {', '.join(f'{count:,} {name}' for name, count in samples.items())}, "
        f"each {_format_shape(data.spec.input_shape)}; {pluralize(step_count, 'step')} of "
        f"{pluralize(batch_size, 'sample')}, {steps_per_epoch:,} per epoch\n",
        sep="",
    )
    has_flops = any(layer.flops is not None for layer in summary.layers)
    columns = [Column(name) for name in ("layer", "kind", "output")]
    columns += [Column(name, "number", "{:,}".format) for name in ("parameters", "FLOPs")[: 1 + has_flops]]
    rows = [[row.name, row.kind, row.output_shape, row.parameters, row.flops][: len(columns)] for row in summary.layers]
    console.print(Table(columns, rows))
    memory = " + ".join(f"{purpose} {format_size(size)}" for purpose, size in summary.memory.items())
    fixed = f", {summary.fixed:,} fixed" if summary.fixed else ""
    console.print(
        f"parameters: {summary.parameters:,} trained{fixed}\n"
        f"FLOPs: {summary.flops:,} per sample for a forward pass; a training step needs about three times as many\n"
        f"memory: at most {format_size(sum(summary.memory.values()))} in training = {memory}\n"
        f"operations: {', '.join(f'{kind} {count}' for kind, count in summary.operations.items())}"
    )
    if unsaved:
        warning = "state not in checkpoints; a resumed run gets different random numbers"
        console.print(f"random: {', '.join(unsaved)} ({warning})")


def _format_shape(shape: Any) -> str:
    if isinstance(shape, dict):
        return ", ".join(f"{name} {_format_shape(part)}" for name, part in shape.items())
    return "x".join(map(str, shape)) or "scalar"
