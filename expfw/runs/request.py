"""A run to be made: the request, which is plain data, and the prepared run, which has its plugins."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from expfw.api.run_config import RunConfig, to_plain
from expfw.config.freeze import compute_fingerprint
from expfw.config.run_plugins import RunPlugins, make_run_plugins
from expfw.plugins.catalogue import Catalogue, get_catalogue
from expfw.plugins.manager import check_hooks
from expfw.runs.restore import ResumePoint
from expfw.tracking import run_folders


@dataclass(frozen=True)
class Request:
    """What it takes to make one run; plain data, so that it can travel to another process.

    Attributes:
        config: the configuration.
        fingerprint: of the configuration and the data.
        overrides: what the user typed, for the record.
        files: plugin files.
        id: ID of the run.
        sweep_id: sweep that the trial belongs to; None for a single run.
        sweep_folder: folder of that sweep.
        trial: number of the trial in that sweep.
        swept: see `Run`.
        announce_to: folder in which a shipper looks for journals.
        data: what tells these data from others: the dataset's `identity()`.
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


@dataclass(frozen=True)
class PreparedRun:
    """A run that can start: its request and its plugins, which are made once and passed down from here."""

    request: Request
    plugins: RunPlugins

    @property
    def config(self) -> RunConfig:
        """Its configuration."""
        return self.request.config

    def change_request(self, **fields: Any) -> PreparedRun:
        """The same run with these fields of its request replaced."""
        return dataclasses.replace(self, request=dataclasses.replace(self.request, **fields))


def prepare_run(
    config: RunConfig, catalogue: Catalogue | None = None, plugins: RunPlugins | None = None, **fields: Any
) -> PreparedRun:
    """Prepares a run of this configuration: makes its plugins, checks their hooks, identifies its data.

    Args:
        catalogue: the plugins to choose from; by default those that are installed.
        plugins: the plugins, if they are made already.
        fields: further fields of `Request`.

    Raises:
        DataError: the data are not there.
        PluginError: a plugin cannot be made with its options, or has a hook that does not exist.
    """
    catalogue = catalogue or get_catalogue()
    plugins = plugins or make_run_plugins(config, catalogue)
    check_hooks(plugins.instances)
    identity: Mapping[str, Any] = to_plain(plugins.dataset.identity())
    fingerprint = compute_fingerprint(config, identity)
    return PreparedRun(Request(config, fingerprint, files=catalogue.files, data=identity, **fields), plugins)


def prepare_request(request: Request) -> PreparedRun:
    """Prepares a run from a request that was made in another process."""
    return PreparedRun(request, make_run_plugins(request.config, get_catalogue(request.files)))
