"""Differences between a recorded run and the present: configuration, data, environment; one line each."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from expfw.api.run_config import flatten
from expfw.plugins.entry import PluginEntry
from expfw.tracking import run_folders, run_record
from expfw.tracking.recorded_run import RecordedRun

_PACKAGES = ("tensorflow", "keras", "numpy")
"""Packages of which another version can change the results of a training."""


def find_differences(current: Mapping[str, Any], recorded: Mapping[str, Any]) -> Iterator[str]:
    """Yields one line for each key with different values; for lists, with the added and removed elements."""
    for key in sorted(current.keys() | recorded.keys()):
        new, old = current.get(key, "absent"), recorded.get(key, "absent")
        if new == old:
            continue
        if isinstance(new, list) and isinstance(old, list):
            added, removed = (
                " ".join(sorted(set(map(str, a)) - set(map(str, b)))) or "none" for a, b in ((new, old), (old, new))
            )
            yield f"{key}: added {added}, removed {removed}"
        else:
            yield f"{key} is {new}, was {old}"


def find_data_differences(recorded_run: RecordedRun, identity: Mapping[str, Any]) -> Iterator[str]:
    """Yields one line for each difference between this identity of the data and the recorded one."""
    current = flatten(json.loads(json.dumps(identity, default=str)))
    for line in find_differences(current, flatten(recorded_run.setup["data"])):
        yield f"the data has changed since the run started: {line}"


def find_environment_differences(
    recorded_run: RecordedRun, entries: Sequence[PluginEntry], cores: int
) -> Iterator[str]:
    """Yields one line for each difference of machine, packages and plugins that can change the results of the run."""
    if not recorded_run.environment:
        path = recorded_run.folder / run_folders.ENVIRONMENT_FILE
        yield f"cannot read {path}: the environment of the run is unknown"
        return
    selected = [
        {
            **{name: version for name, version in details["packages"].items() if name in _PACKAGES},
            **{name: source for name, source in details["plugins"].items() if not name.startswith("tracker.")},
            "CPU features": details["cpu"]["features"],
            **files,
            "number of CPU cores": max_cores,
        }
        for details, files, max_cores in (
            (
                run_record.describe_environment(entries),
                run_record.hash_files(recorded_run.setup["files"]),
                min(cores, recorded_run.cores),  # more cores do not matter: the run is limited to the recorded number
            ),
            (recorded_run.environment, recorded_run.setup["files"], recorded_run.cores),
        )
    ]
    yield from find_differences(*selected)
