"""The course of a sweep: what became of its trials so far, kept in the ledger and the journal, and told to hooks."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from expfw.api.plain_values import plain
from expfw.api.run import FAILED, FINISHED, PRUNED
from expfw.api.settings import RunConfig
from expfw.config.freeze import shown
from expfw.errors import ExpfwError
from expfw.redaction import redact_words
from expfw.reports import tables
from expfw.reports.html import report as html_report
from expfw.runs.request import Request
from expfw.sweeps.pruning_monitor import Follower
from expfw.sweeps.resume import GoingOn, Plan, plan
from expfw.sweeps.search.source import Source
from expfw.system import process_lock
from expfw.tracking import interrupted, journal, ranking, run_folders
from expfw.tracking.ledger import WAITING, Ledger, Trial, short
from expfw.tracking.run_index import RUNNING
from expfw.tracking.run_record import recorded_config


@dataclass
class Course:
    """One sweep while it goes on.

    Attributes:
        base: what the trials share, with the values of the first one for the rest.
        request_of: the request for a trial, by its number and all its overrides.
        typed: the overrides of the whole sweep; swept: those of their keys that are swept over.
        plan: what is left of a sweep that goes on.
        known: every trial that was begun.
    """

    id: str
    folder: Path
    base: RunConfig
    source: Source
    request_of: Callable[[int, Sequence[str]], Request]
    record: journal.Journal
    hook: Any
    typed: Sequence[str]
    swept: set[str]
    plan: Plan = field(default_factory=Plan)
    known: dict[int, Trial] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.ledger = Ledger(self.folder)
        self.seeds = self.base.sweep.seeds
        self.total = self.source.total * self.seeds
        self.follower = Follower(self.source, self.base.objective)
        self._numbers: Iterator[int] = iter(range(self.total))
        self._again: list[int] = []
        self._failures = 0

    def go_on(self, how: GoingOn, cores: int | None) -> None:
        """Finds out what is left, before anything is recorded.

        Args:
            cores: processor cores that each trial will have; None: it runs elsewhere.

        Raises:
            ConfigError: it cannot go on; see `plan`.
        """
        self.plan = plan(self.ledger.trials(), self._as_now, how, cores)
        self.known.update(self.plan.known)
        wanted = range(self.total) if self.plan.only is None else self.plan.only
        self._numbers = (number for number in wanted if number not in self.plan.done)

    def _as_now(self, trial: Trial) -> Request:
        return self.request_of(trial.number, self.overrides_of(trial.number))

    def begin(self, kind: str, **fields: Any) -> None:
        """Records that it begins, or goes on, as `kind` says."""
        self.record.write(
            kind,
            id=self.id,
            name=shown(self.base)["name"] or self._name(),
            overrides=redact_words(self.typed),
            objective=plain(self.base.objective),
            tracker=shown(self.base)["tracker"],
            trials=self.total,
            seeds=self.seeds,
            **recorded_config(self.base),
            **fields,
        )
        self.record.flush()

    def _name(self) -> str:
        kinds = (("model", self.base.model), ("dataset", self.base.dataset))
        fixed = [node["plugin"] for kind, node in kinds if kind not in self.swept]
        return " ".join([*fixed, short(swept_words(self.typed, self.swept))]).strip()

    def tell_what_is_done(self) -> None:
        """Tells hooks of the beginning, and of the trials that stay as they are; the source of what it had judged."""
        self.hook.expfw_sweep_started(sweep_id=self.id, folder=self.folder, trials=self.total)
        for trial in self.plan.done.values():
            self.ledger.write(trial)
            self.hook.expfw_trial_ended(sweep_id=self.id, trial=asdict(trial))
        for configuration in sorted({number // self.seeds for number in self.plan.done}):
            self._judge(configuration)

    def next_request(self) -> Request | None:
        """What runs next, composed now; None where there is nothing, unless a trial that runs fails."""
        if self.base.sweep.on_failure == "stop" and self._failures:
            return None
        while (number := self._again.pop(0) if self._again else next(self._numbers, None)) is not None:
            if (made := self._prepared(number)) is not None:
                return made
        return None

    def overrides_of(self, number: int) -> list[str]:
        """All overrides of a trial."""
        configuration, repeat = divmod(number, self.seeds)
        return ranking.with_seed(self.source.propose(configuration), self.base, repeat)

    def _prepared(self, number: int) -> Request | None:
        """The request of a trial, which it enters into the ledger; None where it does not compose, or is known."""
        overrides = self.overrides_of(number)
        before = self.known.get(number)
        attempt = before.attempt + 1 if before is not None and before.again else 1
        trial = replace(trial_of(number, overrides, self.swept, self.seeds), attempt=attempt)
        try:
            made = self.request_of(number, overrides)
        except ExpfwError as error:
            self._has_ended(replace(trial, status=FAILED, error=str(error)))
            return None
        trial = replace(trial, fingerprint=made.fingerprint)
        if before is None and (same := self._the_same(trial)) is not None:
            told = f"it has the values of trial {same.number}, whose result counts for it; it is not trained again"
            result = {name: getattr(same, name) for name in ("status", "objective", "objective_metric", "metrics")}
            self._has_ended(replace(trial, **result, seconds=0.0, warnings=(told,)))
            return None
        made = replace(
            made,
            config=replace(made.config, name=trial.name),
            sweep_id=self.id,
            sweep_folder=self.folder,
            trial=number,
            swept=trial.values,
        )
        if (goes_on := self.plan.going_on.get(number)) is not None:
            made = replace(made, id=goes_on.id, overrides=goes_on.overrides, continues=goes_on.continues)
        self._keep(trial)
        return made

    def _the_same(self, trial: Trial) -> Trial | None:
        """The trial of a search that had the same values, seed among them, and has come to its end.

        In a grid somebody has asked for the same twice.
        """
        if not self.source.repeats_itself:
            return None
        mark = trial.fingerprint, list(trial.overrides)
        ended = (one for one in self.known.values() if one.status == FINISHED)
        return next((one for one in ended if (one.fingerprint, list(one.overrides)) == mark), None)

    def started(self, made: Request) -> None:
        """Its process is about to start."""
        assert made.trial is not None
        folder = run_folders.trial_folder(self.folder, made.trial, made.id)
        self._keep(replace(self.known[made.trial], status=RUNNING, run_id=made.id, folder=str(folder)))
        self.follower.follow(self.known[made.trial])
        self.hook.expfw_trial_started(sweep_id=self.id, trial=asdict(self.known[made.trial]))

    def ended(self, made: Request, how: str | None) -> None:
        """Its process has ended as told; None: it was interrupted, and can go on."""
        assert made.trial is not None
        trial = self.known[made.trial]
        self.follower.leave(trial)
        if how is None:
            now = trial.now()
            began = now.status != RUNNING or (now.folder is not None and process_lock.lives(Path(now.folder)))
            self._has_ended(now if began else replace(now, status=WAITING, run_id=None, folder=None))
            return
        if trial.folder is not None:
            interrupted.record_death(Path(trial.folder), how)
        trial = trial.ended(how)
        again = trial.status == FAILED and trial.attempt <= self.base.sweep.retries
        self._has_ended(replace(trial, again=again))
        if again:
            self._again.append(trial.number)

    def look(self) -> None:
        """Looks at the trials that run."""
        self.follower.look()

    def _has_ended(self, trial: Trial) -> None:
        self._failures += trial.status == FAILED and not trial.again
        self._keep(trial)
        self.record.write("trial_ended", trial=asdict(trial))
        self.record.flush()
        self.hook.expfw_trial_ended(sweep_id=self.id, trial=asdict(trial))
        if trial.configuration is not None:
            self._judge(trial.configuration)

    def _judge(self, configuration: int) -> None:
        """Tells the source of a configuration that has been tried with all its seeds."""
        numbers = range(configuration * self.seeds, (configuration + 1) * self.seeds)
        trials = [self.known[number] for number in numbers if number in self.known]
        if len(trials) < self.seeds or any(t.status not in (FINISHED, FAILED, PRUNED) or t.again for t in trials):
            return
        together = ranking.together(trials)
        self.source.judge(configuration, together.objective, together.status)

    def _keep(self, trial: Trial) -> None:
        self.known[trial.number] = trial
        self.ledger.write(trial)

    def status(self) -> str:
        """FINISHED where every trial ended well."""
        waiting = any(trial.status in (WAITING, RUNNING) for trial in self.known.values())
        well = all(trial.status in (FINISHED, PRUNED) for trial in self.known.values())
        return FINISHED if well and not waiting and len(self.known) == self.total else FAILED

    def end(self, status: str, files: Sequence[str]) -> list[Trial]:
        """Records the end; returns the trials, by number."""
        trials, mode = [self.known[number] for number in sorted(self.known)], self.base.objective.mode
        if (together := ranking.best_configuration(trials, mode)) is not None:
            best = ranking.best_of(together, mode)
            values = {f"best/{together.metric}": together.objective}
            if together.interval is not None:
                values[f"best/{together.metric}/half_interval"] = together.interval
            self.record.write("metrics", step=0, values=values)
            if best.folder is not None:  # it was not deleted
                path = Path(best.folder).relative_to(self.folder)
                self.record.write("best", trial=best.number, run_id=best.run_id, path=str(path))
        self.record.write("note", text=tables.markdown(trials, mode, files))
        self.hook.expfw_sweep_ended(sweep_id=self.id, folder=self.folder, add_artifact=self._add_artifact)
        html_report.attempt(self.record.flushed().parent, trials, status, self._add_artifact)
        self.record.write("sweep_ended", status=status)
        return trials

    def _add_artifact(self, path: Path) -> None:
        self.record.write("artifact", path=str(path.relative_to(self.folder)))


def swept_words(overrides: Sequence[str], keys: Collection[str]) -> list[str]:
    """Those overrides that tell a trial from others, fit to be shown.

    Args:
        keys: that are swept over.
    """
    return [word for word in redact_words(overrides) if word.lstrip("+~").partition("=")[0] in keys]


def trial_of(number: int, overrides: Sequence[str], swept: set[str], seeds: int) -> Trial:
    """A trial as it is before its configuration is composed, fit to be shown."""
    return Trial(number, "", redact_words(overrides), swept_words(overrides, swept), configuration=number // seeds)
