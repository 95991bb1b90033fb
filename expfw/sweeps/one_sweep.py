"""One sweep, from its overrides to its result, in order of execution."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from expfw.api.contracts import Callback, Plugin
from expfw.api.result import KILLED
from expfw.config.compose import Composition
from expfw.config.third_party_launchers import make_launcher_config
from expfw.plugins.manager import make_manager, traceback_log
from expfw.plugins.trust import Trust
from expfw.redaction import redact_overrides
from expfw.sweeps.cluster.cluster_runner import ClusterRunner
from expfw.sweeps.local.slots import make_slots
from expfw.sweeps.local.supervisor import Supervisor, list_server_modules
from expfw.sweeps.request import SweepRequest
from expfw.sweeps.result import SweepResult
from expfw.sweeps.resume import ResumeOptions, check_base_config
from expfw.sweeps.scheduler import TrialScheduler
from expfw.system import process_lock, redirection
from expfw.system.signals import Killed, raise_on_signals
from expfw.tracking import journal, run_folders, run_record
from expfw.tracking.run_folders import LOG_FILE
from expfw.tracking.shipper.process import SWEEP_CPU_SHARE, running_shipper

log = logging.getLogger("expfw")


def run_sweep(
    composition: Composition, observers: Sequence[Plugin] = (), resume_options: ResumeOptions | None = None
) -> SweepResult:
    """Runs every configuration of these overrides.

    Args:
        composition: overrides with swept values, for example `["model=mlp_keras", "model.units=32,64"]`.
        observers: additional plugins that observe the trials, for example a live view.
        resume_options: options to resume an unfinished sweep with the same overrides: finished trials are kept,
            interrupted trials are resumed, all others are started; None for a new sweep.

    Raises:
        ExpfwError: if nothing could be started. If a single trial fails, its error is in the result instead.
        KeyboardInterrupt: if interrupted; raised after all results are recorded.
    """
    catalogue = composition.catalogue
    with composition.open_sweep() as sweep_composition:
        sweep_request, launcher = SweepRequest(sweep_composition), sweep_composition.launcher
        first_run = sweep_request.prepare_first_run()
        base_config, plugins = first_run.config, first_run.plugins
        if resume_options is not None:  # its folder may have been moved
            base_config = replace(base_config, runs_dir=str(resume_options.entry.runs_dir.absolute()))
        settings = base_config.sweep
        slots = make_slots(settings.slots, settings.gpus, plugins.backend.on_gpus)
        callbacks = [plugin for plugin in plugins.instances if isinstance(plugin, Callback)]
        hook = make_manager([plugins.backend, *callbacks, *observers], report=log.warning).hook
        if resume_options is not None:
            check_base_config(resume_options, base_config)
            sweep_id, folder = resume_options.entry.id, resume_options.entry.folder
        else:
            sweep_id = run_folders.make_id()
            folder = run_folders.make_run_folder(Path(base_config.runs_dir).absolute(), sweep_id)
        with (
            raise_on_signals(),
            process_lock.lock_folder(folder),
            running_shipper(base_config, catalogue.files, SWEEP_CPU_SHARE) as delivery_folder,
            journal.Journal(folder / journal.NAME) as sweep_journal,
            redirection.log_to_file(folder / LOG_FILE, traceback_log),
        ):
            source = sweep_request.make_source(folder)
            scheduler = TrialScheduler(
                sweep_id, folder, base_config, source, sweep_request, sweep_journal, hook, delivery_folder
            )
            if resume_options is not None:
                scheduler.plan_resume(resume_options, len(slots[0].cores) if launcher is None else None)
            scheduler.start(
                "sweep_started" if resume_options is None else "sweep_resumed",
                config_name=composition.config_name,
                config_dir=composition.config_dir,
                files=run_record.hash_files(catalogue.files),
                hydra=redact_overrides(sweep_composition.hydra_overrides),
                disabled=catalogue.disable_options,
            )
            status = KILLED
            try:
                runner: ClusterRunner | Supervisor
                if launcher is not None:
                    launcher_config = make_launcher_config(sweep_composition.hydra_config, folder)
                    runner = ClusterRunner(launcher, launcher_config, folder)
                else:
                    runner = Supervisor(slots, list_server_modules(plugins), folder / LOG_FILE, settings)
                runner.run(scheduler)
                status = scheduler.status
            except (KeyboardInterrupt, Killed) as error:
                runs_dir_option = run_folders.format_runs_dir_option(base_config.runs_dir)
                plugin_options = run_folders.format_plugin_options(catalogue.files)
                needs_trust = sweep_composition.hydra_overrides or composition.config_dir
                trust_option = " --trust" if needs_trust else ""
                command = f"expfw{plugin_options} sweeps resume {sweep_id}{runs_dir_option}{trust_option}"
                error.add_note(f"to resume: {command}")
                raise
            finally:
                trials = scheduler.record_sweep_end(status, catalogue.plugin_arguments)
        return SweepResult(sweep_id, folder, status, trials, base_config, Trust(catalogue.files))
