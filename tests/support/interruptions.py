"""Runs that are interrupted in this process after a checkpoint, and resumed."""

from __future__ import annotations

import pytest

import expfw
from expfw.runs.one_run import execute
from expfw.runs.resume import prepare_resume


class Interrupt(expfw.Callback):
    """Interrupts a run at a step as Ctrl-C does, but without a checkpoint of that step."""

    kind = "observer"

    def __init__(self, step):
        super().__init__(None, "interrupt")
        self.step = step

    @expfw.hookimpl
    def expfw_run_started(self, run):
        self.folder = run.folder
        run.call_hooks_at(self.step)

    @expfw.hookimpl
    def expfw_safe_point(self, run):
        if run.step >= self.step:
            raise KeyboardInterrupt


def resume_run(folder, *overrides, accept=False, observers=()):
    return execute(prepare_resume(expfw.load(folder, trust=True), overrides, accept), observers)


def interrupt_run(train, step, *overrides, **options):
    """Runs and interrupts at a step after the latest checkpoint; returns the run folder."""
    interrupt = Interrupt(step)
    with pytest.raises(KeyboardInterrupt):
        train(*overrides, observers=[interrupt], **options)
    assert expfw.load(interrupt.folder).status == "KILLED"
    return interrupt.folder
