"""Kills its own process by SIGKILL at a chosen moment. Given with `-p`; EXPFW_KILL says where and when: `journal:7`."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import expfw

WHERE = ("training", "evaluation", "checkpoint", "arrays", "journal", "epoch")


def kill():
    os.kill(os.getpid(), signal.SIGKILL)


class Killer(expfw.Callback):
    """Where: `training` and `evaluation` after so many milliseconds (of the second evaluation), in native code mostly;
    the others when that happens for so many times."""

    def __init__(self, config, name):
        super().__init__(config, name)
        self.where, _, count = os.environ.get("EXPFW_KILL", "").partition(":")
        self.left = int(count or 0)

    @expfw.hookimpl
    def expfw_run_started(self, run):
        begin = getattr(self, f"_{self.where}", None)
        if begin is not None:
            begin()

    @expfw.hookimpl
    def expfw_epoch_ended(self, run):
        if self.where == "epoch":
            self._one_less()

    def _one_less(self):
        self.left -= 1
        if self.left == 0:
            kill()

    def _training(self):
        threading.Timer(self.left / 1000, kill).start()

    def _evaluation(self):
        from expfw_backends.engine.evaluations import Evaluations

        evaluate, calls = Evaluations.means, []

        def evaluated(evaluations, name):
            calls.append(name)
            if len(calls) == 2:
                threading.Timer(self.left / 1000, kill).start()
            return evaluate(evaluations, name)

        Evaluations.means = evaluated

    def _checkpoint(self):
        fsync = os.fsync

        def synced(file):
            self._one_less()
            fsync(file)

        os.fsync = synced

    def _arrays(self):
        from expfw.api import checkpoints

        write = checkpoints.write_arrays

        def half(path: Path, arrays):
            write(path, arrays)
            if self.left == 1:
                os.truncate(path, path.stat().st_size // 2)
            self._one_less()

        checkpoints.write_arrays = half

    def _journal(self):
        write = os.write

        def torn(file, data):
            if self.left == 1 and len(data) > 20 and data.startswith(b'{"kind"'):
                write(file, data[: len(data) * 2 // 3])
                kill()
            if data.startswith(b'{"kind"'):
                self.left -= 1
            return write(file, data)

        os.write = torn
