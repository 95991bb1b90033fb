"""One sweep, from its overrides to its result, in order of execution."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expfw.api.contracts import Callback, Plugin
from expfw.api.result import KILLED
from expfw.api.run_config import RunConfig
from expfw.config import third_party_launchers
from expfw.config.compose import compose_sweep
from expfw.config.hydra_sweeper import Sweeper
from expfw.errors import ConfigError
from expfw.plugins import disabling
from expfw.plugins.catalogue import Catalogue
from expfw.plugins.manager import make_manager, traceback_log
from expfw.redaction import find_secrets, redact_overrides
from expfw.runs.request import Request
from expfw.sweeps.cluster.cluster_runner import ClusterRunner
from expfw.sweeps.local import fork_server
from expfw.sweeps.local.slots import make_slots
from expfw.sweeps.local.supervisor import Supervisor, list_server_modules
from expfw.sweeps.request import ComposeFunction, SweepRequest
from expfw.sweeps.result import SweepResult
from expfw.sweeps.resume import ResumeOptions, check_base_config
from expfw.sweeps.runner import TrialRunner
from expfw.sweeps.scheduler import TrialScheduler
from expfw.system import process_lock, redirection
from expfw.system.process_limits import Limits
from expfw.system.signals import Killed, raise_on_signals
from expfw.tracking import journal, run_folders
from expfw.tracking.run_folders import LOG_FILE
from expfw.tracking.shipper.client import queue_delivery, running_shipper
from expfw.tracking.shipper.process import SWEEP_CPU_SHARE

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override
    from omegaconf import DictConfig

log = logging.getLogger("expfw")


def run_sweep(
    overrides: Sequence[str],
    catalogue: Catalogue,
    config_name: str = "config",
    config_dir: str | None = None,
    observers: Sequence[Plugin] = (),
    resume_options: ResumeOptions | None = None,
) -> SweepResult:
    """Runs every configuration of these overrides.

    Args:
        overrides: overrides as on the command line, for example `["model=mlp_keras", "model.units=32,64"]`.
        catalogue: available plugins.
        config_name: name of the root configuration.
        config_dir: additional folder of configuration files; None for no such folder.
        observers: additional plugins that observe the trials, for example a progress display.
        resume_options: options to resume an unfinished sweep with the same overrides: finished trials are kept,
            interrupted trials are resumed, all others are started; None for a new sweep.

    Raises:
        ExpfwError: if nothing could be started. If a single trial fails, its error is in the result instead.
        KeyboardInterrupt: if interrupted; raised after all results are recorded.
    """
    task = _Task(
        overrides, catalogue, list(observers), {"config_name": config_name, "config_dir": config_dir}, resume_options
    )
    compose_sweep(overrides, catalogue, task, config_name, config_dir)
    assert task.result is not None
    return task.result


@dataclass
class _Task:
    """Task function for Hydra; our sweeper calls `run` with the parsed overrides."""

    overrides: Sequence[str]
    catalogue: Catalogue
    observers: list[Plugin]
    config_source: dict[str, str | None]
    resume_options: ResumeOptions | None
    result: SweepResult | None = None

    def run(self, parsed_overrides: Sequence[Override], compose: ComposeFunction, sweeper: Sweeper) -> None:
        """Runs the sweep, from the creation of its folder to the last record of its journal."""
        sweep_request = SweepRequest(parsed_overrides, compose, self.catalogue, self.overrides)
        if sweeper.has_other_launcher:
            fork_server.dismiss_early()
            third_party_launchers.check_launcher(
                sweeper.launcher_name, sweeper.launcher_options, sweep_request.settings, sweep_request.overrides
            )
        first_run = sweep_request.prepare_first_run()
        base_config, plugins = first_run.config, first_run.plugins
        if self.resume_options is not None:
            check_base_config(self.resume_options, base_config)
        settings = base_config.sweep
        slots = make_slots(settings.slots, settings.gpus, plugins.backend.on_gpus)
        callbacks = [plugin for plugin in plugins.instances if isinstance(plugin, Callback)]
        plugin_manager = make_manager([plugins.backend, *callbacks, *self.observers], report=log.warning)
        sweep_id, folder = self._find_or_make_folder(base_config)
        with (
            raise_on_signals(),
            process_lock.lock_folder(folder),
            running_shipper(base_config, self.catalogue.files, SWEEP_CPU_SHARE) as shipper_folder,
            journal.Journal(folder / journal.NAME) as sweep_journal,
            redirection.log_to_file(folder / LOG_FILE, traceback_log, list(find_secrets(vars(base_config)))),
        ):

            def make_trial_request(number: int, overrides: Sequence[str]) -> Request:
                return sweep_request.make_trial_request(base_config, overrides, delivery_folder=shipper_folder)

            source = sweep_request.make_source(folder)
            scheduler = TrialScheduler(
                sweep_id,
                folder,
                base_config,
                source,
                make_trial_request,
                sweep_journal,
                plugin_manager.hook,
                sweep_request.overrides,
                sweep_request.swept_keys,
            )
            if self.resume_options is not None:
                scheduler.plan_resume(self.resume_options, None if sweeper.has_other_launcher else len(slots[0].cores))
            fields = {
                **self.config_source,
                "files": list(self.catalogue.files),
                "hydra": redact_overrides(sweeper.hydra_overrides),
            }
            fields["disabled"] = disabling.get_disable_options()
            scheduler.record_sweep_start("sweep_started" if self.resume_options is None else "sweep_resumed", **fields)
            queue_delivery(shipper_folder, sweep_id, folder)
            scheduler.call_start_hooks()
            # Finished trials may not be delivered yet, if the shipper process was killed too.
            for trial in scheduler.resume_plan.finished_trials.values():
                if trial.folder is not None:
                    queue_delivery(shipper_folder, str(trial.run_id), Path(trial.folder))
            status = KILLED
            try:
                runner: TrialRunner
                if sweeper.has_other_launcher:
                    runner = ClusterRunner(sweeper.launcher_name, sweeper.make_launcher_config(folder), folder)
                else:
                    limits = Limits(settings.timeout, settings.memory)
                    runner = Supervisor(slots, list_server_modules(plugins), folder / LOG_FILE, limits)
                runner.run(scheduler)
                status = scheduler.compute_status()
            except (KeyboardInterrupt, Killed) as error:
                error.add_note(
                    f"to resume: expfw sweeps resume {sweep_id}"
                    f"{run_folders.format_runs_dir_option(base_config.runs_dir)}"
                )
                raise
            finally:
                trials = scheduler.record_sweep_end(status, self.catalogue.plugin_arguments)
                self.result = SweepResult(sweep_id, folder, status, trials, base_config)

    def _find_or_make_folder(self, base_config: RunConfig) -> tuple[str, Path]:
        """Returns the ID and the folder of the sweep."""
        if self.resume_options is not None:
            return self.resume_options.entry.id, self.resume_options.entry.folder
        sweep_id = run_folders.make_id()
        return sweep_id, run_folders.make_run_folder(Path(base_config.runs_dir).absolute(), sweep_id)

    def __call__(self, config: DictConfig) -> Any:
        raise ConfigError("this launcher cannot run expfw trials; use hydra/launcher=expfw")
