"""How a run was set up, read back from its record, and how that differs from now."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from expfw.api.run_config import flatten
from expfw.errors import ConfigError, JournalError
from expfw.plugins.entry import PluginEntry
from expfw.runs.differences import describe_difference, find_differences
from expfw.system import cpu
from expfw.tracking import environment, journal, run_folders, run_record
from expfw.tracking.run_index import IndexEntry

_PACKAGES = ("tensorflow", "keras", "numpy")


@dataclass(frozen=True)
class RecordedSetup:
    """What a run wrote down about itself.

    Attributes:
        config_values: its configuration, as plain values; secrets are hidden.
        setup_record: the last record that tells how the run was set up: `run_started` or `run_resumed`.
        environment: what surrounded it when it began.
        facts: what it found out about devices and model.
        end_steps: the steps at which it had ended before it was trained longer.
        swept: what tells it from the other trials of its sweep.
    """

    entry: IndexEntry
    config_values: Mapping[str, Any]
    setup_record: journal.Record
    environment: Mapping[str, Any]
    facts: Mapping[str, Any]
    end_steps: Sequence[int] = ()
    swept: Mapping[str, Any] = field(default_factory=dict)

    @property
    def cores(self) -> int:
        """How many processor cores it could use."""
        return int(self.environment["cpu"]["cores"]) if self.environment else len(cpu.get_cores())

    @property
    def files(self) -> tuple[str, ...]:
        return tuple(self.setup_record["files"])


def read_recorded_setup(entry: IndexEntry) -> RecordedSetup:
    """Reads it.

    Raises:
        ConfigError: the configuration in the folder is not the one that the run was started with.
        JournalError: the journal is damaged.
    """
    try:
        records, _ = journal.read_records(entry.folder / journal.NAME)
    except JournalError as error:
        raise JournalError(
            f"{error}; the run cannot go on. For a new one from its weights: expfw run ... "
            f"{run_folders.make_begin_from_override(entry.folder)}"
        ) from error
    start_records = [r for r in records if r["kind"] in ("run_started", "run_resumed")]
    if not start_records or "config" not in start_records[-1]:
        raise JournalError(
            f"the run in {entry.folder} was recorded by another version of expfw, which cannot go on; for a new one "
            f"from its weights: expfw run ... train.begin_from={entry.folder}/checkpoints/STEP"
        )
    facts: dict[str, Any] = next((r["values"] for r in records if r["kind"] == "facts"), {})
    _check_config_file(entry, [start_record["params"] for start_record in start_records[-2:]])
    try:
        recorded_environment = json.loads((entry.folder / run_record.ENVIRONMENT_FILE).read_text())
    except (OSError, ValueError):
        recorded_environment = {}  # what is not known may differ: it has to be accepted
    end_steps, swept = start_records[-1].get("ends", ()), start_records[0].get("swept", {})
    return RecordedSetup(
        entry, start_records[-1]["config"], start_records[-1], recorded_environment, facts, end_steps, swept
    )


def _check_config_file(entry: IndexEntry, recorded_params: Sequence[Mapping[str, Any]]) -> None:
    """That nobody has edited the configuration; of the journal's, the last or, for a moment, the one before."""
    path = entry.folder / run_record.CONFIG_FILE
    if not path.exists():
        return  # the process died before it wrote it; the journal has it
    try:
        values = yaml.safe_load(path.read_text())
        file_params = json.loads(json.dumps(flatten(values))) if isinstance(values, dict) else None
    except (OSError, TypeError, ValueError, yaml.YAMLError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no YAML"
        raise JournalError(f"{path} cannot be read ({reason}); remove it, the journal has the configuration") from error
    if file_params is None:
        raise JournalError(f"{path} holds no configuration any more; remove it, the journal has the configuration")
    if file_params not in recorded_params:
        differences = "; ".join([*find_differences(file_params, recorded_params[-1])][:5])
        raise ConfigError(
            f"{path} was changed since the run began: {differences}. Put it back; what may change is given on the "
            f"command line, as in `expfw runs resume {entry.id} train.epochs=100`"
        )


def find_data_differences(recorded_run: RecordedSetup, identity: Mapping[str, Any]) -> Iterator[str]:
    """A line for each thing that tells the data of that identity from those that a run met."""
    yield from find_differences(
        flatten(json.loads(json.dumps(identity, default=str))), flatten(recorded_run.setup_record["data"])
    )


def find_environment_differences(
    recorded_run: RecordedSetup, entries: Sequence[PluginEntry], cores: int
) -> Iterator[str]:
    """In what machine, packages and plugins differ from when the run began, as far as it can change its numbers."""
    recorded_environment = recorded_run.environment
    if not recorded_environment:
        yield (
            f"{recorded_run.entry.folder / run_record.ENVIRONMENT_FILE} cannot be read, so nothing tells where the run "
            "began"
        )
        return
    current_environment = environment.describe(entries)
    for kind in ("packages", "plugins"):
        current_versions, recorded_versions = (
            {k: v for k, v in details[kind].items() if _affects_numbers(kind, k)}
            for details in (current_environment, recorded_environment)
        )
        yield from find_differences(current_versions, recorded_versions)
    yield from find_differences(run_record.hash_files(recorded_run.files), recorded_run.setup_record["files"])
    yield from find_differences(
        {"CPU features": current_environment["cpu"]["features"]},
        {"CPU features": recorded_environment["cpu"]["features"]},
    )
    if cores < recorded_run.cores:
        yield describe_difference("number of processor cores", cores, recorded_run.cores)


def _affects_numbers(kind: str, name: str) -> bool:
    """Whether another version can change the numbers of a training."""
    return name in _PACKAGES if kind == "packages" else not name.startswith("tracker.")
