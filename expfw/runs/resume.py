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
from expfw.api.plain_values import flatten
from expfw.api.run import FINISHED, PRUNED
from expfw.api.settings import RunConfig
from expfw.config.freeze import freeze, make_plugins, selected_plugins
from expfw.config.quoting import explain_parse_error, find_typed_override, quote_overrides
from expfw.errors import ConfigError, DataError, JournalError, PluginError, to_one_line
from expfw.plugins.catalogue import Catalogue, get_catalogue
from expfw.redaction import HIDDEN, find_environment_values
from expfw.runs.continuation import ResumePoint
from expfw.runs.request import Request, make_request
from expfw.system import cpu
from expfw.tracking import environment, journal, run_folders, run_record
from expfw.tracking.run_index import RUNNING, IndexEntry

_CHANGEABLE_PREFIXES = ("callback.", "tracker.", "train.epochs", "train.steps", "quiet", "cache_gib")
_PACKAGES = ("tensorflow", "keras", "numpy")


@dataclass(frozen=True)
class RunRecord:
    """What a run wrote down about itself.

    Attributes:
        config_values: its configuration, as plain values; secrets are hidden.
        setup_record: the last record that tells how the run was set up: `run_started` or `run_resumed`.
        environment: what surrounded it when it began.
        facts: what it found out about devices and model.
        end_steps: the steps at which it had ended before it was trained longer.
        swept: what tells it from the other trials of its sweep.
    """

    entry: IndexEntry
    config_values: Mapping[str, Any]
    setup_record: journal.Record
    environment: Mapping[str, Any]
    facts: Mapping[str, Any]
    end_steps: Sequence[int] = ()
    swept: Mapping[str, Any] = field(default_factory=dict)

    @property
    def cores(self) -> int:
        """How many processor cores it could use."""
        return int(self.environment["cpu"]["cores"]) if self.environment else len(cpu.get_cores())

    @property
    def files(self) -> tuple[str, ...]:
        return tuple(self.setup_record["files"])


def read_run_record(entry: IndexEntry) -> RunRecord:
    """Reads it.

    Raises:
        ConfigError: the configuration in the folder is not the one that the run was started with.
        JournalError: the journal is damaged.
    """
    try:
        records, _ = journal.read_records(entry.folder / journal.NAME)
    except JournalError as error:
        raise JournalError(
            f"{error}; the run cannot go on. For a new one from its weights: expfw run ... "
            f"{run_folders.make_begin_from_override(entry.folder)}"
        ) from error
    start_records = [r for r in records if r["kind"] in ("run_started", "run_resumed")]
    if not start_records or "config" not in start_records[-1]:
        raise JournalError(
            f"the run in {entry.folder} was recorded by another version of expfw, which cannot go on; for a new one "
            f"from its weights: expfw run ... train.begin_from={entry.folder}/checkpoints/STEP"
        )
    facts: dict[str, Any] = next((r["values"] for r in records if r["kind"] == "facts"), {})
    _check_config_file(entry, [start_record["params"] for start_record in start_records[-2:]])
    try:
        recorded_environment = json.loads((entry.folder / run_record.ENVIRONMENT_FILE).read_text())
    except (OSError, ValueError):
        recorded_environment = {}  # what is not known may differ: it has to be accepted
    end_steps, swept = start_records[-1].get("ends", ()), start_records[0].get("swept", {})
    return RunRecord(
        entry, start_records[-1]["config"], start_records[-1], recorded_environment, facts, end_steps, swept
    )


