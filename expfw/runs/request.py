"""What it takes to make one run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from expfw.api.contracts import Dataset
from expfw.api.plain_values import to_plain
from expfw.api.settings import RunConfig
from expfw.config.freeze import compute_fingerprint, make_plugins
from expfw.plugins.catalogue import get_catalogue
from expfw.plugins.manager import check_hooks
from expfw.runs.continuation import ResumePoint
from expfw.tracking import run_folders


@dataclass(frozen=True)
class Request:
    """What it takes to make one run; plain data, so that it can travel to another process.

    Attributes:
        fingerprint: of the configuration and the data; data: see `get_data_identity`.
        overrides: what the user typed, for the record.
        files: plugin files.
        id: the run's; sweep_id, sweep_folder, trial: for a trial, whose it is and where it goes; swept: see `Run`.
        announce_to: folder in which a shipper looks for journals.
        resume_point: where a run that is resumed continues; None for a new run.
    """

    config: RunConfig
    fingerprint: str
    overrides: Sequence[str] = ()
    files: tuple[str, ...] = ()
    id: str = field(default_factory=run_folders.make_id)
    sweep_id: str | None = None
    sweep_folder: Path | None = None
    trial: int | None = None
    swept: Mapping[str, Any] = field(default_factory=dict)
    announce_to: Path | None = None
    data: Mapping[str, Any] = field(default_factory=dict)
    resume_point: ResumePoint | None = None


def make_request(config: RunConfig, files: tuple[str, ...] = (), **fields: Any) -> Request:
    """What it takes to run this configuration on the data that are there.

    Args:
        fields: further fields of `Request`.

    Raises:
        DataError, PluginError: see `get_data_identity`.
    """
    identity = get_data_identity(config, files)
    return Request(config, compute_fingerprint(config, identity), files=files, data=identity, **fields)


def get_data_identity(config: RunConfig, files: tuple[str, ...]) -> Mapping[str, Any]:
    """What tells the data that a configuration would meet from others.

    Raises:
        DataError: the data are not there.
        PluginError: a plugin cannot be made with its options, or has a hook that does not exist.
    """
    plugins = make_plugins(config, get_catalogue(files))
    check_hooks(plugins)
    identity: Mapping[str, Any] = to_plain(next(plugin for plugin in plugins if isinstance(plugin, Dataset)).identity())
    return identity
