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
from expfw.tracking import journal, ranking, run_index, run_record
from expfw.tracking.run_index import Entry

_SMALLER_IS_BETTER = ("loss", "error", "mse", "mae", "rmse")
_LARGER_IS_BETTER = ("accuracy", "precision", "recall", "f1", "auc")
_NO_PARAMETERS = ("name", "runs_dir", "quiet")
_PLUGIN, _FEATURES = "plugins of ", "vector instructions"


@dataclass(frozen=True)
class Compared:
    """One run.

    Attributes:
        params: its configuration, flattened, as it went on last.
        metrics: the values that it came to, or has come to so far.
        objective: its value, by the metric and in the direction that the run was judged by.
        surroundings: versions, commit, threads, by name.
    """

    entry: Entry
    params: Mapping[str, Any]
    metrics: Mapping[str, float]
    objective: float | None
    metric: str
    mode: str
    seconds: float | None
    surroundings: Mapping[str, str]

    @property
    def id(self) -> str:
        return self.entry.id


@dataclass(frozen=True)
class Collected:
    """Some runs, in the order in which they are shown.

    Attributes:
        metrics: names of those that are shown.
    """

    runs: Sequence[Compared]
    metrics: Sequence[str]

    @cached_property
    def params(self) -> tuple[dict[str, list[Any]], dict[str, Any]]:
        """Those that differ, with the value of each run, None where it has none; and those that do not."""
        keys = dict.fromkeys(key for run in self.runs for key in run.params if key not in _NO_PARAMETERS)
        rows = {key: [run.params.get(key) for run in self.runs] for key in keys}
        differ = {key: values for key, values in rows.items() if not _same(values)}
        return differ, {key: values[0] for key, values in rows.items() if key not in differ}

    @cached_property
    def surroundings(self) -> dict[str, list[str]]:
        """Those that differ, with the value of each run."""
        everywhere = set.intersection(*(set(run.surroundings) for run in self.runs))
        rows = {
            key: [run.surroundings.get(key, "none") for run in self.runs]
            for key in dict.fromkeys(key for run in self.runs for key in run.surroundings)
            if key in everywhere or not key.startswith(_PLUGIN)  # one without that plugin has none of its versions
        }
        differ = {key: values for key, values in rows.items() if not _same(values)}
        if (values := differ.get(_FEATURES)) is not None:
            common = set.intersection(*(set(value.split()) for value in values))
            differ[_FEATURES] = [" ".join(f for f in value.split() if f not in common) or "none" for value in values]
        return differ

    def values(self, metric: str) -> list[float | None]:
        """Of each run."""
        return [run.metrics.get(metric) for run in self.runs]

    def mode(self, metric: str) -> str | None:
        """`min` or `max`: the direction in which a metric is better; None where nobody knows, or runs disagree."""
        first = self.runs[0]
        if all(metric == run.metric for run in self.runs):
            return first.mode if all(run.mode == first.mode for run in self.runs) else None
        name = metric.rpartition("/")[2]
        if name.endswith(_SMALLER_IS_BETTER):
            return "min"
        return "max" if name.endswith(_LARGER_IS_BETTER) else None

    def best(self, metric: str) -> list[bool]:
        """For each run whether its value is the best one; none is where all are the same."""
        return best(self.values(metric), self.mode(metric))


def best(values: Sequence[float | None], mode: str | None) -> list[bool]:
    """For each value whether it is the best one; none is where all are the same or nobody knows the direction."""
    present = [value for value in values if value is not None and value == value]
    if mode is None or len(set(present)) < 2:
        return [False] * len(values)
    top = min(present) if mode == "min" else max(present)
    return [value == top for value in values]


def short_names(keys: Iterable[str]) -> list[str]:
    """Keys of parameters for the head of a column: `model` for `model.plugin`, else the last part where that tells."""
    return tables.short_names([key.removesuffix(".plugin").removesuffix(".name") for key in keys])


def _same(values: Sequence[Any]) -> bool:
    return all(json.dumps(value) == json.dumps(values[0]) for value in values)


