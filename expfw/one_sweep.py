"""One sweep, in the order in which things happen."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expfw import folders, fork_server, journal, launchers, left_out, process, terminal
from expfw.api import Callback, Plugin
from expfw.asked import Asked, Compose
from expfw.cluster.batch import Batch
from expfw.config import make_plugins
from expfw.course import Course
from expfw.errors import ConfigError
from expfw.explain import one_line_errors
from expfw.grammar import readable
from expfw.hydra_setup import hydra
from expfw.limits import Limits
from expfw.one_run import LOG, Request
from expfw.plugin_manager import manager, tracebacks
from expfw.plugins import catalogue
from expfw.privacy import redact_words, secrets
from expfw.run_state import KILLED
from expfw.settings import RunConfig
from expfw.shipper import BESIDE_A_SWEEP
from expfw.shipping import announce, shipping
from expfw.signals import Killed, signals_raise
from expfw.slots import slots
from expfw.supervisor import Supervisor, to_preload
from expfw.sweep_plan import GoingOn, check_first
from expfw.sweep_result import SweepResult
from expfw.sweeper import Sweeper
from expfw.work import Runner

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
            launchers.check(sweeper.launcher, sweeper.launcher_options, asked.settings, asked.typed)
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
            process.occupied(folder),
            shipping(base, self.files, BESIDE_A_SWEEP) as notes,
            journal.Journal(folder / journal.NAME) as record,
            terminal.logged_to(folder / LOG, tracebacks, list(secrets(vars(base)))),
        ):

            def request_of(number: int, overrides: Sequence[str]) -> Request:
                return asked.request(base, overrides, announce_to=notes)

            source = asked.source(folder)
            course = Course(identity, folder, base, source, request_of, record, hooks.hook, asked.typed, asked.swept)
            if self.going_on is not None:
                course.go_on(self.going_on, None if sweeper.elsewhere else len(places[0].cores))
            fields = {**self.composed_from, "files": list(self.files), "hydra": redact_words(sweeper.typed)}
            fields["switched_off"] = left_out.switched_off()
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
                error.add_note(f"to go on with it: expfw sweeps resume {identity}{folders.option(base.runs_dir)}")
                raise
            finally:
                trials = course.end(status, [*self.files, *left_out.switched_off()])
                self.result = SweepResult(identity, folder, status, trials, base)

    def _place(self, base: RunConfig) -> tuple[str, Path]:
        """Id and folder of the sweep."""
        if self.going_on is not None:
            return self.going_on.entry.id, self.going_on.entry.folder
        identity = folders.new_id()
        return identity, folders.make(Path(base.runs_dir).absolute(), identity)

    def __call__(self, config: DictConfig) -> Any:
        raise ConfigError("this launcher cannot run the trials of expfw; leave hydra/launcher at expfw")
