"""One sweep, in the order in which things happen."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expfw import folders, journal, report
from expfw.api import Backend, Plugin
from expfw.compose import frozen, hydra, one_line_errors
from expfw.config import make_plugins, plain, redact_words
from expfw.errors import ExpfwError
from expfw.launcher import Processes, slots
from expfw.ledger import RUNNING, Ledger, Trial, short
from expfw.one_run import LOG, Request, identify
from expfw.plugins import catalogue, manager
from expfw.run_state import FAILED, FINISHED, KILLED, PRUNED
from expfw.settings import RunConfig
from expfw.shipping import announce, shipping
from expfw.signals import first_signal_raises

if TYPE_CHECKING:
    from omegaconf import DictConfig


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
) -> SweepResult:
    """Runs every combination of the values that these overrides sweep over.

    Args:
        overrides: as on the command line, `["model=mlp_keras", "model.units=32,64"]`.
        files: plain Python files with plugins.
        observers: further plugins, told of the trials, for example a progress display; not with `quiet`.

    Raises:
        ExpfwError: nothing could be started; a trial's own failure is in the result instead.
        KeyboardInterrupt: after everything was recorded.
    """
    run = _Sweep(list(overrides), files, list(observers))
    with one_line_errors(overrides, files):
        run.swept = _swept_keys(overrides)
        hydra(files, config_dir).multirun(config_name, run, list(overrides), with_log_configuration=False)
    assert run.result is not None
    return run.result


def _swept_keys(overrides: Sequence[str]) -> set[str]:
    from hydra.core.override_parser.overrides_parser import OverridesParser

    parsed = OverridesParser.create().parse_overrides(list(overrides))
    return {override.get_key_element() for override in parsed if override.is_sweep_override()}


@dataclass
class _Sweep:
    """What Hydra takes for the task function, and our launcher for the sweep that runs."""

    overrides: list[str]
    files: tuple[str, ...]
    observers: list[Plugin]
    id: str = field(default_factory=folders.new_id)
    swept: set[str] = field(default_factory=set)
    trials: dict[int, Trial] = field(default_factory=dict)
    result: SweepResult | None = None

    def launch_one_by_one(
        self, jobs: Sequence[Sequence[str]], compose: Callable[[Sequence[str]], DictConfig]
    ) -> list[float | None]:
        """Runs the jobs; returns each one's objective."""
        base = self._frozen(compose(jobs[0]))  # a mistake in what all trials share is found before anything starts
        folder = folders.make(Path(base.runs_dir).absolute(), self.id)
        self.ledger = Ledger(folder)
        plugins = [*make_plugins(base, catalogue(self.files), kinds=("backend", "callback"))]
        plugins += [] if base.quiet else self.observers
        hook = manager(plugins, report=lambda line: record.write("message", text=line)).hook
        status = KILLED
        with (
            first_signal_raises(),
            shipping(base, self.files) as notes,
            journal.Journal(folder / journal.NAME) as record,
        ):
            record.write(
                "sweep_started",
                id=self.id,
                name=base.name or self._name(base),
                **folders.process_identity(),
                overrides=redact_words(self.overrides),
                objective=plain(base.objective),
                trials=len(jobs),
            )
            record.flush()
            announce(notes, self.id, folder)
            hook.expfw_sweep_started(sweep_id=self.id, folder=folder, trials=len(jobs))
            backend = next(p for p in plugins if isinstance(p, Backend))
            processes = Processes(slots(base.sweep.slots), backend.preload, folder / LOG)

            def started(request: Request) -> None:
                assert request.trial is not None
                trial_folder = folders.trial_folder(folder, request.trial, request.id)
                self._keep(
                    replace(self.trials[request.trial], status=RUNNING, run_id=request.id, folder=str(trial_folder))
                )

            def ended(request: Request, exit_code: int | None) -> None:
                assert request.trial is not None
                trial = self.trials[request.trial].ended(exit_code)
                self._keep(trial)
                record.write("trial_ended", trial=asdict(trial))
                record.flush()
                hook.expfw_trial_ended(sweep_id=self.id, trial=asdict(trial))

            try:
                processes.run(self._requests(jobs, compose, base, folder, notes), started, ended)
                status = FINISHED if all(t.status in (FINISHED, PRUNED) for t in self.trials.values()) else FAILED
            finally:
                self.result = SweepResult(self.id, folder, status, [self.trials[n] for n in sorted(self.trials)], base)
                best = report.best(self.result.trials, base.objective.mode)
                if best is not None:
                    record.write("metrics", step=0, values={f"best/{best.objective_metric}": best.objective})
                record.write("note", text=report.markdown(self.result.trials, base.objective.mode, self.overrides))
                hook.expfw_sweep_ended(sweep_id=self.id, folder=folder)
                record.write("sweep_ended", status=status)
        return [trial.objective for trial in self.result.trials]

    def _requests(
        self,
        jobs: Sequence[Sequence[str]],
        compose: Callable[[Sequence[str]], DictConfig],
        base: RunConfig,
        folder: Path,
        notes: Path | None,
    ) -> Iterator[Request]:
        """One request after the other, each composed when it is asked for."""
        for number, overrides in enumerate(jobs):
            if base.sweep.on_failure == "stop" and any(t.status == FAILED for t in self.trials.values()):
                return
            trial = Trial(
                number, "", redact_words(overrides), [o for o in overrides if o.partition("=")[0] in self.swept]
            )
            try:
                with one_line_errors(overrides, self.files):
                    config = replace(
                        self._frozen(compose(overrides)), name=trial.name, runs_dir=base.runs_dir, tracker=base.tracker
                    )
                mark = identify(config, self.files)
            except ExpfwError as error:
                self._keep(replace(trial, status=FAILED, error=str(error)))
                continue
            self._keep(replace(trial, fingerprint=mark))
            yield Request(config, mark, tuple(overrides), self.files, folders.new_id(), self.id, folder, number, notes)

    def _name(self, base: RunConfig) -> str:
        """What stays the same, then what is swept over."""
        fixed = [
            node["plugin"]
            for kind, node in (("model", base.model), ("dataset", base.dataset))
            if kind not in self.swept
        ]
        return " ".join([*fixed, short([o for o in self.overrides if o.partition("=")[0] in self.swept])]).strip()

    def _frozen(self, composed: DictConfig) -> RunConfig:
        return frozen(composed, catalogue(self.files))

    def _keep(self, trial: Trial) -> None:
        self.trials[trial.number] = trial
        self.ledger.write(trial)

    def __call__(self, config: DictConfig) -> Any:
        raise ExpfwError("this launcher is not supported; leave hydra/launcher at expfw")
