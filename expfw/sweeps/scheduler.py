"""Scheduler: hands out the trials of a sweep and records their results in the ledger and the journal."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from expfw.api.result import FAILED, FINISHED, PRUNED
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
    """Scheduler of a running sweep.

    Attributes:
        id: ID of the sweep.
        folder: sweep folder.
        base_config: configuration shared by the trials; swept parameters have the values of the first trial.
        source: source of the configurations.
        make_trial_request: returns the request of a trial, for its number and all its overrides.
        sweep_journal: journal of the sweep.
        hook: hooks of the backend, the callbacks and the observers.
        overrides: overrides of the whole sweep.
        swept_keys: keys of the swept parameters.
        resume_plan: plan of a resumed sweep; empty for a new one.
        trials: trials that were started, by number.
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
        """Plans how to resume the sweep; records nothing.

        Args:
            resume_options: options to resume the sweep.
            cores: CPU cores of each trial; None if trials run on other machines.

        Raises:
            ConfigError: if the sweep cannot be resumed; see `make_resume_plan`.
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
        """Records that the sweep starts (`kind="sweep_started"`) or is resumed (`kind="sweep_resumed"`)."""
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
        """Calls the hook for the start; for each finished trial, calls its hook and reports it to `source`."""
        self.hook.expfw_sweep_started(sweep_id=self.id, folder=self.folder, trials=self.total)
        for trial in self.resume_plan.finished_trials.values():
            self.ledger.write(trial)
            self.hook.expfw_trial_ended(sweep_id=self.id, trial=asdict(trial))
        for configuration in sorted({number // self.seeds for number in self.resume_plan.finished_trials}):
            self._report_configuration(configuration)

    def next_request(self) -> Request | None:
        """Returns the next request; None if no trial is left, or none before a running trial ends."""
        if self.base_config.sweep.on_failure == "stop" and self._failure_count:
            return None
        while (
            number := self._retry_numbers.pop(0) if self._retry_numbers else next(self._remaining_numbers, None)
        ) is not None:
            if (request := self._prepare_request(number)) is not None:
                return request
        return None

    def propose_overrides(self, number: int) -> list[str]:
        """Returns all overrides of a trial."""
        configuration, repeat = divmod(number, self.seeds)
        return ranking.add_seed(self.source.propose(configuration), self.base_config, repeat)

    def _prepare_request(self, number: int) -> Request | None:
        """Writes a trial to the ledger and returns its request; None if it is invalid or its result is known."""
        overrides = self.propose_overrides(number)
        previous_trial = self.trials.get(number)
        attempt = previous_trial.attempt + 1 if previous_trial is not None and previous_trial.will_retry else 1
        trial = replace(make_trial(number, overrides, self.swept_keys, self.seeds), attempt=attempt)
        try:
            request = self.make_trial_request(number, overrides)
        except ExpfwError as error:
            self._finish_trial(replace(trial, status=FAILED, error=str(error)))
            return None
        trial = replace(trial, fingerprint=request.fingerprint)
        if previous_trial is None and (duplicate := self._find_duplicate(trial)) is not None:
            warning = (
                f"same values as trial {duplicate.number}; the result of that trial is used, without training again"
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
        """Returns the finished trial of a search with the same values and the same seed, or None.

        Always None for a grid: if it contains the same values twice, the user listed them twice, and both are trained.
        """
        if not self.source.can_repeat:
            return None
        key = trial.fingerprint, list(trial.overrides)
        finished_trials = (other for other in self.trials.values() if other.status == FINISHED)
        return next((other for other in finished_trials if (other.fingerprint, list(other.overrides)) == key), None)

    def mark_trial_started(self, request: Request) -> None:
        """Records that the process of a trial is about to start."""
        assert request.trial is not None
        folder = run_folders.get_trial_folder(self.folder, request.trial, request.id)
        self._save_trial(replace(self.trials[request.trial], status=RUNNING, run_id=request.id, folder=str(folder)))
        self.pruning_monitor.add_trial(self.trials[request.trial])
        self.hook.expfw_trial_started(sweep_id=self.id, trial=asdict(self.trials[request.trial]))

    def mark_trial_ended(self, request: Request, reason: str | None) -> None:
        """Records the end of a trial's process; `reason` is None if it was interrupted and can be resumed."""
        assert request.trial is not None
        trial = self.trials[request.trial]
        self.pruning_monitor.remove_trial(trial)
        if reason is None:
            # Still RUNNING without a live process: its journal has no record, so there is nothing to resume.
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
        self._finish_trial(replace(trial, will_retry=will_retry))
        if will_retry:
            self._retry_numbers.append(trial.number)

    def check_running_trials(self) -> None:
        """Prunes running trials that are not promising."""
        self.pruning_monitor.check_trials()

    def _finish_trial(self, trial: Trial) -> None:
        self._failure_count += trial.status == FAILED and not trial.will_retry
        self._save_trial(trial)
        self.sweep_journal.write("trial_ended", trial=asdict(trial))
        self.sweep_journal.flush()
        self.hook.expfw_trial_ended(sweep_id=self.id, trial=asdict(trial))
        if trial.configuration is not None:
            self._report_configuration(trial.configuration)

    def _report_configuration(self, configuration: int) -> None:
        """Reports a configuration to the source when the trials with all its seeds have ended."""
        numbers = range(configuration * self.seeds, (configuration + 1) * self.seeds)
        trials = [self.trials[number] for number in numbers if number in self.trials]
        if len(trials) < self.seeds or any(t.status not in (FINISHED, FAILED, PRUNED) or t.will_retry for t in trials):
            return
        seed_group = ranking.group_by_seed(trials)
        self.source.report_result(configuration, seed_group.objective, seed_group.status)

    def _save_trial(self, trial: Trial) -> None:
        self.trials[trial.number] = trial
        self.ledger.write(trial)

    def compute_status(self) -> str:
        """Returns FINISHED if all trials are FINISHED or PRUNED, FAILED if not."""
        any_unfinished = any(trial.status in (WAITING, RUNNING) for trial in self.trials.values())
        all_succeeded = all(trial.status in (FINISHED, PRUNED) for trial in self.trials.values())
        return FINISHED if all_succeeded and not any_unfinished and len(self.trials) == self.total else FAILED

    def record_sweep_end(self, status: str, plugin_arguments: Sequence[str]) -> list[Trial]:
        """Records the end of the sweep and returns the trials, by number."""
        trials, mode = [self.trials[number] for number in sorted(self.trials)], self.base_config.objective.mode
        if (seed_group := ranking.find_best_seed_group(trials, mode)) is not None:
            best_trial = ranking.find_best_in_group(seed_group, mode)
            values = {f"best/{seed_group.metric}": seed_group.objective}
            if seed_group.half_interval is not None:
                values[f"best/{seed_group.metric}/half_interval"] = seed_group.half_interval
            self.sweep_journal.write("metrics", step=0, values=values)
            if best_trial.folder is not None:  # its run folder was not deleted
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
    """Returns the overrides of the swept parameters, with secrets removed.

    Args:
        overrides: all overrides of a trial.
        swept_keys: keys of the swept parameters.
    """
    return [
        override for override in redact_overrides(overrides) if override.lstrip("+~").partition("=")[0] in swept_keys
    ]


def make_trial(number: int, overrides: Sequence[str], swept_keys: set[str], seeds: int) -> Trial:
    """Returns a trial before its configuration is composed, with secrets removed."""
    return Trial(
        number,
        "",
        redact_overrides(overrides),
        select_swept_overrides(overrides, swept_keys),
        configuration=number // seeds,
    )
