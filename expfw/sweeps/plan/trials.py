"""What a sweep would do, found out without starting anything or writing anything."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from expfw.api.run import FINISHED
from expfw.api.settings import RunConfig
from expfw.config import other_launchers
from expfw.config.error_messages import one_line_errors
from expfw.config.freeze import make_plugins
from expfw.config.hydra_plugins import Sweeper
from expfw.config.hydra_source import hydra
from expfw.config.quoting import readable
from expfw.errors import ConfigError, ExpfwError, JournalError
from expfw.plugins.catalogue import catalogue
from expfw.redaction import redact_words
from expfw.runs.request import Request
from expfw.sweeps.local.slots import Slot, slots
from expfw.sweeps.local.supervisor import to_preload
from expfw.sweeps.request import Asked, Compose
from expfw.sweeps.scheduler import trial_of
from expfw.tracking import journal, run_index
from expfw.tracking.ledger import Trial
from expfw.tracking.ranking import with_seed
from expfw.tracking.run_index import Entry

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override
    from omegaconf import DictConfig

Counted: TypeAlias = Callable[[Sequence[int]], Iterable[int]]


class Dimension(Protocol):
    """One of those that a search chooses from, as the source of a sweep describes it.

    Attributes:
        kind: values, float or int; low, high, log: of a float or an int.
        condition: what it is there for, such as `model=cnn`; empty for always.
    """

    @property
    def name(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def low(self) -> float | None: ...
    @property
    def high(self) -> float | None: ...
    @property
    def log(self) -> bool: ...
    @property
    def values(self) -> Sequence[str]: ...
    @property
    def condition(self) -> str: ...


@dataclass(frozen=True)
class Row:
    """A trial that would be made.

    Attributes:
        request: what it takes to run it; None where it cannot run, as `error` says.
        done: a run of the same configuration that has come to a good end.
        same_as: the number of an earlier trial of this sweep with the same configuration.
    """

    trial: Trial
    request: Request | None = None
    error: str | None = None
    done: Entry | None = None
    same_as: int | None = None


@dataclass(frozen=True)
class Preview:
    """A sweep before it begins.

    Attributes:
        rows: the trials; of a search, which chooses as it goes, only the first.
        total: how many trials there will be.
        space: what a search chooses from; None where all trials are known.
        base: what the trials share; places: one for each that runs at a time.
        preload: modules that the server which forks them imports.
        trouble: why the sweep would start nothing, though some of its trials could run.
        same: the newest sweep by the same overrides.
        typed: the overrides; hydra: those for Hydra itself; composed_from: the flags that go with them.
        launcher: the name of another launcher than ours: it decides where trials run, and how many at a time.
        files: plugin files.
    """

    rows: Sequence[Row]
    total: int
    space: Sequence[Dimension] | None
    base: RunConfig
    places: Sequence[Slot]
    preload: Sequence[str]
    trouble: str | None
    same: Entry | None
    typed: Sequence[str]
    hydra: Sequence[str]
    launcher: str | None
    composed_from: Sequence[str]
    files: tuple[str, ...]

    @property
    def runnable(self) -> list[Row]:
        """The trials that can run."""
        return [row for row in self.rows if row.request is not None]


def preview(
    overrides: Sequence[str],
    files: tuple[str, ...] = (),
    config_name: str | None = None,
    config_dir: str | None = None,
    counted: Counted = lambda numbers: numbers,
) -> Preview:
    """Composes, freezes and checks every trial that these overrides ask for, its data too.

    Args:
        counted: goes over the numbers of the trials, to show how far it is.

    Raises:
        ExpfwError: what is wrong with all trials.
    """
    flags = {"--config-name": config_name, "--config-dir": config_dir}
    task = _Task(overrides, files, counted, [word for flag, value in flags.items() if value for word in (flag, value)])
    with one_line_errors(overrides, files):
        hydra(files, config_dir).multirun(
            config_name or "config", task, readable(overrides), with_log_configuration=False
        )
    assert task.result is not None
    return task.result


@dataclass
class _Task:
    """What Hydra takes for the task function; our sweeper gives it what is swept over."""

    overrides: Sequence[str]
    files: tuple[str, ...]
    counted: Counted
    composed_from: Sequence[str]
    result: Preview | None = None

    def run(self, parsed: Sequence[Override], compose: Compose, sweeper: Sweeper) -> None:
        """Looks at every trial."""
        asked = Asked(parsed, compose, self.files, self.overrides)
        if sweeper.elsewhere:
            other_launchers.check(sweeper.launcher, sweeper.launcher_options, asked.settings, asked.typed)
        source = asked.source(None)
        base, backend, trouble = _base(asked)
        space = _space(source)
        total = source.total * base.sweep.seeds
        known = {} if space is not None else finished(Path(base.runs_dir))
        rows: list[Row] = []
        seen: dict[str, int] = {}
        for number in self.counted(range(total) if space is None else range(1)):
            configuration, repeat = divmod(number, base.sweep.seeds)
            overrides = with_seed(source.propose(configuration), base, repeat)
            rows.append(_row(asked, base, number, overrides, known, seen))
        self.result = Preview(
            rows,
            total,
            space,
            base,
            slots(base.sweep.slots, base.sweep.gpus, backend.on_gpus),
            to_preload(make_plugins(base, catalogue(self.files)), backend),
            trouble,
            same_sweep(Path(base.runs_dir), asked.typed),
            asked.typed,
            sweeper.typed,
            sweeper.launcher if sweeper.elsewhere else None,
            self.composed_from,
            self.files,
        )

    def __call__(self, config: DictConfig) -> Any:
        raise ConfigError("this launcher cannot run the trials of expfw; leave hydra/launcher at expfw")


def _base(asked: Asked) -> tuple[RunConfig, Any, str | None]:
    """What the trials share, their backend, and why a sweep would start none of them.

    A mistake in the first trial keeps all others from being started; one in the last, too, is most probably in all.
    """
    try:
        return *asked.first(), None
    except ExpfwError as error:
        if (last := asked.last()) is None:
            raise
        return *last, str(error)


def _space(source: Any) -> Sequence[Dimension] | None:
    """What a search chooses from; a grid has all its trials at once, whether or not some of them may be given up."""
    if getattr(source, "sampler", "grid") == "grid":
        return None
    described: Sequence[Dimension] = source.describe()
    return described


def _row(
    asked: Asked,
    base: RunConfig,
    number: int,
    overrides: Sequence[str],
    known: dict[str, Entry],
    seen: dict[str, int],
) -> Row:
    """Args: known: finished runs by fingerprint; seen: the trials so far, likewise, to which this one is added."""
    trial = trial_of(number, overrides, asked.swept, base.sweep.seeds)
    try:
        request = asked.request(base, overrides)
    except ExpfwError as error:
        return Row(trial, error=str(error))
    first = seen.setdefault(request.fingerprint, number)
    return Row(
        Trial(**{**vars(trial), "fingerprint": request.fingerprint}),
        request,
        done=known.get(request.fingerprint),
        same_as=None if first == number else first,
    )


def finished(runs_dir: Path) -> dict[str, Entry]:
    """By fingerprint, the newest run that came to a good end, single ones and trials of any sweep."""
    found: dict[str, Entry] = {}
    for entry in run_index.runs(runs_dir):
        if entry.status == FINISHED and (mark := _fingerprint(entry)) is not None:
            found.setdefault(mark, entry)
    return found


def _fingerprint(entry: Entry) -> str | None:
    """Of what the run has come to; one that went on may have been trained longer than it was begun for."""
    if not any(entry.folder.glob("overrides-*.yaml")):
        return entry.first.get("fingerprint")
    try:
        records, _ = journal.read(entry.folder / journal.NAME)
    except JournalError:
        return None
    begun: list[str | None] = [r.get("fingerprint") for r in records if r["kind"] in ("run_started", "run_resumed")]
    return begun[-1]


def same_sweep(runs_dir: Path, typed: Sequence[str]) -> Entry | None:
    """The newest sweep by these overrides; None where there is none."""
    wanted = redact_words(typed)
    return next((entry for entry in run_index.sweeps(runs_dir) if entry.first.get("overrides") == wanted), None)
