"""Source of the configurations of a sweep: a grid or a search."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TypeAlias

from expfw.api.run_config import RunConfig
from expfw.errors import ConfigError
from expfw.sweeps.search.optuna_search import Search
from expfw.sweeps.search.space import Interval, Space


class Grid:
    """All combinations of the swept values, known in advance and each created on demand.

    Attributes:
        total: number of configurations.
        can_prune: whether `observe` can return True.
        can_repeat: whether it may propose the same configuration twice, because it selects values while it runs.
    """

    can_prune = False
    can_repeat = False

    def __init__(self, space: Space) -> None:
        self.space = space
        self.total = space.total

    def propose(self, number: int) -> Sequence[str]:
        """Returns all overrides of a configuration, numbered from 0, for Hydra to compose.

        Called in the order of the numbers. A resumed sweep asks again for the configurations that it already had: the
        same number always returns the same overrides, independent of the results reported since.
        """
        return self.space.get_overrides(number)

    def report_result(self, number: int, objective: float | None, status: str) -> None:
        """Reports the result of a configuration: FINISHED, FAILED or PRUNED. A resumed sweep reports it again."""

    def observe(self, number: int, evaluation: int, value: float) -> bool:
        """Reports the objective's value at an evaluation of a running trial; returns whether to prune the trial.

        Evaluations are numbered from 1; the same one may be reported again after an interruption.
        """
        return False


Source: TypeAlias = Grid | Search
"""Proposes the configurations of a sweep; the methods of `Grid` describe both."""


def make_source(space: Space, config: RunConfig, folder: Path | None) -> Source:
    """Returns the source of the configurations of a sweep.

    Args:
        config: configuration with the options of the whole sweep.
        folder: sweep folder that contains the study; an existing study is resumed. None to write nothing.

    Raises:
        ConfigError: if options and overrides contradict each other.
    """
    settings, keys = config.sweep, space.swept_keys
    searched = [dimension for dimension in space.all_dimensions if dimension.has_choice]
    has_interval = any(isinstance(dimension.values, Interval) for dimension in searched)
    sampler = settings.sampler or ("tpe" if has_interval else "grid")
    if sweep_key := next((key for key in keys if key.startswith("sweep.")), None):
        example = ", such as sweep.space=\"{model: {cnn: {model.kernel: '3,5'}}}\"" if ".space." in sweep_key else ""
        problem = f"{sweep_key} has several values; expected one value for the whole sweep{example}"
    elif settings.seeds > 1 and settings.pruner is not None:
        problem = (
            f"sweep.seeds={settings.seeds} and sweep.pruner={settings.pruner} cannot be combined: the seeds of a "
            "configuration are compared only after all of them have ended; use one of the two"
        )
    elif settings.seeds > 1 and "seed" in keys:
        problem = f"seed has several values, but sweep.seeds={settings.seeds} sets seeds; use one of the two"
    elif sampler == "grid" and settings.trials is not None:
        problem = (
            f"sweep.trials={settings.trials} is only for a search, but a grid tries all {space.total:,} combinations; "
            f"remove it, or try {settings.trials} random combinations with sweep.sampler=random"
        )
    elif sampler != "grid" and not searched:
        problem = (
            f"sweep.sampler={sampler} has no parameter to search; add one with several values, such as "
            "model.optimizer.learning_rate=tag(log,interval(1e-4,1e-1))"
        )
    elif sampler == "cmaes" and not any(isinstance(d.values, Interval | range) and not d.condition for d in searched):
        problem = (
            "sweep.sampler=cmaes needs an interval that every trial has; add one, such as "
            "model.optimizer.learning_rate=tag(log,interval(1e-4,1e-1)), or use sweep.sampler=tpe"
        )
    elif sampler == "cmaes" and find_spec("cmaes") is None:
        problem = "sweep.sampler=cmaes needs the package cmaes; install it with: pip install 'expfw[search]'"
    elif sampler == "grid" and settings.pruner is None:
        return Grid(space)
    else:
        return Search(space, sampler, config, folder)
    raise ConfigError(problem)
