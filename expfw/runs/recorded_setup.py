"""The recorded setup of a run, and its differences from the current environment."""

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
    """Recorded configuration and environment of a run.

    Attributes:
        entry: entry of the run in the index.
        config_values: configuration as plain values; secrets are hidden.
        setup_record: last record with the configuration: `run_started` or `run_resumed`.
        environment: environment at the start of the run.
        info: recorded information about devices and model.
        end_steps: steps at which the run had ended before it was trained longer.
        swept: swept parameters of the trial; see `Run`.
    """

    entry: IndexEntry
    config_values: Mapping[str, Any]
    setup_record: journal.Record
    environment: Mapping[str, Any]
    info: Mapping[str, Any]
    end_steps: Sequence[int] = ()
    swept: Mapping[str, Any] = field(default_factory=dict)

    @property
    def cores(self) -> int:
        """Number of CPU cores that the run could use."""
        return int(self.environment["cpu"]["cores"]) if self.environment else len(cpu.get_cores())

    @property
    def files(self) -> tuple[str, ...]:
        return tuple(self.setup_record["files"])


def read_recorded_setup(entry: IndexEntry) -> RecordedSetup:
    """Reads the recorded setup of a run.

    Raises:
        ConfigError: if the configuration file was changed after the run started.
        JournalError: if the journal is damaged.
    """
    try:
        records, _ = journal.read_records(entry.folder / journal.NAME)
    except JournalError as error:
        raise JournalError(
            f"{error}; the run cannot be resumed; to start a new run from its weights: expfw run ... "
            f"{run_folders.make_begin_from_override(entry.folder)}"
        ) from error
    start_records = [r for r in records if r["kind"] in ("run_started", "run_resumed")]
    if not start_records or "config" not in start_records[-1]:
        raise JournalError(
            f"cannot resume the run in {entry.folder}: it was recorded by another version of expfw; to start a new run "
            f"from its weights: expfw run ... {run_folders.make_begin_from_override(entry.folder)}"
        )
    info: dict[str, Any] = next((r["values"] for r in records if r["kind"] == "info"), {})
    _check_config_file(entry, [start_record["params"] for start_record in start_records[-2:]])
    try:
        recorded_environment = json.loads((entry.folder / run_record.ENVIRONMENT_FILE).read_text())
    except (OSError, ValueError):
        recorded_environment = {}  # an unknown environment counts as a difference, which the user must accept
    end_steps, swept = start_records[-1].get("ends", ()), start_records[0].get("swept", {})
    return RecordedSetup(
        entry, start_records[-1]["config"], start_records[-1], recorded_environment, info, end_steps, swept
    )


def _check_config_file(entry: IndexEntry, recorded_params: Sequence[Mapping[str, Any]]) -> None:
    """Checks that the configuration file was not edited; if the process died, it may be the previous one."""
    path = entry.folder / run_record.CONFIG_FILE
    if not path.exists():
        return  # the process died before it wrote the file; the journal has the configuration
    try:
        values = yaml.safe_load(path.read_text())
        file_params = json.loads(json.dumps(flatten(values))) if isinstance(values, dict) else None
    except (OSError, TypeError, ValueError, yaml.YAMLError) as error:
        reason = error.strerror if isinstance(error, OSError) else "invalid YAML"
        raise JournalError(f"cannot read {path}: {reason}; delete it; the journal has the configuration") from error
    if file_params is None:
        raise JournalError(f"{path} contains no configuration; delete it; the journal has the configuration")
    if file_params not in recorded_params:
        differences = "; ".join([*find_differences(file_params, recorded_params[-1])][:5])
        raise ConfigError(
            f"{path} has changed since the run started: {differences}; undo the changes and pass new values on the "
            f"command line, for example: expfw runs resume {entry.id} train.epochs=100"
        )


def find_data_differences(recorded_run: RecordedSetup, identity: Mapping[str, Any]) -> Iterator[str]:
    """Yields one line for each difference between this identity of the data and the recorded one."""
    yield from find_differences(
        flatten(json.loads(json.dumps(identity, default=str))), flatten(recorded_run.setup_record["data"])
    )


def find_environment_differences(
    recorded_run: RecordedSetup, entries: Sequence[PluginEntry], cores: int
) -> Iterator[str]:
    """Yields one line for each difference of machine, packages and plugins that can change the results of the run."""
    recorded_environment = recorded_run.environment
    if not recorded_environment:
        yield (
            f"cannot read {recorded_run.entry.folder / run_record.ENVIRONMENT_FILE}: the environment of the run is "
            "unknown"
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
        yield describe_difference("number of CPU cores", cores, recorded_run.cores)


def _affects_numbers(kind: str, name: str) -> bool:
    """Returns whether another version can change the results of a training."""
    return name in _PACKAGES if kind == "packages" else not name.startswith("tracker.")