def collect(ids: Sequence[str], runs_dir: Path, metrics: Sequence[str] = ()) -> Collected:
    """Reads the records.

    Args:
        ids: of runs, and of sweeps, which stand for their trials, best first.
        metrics: the names that are wanted; by default all that there are.

    Raises:
        NotFoundError: an id is that of nothing, or of several; a metric is that of no run.
        ConfigError: these are not two runs.
        JournalError: a record cannot be read.
    """
    everything = [*run_index.sweeps(runs_dir), *run_index.runs(runs_dir)]
    entries: dict[str, Entry] = {}
    for identity in ids:
        found = run_index.find(iter(everything), identity, "sweep or run", runs_dir)
        entries |= {entry.id: entry for entry in _runs_of(found, everything)}
    if len(entries) < 2:
        got = f"{next(iter(entries.values())).id} is one" if entries else "none was given"
        raise ConfigError(f"two runs at least are compared, {got}; `expfw runs list` shows all there are")
    runs = [_read(entry) for entry in entries.values()]
    known = list(dict.fromkeys(name for run in runs for name in (run.metric, *run.metrics) if name in _of(runs)))
    for name in metrics:
        if name not in known:
            raise NotFoundError(
                f"no metric {name!r} in these runs.{did_you_mean(name, known)} There are: {', '.join(sorted(known))}"
            )
    return Collected(runs, list(dict.fromkeys(metrics)) or sorted(known, key=_by_importance))


def _of(runs: Iterable[Compared]) -> set[str]:
    return {name for run in runs for name in run.metrics}


def _by_importance(metric: str) -> tuple[int, str]:
    order = ("test/", "val/", "train/epoch_", "train/")
    return next((place for place, prefix in enumerate(order) if metric.startswith(prefix)), len(order)), metric


def _runs_of(found: Entry, everything: Sequence[Entry]) -> list[Entry]:
    """The run itself; of a sweep the runs of its trials that are still there, best first."""
    if found.first["kind"] == "run_started":
        return [found]
    by_id = {entry.id: entry for entry in everything}
    ranked = ranking.ranked(sweep_status.trials(found), found.first["objective"]["mode"])
    trials = [trial for one in ranked for trial in one.trials]
    runs = [by_id[trial.run_id] for trial in trials if trial.run_id in by_id]
    if not runs:
        raise NotFoundError(f"sweep {found.id} has no trial to compare; `expfw sweeps status {found.id}` shows it")
    return runs


def _read(entry: Entry) -> Compared:
    records, _ = journal.read(entry.folder / journal.NAME)
    lives = [record for record in records if record["kind"] in ("run_started", "run_resumed")]
    params = lives[-1].get("params") or {}
    end = entry.last if entry.last["kind"] == "run_ended" else {}
    metrics = dict(end.get("metrics") or {})
    if not end:
        for record in records:
            metrics.update(record["values"] if record["kind"] == "metrics" else {})
    facts: dict[str, Any] = {}
    for record in records:
        facts.update(record["values"] if record["kind"] == "facts" else {})
    return Compared(
        entry=entry,
        params=params,
        metrics=metrics,
        objective=end.get("objective"),
        metric=str(end.get("objective_metric") or params.get("objective.metric", "val/loss")),
        mode=str(params.get("objective.mode", "min")),
        seconds=float(end["seconds"]) if end.get("seconds") is not None else records[-1]["time"] - records[0]["time"],
        surroundings=_surroundings(entry.folder, facts),
    )


def _surroundings(folder: Path, facts: Mapping[str, Any]) -> dict[str, str]:
    """What may explain a difference; of a run that went on, as it was in its first life."""
    try:
        known = json.loads((folder / run_record.ENVIRONMENT).read_text())
    except FileNotFoundError:
        known = {}
    except (OSError, ValueError) as error:
        raise JournalError(f"{folder / run_record.ENVIRONMENT} cannot be read ({error})") from error
    found = {name: str(known[name]) for name in ("expfw", "python") if name in known}
    found |= {name: str(version) for name, version in known.get("packages", {}).items()}
    sources = {str(source).rpartition(" ")[::2] for source in known.get("plugins", {}).values()}
    found |= {f"{_PLUGIN}{name}": version for name, version in sources if name not in ("", "expfw")}
    if (git := known.get("git")) is not None:
        found["git"] = f"{git['commit'][:10]}{' and changes' if git['dirty'] else ''}"
    if "cpu" in known:
        found["cores"] = str(known["cpu"]["cores"])
        found[_FEATURES] = " ".join(known["cpu"]["features"])
    found |= {name: str(facts[name]) for name in ("threads", "replicas") if name in facts}
    return found
