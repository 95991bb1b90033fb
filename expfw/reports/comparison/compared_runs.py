"""Recorded runs to compare, and their differences."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from expfw.errors import ConfigError, JournalError, NotFoundError, did_you_mean
from expfw.reports import tables
from expfw.reports.live import sweep_status
from expfw.tracking import journal, ranking, run_record
from expfw.tracking.run_index import IndexEntry
from expfw.tracking.workspace import Workspace

_SMALLER_IS_BETTER = ("loss", "error", "mse", "mae", "rmse")
_LARGER_IS_BETTER = ("accuracy", "precision", "recall", "f1", "auc")
_IGNORED_PARAMETERS = ("name", "runs_dir", "quiet")
_PLUGIN_PREFIX, _CPU_FEATURES = "plugins of ", "vector instructions"


@dataclass(frozen=True)
class ComparedRun:
    """A recorded run in a comparison.

    Attributes:
        entry: index entry of the run.
        params: flattened configuration at the last start or resume.
        metrics: final metrics, or the latest ones if the run has not ended.
        objective: value of the objective metric, or None.
        metric: name of the objective metric of this run.
        mode: `min` or `max`, the better direction of the objective metric.
        seconds: wall time in seconds, or None.
        environment: versions, git commit and threads, by name.
    """

    entry: IndexEntry
    params: Mapping[str, Any]
    metrics: Mapping[str, float]
    objective: float | None
    metric: str
    mode: str
    seconds: float | None
    environment: Mapping[str, str]

    @property
    def id(self) -> str:
        return self.entry.id


@dataclass(frozen=True)
class RunComparison:
    """Several runs to compare.

    Attributes:
        runs: the runs, in display order.
        metrics: names of the metrics to show.
    """

    runs: Sequence[ComparedRun]
    metrics: Sequence[str]

    @cached_property
    def params(self) -> tuple[dict[str, list[Any]], dict[str, Any]]:
        """Parameters that differ, with the value of each run, None if missing; and parameters that do not."""
        keys = dict.fromkeys(key for run in self.runs for key in run.params if key not in _IGNORED_PARAMETERS)
        rows = {key: [run.params.get(key) for run in self.runs] for key in keys}
        differing = {key: values for key, values in rows.items() if not _are_all_equal(values)}
        return differing, {key: values[0] for key, values in rows.items() if key not in differing}

    @cached_property
    def environment(self) -> dict[str, list[str]]:
        """Entries of the environment that differ, with the value of each run."""
        common_keys = set.intersection(*(set(run.environment) for run in self.runs))
        rows = {
            key: [run.environment.get(key, "none") for run in self.runs]
            for key in dict.fromkeys(key for run in self.runs for key in run.environment)
            if key in common_keys
            or not key.startswith(_PLUGIN_PREFIX)  # without the plugin there is no version to compare
        }
        differing = {key: values for key, values in rows.items() if not _are_all_equal(values)}
        if (values := differing.get(_CPU_FEATURES)) is not None:
            common_features = set.intersection(*(set(value.split()) for value in values))
            differing[_CPU_FEATURES] = [
                " ".join(f for f in value.split() if f not in common_features) or "none" for value in values
            ]
        return differing

    def get_values(self, metric: str) -> list[float | None]:
        """Returns the value of a metric for each run."""
        return [run.metrics.get(metric) for run in self.runs]

    def get_mode(self, metric: str) -> str | None:
        """Returns `min` or `max`, the better direction of a metric; None if it is unknown or the runs disagree."""
        first = self.runs[0]
        if all(metric == run.metric for run in self.runs):
            return first.mode if all(run.mode == first.mode for run in self.runs) else None
        name = metric.rpartition("/")[2]
        if name.endswith(_SMALLER_IS_BETTER):
            return "min"
        return "max" if name.endswith(_LARGER_IS_BETTER) else None

    def mark_best_runs(self, metric: str) -> list[bool]:
        """Returns for each run whether its value is the best; False for all if they are equal."""
        return mark_best_values(self.get_values(metric), self.get_mode(metric))


def mark_best_values(values: Sequence[float | None], mode: str | None) -> list[bool]:
    """Returns for each value whether it is the best; False for all if they are equal or `mode` is None."""
    present = [value for value in values if value is not None and value == value]
    if mode is None or len(set(present)) < 2:
        return [False] * len(values)
    best_value = min(present) if mode == "min" else max(present)
    return [value == best_value for value in values]


def shorten_parameter_keys(keys: Iterable[str]) -> list[str]:
    """Shortens parameter keys for column headers: `model` for `model.plugin`, otherwise the last part if unique."""
    return tables.shorten_keys([key.removesuffix(".plugin").removesuffix(".name") for key in keys])


def _are_all_equal(values: Sequence[Any]) -> bool:
    return all(json.dumps(value) == json.dumps(values[0]) for value in values)


def compare_runs(ids: Sequence[str], workspace: Workspace, metrics: Sequence[str] = ()) -> RunComparison:
    """Reads the records of the runs to compare.

    Args:
        ids: IDs of runs and sweeps; a sweep is replaced by its trials, best first.
        workspace: workspace that contains the runs.
        metrics: names of the metrics to compare; by default all.

    Raises:
        NotFoundError: if an ID matches nothing or several runs, or if no run has a metric.
        ConfigError: if there are fewer than two runs.
        JournalError: if a record cannot be read.
    """
    all_entries = [*workspace.list_sweeps(), *workspace.list_runs()]
    entries: dict[str, IndexEntry] = {}
    for id_prefix in ids:
        matching_entry = workspace.find_run_or_sweep(id_prefix, all_entries)
        entries |= {entry.id: entry for entry in _expand_entry(matching_entry, all_entries)}
    if len(entries) < 2:
        count_text = f"only {next(iter(entries.values())).id}" if entries else "none"
        raise ConfigError(f"expected at least two runs to compare, got {count_text}; `expfw runs list` lists all runs")
    runs = [_read_compared_run(entry) for entry in entries.values()]
    known_metrics = list(
        dict.fromkeys(
            name for run in runs for name in (run.metric, *run.metrics) if name in _collect_metric_names(runs)
        )
    )
    for name in metrics:
        if name not in known_metrics:
            raise NotFoundError(
                f"unknown metric {name!r} in these runs.{did_you_mean(name, known_metrics)} Available: "
                f"{', '.join(sorted(known_metrics))}"
            )
    return RunComparison(runs, list(dict.fromkeys(metrics)) or sorted(known_metrics, key=_get_metric_sort_key))


def _collect_metric_names(runs: Iterable[ComparedRun]) -> set[str]:
    return {name for run in runs for name in run.metrics}


def _get_metric_sort_key(metric: str) -> tuple[int, str]:
    order = ("test/", "val/", "train/epoch_", "train/")
    return next((index for index, prefix in enumerate(order) if metric.startswith(prefix)), len(order)), metric


def _expand_entry(matching_entry: IndexEntry, all_entries: Sequence[IndexEntry]) -> list[IndexEntry]:
    """Returns the run itself, or the remaining runs of a sweep's trials, best first."""
    if matching_entry.first["kind"] == "run_started":
        return [matching_entry]
    entries_by_id = {entry.id: entry for entry in all_entries}
    groups = ranking.rank_seed_groups(
        sweep_status.read_trials(matching_entry), matching_entry.first["objective"]["mode"]
    )
    trials = [trial for group in groups for trial in group.trials]
    runs = [entries_by_id[trial.run_id] for trial in trials if trial.run_id in entries_by_id]
    if not runs:
        raise NotFoundError(
            f"sweep {matching_entry.id} has no trials to compare; to show its status: expfw sweeps status "
            f"{matching_entry.id}"
        )
    return runs


