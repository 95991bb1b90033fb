"""Which source a sweep has, by its settings."""

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
    """Where the configurations of a sweep come from.

    Args:
        space: that the overrides span.
        seed: of samplers; mode: of the objective, min or max.
        folder: the sweep's, which a study is kept in, and gone on with; None to write nothing.

    Raises:
        ConfigError: settings and overrides do not go together.
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
            f"{space_keys[0]} has several values; give the space as a whole, such as sweep.space={example}"
        )
    if sweep_keys := [key for key in keys if key.startswith("sweep.")]:
        raise ConfigError(f"{sweep_keys[0]} is swept over; it is one of the whole sweep, give it one value")
    if settings.seeds > 1 and settings.pruner is not None:
        raise ConfigError(
            f"sweep.seeds={settings.seeds} and sweep.pruner={settings.pruner}: the seeds of a configuration are judged "
            "together, at their end, so none can be given up before; take one of the two"
        )
    if settings.seeds > 1 and "seed" in keys:
        raise ConfigError(f"seed is swept over, and sweep.seeds={settings.seeds} sets seeds, too; take one of the two")
    if sampler == "grid":
        _check_grid(space, settings)
        return
    if not any(dimension.has_choice for dimension in space.all_dimensions):
        raise ConfigError(
            f"sweep.sampler={sampler} has nothing to choose; give a key several values, such as "
            "model.optimizer.learning_rate=tag(log,interval(1e-4,1e-1))"
        )
    if sampler == "cmaes":
        _check_cmaes(space)


def _check_grid(space: Space, settings: Sweep) -> None:
    if settings.trials is not None:
        raise ConfigError(
            f"sweep.trials={settings.trials} is for a search, but a grid tries all {space.total:,} combinations; "
            "leave it out, or take so many of them by chance with sweep.sampler=random"
        )


def _check_cmaes(space: Space) -> None:
    if not any(
        isinstance(d.values, Interval | range) and d.has_choice and not d.condition for d in space.all_dimensions
    ):
        raise ConfigError(
            "sweep.sampler=cmaes learns about intervals that every trial has, and there is none; give one, such as "
            "model.optimizer.learning_rate=tag(log,interval(1e-4,1e-1)), or take sweep.sampler=tpe"
        )
    if find_spec("cmaes") is None:
        raise ConfigError("sweep.sampler=cmaes needs the package cmaes; install it with expfw[search]")


class Source(Protocol):
    """Proposes one configuration after the other; a grid knows all of them, a search learns from those it hears of.

    A configuration has a number, from 0. A sweep that goes on asks for those it had once more: the same number must
    give the same overrides, whatever became known since.

    Attributes:
        total: how many configurations there will be.
        can_prune: whether `observe` may ever say yes.
        can_repeat: whether it may propose what it has proposed, because it did not know better.
    """

    total: int
    can_prune: bool
    can_repeat: bool

    def propose(self, number: int) -> Sequence[str]:
        """All overrides of a configuration, as Hydra composes a job from them; asked in the order of the numbers."""
        ...

    def report_result(self, number: int, objective: float | None, status: str) -> None:
        """What became of a configuration; once more for a sweep that goes on.

        Args:
            objective: None where there is none; status: FINISHED, FAILED or PRUNED.
        """
        ...

    def observe(self, number: int, evaluation: int, value: float) -> bool:
        """Tells of the objective's value while a configuration is tried; returns whether to give it up.

        Args:
            evaluation: counts from 1; the same one may come again after an interruption.
        """
        ...
