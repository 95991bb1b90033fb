"""One sweep, in the order in which things happen."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expfw.api.contracts import Callback, Plugin
from expfw.api.run import KILLED
from expfw.api.settings import RunConfig
from expfw.config import other_launchers
from expfw.config.error_messages import one_line_errors
from expfw.config.freeze import make_plugins
from expfw.config.hydra_plugins import Sweeper
from expfw.config.hydra_source import hydra
from expfw.config.quoting import readable
from expfw.errors import ConfigError
from expfw.plugins import disabled
from expfw.plugins.catalogue import catalogue
from expfw.plugins.manager import manager, tracebacks
from expfw.redaction import redact_words, secrets
from expfw.runs.request import Request
from expfw.sweeps.cluster.batch import Batch
from expfw.sweeps.local import fork_server
from expfw.sweeps.local.slots import slots
from expfw.sweeps.local.supervisor import Supervisor, to_preload
from expfw.sweeps.request import Asked, Compose
from expfw.sweeps.result import SweepResult
from expfw.sweeps.resume import GoingOn, check_first
from expfw.sweeps.runner import Runner
from expfw.sweeps.scheduler import Course
from expfw.system import output, process_lock
from expfw.system.process_limits import Limits
from expfw.system.signals import Killed, signals_raise
from expfw.tracking import journal, run_folders
from expfw.tracking.run_folders import LOG
from expfw.tracking.shipper.client import announce, shipping
from expfw.tracking.shipper.process import BESIDE_A_SWEEP

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override
    from omegaconf import DictConfig

log = logging.getLogger("expfw")


def sweep(
    overrides: Sequence[str],
    files: tuple[str, ...] = (),
    config_name: str = "config",
    config_dir: str | None = None,
    observers: Sequence[Plugin] = (),
    going_on: GoingOn | None = None,
) -> SweepResult:
    """Runs every configuration that these overrides ask for.

    Args:
        overrides: as on the command line, `["model=mlp_keras", "model.units=32,64"]`.
        files: plain Python files with plugins.
        observers: further plugins, told of the trials, for example a progress display.
        going_on: a sweep by the same overrides that did not come to its end: trials that are done stay, those that
            were interrupted go on, the others are made.

    Raises:
        ExpfwError: nothing could be started; a trial's own failure is in the result instead.
        KeyboardInterrupt: after everything was recorded.
    """
    task = _Task(overrides, files, list(observers), {"config_name": config_name, "config_dir": config_dir}, going_on)
    with one_line_errors(overrides, files):
        hydra(files, config_dir).multirun(config_name, task, readable(overrides), with_log_configuration=False)
    assert task.result is not None
    return task.result


@dataclass
class _Task:
    """What Hydra takes for the task function; our sweeper gives it what is swept over."""

    overrides: Sequence[str]
    files: tuple[str, ...]
    observers: list[Plugin]
    composed_from: dict[str, str | None]
    going_on: GoingOn | None
    result: SweepResult | None = None

    def run(self, parsed: Sequence[Override], compose: Compose, sweeper: Sweeper) -> None:
        """Makes the sweep, from its folder to the last record of its journal."""
        asked = Asked(parsed, compose, self.files, self.overrides)
        if sweeper.elsewhere:
            fork_server.dismiss()
            other_launchers.check(sweeper.launcher, sweeper.launcher_options, asked.settings, asked.typed)
        base, backend = asked.first()
        if self.going_on is not None:
            check_first(self.going_on, base)
        settings = base.sweep
        places = slots(settings.slots, settings.gpus, backend.on_gpus)
        chosen = make_plugins(base, catalogue(self.files))
        callbacks = [plugin for plugin in chosen if isinstance(plugin, Callback)]
        hooks = manager([backend, *callbacks, *self.observers], report=log.warning)
        identity, folder = self._place(base)
        with (
            signals_raise(),
            process_lock.occupied(folder),
            shipping(base, self.files, BESIDE_A_SWEEP) as notes,
            journal.Journal(folder / journal.NAME) as record,
            output.logged_to(folder / LOG, tracebacks, list(secrets(vars(base)))),
        ):

            def request_of(number: int, overrides: Sequence[str]) -> Request:
                return asked.request(base, overrides, announce_to=notes)

            source = asked.source(folder)
            course = Course(identity, folder, base, source, request_of, record, hooks.hook, asked.typed, asked.swept)
            if self.going_on is not None:
                course.go_on(self.going_on, None if sweeper.elsewhere else len(places[0].cores))
            fields = {**self.composed_from, "files": list(self.files), "hydra": redact_words(sweeper.typed)}
            fields["switched_off"] = disabled.switched_off()
            course.begin("sweep_started" if self.going_on is None else "sweep_resumed", **fields)
            announce(notes, identity, folder)
            course.tell_what_is_done()
            for trial in course.plan.done.values():  # whoever was to deliver them may have died too
                if trial.folder is not None:
                    announce(notes, str(trial.run_id), Path(trial.folder))
            status = KILLED
            try:
                runner: Runner
                if sweeper.elsewhere:
                    runner = Batch(sweeper.launcher, sweeper.to_launch(folder), folder)
                else:
                    limits = Limits(settings.timeout, settings.memory)
                    runner = Supervisor(places, to_preload(chosen, backend), folder / LOG, limits)
                runner.run(course)
                status = course.status()
            except (KeyboardInterrupt, Killed) as error:
                error.add_note(f"to go on with it: expfw sweeps resume {identity}{run_folders.option(base.runs_dir)}")
                raise
            finally:
                trials = course.end(status, [*self.files, *disabled.switched_off()])
                self.result = SweepResult(identity, folder, status, trials, base)

    def _place(self, base: RunConfig) -> tuple[str, Path]:
        """Id and folder of the sweep."""
        if self.going_on is not None:
            return self.going_on.entry.id, self.going_on.entry.folder
        identity = run_folders.new_id()
        return identity, run_folders.make(Path(base.runs_dir).absolute(), identity)

    def __call__(self, config: DictConfig) -> Any:
        raise ConfigError("this launcher cannot run the trials of expfw; leave hydra/launcher at expfw")