def _read_compared_run(entry: IndexEntry) -> ComparedRun:
    records, _ = journal.read_records(entry.folder / journal.NAME)
    start_records = [record for record in records if record["kind"] in ("run_started", "run_resumed")]
    params = start_records[-1].get("params") or {}
    end_record = entry.last if entry.last["kind"] == "run_ended" else {}
    metrics = dict(end_record.get("metrics") or {})
    if not end_record:
        for record in records:
            metrics.update(record["values"] if record["kind"] == "metrics" else {})
    info: dict[str, Any] = {}
    for record in records:
        info.update(record["values"] if record["kind"] == "info" else {})
    return ComparedRun(
        entry=entry,
        params=params,
        metrics=metrics,
        objective=end_record.get("objective"),
        metric=str(end_record.get("objective_metric") or params.get("objective.metric", "val/loss")),
        mode=str(params.get("objective.mode", "min")),
        seconds=float(end_record["seconds"])
        if end_record.get("seconds") is not None
        else records[-1]["time"] - records[0]["time"],
        environment=_read_environment(entry.folder, info),
    )


def _read_environment(folder: Path, info: Mapping[str, Any]) -> dict[str, str]:
    """Reads the environment, which may explain differences; for a resumed run, that of its first start."""
    try:
        recorded = json.loads((folder / run_record.ENVIRONMENT_FILE).read_text())
    except FileNotFoundError:
        recorded = {}
    except (OSError, ValueError) as error:
        raise JournalError(f"cannot read {folder / run_record.ENVIRONMENT_FILE}: {error}") from error
    environment = {name: str(recorded[name]) for name in ("expfw", "python") if name in recorded}
    environment |= {name: str(version) for name, version in recorded.get("packages", {}).items()}
    sources = {str(source).rpartition(" ")[::2] for source in recorded.get("plugins", {}).values()}
    environment |= {f"{_PLUGIN_PREFIX}{name}": version for name, version in sources if name not in ("", "expfw")}
    if (git := recorded.get("git")) is not None:
        environment["git"] = f"{git['commit'][:10]}{' and changes' if git['dirty'] else ''}"
    if "cpu" in recorded:
        environment["cores"] = str(recorded["cpu"]["cores"])
        environment[_CPU_FEATURES] = " ".join(recorded["cpu"]["features"])
    environment |= {name: str(info[name]) for name in ("threads", "replicas") if name in info}
    return environment
