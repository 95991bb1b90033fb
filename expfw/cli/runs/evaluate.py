"""`expfw runs evaluate`."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from expfw.api.data import Splits
from expfw.api.run_config import flatten
from expfw.cli.output import Output
from expfw.cli.runs import saved_models
from expfw.errors import DataError, PluginError, did_you_mean
from expfw.plugins.catalogue import Catalogue
from expfw.reports import console, tables
from expfw.runs import differences
from expfw.runs.inference import evaluation_data
from expfw.runs.saved_model import ModelDescription
from expfw.system import formatting
from expfw.system.json_output import print_json
from expfw.tracking.workspace import Workspace


def evaluate(run_id: str, overrides: Sequence[str], workspace: Workspace, split: str | None, output: Output) -> None:
    """Prints loss and metrics of the run's saved model.

    Args:
        run_id: ID of the run.
        overrides: overrides of the dataset; if empty, the run's own data is used.
        workspace: the runs folder and the plugins.
        split: name of the only split to evaluate; None for all splits.
        output: output format.

    Raises:
        DataError: if there is no such split.
        ExpfwError: see `find_run_with_model`, `load_data` and `load_model`.
    """
    entry = saved_models.find_run_with_model(run_id, workspace)
    description = _add_files(workspace.catalogue, saved_models.get_description(entry))
    config = evaluation_data.make_evaluation_config(description, overrides, workspace.runs_dir)
    data = evaluation_data.load_data(description, config, is_own_data=not overrides)
    splits = [split] if split is not None else list(data.get_splits())
    _check_split(data, splits)
    if not overrides:
        for line in differences.find_differences(
            evaluation_data.get_data_identity(description), flatten(entry.first["data"])
        ):
            print(f"the data has changed since the run started: {line}", file=sys.stderr)
    with saved_models.silenced_frameworks():
        model = saved_models.load_saved_model(entry)
        metrics_by_split = model.hook.expfw_evaluate(config=model.config, model=model.model, data=data, splits=splits)
    if metrics_by_split is None:
        raise PluginError(f"backend={config.backend['plugin']} cannot evaluate: it does not implement expfw_evaluate")
    samples = {name: len(data.get_splits()[name]) for name in splits}
    if output.is_json:
        results = {name: {"samples": samples[name], "metrics": dict(metrics_by_split[name])} for name in splits}
        print_json({"run": entry.id, "dataset": dict(config.dataset), "splits": results})
        return
    print(f"run {entry.id} on {evaluation_data.format_data_name(config)}")
    console.make_console().print(_make_table(samples, metrics_by_split))


def _add_files(catalogue: Catalogue, description: ModelDescription) -> ModelDescription:
    """Adds the plugin files that are not copies of the model's files; a copy would define its plugins twice."""
    copies = [Path(file).read_bytes() for file in description.files]
    new_files = [file for file in catalogue.files if not Path(file).is_file() or Path(file).read_bytes() not in copies]
    return dataclasses.replace(description, files=(*description.files, *new_files))


def _check_split(data: Splits, names: Sequence[str]) -> None:
    known_splits = list(data.get_splits())
    for name in names:
        if name not in known_splits:
            suggestion = did_you_mean(name, known_splits)
            raise DataError(f"unknown split {name!r}.{suggestion} Available: {', '.join(known_splits)}")


def _make_table(samples: Mapping[str, int], metrics_by_split: Mapping[str, Mapping[str, float]]) -> Any:
    metrics = list(dict.fromkeys(metric for values in metrics_by_split.values() for metric in values))
    rows = [
        [
            name,
            f"{count:,}",
            *(
                formatting.format_number(metrics_by_split[name][m]) if m in metrics_by_split[name] else ""
                for m in metrics
            ),
        ]
        for name, count in samples.items()
    ]
    return tables.make_plain_table(["split", "samples", *metrics], rows)
