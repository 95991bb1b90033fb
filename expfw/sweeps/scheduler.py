"""Hands out the trials of a sweep, and records how they end: in the ledger, in the journal, and by hooks."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from expfw.api.run import FAILED, FINISHED, PRUNED
from expfw.api.run_config import RunConfig, to_plain
from expfw.config.freeze import redact_config
from expfw.errors import ExpfwError
from expfw.redaction import redact_overrides
from expfw.reports import tables
from expfw.reports.html import report as html_report
from expfw.runs.request import Request
from expfw.sweeps.pruning_monitor import PruningMonitor
from expfw.sweeps.resume import ResumeOptions, ResumePlan, make_resume_plan
from expfw.sweeps.search.configuration_source import Source
from expfw.system import process_lock
from expfw.tracking import journal, ranking, run_folders, unfinished_run
from expfw.tracking.ledger import WAITING, Ledger, Trial, make_short_name
from expfw.tracking.run_index import RUNNING
from expfw.tracking.run_record import make_config_record


@dataclass
class TrialScheduler:
    """One sweep while it goes on.

    Attributes:
        base_config: what the trials share, with the values of the first one for the rest.
        make_trial_request: the request for a trial, by its number and all its overrides.
        overrides: the overrides of the whole sweep; swept_keys: those of their keys that are swept over.
        resume_plan: what is left of a sweep that goes on.
        trials: every trial that was begun.
    """

    id: str
    folder: Path
    base_config: RunConfig
    source: Source
    make_trial_request: Callable[[int, Sequence[str]], Request]
    sweep_journal: journal.Journal
    hook: Any
    overrides: Sequence[str]
    swept_keys: set[str]
    resume_plan: ResumePlan = field(default_factory=ResumePlan)
    trials: dict[int, Trial] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.ledger = Ledger(self.folder)
        self.seeds = self.base_config.sweep.seeds
        self.total = self.source.total * self.seeds
        self.pruning_monitor = PruningMonitor(self.source, self.base_config.objective)
        self._remaining_numbers: Iterator[int] = iter(range(self.total))
        self._retry_numbers: list[int] = []
        self._failure_count = 0

    def plan_resume(self, resume_options: ResumeOptions, cores: int | None) -> None:
        """Finds out what is left, before anything is recorded.

        Args:
            cores: processor cores that each trial will have; None: it runs elsewhere.

        Raises:
            ConfigError: it cannot go on; see `resume_plan`.
        """
        self.resume_plan = make_resume_plan(
            self.ledger.read_trials(), self._make_current_request, resume_options, cores
        )
        self.trials.update(self.resume_plan.trials)
        numbers = range(self.total) if self.resume_plan.retry_numbers is None else self.resume_plan.retry_numbers
        self._remaining_numbers = (number for number in numbers if number not in self.resume_plan.finished_trials)

    def _make_current_request(self, trial: Trial) -> Request:
        return self.make_trial_request(trial.number, self.propose_overrides(trial.number))

    def record_sweep_start(self, kind: str, **fields: Any) -> None:
        """Records that it begins, or goes on, as `kind` says."""
        self.sweep_journal.write(
            kind,
            id=self.id,
            name=redact_config(self.base_config)["name"] or self._make_name(),
            overrides=redact_overrides(self.overrides),
            objective=to_plain(self.base_config.objective),
            tracker=redact_config(self.base_config)["tracker"],
            trials=self.total,
            seeds=self.seeds,
            **make_config_record(self.base_config),
            **fields,
        )
        self.sweep_journal.flush()

    def _make_name(self) -> str:
        kinds = (("model", self.base_config.model), ("dataset", self.base_config.dataset))
        plugin_names = [node["plugin"] for kind, node in kinds if kind not in self.swept_keys]
        return " ".join(
            [*plugin_names, make_short_name(select_swept_overrides(self.overrides, self.swept_keys))]
        ).strip()

    def call_start_hooks(self) -> None:
        """Tells hooks of the beginning, and of the trials that stay as they are; the source of what it had judged."""
        self.hook.expfw_sweep_started(sweep_id=self.id, folder=self.folder, trials=self.total)
        for trial in self.resume_plan.finished_trials.values():
            self.ledger.write(trial)
            self.hook.expfw_trial_ended(sweep_id=self.id, trial=asdict(trial))
        for configuration in sorted({number // self.seeds for number in self.resume_plan.finished_trials}):
            self._report_configuration(configuration)

    def next_request(self) -> Request | None:
        """What runs next, composed now; None where there is nothing, unless a trial that runs fails."""
        if self.base_config.sweep.on_failure == "stop" and self._failure_count:
            return None
        while (
            number := self._retry_numbers.pop(0) if self._retry_numbers else next(self._remaining_numbers, None)
        ) is not None:
            if (request := self._prepare_request(number)) is not None:
                return request
        return None

    def propose_overrides(self, number: int) -> list[str]:
        """All overrides of a trial."""
        configuration, repeat = divmod(number, self.seeds)
        return ranking.add_seed(self.source.propose(configuration), self.base_config, repeat)

    def _prepare_request(self, number: int) -> Request | None:
        """The request of a trial, which it enters into the ledger; None where it does not compose, or is known."""
        overrides = self.propose_overrides(number)
        previous_trial = self.trials.get(number)
        attempt = previous_trial.attempt + 1 if previous_trial is not None and previous_trial.again else 1
        trial = replace(make_trial(number, overrides, self.swept_keys, self.seeds), attempt=attempt)
        try:
            request = self.make_trial_request(number, overrides)
        except ExpfwError as error:
            self._finish_trial(replace(trial, status=FAILED, error=str(error)))
            return None
        trial = replace(trial, fingerprint=request.fingerprint)
        if previous_trial is None and (duplicate := self._find_duplicate(trial)) is not None:
            warning = (
                f"it has the values of trial {duplicate.number}, whose result counts for it; it is not trained again"
            )
            result = {name: getattr(duplicate, name) for name in ("status", "objective", "objective_metric", "metrics")}
            self._finish_trial(replace(trial, **result, seconds=0.0, warnings=(warning,)))
            return None
        request = replace(
            request,
            config=replace(request.config, name=trial.name),
            sweep_id=self.id,
            sweep_folder=self.folder,
            trial=number,
            swept=trial.values,
        )
        if (resume_request := self.resume_plan.resume_requests.get(number)) is not None:
            request = replace(
                request,
                id=resume_request.id,
                overrides=resume_request.overrides,
                resume_point=resume_request.resume_point,
            )
        self._save_trial(trial)
        return request

    def _find_duplicate(self, trial: Trial) -> Trial | None:
        """The trial of a search that had the same values, seed among them, and has come to its end.

        In a grid somebody has asked for the same twice.
        """
        if not self.source.can_repeat:
            return None
        key = trial.fingerprint, list(trial.overrides)
        finished_trials = (other for other in self.trials.values() if other.status == FINISHED)
        return next((other for other in finished_trials if (other.fingerprint, list(other.overrides)) == key), None)

    def mark_trial_started(self, request: Request) -> None:
        """Its process is about to start."""
        assert request.trial is not None
        folder = run_folders.get_trial_folder(self.folder, request.trial, request.id)
        self._save_trial(replace(self.trials[request.trial], status=RUNNING, run_id=request.id, folder=str(folder)))
        self.pruning_monitor.add_trial(self.trials[request.trial])
        self.hook.expfw_trial_started(sweep_id=self.id, trial=asdict(self.trials[request.trial]))

    def mark_trial_ended(self, request: Request, reason: str | None) -> None:
        """Its process has ended as told; None: it was interrupted, and can go on."""
        assert request.trial is not None
        trial = self.trials[request.trial]
        self.pruning_monitor.remove_trial(trial)
        if reason is None:
            current_trial = trial.read_current_state()
            has_begun = current_trial.status != RUNNING or (
                current_trial.folder is not None and process_lock.has_live_process(Path(current_trial.folder))
            )
            self._finish_trial(
                current_trial if has_begun else replace(current_trial, status=WAITING, run_id=None, folder=None)
            )
            return
        if trial.folder is not None:
            unfinished_run.record_death(Path(trial.folder), reason)
        trial = trial.read_final_state(reason)
        will_retry = trial.status == FAILED and trial.attempt <= self.base_config.sweep.retries
        self._finish_trial(replace(trial, again=will_retry))
        if will_retry:
            self._retry_numbers.append(trial.number)

    def check_running_trials(self) -> None:
        """Looks at the trials that run."""
        self.pruning_monitor.check_trials()

    def _finish_trial(self, trial: Trial) -> None:
        self._failure_count += trial.status == FAILED and not trial.again
        self._save_trial(trial)
        self.sweep_journal.write("trial_ended", trial=asdict(trial))
        self.sweep_journal.flush()
        self.hook.expfw_trial_ended(sweep_id=self.id, trial=asdict(trial))
        if trial.configuration is not None:
            self._report_configuration(trial.configuration)

    def _report_configuration(self, configuration: int) -> None:
        """Tells the source of a configuration that has been tried with all its seeds."""
        numbers = range(configuration * self.seeds, (configuration + 1) * self.seeds)
        trials = [self.trials[number] for number in numbers if number in self.trials]
        if len(trials) < self.seeds or any(t.status not in (FINISHED, FAILED, PRUNED) or t.again for t in trials):
            return
        seed_group = ranking.group_by_seed(trials)
        self.source.report_result(configuration, seed_group.objective, seed_group.status)

    def _save_trial(self, trial: Trial) -> None:
        self.trials[trial.number] = trial
        self.ledger.write(trial)

    def compute_status(self) -> str:
        """FINISHED where every trial ended well."""
        any_unfinished = any(trial.status in (WAITING, RUNNING) for trial in self.trials.values())
        all_succeeded = all(trial.status in (FINISHED, PRUNED) for trial in self.trials.values())
        return FINISHED if all_succeeded and not any_unfinished and len(self.trials) == self.total else FAILED

    def record_sweep_end(self, status: str, plugin_arguments: Sequence[str]) -> list[Trial]:
        """Records the end; returns the trials, by number."""
        trials, mode = [self.trials[number] for number in sorted(self.trials)], self.base_config.objective.mode
        if (seed_group := ranking.find_best_seed_group(trials, mode)) is not None:
            best_trial = ranking.find_best_in_group(seed_group, mode)
            values = {f"best/{seed_group.metric}": seed_group.objective}
            if seed_group.half_interval is not None:
                values[f"best/{seed_group.metric}/half_interval"] = seed_group.half_interval
            self.sweep_journal.write("metrics", step=0, values=values)
            if best_trial.folder is not None:  # it was not deleted
                path = Path(best_trial.folder).relative_to(self.folder)
                self.sweep_journal.write("best", trial=best_trial.number, run_id=best_trial.run_id, path=str(path))
        self.sweep_journal.write("note", text=tables.make_markdown_note(trials, mode, plugin_arguments))
        self.hook.expfw_sweep_ended(sweep_id=self.id, folder=self.folder, add_artifact=self._add_artifact)
        html_report.try_write_report(self.sweep_journal.get_flushed_path().parent, trials, status, self._add_artifact)
        self.sweep_journal.write("sweep_ended", status=status)
        return trials

    def _add_artifact(self, path: Path) -> None:
        self.sweep_journal.write("artifact", path=str(path.relative_to(self.folder)))


def select_swept_overrides(overrides: Sequence[str], swept_keys: Collection[str]) -> list[str]:
    """Those overrides that tell a trial from others, fit to be shown.

    Args:
        swept_keys: that are swept over.
    """
    return [
        override for override in redact_overrides(overrides) if override.lstrip("+~").partition("=")[0] in swept_keys
    ]


def make_trial(number: int, overrides: Sequence[str], swept_keys: set[str], seeds: int) -> Trial:
    """A trial as it is before its configuration is composed, fit to be shown."""
    return Trial(
        number,
        "",
        redact_overrides(overrides),
        select_swept_overrides(overrides, swept_keys),
        configuration=number // seeds,
    )
