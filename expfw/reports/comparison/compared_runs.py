"""Recorded runs to compare, and their differences."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from expfw.errors import ConfigError, NotFoundError, list_choices
from expfw.reports.live import sweep_status
from expfw.tracking import ranking, run_index
from expfw.tracking.environment import Environment
from expfw.tracking.recorded_run import RecordedRun
from expfw.tracking.run_index import Workspace

_SMALLER_IS_BETTER = ("loss", "error", "mse", "mae", "rmse")
_LARGER_IS_BETTER = ("accuracy", "precision", "recall", "f1", "auc")
_IGNORED_PARAMETERS = ("name", "runs_dir", "quiet")
_CPU_FEATURES = "vector instructions"


@dataclass(frozen=True)
class RunComparison:
    """Several runs to compare, in display order, and the names of the metrics to show."""

    runs: Sequence[RecordedRun]
    metrics: Sequence[str]

    @cached_property
    def targets(self) -> list[tuple[str, str]]:
        """Objective metric of each run, and its better direction: `min` or `max`."""
        return [
            (
                str(run.result.objective_metric or run.params.get("objective.metric")),
                str(run.params.get("objective.mode")),
            )
            for run in self.runs
        ]

    @cached_property
    def objectives(self) -> list[float | None]:
        """Objective of each run."""
        return [run.result.objective for run in self.runs]

    @cached_property
    def seconds(self) -> list[float]:
        """Duration of each run."""
        return [float(run.last.get("seconds") or run.records[-1]["time"] - run.first["time"]) for run in self.runs]

    @cached_property
    def params(self) -> tuple[dict[str, list[Any]], dict[str, Any]]:
        """Parameters that differ, with the value of each run, None if missing; and parameters that do not."""
        return _split_by_difference(
            [{k: value for k, value in run.params.items() if k not in _IGNORED_PARAMETERS} for run in self.runs], None
        )

    @cached_property
    def environment(self) -> dict[str, list[str]]:
        """Entries of the environment that differ and can change results, with the value of each run."""
        differing, _ = _split_by_difference([_describe_environment(run) for run in self.runs], "none")
        if (values := differing.get(_CPU_FEATURES)) is not None:
            common_features = set.intersection(*(set(value.split()) for value in values))
            differing[_CPU_FEATURES] = [
                " ".join(f for f in value.split() if f not in common_features) or "none" for value in values
            ]
        codes = [run.code or {} for run in self.runs]
        common_names = set.intersection(*map(set, codes))  # none if the code of a run is not recorded
        rows = {f"code of {name}": [code[name] for code in codes] for name in sorted(common_names)}
        return differing | {name: values for name, values in rows.items() if len(set(values)) > 1}

    @cached_property
    def other_packages(self) -> dict[str, list[str]]:
        """Different versions of packages that all environments contain and that do not change results."""
        environments = [run.environment or Environment() for run in self.runs]
        names = set.intersection(*(set(environment.packages) for environment in environments))
        names -= {"expfw", *(name for environment in environments for name in environment.relevant_packages)}
        rows = {name: [environment.packages[name] for environment in environments] for name in sorted(names)}
        return {name: versions for name, versions in rows.items() if len(set(versions)) > 1}

    def get_values(self, metric: str) -> list[float | None]:
        """Returns the value of a metric for each run."""
        return [run.result.metrics.get(metric) for run in self.runs]

    def find_best_values(self, metric: str, values: Sequence[float | None] | None = None) -> set[float]:
        """Returns the best of these values of a metric; empty if all are equal or the better direction is unknown.

        Args:
            metric: name of the metric.
            values: value of each run; by default that of its result.
        """
        values = self.get_values(metric) if values is None else values
        present = {value for value in values if value is not None and value == value}
        mode = "min" if metric.endswith(_SMALLER_IS_BETTER) else "max" if metric.endswith(_LARGER_IS_BETTER) else None
        if {name for name, _ in self.targets} == {metric}:
            mode = self.targets[0][1] if len(set(self.targets)) == 1 else None
        if mode is None or len(present) < 2:
            return set()
        return {min(present) if mode == "min" else max(present)}


def _split_by_difference(
    mappings: Sequence[Mapping[str, Any]], missing: Any
) -> tuple[dict[str, list[Any]], dict[str, Any]]:
    """Returns the entries that differ, with all values, and the others."""
    keys = dict.fromkeys(key for mapping in mappings for key in mapping)
    rows = {key: [mapping.get(key, missing) for mapping in mappings] for key in keys}
    differing = {key: values for key, values in rows.items() if len(set(map(json.dumps, values))) > 1}
    return differing, {key: values[0] for key, values in rows.items() if key not in differing}


def compare_runs(ids: Sequence[str], workspace: Workspace, metrics: Sequence[str] = ()) -> RunComparison:
    """Reads the records of the runs to compare; a sweep is replaced by its trials, best first.

    Raises:
        NotFoundError: if an ID matches nothing or several runs, or if no run has a metric.
        ConfigError: if there are fewer than two runs.
    """
    all_runs = run_index.list_all(workspace.runs_dir)
    runs_by_id: dict[str, RecordedRun] = {}
    for id_prefix in ids:
        run = run_index.find_recorded(all_runs, id_prefix, "sweep or run", workspace.runs_dir)
        if not run.is_sweep:
            runs_by_id[run.id] = run
            continue
        groups = ranking.rank_seed_groups(sweep_status.read_trials(run), run.first["objective"]["mode"])
        ranks = {trial.run_id: rank for rank, trial in enumerate(trial for group in groups for trial in group.trials)}
        trial_runs = sorted((r for r in all_runs if r.id in ranks), key=lambda r: ranks[r.id])
        if not trial_runs:
            raise NotFoundError(
                f"sweep {run.id} has no trials to compare; to show its status: expfw sweeps status {run.id}"
            )
        runs_by_id |= {trial_run.id: trial_run for trial_run in trial_runs}
    if len(runs_by_id) < 2:
        count_text = f"only {next(iter(runs_by_id))}" if runs_by_id else "none"
        raise ConfigError(f"expected at least two runs to compare, got {count_text}; `expfw runs list` lists all runs")
    order = ("test/", "val/", "train/epoch_", "train/", "")
    known_metrics = sorted(
        {name for run in runs_by_id.values() for name in run.result.metrics},
        key=lambda name: (next(index for index, prefix in enumerate(order) if name.startswith(prefix)), name),
    )
    for name in metrics:
        if name not in known_metrics:
            raise NotFoundError(f"unknown metric {name!r} in these runs.{list_choices(name, sorted(known_metrics))}")
    return RunComparison(list(runs_by_id.values()), list(dict.fromkeys(metrics)) or known_metrics)


def _describe_environment(run: RecordedRun) -> dict[str, str]:
    """Formats the environment, which may explain differences; for a resumed run, that of its first start."""
    recorded, info = run.environment or Environment(), run.info
    values = {"expfw": recorded.expfw, "python": recorded.python}
    values |= {name: recorded.packages.get(name) for name in recorded.relevant_packages}
    sources = {source.rpartition(" ")[::2] for source in recorded.plugins.values()}
    values |= {f"plugins of {name}": version for name, version in sources if name not in ("", "expfw")}
    if recorded.git is not None:
        values["git"] = f"{recorded.git.commit[:10]}{' and changes' if recorded.git.dirty else ''}"
    if recorded.cpu.cores is not None:
        values |= {"CPU": recorded.cpu.model, "cores": str(recorded.cpu.cores)}
        values[_CPU_FEATURES] = " ".join(recorded.cpu.features)
    values["memory"] = None if recorded.memory_gib is None else f"{recorded.memory_gib:g} GiB"
    values["GPUs"] = None if recorded.gpus is None else ", ".join(recorded.gpus) or "no GPU"
    values |= {name: str(info[name]) for name in ("threads", "replicas") if name in info}
    return {name: value for name, value in values.items() if value is not None}
