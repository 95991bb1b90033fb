"""What the records of some runs say, and in what they differ."""

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
    """One run.

    Attributes:
        params: its configuration, flattened, as it went on last.
        metrics: the values that it came to, or has come to so far.
        objective: its value, by the metric and in the direction that the run was judged by.
        environment: versions, commit, threads, by name.
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
    """Some runs, in the order in which they are shown.

    Attributes:
        metrics: names of those that are shown.
    """

    runs: Sequence[ComparedRun]
    metrics: Sequence[str]

    @cached_property
    def params(self) -> tuple[dict[str, list[Any]], dict[str, Any]]:
        """Those that differ, with the value of each run, None where it has none; and those that do not."""
        keys = dict.fromkeys(key for run in self.runs for key in run.params if key not in _IGNORED_PARAMETERS)
        rows = {key: [run.params.get(key) for run in self.runs] for key in keys}
        differing = {key: values for key, values in rows.items() if not _are_all_equal(values)}
        return differing, {key: values[0] for key, values in rows.items() if key not in differing}

    @cached_property
    def environment(self) -> dict[str, list[str]]:
        """Those that differ, with the value of each run."""
        common_keys = set.intersection(*(set(run.environment) for run in self.runs))
        rows = {
            key: [run.environment.get(key, "none") for run in self.runs]
            for key in dict.fromkeys(key for run in self.runs for key in run.environment)
            if key in common_keys
            or not key.startswith(_PLUGIN_PREFIX)  # one without that plugin has none of its versions
        }
        differing = {key: values for key, values in rows.items() if not _are_all_equal(values)}
        if (values := differing.get(_CPU_FEATURES)) is not None:
            common_features = set.intersection(*(set(value.split()) for value in values))
            differing[_CPU_FEATURES] = [
                " ".join(f for f in value.split() if f not in common_features) or "none" for value in values
            ]
        return differing

    def get_values(self, metric: str) -> list[float | None]:
        """Of each run."""
        return [run.metrics.get(metric) for run in self.runs]

    def get_mode(self, metric: str) -> str | None:
        """`min` or `max`: the direction in which a metric is better; None where nobody knows, or runs disagree."""
        first = self.runs[0]
        if all(metric == run.metric for run in self.runs):
            return first.mode if all(run.mode == first.mode for run in self.runs) else None
        name = metric.rpartition("/")[2]
        if name.endswith(_SMALLER_IS_BETTER):
            return "min"
        return "max" if name.endswith(_LARGER_IS_BETTER) else None

    def mark_best_runs(self, metric: str) -> list[bool]:
        """For each run whether its value is the best one; none is where all are the same."""
        return mark_best_values(self.get_values(metric), self.get_mode(metric))


def mark_best_values(values: Sequence[float | None], mode: str | None) -> list[bool]:
    """For each value whether it is the best one; none is where all are the same or nobody knows the direction."""
    present = [value for value in values if value is not None and value == value]
    if mode is None or len(set(present)) < 2:
        return [False] * len(values)
    best_value = min(present) if mode == "min" else max(present)
    return [value == best_value for value in values]


def shorten_parameter_keys(keys: Iterable[str]) -> list[str]:
    """Keys of parameters for the head of a column: `model` for `model.plugin`, else the last part where that tells."""
    return tables.shorten_keys([key.removesuffix(".plugin").removesuffix(".name") for key in keys])


def _are_all_equal(values: Sequence[Any]) -> bool:
    return all(json.dumps(value) == json.dumps(values[0]) for value in values)


def compare_runs(ids: Sequence[str], workspace: Workspace, metrics: Sequence[str] = ()) -> RunComparison:
    """Reads the records.

    Args:
        ids: of runs, and of sweeps, which stand for their trials, best first.
        metrics: the names that are wanted; by default all that there are.

    Raises:
        NotFoundError: an id is that of nothing, or of several; a metric is that of no run.
        ConfigError: these are not two runs.
        JournalError: a record cannot be read.
    """
    all_entries = [*workspace.list_sweeps(), *workspace.list_runs()]
    entries: dict[str, IndexEntry] = {}
    for id_prefix in ids:
        matching_entry = workspace.find_run_or_sweep(id_prefix, all_entries)
        entries |= {entry.id: entry for entry in _expand_entry(matching_entry, all_entries)}
    if len(entries) < 2:
        count_text = f"{next(iter(entries.values())).id} is one" if entries else "none was given"
        raise ConfigError(f"two runs at least are compared, {count_text}; `expfw runs list` shows all there are")
    runs = [_read_compared_run(entry) for entry in entries.values()]
    known_metrics = list(
        dict.fromkeys(
            name for run in runs for name in (run.metric, *run.metrics) if name in _collect_metric_names(runs)
        )
    )
    for name in metrics:
        if name not in known_metrics:
            raise NotFoundError(
                f"no metric {name!r} in these runs.{did_you_mean(name, known_metrics)} There are: "
                f"{', '.join(sorted(known_metrics))}"
            )
    return RunComparison(runs, list(dict.fromkeys(metrics)) or sorted(known_metrics, key=_get_metric_sort_key))


def _collect_metric_names(runs: Iterable[ComparedRun]) -> set[str]:
    return {name for run in runs for name in run.metrics}


def _get_metric_sort_key(metric: str) -> tuple[int, str]:
    order = ("test/", "val/", "train/epoch_", "train/")
    return next((index for index, prefix in enumerate(order) if metric.startswith(prefix)), len(order)), metric


def _expand_entry(matching_entry: IndexEntry, all_entries: Sequence[IndexEntry]) -> list[IndexEntry]:
    """The run itself; of a sweep the runs of its trials that are still there, best first."""
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
            f"sweep {matching_entry.id} has no trial to compare; `expfw sweeps status {matching_entry.id}` shows it"
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
    facts: dict[str, Any] = {}
    for record in records:
        facts.update(record["values"] if record["kind"] == "facts" else {})
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
        environment=_read_environment(entry.folder, facts),
    )


def _read_environment(folder: Path, facts: Mapping[str, Any]) -> dict[str, str]:
    """What may explain a difference; of a run that went on, as it was in its first life."""
    try:
        recorded = json.loads((folder / run_record.ENVIRONMENT_FILE).read_text())
    except FileNotFoundError:
        recorded = {}
    except (OSError, ValueError) as error:
        raise JournalError(f"{folder / run_record.ENVIRONMENT_FILE} cannot be read ({error})") from error
    environment = {name: str(recorded[name]) for name in ("expfw", "python") if name in recorded}
    environment |= {name: str(version) for name, version in recorded.get("packages", {}).items()}
    sources = {str(source).rpartition(" ")[::2] for source in recorded.get("plugins", {}).values()}
    environment |= {f"{_PLUGIN_PREFIX}{name}": version for name, version in sources if name not in ("", "expfw")}
    if (git := recorded.get("git")) is not None:
        environment["git"] = f"{git['commit'][:10]}{' and changes' if git['dirty'] else ''}"
    if "cpu" in recorded:
        environment["cores"] = str(recorded["cpu"]["cores"])
        environment[_CPU_FEATURES] = " ".join(recorded["cpu"]["features"])
    environment |= {name: str(facts[name]) for name in ("threads", "replicas") if name in facts}
    return environment
