"""One sweep, in the order in which things happen."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from expfw import folders, html_report, journal, process, report
from expfw.api import Backend, Plugin
from expfw.compose import frozen
from expfw.config import make_plugins, plain, shown
from expfw.errors import ConfigError, ExpfwError
from expfw.explain import one_line_errors
from expfw.folders import RUNNING
from expfw.hydra_setup import hydra
from expfw.launcher import Processes, slots
from expfw.ledger import Ledger, Trial, short
from expfw.one_run import LOG, Request, request
from expfw.plugins import catalogue, manager
from expfw.privacy import redact_words
from expfw.run_state import FAILED, FINISHED, KILLED, PRUNED
from expfw.settings import RunConfig
from expfw.shipper import BESIDE_A_SWEEP
from expfw.shipping import announce, shipping
from expfw.signals import Killed, signals_raise
from expfw.sweep_plan import Plan, plan

if TYPE_CHECKING:
    from omegaconf import DictConfig

log = logging.getLogger("expfw")
Compose: TypeAlias = "Callable[[Sequence[str]], DictConfig]"


@dataclass(frozen=True)
class SweepResult:
    """What a sweep came to.

    Attributes:
        status: FINISHED where every trial ended well (pruned ones too), else FAILED; KILLED when interrupted.
        trials: by number.
        config: what the trials share, with the values of the first one for the rest.
    """

    id: str
    folder: Path
    status: str
    trials: Sequence[Trial]
    config: RunConfig


def sweep(
    overrides: Sequence[str],
    files: tuple[str, ...] = (),
    config_name: str = "config",
    config_dir: str | None = None,
    observers: Sequence[Plugin] = (),
    going_on: folders.Entry | None = None,
    accept: bool = False,
) -> SweepResult:
    """Runs every combination of the values that these overrides sweep over.

    Args:
        overrides: as on the command line, `["model=mlp_keras", "model.units=32,64"]`.
        files: plain Python files with plugins.
        observers: further plugins, told of the trials, for example a progress display; not with `quiet`.
        going_on: a sweep by the same overrides that did not come to its end: trials that are done stay, those that
            were interrupted go on, the others are made.
        accept: whether they go on where machine or packages differ, so that the bits may too.

    Raises:
        ExpfwError: nothing could be started; a trial's own failure is in the result instead.
        KeyboardInterrupt: after everything was recorded.
    """
    task = _Task(
        list(overrides),
        files,
        list(observers),
        {"config_name": config_name, "config_dir": config_dir},
        going_on,
        accept,
    )
    with one_line_errors(overrides, files):
        task.swept = _swept_keys(overrides)
        hydra(files, config_dir).multirun(config_name, task, list(overrides), with_log_configuration=False)
    assert task.result is not None
    return task.result


def _swept_keys(overrides: Sequence[str]) -> set[str]:
    from hydra.core.override_parser.overrides_parser import OverridesParser

    parsed = OverridesParser.create().parse_overrides(list(overrides))
    return {override.get_key_element() for override in parsed if override.is_sweep_override()}


@dataclass
class _Task:
    """What Hydra takes for the task function; our launcher gives it all the jobs at once."""

    overrides: list[str]
    files: tuple[str, ...]
    observers: list[Plugin]
    composed_from: dict[str, str | None]
    going_on: folders.Entry | None
    accept: bool
    swept: set[str] = field(default_factory=set)
    result: SweepResult | None = None

    def launch_one_by_one(self, jobs: Sequence[Sequence[str]], compose: Compose) -> list[float | None]:
        """Runs the jobs, each in a process of its own; returns their objectives."""
        base = self.frozen(compose(jobs[0]))  # a mistake in what all trials share is found before anything starts
        plugins = make_plugins(base, catalogue(self.files), kinds=("backend", "callback"))
        backend = next(p for p in plugins if isinstance(p, Backend))
        if backend.several_processes:
            raise ConfigError(
                f"backend={backend.name} makes one run of several processes, each started by `expfw run`; "
                "a sweep's trials are one process each, use another backend"
            )
        hooks = manager([*plugins, *([] if base.quiet else self.observers)], report=log.warning)
        if self.going_on is None:
            identity = folders.new_id()
            folder = folders.make(Path(base.runs_dir).absolute(), identity)
        else:
            identity, folder = self.going_on.id, self.going_on.folder
        with (
            signals_raise(),
            process.occupied(folder),
            shipping(base, self.files, BESIDE_A_SWEEP) as notes,
            journal.Journal(folder / journal.NAME) as record,
        ):
            sweep = _Sweep(self, base, identity, folder, notes, record, hooks.hook, Ledger(folder))
            places = slots(base.sweep.slots)
            if self.going_on is not None:
                sweep.look_back(jobs, compose, len(places[0]))
            sweep.begin(len(jobs))
            status = KILLED
            try:
                processes = Processes(places, backend.preload, folder / LOG)
                processes.run(sweep.requests(jobs, compose), sweep.started, sweep.ended)
                status = sweep.status()
            except (KeyboardInterrupt, Killed) as error:
                error.add_note(f"to go on with it: expfw sweeps resume {identity}{folders.option(base.runs_dir)}")
                raise
            finally:
                self.result = sweep.end(status)
        return [trial.objective for trial in self.result.trials]

    def frozen(self, composed: DictConfig) -> RunConfig:
        """The frozen form of a composed configuration."""
        return frozen(composed, catalogue(self.files))

    def swept_of(self, overrides: Sequence[str]) -> list[str]:
        """Those overrides whose key is swept over, fit to be shown."""
        return [o for o in redact_words(overrides) if o.partition("=")[0] in self.swept]

    def __call__(self, config: DictConfig) -> Any:
        raise ConfigError("this launcher cannot run the trials of expfw; leave hydra/launcher at expfw")


@dataclass
class _Sweep:
    """A sweep that goes on: what became of its trials so far, kept in the ledger, the journal and told to hooks."""

    task: _Task
    base: RunConfig
    id: str
    folder: Path
    notes: Path | None
    record: journal.Journal
    hook: Any
    ledger: Ledger
    trials: dict[int, Trial] = field(default_factory=dict)
    plan: Plan = field(default_factory=Plan)

    def look_back(self, jobs: Sequence[Sequence[str]], compose: Compose, cores: int) -> None:
        """What was done before; raises where it cannot go on, before anything is recorded."""

        def request_of(number: int) -> Request:
            return self._request(number, jobs[number], compose)

        self.plan = plan(self.ledger.trials(), request_of, Path(self.base.runs_dir), self.task.accept, cores)
        self.trials.update(self.plan.known)

    def begin(self, total: int) -> None:
        base = self.base
        fixed = [
            n["plugin"] for kind, n in (("model", base.model), ("dataset", base.dataset)) if kind not in self.task.swept
        ]
        name = " ".join([*fixed, short(self.task.swept_of(self.task.overrides))]).strip()
        self.record.write(
            "sweep_started" if self.task.going_on is None else "sweep_resumed",
            id=self.id,
            name=shown(base)["name"] or name,
            overrides=redact_words(self.task.overrides),
            **self.task.composed_from,
            files=list(self.task.files),
            objective=plain(base.objective),
            tracker=shown(base)["tracker"],
            trials=total,
        )
        self.record.flush()
        announce(self.notes, self.id, self.folder)
        self.hook.expfw_sweep_started(sweep_id=self.id, folder=self.folder, trials=total)
        for trial in self.plan.done.values():
            self.ledger.write(trial)
            self.hook.expfw_trial_ended(sweep_id=self.id, trial=asdict(trial))

    def requests(self, jobs: Sequence[Sequence[str]], compose: Compose) -> Iterator[Request]:
        """One request after the other, each composed when it is asked for."""
        begun: list[int] = []
        for number, overrides in enumerate(jobs):
            if number in self.plan.done:
                continue
            if self.base.sweep.on_failure == "stop" and any(self.trials[n].status == FAILED for n in begun):
                return
            begun.append(number)
            trial = Trial(number, "", redact_words(overrides), self.task.swept_of(overrides))
            try:
                made = self._request(number, overrides, compose)
            except ExpfwError as error:
                self._has_ended(replace(trial, status=FAILED, error=str(error)))
                continue
            if (goes_on := self.plan.going_on.get(number)) is not None:
                made = replace(made, id=goes_on.id, overrides=goes_on.overrides, continues=goes_on.continues)
            self._keep(replace(trial, fingerprint=made.fingerprint))
            yield made

    def _request(self, number: int, overrides: Sequence[str], compose: Compose) -> Request:
        with one_line_errors(overrides, self.task.files):
            config = self.task.frozen(compose(overrides))
        trial = Trial(number, "", (), self.task.swept_of(overrides))
        config = replace(config, name=trial.name, runs_dir=self.base.runs_dir, tracker=self.base.tracker)
        whose = {"sweep_id": self.id, "sweep_folder": self.folder, "trial": number, "swept": trial.values}
        return request(config, self.task.files, overrides=tuple(overrides), announce_to=self.notes, **whose)

    def started(self, made: Request) -> None:
        assert made.trial is not None
        folder = str(folders.trial_folder(self.folder, made.trial, made.id))
        self._keep(replace(self.trials[made.trial], status=RUNNING, run_id=made.id, folder=folder))

    def ended(self, made: Request, exit_code: int | None) -> None:
        assert made.trial is not None
        self._has_ended(self.trials[made.trial].ended(exit_code))

    def status(self) -> str:
        """FINISHED where every trial ended well."""
        return FINISHED if all(t.status in (FINISHED, PRUNED) for t in self.trials.values()) else FAILED

    def end(self, status: str) -> SweepResult:
        trials, mode = [self.trials[number] for number in sorted(self.trials)], self.base.objective.mode
        if (best := report.best(trials, mode)) is not None:
            self.record.write("metrics", step=0, values={f"best/{best.objective_metric}": best.objective})
            assert best.folder is not None  # it has finished
            path = Path(best.folder).relative_to(self.folder)
            self.record.write("best", trial=best.number, run_id=best.run_id, path=str(path))
        self.record.write("note", text=report.markdown(trials, mode, self.task.files))
        self.hook.expfw_sweep_ended(sweep_id=self.id, folder=self.folder, add_artifact=self._add_artifact)
        html_report.attempt(self.folder, trials, status, self._add_artifact)
        self.record.write("sweep_ended", status=status)
        return SweepResult(self.id, self.folder, status, trials, self.base)

    def _add_artifact(self, path: Path) -> None:
        self.record.write("artifact", path=str(path.relative_to(self.folder)))

    def _has_ended(self, trial: Trial) -> None:
        self._keep(trial)
        self.record.write("trial_ended", trial=asdict(trial))
        self.record.flush()
        self.hook.expfw_trial_ended(sweep_id=self.id, trial=asdict(trial))

    def _keep(self, trial: Trial) -> None:
        self.trials[trial.number] = trial
        self.ledger.write(trial)
