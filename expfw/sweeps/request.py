"""What a user asked a sweep for: read from the command line, composed by Hydra when it is needed."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from omegaconf import OmegaConf

from expfw.api import schema
from expfw.api.contracts import Backend
from expfw.api.settings import PRESETS, Objective, RunConfig, Sweep
from expfw.config.compose import frozen
from expfw.config.compose_cache import Composer
from expfw.config.error_messages import absent_choice, one_line_errors
from expfw.config.freeze import make_plugins
from expfw.config.quoting import readable
from expfw.errors import ConfigError, ExpfwError
from expfw.plugins.catalogue import catalogue
from expfw.plugins.kinds import KINDS
from expfw.runs.request import Request, data_identity, request
from expfw.sweeps.search.reading import read_space
from expfw.sweeps.search.source import Source, make_source
from expfw.sweeps.search.space import Interval, Space

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override
    from omegaconf import DictConfig

Compose: TypeAlias = "Callable[[Sequence[str]], DictConfig]"
_OF_THE_SWEEP = ("sweep", "objective", "seed", *PRESETS)
"""What of the overrides says how to sweep; all others may fit only some of the configurations."""


@dataclass
class Asked:
    """The overrides of a sweep.

    Attributes:
        parsed: as Hydra's parser has them; compose: makes a configuration of the overrides of one trial.
        files: plugin files.
        words: as the user typed them, others among them.
    """

    parsed: Sequence[Override]
    compose: Compose
    files: tuple[str, ...]
    words: Sequence[str] = ()

    def __post_init__(self) -> None:
        self.compose = Composer(self.compose)

    @cached_property
    def typed(self) -> list[str]:
        """As the user typed them."""
        typed = dict(zip(readable(self.words), self.words, strict=True))
        read = [str(override.input_line) for override in self.parsed]
        return [typed.get(word, word) for word in read]

    @cached_property
    def space(self) -> Space:
        """What is swept over."""
        return read_space(self.parsed, self.settings.space, self._values["seed"])

    @property
    def swept(self) -> set[str]:
        """The keys that may have another value in each trial."""
        return {key.lstrip("+") for key in self.space.swept} | ({"seed"} if self.settings.seeds > 1 else set())

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
        return make_source(self.space, self.settings, self._values["seed"], objective.mode, folder)

    def first(self) -> tuple[RunConfig, Backend]:
        """The first configuration and its backend: what is wrong there keeps a sweep from being started.

        Most often all others have it too, and none of them needs to be composed to find it out.

        Raises:
            ExpfwError: it cannot run, or its data are not there.
        """
        self._check_choices()
        source = self.source(None)
        try:
            return self._checked(source.propose(0))
        except ExpfwError as error:
            if self.last() is not None:
                error.add_note(
                    "(the first trial's, so that none was started; `expfw sweep --plan ...` shows which can run)"
                )
            raise

    def _check_choices(self) -> None:
        """That each plugin and each recipe that is swept over is there: where one is mistyped, none is started."""
        loader = next((o.config_loader for o in self.parsed if o.config_loader is not None), None)
        for dimension in self.space.all:
            group, values = dimension.plain_key, dimension.values
            if loader is None or group not in (*KINDS, *PRESETS) or isinstance(values, Interval):
                continue
            choices = loader.get_group_options(group)
            names = [name for value in values for name in re.findall(r"[\w-]+", str(value))]
            for name in names if len(values) > 1 else ():
                if name not in choices and not (group in KINDS and catalogue(self.files).has(group, name)):
                    raise absent_choice(group, name, self.files)

    def last(self) -> tuple[RunConfig, Backend] | None:
        """Likewise the last one, of a grid; None where it cannot run, or nobody knows it yet."""
        try:
            return self._checked(self.space.overrides_at(self.space.total - 1))
        except ExpfwError:
            return None

    def _checked(self, overrides: Sequence[str]) -> tuple[RunConfig, Backend]:
        config = self._config(overrides)
        (backend,) = make_plugins(config, catalogue(self.files), kinds=("backend",))
        assert isinstance(backend, Backend)
        if backend.several_processes:
            raise ConfigError(
                f"backend={backend.name} makes one run of several processes, each started by `expfw run`; "
                "a sweep's trials are one process each, use another backend"
            )
        data_identity(config, self.files)
        return config, backend

    def request(self, base: RunConfig, overrides: Sequence[str], **fields: Any) -> Request:
        """What it takes to run one configuration, in the runs folder and with the trackers of the sweep.

        Raises:
            ExpfwError: it cannot run.
        """
        config = dataclasses.replace(self._config(overrides), runs_dir=base.runs_dir, tracker=base.tracker)
        return request(config, self.files, overrides=tuple(overrides), **fields)

    def _config(self, overrides: Sequence[str]) -> RunConfig:
        try:
            with one_line_errors(overrides, self.files):
                return frozen(self.compose(overrides), catalogue(self.files))
        except ConfigError as error:
            raise ConfigError(f"{error}{self._whole_numbers(str(error))}") from error

    def _whole_numbers(self, error: str) -> str:
        """What to write instead, where a number of an interval is refused for an option that is a whole number."""
        wrong = re.match(r"(\S+) is \S+; expected (a whole number|int)\b", error)
        for dimension in self.space.all if wrong else ():
            if wrong and dimension.plain_key == wrong[1] and isinstance(dimension.values, Interval):
                return f", as '{dimension.key}={dimension.values.of_whole_numbers}' gives it"
        return ""
