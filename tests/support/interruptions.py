"""Runs that are interrupted in this process, behind their newest checkpoint, and go on."""

from __future__ import annotations

import pytest

import expfw
from expfw.runs.one_run import execute
from expfw.runs.resume import recorded, to_go_on
from expfw.tracking import run_index


class Interrupt(expfw.Callback):
    """Ends a run as Ctrl-C does, after the checkpoint of a step is due; later steps are lost."""

    kind = "display"

    def __init__(self, step):
        super().__init__(None, "interrupt")
        self.step = step

    @expfw.hookimpl
    def expfw_run_started(self, run):
        run.wake_at(self.step)

    @expfw.hookimpl
    def expfw_settled(self, run):
        if run.step >= self.step:
            raise KeyboardInterrupt


def entry_of(workdir, folder):
    return next(e for e in run_index.runs(workdir / "runs") if e.folder == folder)


def go_on(workdir, folder, *overrides, accept=False, observers=()):
    made = to_go_on(recorded(entry_of(workdir, folder)), workdir / "runs", overrides, accept)
    return execute(made, observers)


def interrupted(train, workdir, step, *overrides, **options):
    """A run that was ended at a step, its newest checkpoint being older than that."""
    before = {e.folder for e in run_index.runs(workdir / "runs")}
    with pytest.raises(KeyboardInterrupt):
        train(*overrides, observers=[Interrupt(step)], **options)
    (folder,) = {e.folder for e in run_index.runs(workdir / "runs")} - before
    assert entry_of(workdir, folder).status == "KILLED"
    return folder
