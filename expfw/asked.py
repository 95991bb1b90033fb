"""What a user asked a sweep for: read from the command line, composed by Hydra when it is needed."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from omegaconf import OmegaConf

from expfw import schema
from expfw.api import Backend
from expfw.compose import frozen
from expfw.composer import Composer
from expfw.config import make_plugins
from expfw.errors import ConfigError
from expfw.explain import one_line_errors
from expfw.one_run import Request, request
from expfw.plugins import catalogue
from expfw.search.source import Source
from expfw.search.sources import make_source
from expfw.settings import Objective, RunConfig
from expfw.sweep_settings import Sweep

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override
    from omegaconf import DictConfig

Compose: TypeAlias = "Callable[[Sequence[str]], DictConfig]"
_OF_THE_SWEEP = ("sweep", "objective", "seed", "experiment")
"""What of the overrides says how to sweep; all others may fit only some of the configurations."""


@dataclass
class Asked:
    """The overrides of a sweep.

    Attributes:
        parsed: as Hydra's parser has them; compose: makes a configuration of the overrides of one trial.
        files: plugin files.
    """

    parsed: Sequence[Override]
    compose: Compose
    files: tuple[str, ...]

    def __post_init__(self) -> None:
        self.compose = Composer(self.compose)

    @cached_property
    def typed(self) -> list[str]:
        """As the user typed them."""
        return [str(override.input_line) for override in self.parsed]

    @cached_property
    def swept(self) -> set[str]:
        """The keys that may have another value in each trial."""
        keys = {override.get_key_element().lstrip("+~") for override in self.parsed if override.is_sweep_override()}
        return keys | ({"seed"} if self.settings.seeds > 1 else set()) | _keys_of(self.settings.space)

    @cached_property
    def _values(self) -> Mapping[str, Any]:
        """Those settings that the sweep itself needs before any configuration is known."""
        own = [
            o for o in self.parsed if o.key_or_group.partition(".")[0] in _OF_THE_SWEEP and not o.is_sweep_override()
        ]
        composed = self.compose([str(override.input_line) for override in own])
        return {name: OmegaConf.to_container(composed[name], resolve=True) for name in ("sweep", "objective")} | {
            "seed": composed.seed
        }

    @cached_property
    def settings(self) -> Sweep:
        """How to sweep."""
        made: Sweep = schema.build(Sweep, self._values["sweep"], "sweep")
        return made

    def source(self, folder: Path | None) -> Source:
        """Where the configurations come from; with a folder, what it has to remember lies there."""
        objective: Objective = schema.build(Objective, self._values["objective"], "objective")
        return make_source(self.parsed, self.settings, self._values["seed"], objective.mode, folder)

    def first(self, number: int = 0) -> tuple[RunConfig, Backend]:
        """The first configuration, or another one by its number, and its backend.

        Raises:
            ExpfwError: it cannot run, so that most probably none can.
        """
        base = self._config(self.source(None).propose(number))
        (backend,) = make_plugins(base, catalogue(self.files), kinds=("backend",))
        assert isinstance(backend, Backend)
        if backend.several_processes:
            raise ConfigError(
                f"backend={backend.name} makes one run of several processes, each started by `expfw run`; "
                "a sweep's trials are one process each, use another backend"
            )
        return base, backend

    def request(self, base: RunConfig, overrides: Sequence[str], **fields: Any) -> Request:
        """What it takes to run one configuration, in the runs folder and with the trackers of the sweep.

        Raises:
            ExpfwError: it cannot run.
        """
        config = dataclasses.replace(self._config(overrides), runs_dir=base.runs_dir, tracker=base.tracker)
        return request(config, self.files, overrides=tuple(overrides), **fields)

    def _config(self, overrides: Sequence[str]) -> RunConfig:
        with one_line_errors(overrides, self.files):
            return frozen(self.compose(overrides), catalogue(self.files))


def _keys_of(space: Mapping[str, Any]) -> set[str]:
    """All override keys in a conditional space."""
    keys = set()
    for key, value in space.items():
        if isinstance(value, Mapping):
            keys |= {inner.lstrip("+~") for options in value.values() for inner in (options or {})}
        else:
            keys.add(key.lstrip("+~"))
    return keys
