"""Source of the configurations of a sweep: a grid or a search."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

from expfw.api.run_config import Sweep
from expfw.errors import ConfigError
from expfw.sweeps.search import optuna_study
from expfw.sweeps.search.grid import Grid
from expfw.sweeps.search.optuna_search import Search
from expfw.sweeps.search.space import Interval, Space


def make_source(space: Space, settings: Sweep, seed: int, mode: str, folder: Path | None) -> Grid | Search:
    """Returns the source of the configurations of a sweep.

    Args:
        space: space of the overrides.
        settings: `sweep` in the configuration.
        seed: seed of the sampler.
        mode: mode of the objective, "min" or "max".
        folder: sweep folder that contains the study; an existing study is resumed. None to write nothing.

    Raises:
        ConfigError: if settings and overrides contradict each other.
    """
    sampler = settings.sampler or ("tpe" if space.has_interval else "grid")
    _check_settings(space, settings, sampler)
    if sampler == "grid" and settings.pruner is None:
        return Grid(space)
    return Search(space, sampler, settings, seed, mode, None if folder is None else folder / optuna_study.FILE_NAME)


def _check_settings(space: Space, settings: Sweep, sampler: str) -> None:
    keys = [key.lstrip("+") for key in space.swept_keys]
    if space_keys := [key for key in keys if key.startswith("sweep.space.")]:
        example = "\"{model: {cnn: {model.kernel: '3,5'}}}\""
        raise ConfigError(
            f"{space_keys[0]} has several values; expected the whole space in one value, such as sweep.space={example}"
        )
    if sweep_keys := [key for key in keys if key.startswith("sweep.")]:
        raise ConfigError(f"{sweep_keys[0]} has several values; expected one value for the whole sweep")
    if settings.seeds > 1 and settings.pruner is not None:
        raise ConfigError(
            f"sweep.seeds={settings.seeds} and sweep.pruner={settings.pruner} cannot be combined: the seeds of a "
            "configuration are compared only after all of them have ended; use one of the two"
        )
    if settings.seeds > 1 and "seed" in keys:
        raise ConfigError(f"seed has several values, but sweep.seeds={settings.seeds} sets seeds; use one of the two")
    if sampler == "grid":
        _check_grid(space, settings)
        return
    if not any(dimension.has_choice for dimension in space.all_dimensions):
        raise ConfigError(
            f"sweep.sampler={sampler} has no parameter to search; add one with several values, such as "
            "model.optimizer.learning_rate=tag(log,interval(1e-4,1e-1))"
        )
    if sampler == "cmaes":
        _check_cmaes(space)


def _check_grid(space: Space, settings: Sweep) -> None:
    if settings.trials is not None:
        raise ConfigError(
            f"sweep.trials={settings.trials} is only for a search, but a grid tries all {space.total:,} combinations; "
            f"remove it, or try {settings.trials} random combinations with sweep.sampler=random"
        )


def _check_cmaes(space: Space) -> None:
    if not any(
        isinstance(d.values, Interval | range) and d.has_choice and not d.condition for d in space.all_dimensions
    ):
        raise ConfigError(
            "sweep.sampler=cmaes needs an interval that every trial has; add one, such as "
            "model.optimizer.learning_rate=tag(log,interval(1e-4,1e-1)), or use sweep.sampler=tpe"
        )
    if find_spec("cmaes") is None:
        raise ConfigError("sweep.sampler=cmaes needs the package cmaes; install it with: pip install 'expfw[search]'")


class Source(Protocol):
    """Proposes the configurations of a sweep, by number from 0.

    A grid knows all configurations in advance; a search learns from reported results. A resumed sweep asks again for
    the configurations that it already had: the same number must always return the same overrides, independent of the
    results reported since.

    Attributes:
        total: number of configurations.
        can_prune: whether `observe` can return True.
        can_repeat: whether it may propose the same configuration twice.
    """

    total: int
    can_prune: bool
    can_repeat: bool

    def propose(self, number: int) -> Sequence[str]:
        """Returns all overrides of a configuration, for Hydra to compose. Called in the order of the numbers."""
        ...

    def report_result(self, number: int, objective: float | None, status: str) -> None:
        """Reports the result of a configuration. A resumed sweep reports it again.

        Args:
            number: number of the configuration.
            objective: value of the objective, or None.
            status: FINISHED, FAILED or PRUNED.
        """
        ...

    def observe(self, number: int, evaluation: int, value: float) -> bool:
        """Reports the objective's value at an evaluation of a running trial; returns whether to prune the trial.

        Args:
            number: number of the configuration.
            evaluation: number of the evaluation, from 1; the same one may be reported again after an interruption.
            value: value of the objective.
        """
        ...
