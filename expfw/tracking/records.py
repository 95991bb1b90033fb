"""Records of a journal: the fields of each kind, with their types. All records are checked here when they are read.

A field with a default may be missing. The classes describe JSON objects: a record is a dictionary, which trackers
receive, and may have other fields.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from expfw.system.json_values import ABSENT, Count, Identifier, Seconds, complete, decode_json

Record = dict[str, Any]
Values = dict[str, Any]


@dataclass
class PluginOptions:
    """Options of a plugin, with its name."""

    plugin: str


@dataclass
class Config:
    """Sections of a recorded configuration that are read without a check of the whole configuration."""

    dataset: PluginOptions = ABSENT
    model: PluginOptions = ABSENT
    backend: PluginOptions = ABSENT
    callback: dict[str, PluginOptions] = ABSENT
    tracker: dict[str, PluginOptions] = field(default_factory=dict)


@dataclass
class RecordedObjective:
    """The objective of a sweep."""

    metric: str = "val/loss"
    mode: Literal["min", "max"] = "min"


@dataclass
class Setup:
    """The start or resume of a run or sweep; some fields belong to one of them."""

    time: Seconds
    id: Identifier = ABSENT
    name: str = ""
    config: Config = ABSENT
    params: Values = field(default_factory=dict)
    overrides: list[str] = field(default_factory=list)
    files: dict[str, str] = field(default_factory=dict)
    code: dict[str, str] = field(default_factory=dict)
    data: Values = field(default_factory=dict)
    swept: Values = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    fingerprint: str = ""
    sweep_id: Identifier | None = None
    sweep_folder: str | None = None
    trial: Count | None = None
    step: int = ABSENT
    ends: list[Count] = field(default_factory=list)
    tracker: dict[str, PluginOptions] = field(default_factory=dict)
    trials: Count = 0
    seeds: Count = 1
    config_name: str = ABSENT
    config_dir: str | None = None
    hydra: list[str] = field(default_factory=list)
    disabled: list[str] = field(default_factory=list)


@dataclass
class RunStart(Setup):
    """The first record of a run."""

    id: Identifier = field()


@dataclass(kw_only=True)
class SweepStart(RunStart):
    """The first record of a sweep."""

    objective: RecordedObjective


@dataclass
class Points:
    """Metric values at one step."""

    time: Seconds
    step: Count
    values: dict[str, float] = field(default_factory=dict)


@dataclass
class Series:
    """Metric values at consecutive steps."""

    time: Seconds
    step: Count
    values: dict[str, list[float]] = field(default_factory=dict)


@dataclass
class SplitDescription:
    """One split of the data."""

    samples: Count = 0
    digest: str = ""
    arrays: dict[str, Values] = field(default_factory=dict)


@dataclass
class DatasetDescription:
    """The data of a run."""

    time: Seconds
    name: str = ""
    samples: dict[str, Count] = field(default_factory=dict)
    options: Values = field(default_factory=dict)
    identity: Values = field(default_factory=dict)
    splits: dict[str, SplitDescription] = field(default_factory=dict)
    classes: Any = None


@dataclass
class Info:
    """Information about devices and model."""

    time: Seconds
    values: Values = field(default_factory=dict)


@dataclass
class Message:
    """A message."""

    time: Seconds
    text: str
    step: Count = 0


@dataclass
class Note:
    """The description of a sweep, and the metric by which its trials are ranked."""

    time: Seconds
    text: str
    metric: str | None = None


@dataclass
class Artifact:
    """A file or folder, relative to the folder of the journal."""

    time: Seconds
    path: str


@dataclass
class SavedModelRecord(Artifact):
    """The saved model, with types and shapes of its input and output."""

    step: Count
    requirements: list[str]
    input: Values
    output: Values


@dataclass
class BestTrial(Artifact):
    """The best trial of a sweep."""

    trial: Count
    run_id: Identifier


@dataclass
class Failure:
    """An exception that ended the run."""

    time: Seconds
    exception: str | None = None
    traceback: str | None = None


@dataclass
class RunEnd:
    """The end of a run, with the fields of its result."""

    time: Seconds
    status: Literal["FINISHED", "FAILED", "KILLED", "PRUNED"]
    metrics: dict[str, float] = field(default_factory=dict)
    objective: float | None = None
    objective_metric: str | None = None
    best_step: Count | None = None
    metrics_step: Count | None = None
    metrics_epoch: Count | None = None
    steps: Count = 0
    epochs: Count = 0
    seconds: Seconds = 0.0
    error: str | None = None
    warnings: list[str] = field(default_factory=list)
    stop_reason: str | None = None


@dataclass
class SweepEnd:
    """The end of a sweep."""

    time: Seconds
    status: Literal["FINISHED", "FAILED", "KILLED", "PRUNED"]
    error: str | None = ABSENT


@dataclass
class AnyRecord:
    """A record of another kind, for example of a later version."""

    time: Seconds = 0.0


_SCHEMAS: Mapping[str, type] = {
    "run_started": RunStart,
    "sweep_started": SweepStart,
    "run_resumed": Setup,
    "sweep_resumed": Setup,
    "metrics": Points,
    "system": Points,
    "series": Series,
    "dataset": DatasetDescription,
    "info": Info,
    "message": Message,
    "note": Note,
    "artifact": Artifact,
    "model": SavedModelRecord,
    "best": BestTrial,
    "failure": Failure,
    "run_ended": RunEnd,
    "sweep_ended": SweepEnd,
}


def parse_record(line: bytes) -> Record:
    """Returns the record in a line of a journal, with defaults for missing fields; raises `ValueError` otherwise."""
    try:
        record = decode_json(line)
    except ValueError as error:
        raise ValueError("the line is not a JSON record") from error
    if not isinstance(record, dict) or not isinstance(record.get("kind"), str):
        raise ValueError("the line is not a record with a kind")
    record = complete(_SCHEMAS.get(record["kind"], AnyRecord), record)
    if record["kind"] == "series" and len(set(map(len, record["values"].values()))) > 1:
        raise ValueError("values: expected lists of the same length")
    return record
