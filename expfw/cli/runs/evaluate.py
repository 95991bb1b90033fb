"""`expfw runs evaluate`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from expfw.errors import DataError, PluginError, list_choices
from expfw.reports.console import make_console
from expfw.reports.table import Column, Table
from expfw.runs.inference import evaluation_data
from expfw.runs.resume import find_data_differences
from expfw.system.json_output import print_json
from expfw.system.redirection import redirect_noise
from expfw.tracking.run_index import Workspace


def evaluate(run_id: str, overrides: Sequence[str], split: str | None, workspace: Workspace, as_json: bool) -> None:
    """Prints loss and metrics of the run's saved model; without overrides of the dataset, on the run's own data."""
    run = workspace.find_run(run_id)
    model = run.model
    config = evaluation_data.make_evaluation_config(model, overrides, workspace.runs_dir)
    data, identity = evaluation_data.load_data(model, config, is_own_data=not overrides)
    counts = {name: len(samples) for name, samples in data.get_splits().items()}
    if split is not None and split not in counts:
        raise DataError(f"unknown split {split!r}.{list_choices(split, counts)}")
    splits = [split] if split is not None else list(counts)
    if not overrides:
        for line in find_data_differences(run, identity):
            print(line, file=sys.stderr)
    with redirect_noise():
        metrics_by_split = model.hook.expfw_evaluate(config=model.config, model=model.model, data=data, splits=splits)
    if metrics_by_split is None:
        raise PluginError(f"backend={config.backend['plugin']} cannot evaluate: it does not implement expfw_evaluate")
    if as_json:
        results = {name: {"samples": counts[name], "metrics": dict(metrics_by_split[name])} for name in splits}
        print_json({"run": run.id, "dataset": dict(config.dataset), "splits": results})
        return
    place = f" in {config.dataset['path']}" if config.dataset.get("path") else ""
    print(f"run {run.id} on {config.dataset['plugin']}{place}")
    metrics = list(dict.fromkeys(name for values in metrics_by_split.values() for name in values))
    rows = [[name, counts[name], *(metrics_by_split[name].get(metric) for metric in metrics)] for name in splits]
    make_console().print(Table(["split", Column("samples", format="{:,}".format), *metrics], rows))
