"""A callback around the training: where its time goes.

expfw -p docs/authors/examples/profiler.py run +callback=profiler
"""

from __future__ import annotations

import cProfile
import pstats
from dataclasses import dataclass
from typing import Literal

import expfw


class Profiler(expfw.Callback):
    """Measures all Python functions that the training calls; the table is an artifact of the run, `profile/fit.txt`.

    `profile/fit.pstats` has all of it, for `python -m pstats` or a viewer such as snakeviz. What TensorFlow does in its
    own threads is in no Python function; for that there is TensorFlow's profiler.
    """

    @dataclass
    class Config:
        rows: int = expfw.option(40, help="functions in the table")
        sort: Literal["cumulative", "tottime", "ncalls"] = expfw.option(
            "cumulative", help="first those with most of: time with what they call, time of their own, calls"
        )

    @expfw.hookimpl(wrapper=True)
    def expfw_fit(self, run):
        profile = cProfile.Profile()
        profile.enable()
        try:
            return (yield)  # here the backend trains
        finally:  # also where it was interrupted, or failed
            profile.disable()
            self._write(profile, run)

    def _write(self, profile, run):
        folder = run.folder / "profile"
        folder.mkdir(exist_ok=True)
        profile.dump_stats(folder / "fit.pstats")
        with open(folder / "fit.txt", "w") as table:
            pstats.Stats(profile, stream=table).sort_stats(self.config.sort).print_stats(self.config.rows)
        run.add_artifact(folder)
