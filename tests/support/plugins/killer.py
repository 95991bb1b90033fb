"""Callback that kills its process with SIGKILL. Load with `-p`; EXPFW_KILL is place and count, such as `journal:7`."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import expfw

PLACES = ("training", "evaluation", "checkpoint", "arrays", "journal", "epoch")


def kill_own_process():
    os.kill(os.getpid(), signal.SIGKILL)


class Killer(expfw.Callback):
    """Kills the process at a place of `PLACES`.

    `training` and `evaluation` (the second one): after this number of milliseconds, mostly in native code. The other
    places: when they are reached for this number of times.
    """

    def __init__(self, config, name):
        super().__init__(config, name)
        self.place, _, count = os.environ.get("EXPFW_KILL", "").partition(":")
        self.remaining = int(count or 0)

    @expfw.hookimpl
    def expfw_run_started(self, run):
        getattr(self, f"_{self.place}", lambda: None)()

    @expfw.hookimpl
    def expfw_epoch_ended(self, run):
        if self.place == "epoch":
            self._count_down()

    def _count_down(self):
        self.remaining -= 1
        if self.remaining == 0:
            kill_own_process()

    def _training(self):
        threading.Timer(self.remaining / 1000, kill_own_process).start()

    def _evaluation(self):
        from expfw_backends.engine.trainable import TrainableModel

        evaluate, calls = TrainableModel.evaluate, []

        def evaluate_and_start_timer(trainable, split):
            calls.append(split)
            if len(calls) == 2:
                self._training()
            return evaluate(trainable, split)

        TrainableModel.evaluate = evaluate_and_start_timer

    def _checkpoint(self):
        fsync = os.fsync

        def count_and_fsync(file):
            self._count_down()
            fsync(file)

        os.fsync = count_and_fsync

    def _arrays(self):
        from expfw.api import checkpoints

        write = checkpoints.write_arrays

        def write_and_truncate(path: Path, arrays):
            write(path, arrays)
            if self.remaining == 1:
                os.truncate(path, path.stat().st_size // 2)
            self._count_down()

        checkpoints.write_arrays = write_and_truncate

    def _journal(self):
        write = os.write

        def write_torn_line(file, data):
            if self.remaining == 1 and len(data) > 20 and data.startswith(b'{"kind"'):
                write(file, data[: len(data) * 2 // 3])
                kill_own_process()
            if data.startswith(b'{"kind"'):
                self.remaining -= 1
            return write(file, data)

        os.write = write_torn_line
