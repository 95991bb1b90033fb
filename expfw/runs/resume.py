"""Preparation of runs that resume or repeat a recorded run."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from expfw.api.contracts import Backend
from expfw.api.result import FINISHED, PRUNED
from expfw.api.run_config import RunConfig, flatten
from expfw.config.freeze import freeze
from expfw.config.quoting import explain_parse_error, find_typed_override, quote_overrides
from expfw.config.run_plugins import make_run_plugins
from expfw.errors import ConfigError, DataError, PluginError, to_one_line
from expfw.plugins.catalogue import Catalogue, get_catalogue
from expfw.redaction import HIDDEN, find_environment_values
from expfw.runs.recorded_setup import RecordedSetup, find_data_differences, find_environment_differences
from expfw.runs.request import PreparedRun, prepare_run
from expfw.runs.restore import ResumePoint
from expfw.system import cpu
from expfw.tracking import run_folders
from expfw.tracking.run_index import RUNNING

_CHANGEABLE_PREFIXES = ("callback.", "tracker.", "train.epochs", "train.steps", "quiet", "cache_gib")


def prepare_resume(
    recorded_run: RecordedSetup,
    runs_dir: Path,
    overrides: Sequence[str] = (),
    accept_differences: bool = False,
    cores: int | None = None,
) -> PreparedRun:
    """Prepares a run that resumes a recorded run.

    Args:
        recorded_run: recorded setup of the run.
        runs_dir: runs folder of the run.
        overrides: `key=value` overrides: training length, options of callbacks and trackers.
        accept_differences: whether to resume if the environment differs; the results may not be bit-identical then.
        cores: number of available CPU cores; by default those of this process.

    Raises:
        ConfigError: if the run is already running or finished, or an override is not allowed.
        DataError: if data or environment differ from the record.
    """
    entry, dir_option = recorded_run.entry, run_folders.format_runs_dir_option(runs_dir)
    if entry.status == RUNNING:
        raise ConfigError(
            f"run {entry.id} is already running; to see its progress: expfw runs show {entry.id}{dir_option}"
        )
    is_extended = any(
        override.lstrip("+").partition("=")[0] in ("train.epochs", "train.steps") for override in overrides
    )
    secret_prefixes = tuple(f"{key}=" for key in _list_hidden_keys(recorded_run.config_values))
    for override in overrides:
        if not override.lstrip("+").startswith((*_CHANGEABLE_PREFIXES, *secret_prefixes)):
            _reject_unknown_option(override, recorded_run)
            raise ConfigError(
                f"{override} cannot change when a run is resumed; expected train.epochs, train.steps or options of its "
                "callbacks and trackers; to start a new run from its weights: expfw run ... "
                f"{run_folders.make_begin_from_override(entry.folder)}"
            )
    if entry.status in (FINISHED, PRUNED) and not is_extended:
        raise ConfigError(
            f"run {entry.id} is {entry.status}; to train it longer: "
            f"expfw runs resume {entry.id} train.epochs=...{dir_option}"
        )
    catalogue = _load_catalogue(recorded_run.files)
    config = _make_config(recorded_run.config_values, overrides, catalogue, recorded_run, runs_dir)
    plugins = make_run_plugins(config, catalogue)
    _check_backend(plugins.backend)
    prepared = prepare_run(
        config, catalogue, plugins, overrides=tuple(overrides), id=entry.id, swept=recorded_run.swept
    )
    cores = len(cpu.get_cores()) if cores is None else cores
    differences = [
        *_describe_data_changes(recorded_run, prepared.request.data),
        *find_environment_differences(recorded_run, prepared.plugins.entries, cores),
    ]
    if differences and not accept_differences:
        raise DataError(
            f"run {entry.id} cannot be resumed bit for bit: {'; '.join(differences)}; undo these changes, or add "
            "--accept-differences"
        )
    new_end_steps = [entry.last["steps"]] if is_extended and entry.status in (FINISHED, PRUNED) else []
    has_callback_overrides = any(override.lstrip("+").startswith("callback.") for override in overrides)
    resume_point = ResumePoint(
        entry.folder,
        recorded_run.info,
        differences,
        accept_differences,
        [*recorded_run.end_steps, *new_end_steps],
        is_extended,
        has_callback_overrides,
        recorded_run.cores,
    )
    return prepared.change_request(resume_point=resume_point)


def _reject_unknown_option(override: str, recorded_run: RecordedSetup) -> None:
    """Rejects a mistyped key and suggests a similar one."""
    from expfw.config.unknown_keys import find_similar_key

    key, known_keys = override.lstrip("+~").partition("=")[0], flatten(recorded_run.config_values)
    if key not in known_keys and (suggestion := find_similar_key(key, known_keys)):
        raise ConfigError(f"unknown option {key!r} of run {recorded_run.entry.id}. Did you mean {suggestion!r}?")


def prepare_rerun(
    recorded_run: RecordedSetup, runs_dir: Path, secret_overrides: Sequence[str] = ()
) -> tuple[PreparedRun, list[str]]:
    """Prepares a new run with the same configuration; also returns the differences of data and environment.

    Args:
        recorded_run: recorded setup of the run.
        runs_dir: runs folder of the new run.
        secret_overrides: `key=value` overrides for secrets, which are not in the record.
    """
    catalogue = _load_catalogue(recorded_run.files)
    config = _make_config(recorded_run.config_values, secret_overrides, catalogue, recorded_run, runs_dir)
    prepared = prepare_run(config, catalogue, overrides=recorded_run.setup_record["overrides"])
    cores = len(cpu.get_cores())
    return prepared, [
        *_describe_data_changes(recorded_run, prepared.request.data),
        *find_environment_differences(recorded_run, prepared.plugins.entries, cores),
    ]


def _load_catalogue(files: tuple[str, ...]) -> Catalogue:
    try:
        return get_catalogue(files)
    except PluginError as error:
        raise PluginError(f"{error}; the run needs this plugin file") from error


def _make_config(
    values: Mapping[str, Any],
    overrides: Sequence[str],
    catalogue: Catalogue,
    recorded_run: RecordedSetup,
    runs_dir: Path,
) -> RunConfig:
    """Returns the recorded configuration with these overrides."""
    changed_values, environment_values = apply_overrides(
        {**values, "quiet": False}, overrides
    )  # the recorded value applied to the first command only
    if hidden_keys := _list_hidden_keys(changed_values):
        raise ConfigError(
            f"{hidden_keys[0]} is a secret and not in the record of run {recorded_run.entry.id}; add it to the "
            f"command: {hidden_keys[0]}=..."
        )
    return dataclasses.replace(freeze(changed_values, catalogue, environment_values), runs_dir=str(runs_dir.absolute()))


def _list_hidden_keys(values: Mapping[str, Any]) -> list[str]:
    """Returns the dotted keys of secrets, which are not in the record."""
    return [key for key, value in flatten(values).items() if HIDDEN in str(value)]


def apply_overrides(values: Mapping[str, Any], overrides: Sequence[str]) -> tuple[dict[str, Any], dict[str, str]]:
    """Returns the resolved values with these overrides, and the values that come from environment variables."""
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
        if override.is_sweep_override():
            raise ConfigError(f"{override.input_line} has several values; expected one")
        if override.is_delete():
            raise ConfigError(f"{override.input_line} deletes a key; expected KEY=VALUE")
        OmegaConf.update(config, override.key_or_group, override.value())
    try:
        environment_values = find_environment_values(config)
        resolved_values = OmegaConf.to_container(config, resolve=True)
    except OmegaConfBaseException as error:
        raise ConfigError(f"cannot resolve the recorded configuration: {to_one_line(str(error))}") from error
    assert isinstance(resolved_values, dict)
    return {str(key): value for key, value in resolved_values.items()}, environment_values


def _check_backend(backend: Backend) -> None:
    if backend.several_processes:
        raise ConfigError(
            f"a run with backend={backend.name} cannot be resumed, because it needs several processes; start "
            "each process again with its command and train.begin_from=CHECKPOINT"
        )


def _describe_data_changes(recorded_run: RecordedSetup, identity: Mapping[str, Any]) -> Iterator[str]:
    """Yields one line for each difference between the current and the recorded data."""
    for line in find_data_differences(recorded_run, identity):
        yield f"the data has changed since the run started: {line}"