def _check_config_file(entry: IndexEntry, recorded_params: Sequence[Mapping[str, Any]]) -> None:
    """That nobody has edited the configuration; of the journal's, the last or, for a moment, the one before."""
    path = entry.folder / run_record.CONFIG_FILE
    if not path.exists():
        return  # the process died before it wrote it; the journal has it
    try:
        values = yaml.safe_load(path.read_text())
        file_params = json.loads(json.dumps(flatten(values))) if isinstance(values, dict) else None
    except (OSError, TypeError, ValueError, yaml.YAMLError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no YAML"
        raise JournalError(f"{path} cannot be read ({reason}); remove it, the journal has the configuration") from error
    if file_params is None:
        raise JournalError(f"{path} holds no configuration any more; remove it, the journal has the configuration")
    if file_params not in recorded_params:
        differences = "; ".join([*find_differences(file_params, recorded_params[-1])][:5])
        raise ConfigError(
            f"{path} was changed since the run began: {differences}. Put it back; what may change is given on the "
            "command "
            f"line, as in `expfw runs resume {entry.id} train.epochs=100`"
        )


def resume_request(
    recorded_run: RunRecord,
    runs_dir: Path,
    overrides: Sequence[str] = (),
    accept_differences: bool = False,
    cores: int | None = None,
) -> Request:
    """The request that goes on with a run.

    Args:
        runs_dir: the runs folder that it lies in.
        overrides: `key=value`: how long to train, options of callbacks and trackers.
        accept_differences: whether to go on where the surroundings differ, so that the bits may too.
        cores: how many processor cores there will be for it; by default those of this process.

    Raises:
        ConfigError: it goes on already, has nothing left to do, or the surroundings differ.
        DataError: the data are no longer what they were.
    """
    entry, dir_option = recorded_run.entry, run_folders.runs_dir_option(runs_dir)
    if entry.status == RUNNING:
        raise ConfigError(
            f"run {entry.id} goes on already; `expfw runs show {entry.id}{dir_option}` shows how far it is"
        )
    is_extended = any(
        override.lstrip("+").partition("=")[0] in ("train.epochs", "train.steps") for override in overrides
    )
    secret_prefixes = tuple(f"{key}=" for key in _list_hidden_keys(recorded_run.config_values))
    for override in overrides:
        if not override.lstrip("+").startswith((*_CHANGEABLE_PREFIXES, *secret_prefixes)):
            _refuse_unknown_option(override, recorded_run)
            raise ConfigError(
                f"{override} would make another run of it; what may change on going on: train.epochs, train.steps, "
                "options "
                f"of its callbacks and trackers. For a new run from its weights: expfw run ... "
                f"{run_folders.make_begin_from_override(entry.folder)}"
            )
    if entry.status in (FINISHED, PRUNED) and not is_extended:
        raise ConfigError(
            f"run {entry.id} is {entry.status}, there is nothing left to do; to train it longer, say how long: "
            f"`expfw runs resume {entry.id} train.epochs=...{dir_option}`"
        )
    plugin_catalogue = _load_catalogue(recorded_run.files)
    config = _make_config(recorded_run.config_values, overrides, plugin_catalogue, recorded_run, runs_dir)
    _check_backend(config, plugin_catalogue)
    request = make_request(
        config, recorded_run.files, overrides=tuple(overrides), id=entry.id, swept=recorded_run.swept
    )
    cores = len(cpu.get_cores()) if cores is None else cores
    differences = [
        *_describe_data_changes(recorded_run, request.data),
        *_find_environment_differences(recorded_run, config, plugin_catalogue, cores),
    ]
    if differences and not accept_differences:
        raise DataError(
            f"run {entry.id} cannot go on to the same numbers: {'; '.join(differences)}. Put that right, or add "
            "--accept-differences"
        )
    new_end_steps = [entry.last["steps"]] if is_extended and entry.status in (FINISHED, PRUNED) else []
    has_callback_overrides = any(override.lstrip("+").startswith("callback.") for override in overrides)
    resume_point = ResumePoint(
        entry.folder,
        recorded_run.facts,
        differences,
        accept_differences,
        [*recorded_run.end_steps, *new_end_steps],
        is_extended,
        has_callback_overrides,
        recorded_run.cores,
    )
    return dataclasses.replace(request, resume_point=resume_point)


def _refuse_unknown_option(override: str, recorded_run: RunRecord) -> None:
    """A mistyped key is told as such."""
    from expfw.config.unknown_keys import find_similar_key

    key, known_keys = override.lstrip("+~").partition("=")[0], flatten(recorded_run.config_values)
    if key not in known_keys and (suggestion := find_similar_key(key, known_keys)):
        raise ConfigError(
            f"no option {key!r} in the record of run {recorded_run.entry.id}. Did you mean {suggestion!r}?"
        )


def rerun_request(
    recorded_run: RunRecord, runs_dir: Path, secret_overrides: Sequence[str] = ()
) -> tuple[Request, list[str]]:
    """The request that makes a run with the same configuration anew, and in what the surroundings differ.

    Args:
        secret_overrides: `key=value` of what is not in the record.
    """
    plugin_catalogue = _load_catalogue(recorded_run.files)
    config = _make_config(recorded_run.config_values, secret_overrides, plugin_catalogue, recorded_run, runs_dir)
    request = make_request(config, recorded_run.files, overrides=recorded_run.setup_record["overrides"])
    cores = len(cpu.get_cores())
    return request, [
        *_describe_data_changes(recorded_run, request.data),
        *_find_environment_differences(recorded_run, config, plugin_catalogue, cores),
    ]


def _load_catalogue(files: tuple[str, ...]) -> Catalogue:
    try:
        return get_catalogue(files)
    except PluginError as error:
        raise PluginError(f"{error}; the run was started with it") from error


def _make_config(
    values: Mapping[str, Any],
    overrides: Sequence[str],
    plugin_catalogue: Catalogue,
    recorded_run: RunRecord,
    runs_dir: Path,
) -> RunConfig:
    """The recorded configuration with these values changed."""
    changed_values, environment_values = apply_overrides(
        {**values, "quiet": False}, overrides
    )  # that was about the other command's screen
    if hidden_keys := _list_hidden_keys(changed_values):
        raise ConfigError(
            f"{hidden_keys[0]} is a secret and not in the record of run {recorded_run.entry.id}; give it again, at "
            "the end of this "
            f"command: {hidden_keys[0]}=..."
        )
    return dataclasses.replace(
        freeze(changed_values, plugin_catalogue, environment_values), runs_dir=str(runs_dir.absolute())
    )


def _list_hidden_keys(values: Mapping[str, Any]) -> list[str]:
    """The dotted keys of what is not in the record."""
    return [key for key, value in flatten(values).items() if HIDDEN in str(value)]


def apply_overrides(values: Mapping[str, Any], overrides: Sequence[str]) -> tuple[dict[str, Any], dict[str, str]]:
    """Recorded values with these changed, resolved, and what of it the environment gave."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import OverrideParseException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    config = OmegaConf.create(dict(values))
    try:
        parsed_overrides = OverridesParser.create().parse_overrides(quote_overrides(overrides))
    except OverrideParseException as error:
        raise ConfigError(explain_parse_error(find_typed_override(error.override, overrides), error)) from error
    for override in parsed_overrides:
        if override.is_sweep_override() or override.is_delete():
            raise ConfigError(f"{override.input_line} gives no single value; expected KEY=VALUE")
        OmegaConf.update(config, override.key_or_group, override.value())
    try:
        environment_values = find_environment_values(config)
        resolved_values = OmegaConf.to_container(config, resolve=True)
    except OmegaConfBaseException as error:
        raise ConfigError(f"the recorded configuration needs what is not there: {to_one_line(str(error))}") from error
    assert isinstance(resolved_values, dict)
    return {str(key): value for key, value in resolved_values.items()}, environment_values


def _check_backend(config: RunConfig, plugin_catalogue: Catalogue) -> None:
    (backend,) = make_plugins(config, plugin_catalogue, kinds=("backend",))
    assert isinstance(backend, Backend)
    if backend.several_processes:
        raise ConfigError(
            f"backend={backend.name} takes several processes, each started by a command of its own: start each again "
            "with the same command and train.begin_from=CHECKPOINT"
        )


def _describe_data_changes(recorded_run: RunRecord, identity: Mapping[str, Any]) -> Iterator[str]:
    """In what the data differ from those that the run met."""
    for line in find_data_differences(recorded_run, identity):
        yield f"the data changed since the run began: {line}"


def find_data_differences(recorded_run: RunRecord, identity: Mapping[str, Any]) -> Iterator[str]:
    """A line for each thing that tells the data of that identity from those that a run met."""
    yield from find_differences(
        flatten(json.loads(json.dumps(identity, default=str))), flatten(recorded_run.setup_record["data"])
    )


def _find_environment_differences(
    recorded_run: RunRecord, config: RunConfig, plugin_catalogue: Catalogue, cores: int
) -> Iterator[str]:
    """In what machine, packages and plugins differ from when the run began, as far as it can change its numbers."""
    recorded_environment = recorded_run.environment
    if not recorded_environment:
        yield (
            f"{recorded_run.entry.folder / run_record.ENVIRONMENT_FILE} cannot be read, so nothing tells where the run "
            "began"
        )
        return
    current_environment = environment.describe(entry for _, _, entry in selected_plugins(config, plugin_catalogue))
    for kind in ("packages", "plugins"):
        current_versions, recorded_versions = (
            {k: v for k, v in details[kind].items() if _affects_numbers(kind, k)}
            for details in (current_environment, recorded_environment)
        )
        yield from find_differences(current_versions, recorded_versions)
    yield from find_differences(run_record.hash_files(recorded_run.files), recorded_run.setup_record["files"])
    yield from find_differences(
        {"CPU features": current_environment["cpu"]["features"]},
        {"CPU features": recorded_environment["cpu"]["features"]},
    )
    if cores < recorded_run.cores:
        yield _describe_difference("number of processor cores", cores, recorded_run.cores)


def _affects_numbers(kind: str, name: str) -> bool:
    """Whether another version can change the numbers of a training."""
    return name in _PACKAGES if kind == "packages" else not name.startswith("tracker.")


def find_differences(current: Mapping[str, Any], recorded: Mapping[str, Any]) -> Iterator[str]:
    """A line for each key with another value."""
    for key in sorted(current.keys() | recorded.keys()):
        if current.get(key) != recorded.get(key):
            yield _describe_difference(key, current.get(key, "absent"), recorded.get(key, "absent"))


def _describe_difference(key: str, current: Any, recorded: Any) -> str:
    if isinstance(current, list) and isinstance(recorded, list):
        more, less = (
            " ".join(sorted(set(map(str, a)) - set(map(str, b)))) for a, b in ((current, recorded), (recorded, current))
        )
        return f"{key}: now also {more or 'none'}, then also {less or 'none'}"
    return f"{key} is {current}, was {recorded}"
