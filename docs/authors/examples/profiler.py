"""A callback that wraps the training: measures the time in each Python function.

expfw -p docs/authors/examples/profiler.py run +callback=profiler
"""

from __future__ import annotations

import cProfile
import pstats
from dataclasses import dataclass
from typing import Literal

import expfw


class Profiler(expfw.Callback):
    """Measures all Python functions of the training; writes a table to the artifact `profile/fit.txt`.

    `profile/fit.pstats` contains all data, for `python -m pstats` or a viewer such as snakeviz. The threads of
    TensorFlow are not Python functions; measure them with the callback `profile` (`debug=profile`).
    """

    @dataclass
    class Config:
        rows: int = expfw.option(40, help="number of functions in the table")
        sort: Literal["cumulative", "tottime", "ncalls"] = expfw.option(
            "cumulative", help="sort by time with called functions, time without them, or number of calls"
        )

    @expfw.hookimpl(wrapper=True)
    def expfw_fit(self, run):
        profile = cProfile.Profile()
        profile.enable()
        try:
            return (yield)  # here the backend trains
        finally:  # also if the training fails or is interrupted
            profile.disable()
            self._write(profile, run)

    def _write(self, profile, run):
        folder = run.folder / "profile"
        folder.mkdir(exist_ok=True)
        profile.dump_stats(folder / "fit.pstats")
        with open(folder / "fit.txt", "w") as table:
            pstats.Stats(profile, stream=table).sort_stats(self.config.sort).print_stats(self.config.rows)
        run.add_artifact(folder)
