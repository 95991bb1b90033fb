"""Runs that are interrupted in this process after a checkpoint, and resumed."""

from __future__ import annotations

import pytest

import expfw
from expfw.runs.one_run import execute
from expfw.runs.recorded_setup import read_recorded_setup
from expfw.runs.resume import prepare_resume
from expfw.tracking import run_index


class Interrupt(expfw.Callback):
    """Interrupts a run at a step as Ctrl-C does, but without a checkpoint of that step."""

    kind = "observer"

    def __init__(self, step):
        super().__init__(None, "interrupt")
        self.step = step

    @expfw.hookimpl
    def expfw_run_started(self, run):
        run.call_hooks_at(self.step)

    @expfw.hookimpl
    def expfw_safe_point(self, run):
        if run.step >= self.step:
            raise KeyboardInterrupt


def find_entry(workdir, folder):
    return next(e for e in run_index.list_runs(workdir / "runs") if e.folder == folder)


def resume_run(workdir, folder, *overrides, accept=False, observers=()):
    request = prepare_resume(read_recorded_setup(find_entry(workdir, folder)), workdir / "runs", overrides, accept)
    return execute(request, observers)


def interrupt_run(train, workdir, step, *overrides, **options):
    """Runs and interrupts at a step after the latest checkpoint; returns the run folder."""
    previous_folders = {e.folder for e in run_index.list_runs(workdir / "runs")}
    with pytest.raises(KeyboardInterrupt):
        train(*overrides, observers=[Interrupt(step)], **options)
    (folder,) = {e.folder for e in run_index.list_runs(workdir / "runs")} - previous_folders
    assert find_entry(workdir, folder).status == "KILLED"
    return folder
