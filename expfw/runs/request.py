"""The request for a run, which is plain data, and the prepared run, which has plugins."""

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
from expfw.runs.restore import ResumePoint
from expfw.tracking import run_folders


@dataclass(frozen=True)
class Request:
    """Request for one run; plain data, so that it can be sent to another process.

    Attributes:
        fingerprint: fingerprint of configuration, data and code.
        overrides: overrides typed by the user, for the record.
        files: plugin files.
        sweep_id: ID of the sweep that the trial belongs to; None for a single run, like `sweep_folder` and `trial`.
        swept: swept parameters of the trial; see `Run`.
        delivery_folder: folder in which a shipper looks for journals.
        data: `identity()` of the dataset plugin.
        code: digests of the code of the plugins, see `hash_code`.
        resume_point: state to resume from; None for a new run.
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
    delivery_folder: Path | None = None
    data: Mapping[str, Any] = field(default_factory=dict)
    code: Mapping[str, str] = field(default_factory=dict)
    resume_point: ResumePoint | None = None

    def make_folder(self) -> Path:
        """Creates the run folder of a new run."""
        if self.trial is None:
            return run_folders.make_run_folder(Path(self.config.runs_dir).absolute(), self.id)
        return run_folders.make_folder(self.trial_folder)

    @property
    def trial_folder(self) -> Path:
        """Run folder of a trial: `<sweep folder>/trials/<number>-<id>/`."""
        assert self.sweep_folder is not None
        return self.sweep_folder / "trials" / f"{self.trial:03d}-{self.id}"


@dataclass(frozen=True)
class PreparedRun:
    """A run that can start, with its plugins, which are created once."""

    request: Request
    plugins: RunPlugins

    @property
    def config(self) -> RunConfig:
        return self.request.config

    def change_request(self, **fields: Any) -> PreparedRun:
        """Returns the same run with these fields of its request replaced."""
        return dataclasses.replace(self, request=dataclasses.replace(self.request, **fields))


def prepare_run(
    config: RunConfig, catalogue: Catalogue | None = None, plugins: RunPlugins | None = None, **fields: Any
) -> PreparedRun:
    """Prepares a run: creates its plugins, unless they are given, and identifies its data.

    `catalogue` has the available plugins, by default the installed ones; `fields` are other fields of `Request`.
    """
    catalogue = catalogue or get_catalogue()
    plugins = plugins or make_run_plugins(config, catalogue)
    identity: Mapping[str, Any] = to_plain(plugins.dataset.identity())
    code = plugins.hash_code()
    fingerprint = compute_fingerprint(config, identity, code)
    request = Request(config, fingerprint, files=catalogue.files, data=identity, code=code, **fields)
    return PreparedRun(request, plugins)


def prepare_request(request: Request) -> PreparedRun:
    """Prepares a run from a request that was created in another process."""
    return PreparedRun(request, make_run_plugins(request.config, get_catalogue(request.files)))
