"""From the record of a run to the request that goes on with it, or makes it once more."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from expfw.api.contracts import Backend
from expfw.api.plain_values import flat
from expfw.api.run import FINISHED, PRUNED
from expfw.api.settings import RunConfig
from expfw.config.freeze import chosen, freeze, make_plugins
from expfw.config.quoting import as_typed, readable, unread
from expfw.errors import ConfigError, DataError, JournalError, PluginError, one_line
from expfw.plugins.catalogue import Catalogue, catalogue
from expfw.redaction import HIDDEN, from_environment
from expfw.runs.continuation import Continuation
from expfw.runs.request import Request, request
from expfw.system import cpu
from expfw.tracking import environment, journal, run_folders, run_record
from expfw.tracking.run_index import RUNNING, Entry

_FREE = ("callback.", "tracker.", "train.epochs", "train.steps", "quiet", "cache_gib")
_PACKAGES = ("tensorflow", "keras", "numpy")


@dataclass(frozen=True)
class Recorded:
    """What a run wrote down about itself.

    Attributes:
        values: its configuration, as plain values; secrets are hidden.
        about: the last record that tells how the run was set up: `run_started` or `run_resumed`.
        environment: what surrounded it when it began.
        facts: what it found out about devices and model.
        ends: the steps at which it had ended before it was trained longer.
        swept: what tells it from the other trials of its sweep.
    """

    entry: Entry
    values: Mapping[str, Any]
    about: journal.Record
    environment: Mapping[str, Any]
    facts: Mapping[str, Any]
    ends: Sequence[int] = ()
    swept: Mapping[str, Any] = field(default_factory=dict)

    @property
    def cores(self) -> int:
        """How many processor cores it could use."""
        return int(self.environment["cpu"]["cores"]) if self.environment else len(cpu.cores())

    @property
    def files(self) -> tuple[str, ...]:
        return tuple(self.about["files"])


def recorded(entry: Entry) -> Recorded:
    """Reads it.

    Raises:
        ConfigError: the configuration in the folder is not the one that the run was started with.
        JournalError: the journal is damaged.
    """
    try:
        records, _ = journal.read(entry.folder / journal.NAME)
    except JournalError as error:
        raise JournalError(
            f"{error}; the run cannot go on. For a new one from its weights: expfw run ... "
            f"{run_folders.begin_from(entry.folder)}"
        ) from error
    lives = [r for r in records if r["kind"] in ("run_started", "run_resumed")]
    if not lives or "config" not in lives[-1]:
        raise JournalError(
            f"the run in {entry.folder} was recorded by another version of expfw, which cannot go on; for a new one "
            f"from its weights: expfw run ... train.begin_from={entry.folder}/checkpoints/STEP"
        )
    facts: dict[str, Any] = next((r["values"] for r in records if r["kind"] == "facts"), {})
    _check_file(entry, [life["params"] for life in lives[-2:]])
    try:
        surroundings = json.loads((entry.folder / run_record.ENVIRONMENT).read_text())
    except (OSError, ValueError):
        surroundings = {}  # what is not known may differ: it has to be accepted
    ends, swept = lives[-1].get("ends", ()), lives[0].get("swept", {})
    return Recorded(entry, lives[-1]["config"], lives[-1], surroundings, facts, ends, swept)


def _check_file(entry: Entry, known: Sequence[Mapping[str, Any]]) -> None:
    """That nobody has edited the configuration; of the journal's, the last or, for a moment, the one before."""
    path = entry.folder / run_record.CONFIG
    if not path.exists():
        return  # the process died before it wrote it; the journal has it
    try:
        values = yaml.safe_load(path.read_text())
        found = json.loads(json.dumps(flat(values))) if isinstance(values, dict) else None
    except (OSError, TypeError, ValueError, yaml.YAMLError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no YAML"
        raise JournalError(f"{path} cannot be read ({why}); remove it, the journal has the configuration") from error
    if found is None:
        raise JournalError(f"{path} holds no configuration any more; remove it, the journal has the configuration")
    if found not in known:
        changed = "; ".join([*differing(found, known[-1])][:5])
        raise ConfigError(
            f"{path} was changed since the run began: {changed}. Put it back; what may change is given on the command "
            f"line, as in `expfw runs resume {entry.id} train.epochs=100`"
        )


def to_go_on(
    found: Recorded, runs_dir: Path, overrides: Sequence[str] = (), accept: bool = False, cores: int | None = None
) -> Request:
    """The request that goes on with a run.

    Args:
        runs_dir: the runs folder that it lies in.
        overrides: `key=value`: how long to train, options of callbacks and trackers.
        accept: whether to go on where the surroundings differ, so that the bits may too.
        cores: how many processor cores there will be for it; by default those of this process.

    Raises:
        ConfigError: it goes on already, has nothing left to do, or the surroundings differ.
        DataError: the data are no longer what they were.
    """
    entry, where = found.entry, run_folders.option(runs_dir)
    if entry.status == RUNNING:
        raise ConfigError(f"run {entry.id} goes on already; `expfw runs show {entry.id}{where}` shows how far it is")
    longer = any(word.lstrip("+").partition("=")[0] in ("train.epochs", "train.steps") for word in overrides)
    secrets = tuple(f"{key}=" for key in _hidden(found.values))
    for word in overrides:
        if not word.lstrip("+").startswith((*_FREE, *secrets)):
            _refuse_what_is_no_option(word, found)
            raise ConfigError(
                f"{word} would make another run of it; what may change on going on: train.epochs, train.steps, options "
                f"of its callbacks and trackers. For a new run from its weights: expfw run ... "
                f"{run_folders.begin_from(entry.folder)}"
            )
    if entry.status in (FINISHED, PRUNED) and not longer:
        raise ConfigError(
            f"run {entry.id} is {entry.status}, there is nothing left to do; to train it longer, say how long: "
            f"`expfw runs resume {entry.id} train.epochs=...{where}`"
        )
    plugins = _catalogue(found.files)
    config = _configuration(found.values, overrides, plugins, found, runs_dir)
    _check_backend(config, plugins)
    made = request(config, found.files, overrides=tuple(overrides), id=entry.id, swept=found.swept)
    cores = len(cpu.cores()) if cores is None else cores
    differences = [*_other_data(found, made.data), *_other_surroundings(found, config, plugins, cores)]
    if differences and not accept:
        raise DataError(
            f"run {entry.id} cannot go on to the same numbers: {'; '.join(differences)}. Put that right, or add "
            "--accept-differences"
        )
    ended = [entry.last["steps"]] if longer and entry.status in (FINISHED, PRUNED) else []
    overrules = any(word.lstrip("+").startswith("callback.") for word in overrides)
    continues = Continuation(
        entry.folder, found.facts, differences, accept, [*found.ends, *ended], longer, overrules, found.cores
    )
    return dataclasses.replace(made, continues=continues)


def _refuse_what_is_no_option(word: str, found: Recorded) -> None:
    """A mistyped key is told as such."""
    from expfw.config.unknown_keys import meant

    key, known = word.lstrip("+~").partition("=")[0], flat(found.values)
    if key not in known and (near := meant(key, known)):
        raise ConfigError(f"no option {key!r} in the record of run {found.entry.id}. Did you mean {near!r}?")


def once_more(found: Recorded, runs_dir: Path, secrets: Sequence[str] = ()) -> tuple[Request, list[str]]:
    """The request that makes a run with the same configuration anew, and in what the surroundings differ.

    Args:
        secrets: `key=value` of what is not in the record.
    """
    plugins = _catalogue(found.files)
    config = _configuration(found.values, secrets, plugins, found, runs_dir)
    made = request(config, found.files, overrides=found.about["overrides"])
    cores = len(cpu.cores())
    return made, [*_other_data(found, made.data), *_other_surroundings(found, config, plugins, cores)]


def _catalogue(files: tuple[str, ...]) -> Catalogue:
    try:
        return catalogue(files)
    except PluginError as error:
        raise PluginError(f"{error}; the run was started with it") from error


def _configuration(
    values: Mapping[str, Any], overrides: Sequence[str], plugins: Catalogue, found: Recorded, runs_dir: Path
) -> RunConfig:
    """The recorded configuration with these values changed."""
    changed, taken = with_overrides({**values, "quiet": False}, overrides)  # that was about the other command's screen
    if hidden := _hidden(changed):
        raise ConfigError(
            f"{hidden[0]} is a secret and not in the record of run {found.entry.id}; give it again, at the end of this "
            f"command: {hidden[0]}=..."
        )
    return dataclasses.replace(freeze(changed, plugins, taken), runs_dir=str(runs_dir.absolute()))


def _hidden(values: Mapping[str, Any]) -> list[str]:
    """The dotted keys of what is not in the record."""
    return [key for key, value in flat(values).items() if HIDDEN in str(value)]


def with_overrides(values: Mapping[str, Any], overrides: Sequence[str]) -> tuple[dict[str, Any], dict[str, str]]:
    """Recorded values with these changed, resolved, and what of it the environment gave."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import OverrideParseException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    made = OmegaConf.create(dict(values))
    try:
        parsed = OverridesParser.create().parse_overrides(readable(overrides))
    except OverrideParseException as error:
        raise ConfigError(unread(as_typed(error.override, overrides), error)) from error
    for override in parsed:
        if override.is_sweep_override() or override.is_delete():
            raise ConfigError(f"{override.input_line} gives no single value; expected KEY=VALUE")
        OmegaConf.update(made, override.key_or_group, override.value())
    try:
        taken = from_environment(made)
        changed = OmegaConf.to_container(made, resolve=True)
    except OmegaConfBaseException as error:
        raise ConfigError(f"the recorded configuration needs what is not there: {one_line(str(error))}") from error
    assert isinstance(changed, dict)
    return {str(key): value for key, value in changed.items()}, taken


def _check_backend(config: RunConfig, plugins: Catalogue) -> None:
    (backend,) = make_plugins(config, plugins, kinds=("backend",))
    assert isinstance(backend, Backend)
    if backend.several_processes:
        raise ConfigError(
            f"backend={backend.name} takes several processes, each started by a command of its own: start each again "
            "with the same command and train.begin_from=CHECKPOINT"
        )


def _other_data(found: Recorded, identity: Mapping[str, Any]) -> Iterator[str]:
    """In what the data differ from those that the run met."""
    for line in data_differences(found, identity):
        yield f"the data changed since the run began: {line}"


def data_differences(found: Recorded, identity: Mapping[str, Any]) -> Iterator[str]:
    """A line for each thing that tells the data of that identity from those that a run met."""
    yield from differing(flat(json.loads(json.dumps(identity, default=str))), flat(found.about["data"]))


def _other_surroundings(found: Recorded, config: RunConfig, plugins: Catalogue, cores: int) -> Iterator[str]:
    """In what machine, packages and plugins differ from when the run began, as far as it can change its numbers."""
    before = found.environment
    if not before:
        yield f"{found.entry.folder / run_record.ENVIRONMENT} cannot be read, so nothing tells where the run began"
        return
    now = environment.describe(plugin for _, _, plugin in chosen(config, plugins))
    for kind in ("packages", "plugins"):
        here, then = ({k: v for k, v in one[kind].items() if _matters(kind, k)} for one in (now, before))
        yield from differing(here, then)
    yield from differing(run_record.hashes(found.files), found.about["files"])
    yield from differing({"CPU features": now["cpu"]["features"]}, {"CPU features": before["cpu"]["features"]})
    if cores < found.cores:
        yield _difference("number of processor cores", cores, found.cores)


def _matters(kind: str, name: str) -> bool:
    """Whether another version can change the numbers of a training."""
    return name in _PACKAGES if kind == "packages" else not name.startswith("tracker.")


def differing(now: Mapping[str, Any], then: Mapping[str, Any]) -> Iterator[str]:
    """A line for each key with another value."""
    for key in sorted(now.keys() | then.keys()):
        if now.get(key) != then.get(key):
            yield _difference(key, now.get(key, "absent"), then.get(key, "absent"))


def _difference(key: str, now: Any, then: Any) -> str:
    if isinstance(now, list) and isinstance(then, list):
        more, less = (" ".join(sorted(set(map(str, a)) - set(map(str, b)))) for a, b in ((now, then), (then, now)))
        return f"{key}: now also {more or 'none'}, then also {less or 'none'}"
    return f"{key} is {now}, was {then}"
