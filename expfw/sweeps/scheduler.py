"""Scheduler: hands out the trials of a sweep and records their results in the ledger and the journal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from expfw.api.result import FAILED, FINISHED, PRUNED
from expfw.api.run_config import RunConfig, to_plain
from expfw.config.freeze import redact_config
from expfw.errors import ExpfwError
from expfw.redaction import redact_overrides
from expfw.reports import sweep_summary
from expfw.reports.html import report as html_report
from expfw.runs.request import Request
from expfw.sweeps.pruning_monitor import PruningMonitor
from expfw.sweeps.request import SweepRequest
from expfw.sweeps.resume import ResumeOptions, plan_resume
from expfw.sweeps.runner import TrialQueue
from expfw.sweeps.search.configuration_source import Source
from expfw.system import process_lock
from expfw.tracking import journal, ranking
from expfw.tracking.ledger import METRIC_FIELDS, WAITING, Ledger, Trial, shorten_overrides
from expfw.tracking.recorded_run import RUNNING, record_death
from expfw.tracking.run_record import make_config_record
from expfw.tracking.shipper.process import queue_delivery


@dataclass
class TrialScheduler(TrialQueue):
    """Scheduler of a running sweep.

    Attributes:
        base_config: configuration shared by the trials; swept parameters have the values of the first trial.
        delivery_folder: folder in which the shipper looks for journals; None without a shipper.
        trials: trials that were started, by number.
        finished_trials: trials that a resumed sweep keeps.
    """

    id: str
    folder: Path
    base_config: RunConfig
    source: Source
    sweep_request: SweepRequest
    sweep_journal: journal.Journal
    hook: Any
    delivery_folder: Path | None = None
    trials: dict[int, Trial] = field(default_factory=dict)
    finished_trials: list[Trial] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.ledger = Ledger(self.folder)
        self.seeds = self.base_config.sweep.seeds
        self.total = self.source.total * self.seeds
        self._remaining_numbers: Iterator[int] = iter(range(self.total))
        self._retry_numbers: list[int] = []
        self._resume_requests: dict[int, Request] = {}
        self._pruning_monitors: dict[int, PruningMonitor] = {}
        self._failure_count = 0

    def plan_resume(self, resume_options: ResumeOptions, cores: int | None) -> None:
        """Plans how to resume the sweep; records nothing. For arguments and errors, see `resume.plan_resume`."""

        def make_current_request(number: int) -> Request:
            return self._make_request(*self.sweep_request.propose_trial(number, self.source, self.base_config))

        recorded_trials = self.ledger.read_trials()
        self.trials, self._resume_requests = plan_resume(recorded_trials, make_current_request, resume_options, cores)
        self.finished_trials = [trial for trial in self.trials.values() if trial.status in (FINISHED, PRUNED)]
        finished_numbers = {trial.number for trial in self.finished_trials}
        numbers = range(self.total) if resume_options.retry_numbers is None else resume_options.retry_numbers
        self._remaining_numbers = (number for number in numbers if number not in finished_numbers)

    def start(self, kind: str, **fields: Any) -> None:
        """Records that the sweep starts, and notifies the shipper and the hooks, also of each finished trial.

        `kind` is `sweep_started` or `sweep_resumed`; `fields` are added to the record.
        """
        config, redacted_config, request = self.base_config, redact_config(self.base_config), self.sweep_request
        kinds = (("model", config.model), ("dataset", config.dataset))
        plugin_names = [node["plugin"] for plugin_kind, node in kinds if plugin_kind not in request.swept_keys]
        swept_overrides = request.select_swept_overrides(request.composition.overrides)
        self.sweep_journal.write(
            kind,
            id=self.id,
            name=redacted_config["name"] or " ".join([*plugin_names, *shorten_overrides(swept_overrides)]).strip(),
            overrides=redact_overrides(request.composition.overrides),
            objective=to_plain(config.objective),
            tags={name: text for name, text in redacted_config["tags"].items() if name in request.shared_tags},
            tracker=redacted_config["tracker"],
            trials=self.total,
            seeds=self.seeds,
            **make_config_record(config),
            **fields,
        )
        self.sweep_journal.flush()
        queue_delivery(self.delivery_folder, self.id, self.folder)
        self.hook.expfw_sweep_started(sweep_id=self.id, folder=self.folder, trials=self.total)
        for trial in self.finished_trials:
            self.ledger.write(trial)
            self.hook.expfw_trial_ended(sweep_id=self.id, trial=asdict(trial))
            if trial.folder is not None:  # it may not be delivered yet, if the shipper process was killed too
                queue_delivery(self.delivery_folder, str(trial.run_id), Path(trial.folder))
        for configuration in sorted({trial.number // self.seeds for trial in self.finished_trials}):
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

    def _make_request(self, trial: Trial, overrides: Sequence[str]) -> Request:
        return self.sweep_request.make_trial_request(
            self.base_config,
            overrides,
            sweep_id=self.id,
            sweep_folder=self.folder,
            trial=trial.number,
            swept=trial.values,
            delivery_folder=self.delivery_folder,
        )

    def _prepare_request(self, number: int) -> Request | None:
        """Writes a trial to the ledger and returns its request; None if it is invalid or its result is known."""
        trial, overrides = self.sweep_request.propose_trial(number, self.source, self.base_config)
        previous_trial = self.trials.get(number)
        if previous_trial is not None and previous_trial.will_retry:
            trial = replace(trial, attempt=previous_trial.attempt + 1)
        try:
            request = self._make_request(trial, overrides)
        except ExpfwError as error:
            self._finish_trial(replace(trial, status=FAILED, error=str(error)))
            return None
        trial = replace(trial, fingerprint=request.fingerprint)
        # If a grid contains the same values twice, the user listed them twice, and both are trained.
        for other in list(self.trials.values()) if previous_trial is None and self.source.can_repeat else ():
            same_values = (other.fingerprint, list(other.overrides)) == (trial.fingerprint, list(trial.overrides))
            if other.status == FINISHED and same_values:
                result = {name: getattr(other, name) for name in ("status", *METRIC_FIELDS)}
                text = f"same values as trial {other.number}; the result of that trial is used, without training again"
                self._finish_trial(replace(trial, **result, seconds=0.0, warnings=(text,)))
                return None
        request = replace(request, config=replace(request.config, name=trial.name))
        if (resumed := self._resume_requests.get(number)) is not None:
            request = replace(request, id=resumed.id, overrides=resumed.overrides, resume_point=resumed.resume_point)
        self._save_trial(trial)
        return request

    def mark_trial_started(self, request: Request) -> None:
        """Records that the process of a trial is about to start."""
        assert request.trial is not None
        folder = request.trial_folder
        trial = replace(self.trials[request.trial], status=RUNNING, run_id=request.id, folder=str(folder))
        self._save_trial(trial)
        if self.source.can_prune:
            arguments = (trial.number // self.seeds, folder, self.base_config.objective)
            self._pruning_monitors[trial.number] = PruningMonitor(self.source, *arguments)
        self.hook.expfw_trial_started(sweep_id=self.id, trial=asdict(trial))

    def mark_trial_ended(self, request: Request, reason: str | None) -> None:
        """Records the end of a trial's process; `reason` is None if it was interrupted and can be resumed."""
        assert request.trial is not None
        if (monitor := self._pruning_monitors.pop(request.trial, None)) is not None:
            monitor.check()  # its last evaluations
        if reason is None:
            trial = self.trials[request.trial].read_current_state()
            if trial.status == RUNNING and not process_lock.has_live_process(request.trial_folder):
                # Its journal has no record, so there is nothing to resume.
                trial = replace(trial, status=WAITING, run_id=None, folder=None)
            self._finish_trial(trial)
            return
        record_death(request.trial_folder, reason)
        trial = self.trials[request.trial].read_current_state(reason)
        will_retry = trial.status == FAILED and trial.attempt <= self.base_config.sweep.retries
        self._finish_trial(replace(trial, will_retry=will_retry))
        if will_retry:
            self._retry_numbers.append(trial.number)

    def check_running_trials(self) -> None:
        """Prunes running trials that are not promising."""
        for monitor in self._pruning_monitors.values():
            monitor.check()

    def _finish_trial(self, trial: Trial) -> None:
        self._failure_count += trial.status == FAILED and not trial.will_retry
        self._save_trial(trial)
        self.sweep_journal.write("trial_ended", trial=asdict(trial))
        self.sweep_journal.flush()
        self.hook.expfw_trial_ended(sweep_id=self.id, trial=asdict(trial))
        self._report_configuration(trial.number // self.seeds)

    def _report_configuration(self, configuration: int) -> None:
        """Reports a configuration to the source when the trials with all its seeds have ended."""
        numbers = range(configuration * self.seeds, (configuration + 1) * self.seeds)
        trials = [self.trials[number] for number in numbers if number in self.trials]
        if len(trials) < self.seeds or not all(trial.has_result for trial in trials):
            return
        seed_group = ranking.SeedGroup(trials)
        self.source.report_result(configuration, seed_group.objective, seed_group.status)

    def _save_trial(self, trial: Trial) -> None:
        self.trials[trial.number] = trial
        self.ledger.write(trial)

    @property
    def status(self) -> str:
        """FINISHED if all trials are FINISHED or PRUNED, FAILED if not."""
        succeeded_count = sum(trial.status in (FINISHED, PRUNED) for trial in self.trials.values())
        return FINISHED if succeeded_count == self.total else FAILED

    def record_sweep_end(self, status: str, plugin_arguments: Sequence[str]) -> list[Trial]:
        """Records the end of the sweep and returns the trials, by number."""
        trials, mode = [self.trials[number] for number in sorted(self.trials)], self.base_config.objective.mode
        if (seed_group := ranking.find_best_seed_group(trials, mode)) is not None:
            best_trial = seed_group.get_best_trial(mode)
            values = {f"best/{seed_group.metric}": seed_group.objective}
            if seed_group.half_interval is not None:
                values[f"best/{seed_group.metric}/half_interval"] = seed_group.half_interval
            self.sweep_journal.write("metrics", step=0, values=values)
            if best_trial.folder is not None:  # its run folder was not deleted
                path = Path(best_trial.folder).relative_to(self.folder)
                self.sweep_journal.write("best", trial=best_trial.number, run_id=best_trial.run_id, path=str(path))
        note = sweep_summary.make_markdown_note(trials, mode, plugin_arguments)
        self.sweep_journal.write("note", text=note, metric=seed_group and seed_group.metric)
        self.hook.expfw_sweep_ended(sweep_id=self.id, folder=self.folder, add_artifact=self._add_artifact)
        self.sweep_journal.flush()
        html_report.try_write_report(self.folder, trials, status, self._add_artifact)
        self.sweep_journal.write("sweep_ended", status=status)
        return trials

    def _add_artifact(self, path: Path) -> None:
        self.sweep_journal.write("artifact", path=str(path.relative_to(self.folder)))
