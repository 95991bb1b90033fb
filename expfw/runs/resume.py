"""Preparation of runs that resume or repeat a recorded run, and the differences of such runs from their record."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from expfw.api.result import FINISHED, PRUNED
from expfw.api.run_config import flatten
from expfw.config.environment_values import find_environment_values
from expfw.config.freeze import freeze
from expfw.config.interpolations import check_interpolations
from expfw.config.quoting import explain_parse_error, find_typed_override, quote_overrides
from expfw.errors import ConfigError, DataError, JournalError, did_you_mean, to_one_line
from expfw.plugins.catalogue import Catalogue
from expfw.plugins.entry import PluginEntry
from expfw.plugins.kinds import KINDS, MULTIPLE_KINDS
from expfw.redaction import HIDDEN, redact
from expfw.runs.request import PreparedRun, prepare_run
from expfw.runs.restore import ResumePoint
from expfw.system import cpu
from expfw.system.contained_paths import resolve_tree
from expfw.system.json_values import normalize_json
from expfw.system.yaml_files import read_yaml
from expfw.tracking import run_folders, run_record
from expfw.tracking.environment import Environment
from expfw.tracking.recorded_run import RUNNING, RecordedRun

_CHANGEABLE_PREFIXES = ("callback.", "tracker.", "train.epochs", "train.steps", "quiet", "cache_gib")


def prepare_resume(
    recorded_run: RecordedRun,
    overrides: Sequence[str] = (),
    accept_differences: bool = False,
    cores: int | None = None,
    config_values: Mapping[str, Any] | None = None,
) -> PreparedRun:
    """Prepares a run that resumes a recorded run, with other training length or options of callbacks and trackers.

    Args:
        accept_differences: whether to resume if the environment differs; the results may not be bit-identical then.
        cores: number of available CPU cores; by default those of this process.
        config_values: configuration with its secrets, which are not in the record; by default the recorded one.

    Raises:
        ExpfwError: if the run is running or finished, an override is not allowed, data, environment or configuration
            file differ from the record, or the record is damaged.
    """
    run_id, dir_option = recorded_run.id, run_folders.format_runs_dir_option(recorded_run.runs_dir)
    check_record(recorded_run)
    resolve_tree(recorded_run.folder)  # the run would write through a link in it
    if recorded_run.status == RUNNING:
        raise ConfigError(f"run {run_id} is already running; to see its progress: expfw runs show {run_id}{dir_option}")
    keys = [override.lstrip("+~").partition("=")[0] for override in overrides]
    is_extended = "train.epochs" in keys or "train.steps" in keys
    config_values = config_values or recorded_run.setup["config"]
    known_values = flatten(config_values)
    for override, key in zip(overrides, keys, strict=True):
        if key.startswith(_CHANGEABLE_PREFIXES) or HIDDEN in str(known_values.get(key)):
            continue
        suggestion = "" if key in known_values else did_you_mean(key, known_values)
        raise ConfigError(
            f"{override} cannot change when a run is resumed.{suggestion} Expected train.epochs, train.steps or "
            f"options of its callbacks and trackers; {run_folders.make_begin_from_hint(recorded_run.folder)}"
        )
    has_finished = recorded_run.status in (FINISHED, PRUNED)
    if has_finished and not is_extended:
        raise ConfigError(
            f"run {run_id} is {recorded_run.status}; to train it longer: "
            f"expfw runs resume {run_id} train.epochs=...{dir_option}"
        )
    prepared, differences = _prepare(
        *(recorded_run, config_values, overrides, cores),
        overrides=tuple(overrides),
        id=run_id,
        swept=recorded_run.first["swept"],
    )
    if (backend := prepared.plugins.backend).several_processes:
        raise ConfigError(
            f"a run with backend={backend.name} cannot be resumed, because it needs several processes; start "
            "each process again with its command and train.begin_from=CHECKPOINT"
        )
    if differences and not accept_differences:
        raise DataError(
            f"run {run_id} cannot be resumed bit for bit: {'; '.join(differences)}; undo these changes, or add "
            "--accept-differences"
        )
    resume_point = ResumePoint(
        recorded_run.folder,
        next((record["values"] for record in recorded_run.select("info")), {}),
        differences,
        accept_differences,
        [*recorded_run.end_steps, *([recorded_run.result.steps] if has_finished else [])],
        is_extended,
        has_callback_overrides=any(key.startswith("callback.") for key in keys),
        cores=recorded_run.cores,
    )
    return prepared.change_request(resume_point=resume_point)


def prepare_rerun(recorded_run: RecordedRun, secret_overrides: Sequence[str]) -> tuple[PreparedRun, list[str]]:
    """Prepares a new run with the same configuration; also returns the differences of data, code and environment.

    `secret_overrides` are for secrets, which are not in the record.
    """
    check_record(recorded_run)
    setup = recorded_run.setup
    return _prepare(recorded_run, setup["config"], secret_overrides, None, overrides=setup["overrides"])


def _prepare(
    recorded_run: RecordedRun,
    config_values: Mapping[str, Any],
    config_overrides: Sequence[str],
    cores: int | None,
    **fields: Any,
) -> tuple[PreparedRun, list[str]]:
    """Prepares a run of the recorded configuration with overrides; `fields` are other fields of its request.

    Also returns the differences of data, code and environment.
    """
    # The recorded value of `quiet` applied to the first command only.
    values, environment_values = apply_overrides({**config_values, "quiet": False}, config_overrides)
    if hidden_keys := [key for key, value in flatten(values).items() if HIDDEN in str(value)]:
        raise ConfigError(
            f"{hidden_keys[0]} is a secret and not in the record of run {recorded_run.id}; add it to the command: "
            f"{hidden_keys[0]}=..."
        )
    catalogue = _make_catalogue(recorded_run, values)
    runs_dir = str(recorded_run.runs_dir.absolute())  # it may have been moved
    config = dataclasses.replace(freeze(values, catalogue, environment_values), runs_dir=runs_dir)
    prepared = prepare_run(config, catalogue, **fields)
    return prepared, [
        *find_data_differences(recorded_run, prepared.request.data),
        *find_code_differences(recorded_run, prepared.request.code),
        *find_environment_differences(
            recorded_run, prepared.plugins.entries, len(cpu.get_cores()) if cores is None else cores
        ),
    ]


def _make_catalogue(recorded_run: RecordedRun, values: Mapping[str, Any]) -> Catalogue:
    """Returns a catalogue with the plugins of a configuration, and only with code that the user trusts."""
    nodes = [(kind, node) for kind in KINDS if kind not in MULTIPLE_KINDS and (node := values.get(kind))]
    nodes += [(kind, node) for kind in MULTIPLE_KINDS for node in (values.get(kind) or {}).values()]
    plugins = [(kind, str(node["plugin"])) for kind, node in nodes if isinstance(node, Mapping) and "plugin" in node]
    files = recorded_run.setup["files"]
    return recorded_run.trust.make_catalogue(f"run {recorded_run.id}", files, plugins)


def check_record(recorded_run: RecordedRun) -> None:
    """Checks that the journal is readable, and that nobody edited the configuration file."""
    try:
        recorded_params = [recorded_run.params, *(start["params"] for start in recorded_run.starts[-2:-1])]
    except JournalError as error:
        hint = run_folders.make_begin_from_hint(recorded_run.folder)
        raise JournalError(f"{error}; the run cannot be resumed; {hint}") from error
    path = recorded_run.folder / run_folders.CONFIG_FILE
    if not path.exists():
        return  # the process died before it wrote the file; the journal has the configuration
    try:
        values = normalize_json(flatten(read_yaml(path)))
    except (ConfigError, AttributeError, TypeError, ValueError, RecursionError) as error:
        message = f"{path} contains no readable configuration; delete it; the journal has the configuration"
        raise JournalError(message) from error
    # If the process died at the last resume, the file is the previous one.
    if values not in map(normalize_json, recorded_params):
        differences = "; ".join([*find_differences(values, recorded_params[0])][:5])
        raise ConfigError(
            f"{path} has changed since the run started: {differences}; undo the changes and pass new values on the "
            f"command line, for example: expfw runs resume {recorded_run.id} train.epochs=100"
        )


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
        check_interpolations(config)
        environment_values = find_environment_values(config)
        resolved_values = OmegaConf.to_container(config, resolve=True)
    except OmegaConfBaseException as error:
        raise ConfigError(f"cannot resolve the recorded configuration: {to_one_line(str(error))}") from error
    assert isinstance(resolved_values, dict)
    return {str(key): value for key, value in resolved_values.items()}, environment_values


def find_differences(current: Mapping[str, Any], recorded: Mapping[str, Any]) -> Iterator[str]:
    """Yields one line for each key with different values; for lists, with the added and removed elements."""
    for key in sorted(current.keys() | recorded.keys()):
        new, old = current.get(key, "absent"), recorded.get(key, "absent")
        if new == old:
            continue
        if isinstance(new, list) and isinstance(old, list):
            added, removed = (
                " ".join(sorted(set(map(str, a)) - set(map(str, b)))) or "none" for a, b in ((new, old), (old, new))
            )
            yield f"{key}: added {added}, removed {removed}"
        else:
            yield f"{key} is {new}, was {old}"


def find_data_differences(recorded_run: RecordedRun, identity: Mapping[str, Any]) -> Iterator[str]:
    """Yields one line for each difference between this identity of the data and the recorded one."""
    current, recorded = flatten(normalize_json(redact(identity))), flatten(recorded_run.setup["data"])
    for line in find_differences(current, normalize_json(recorded)):
        yield f"the data has changed since the run started: {line}"


def find_code_differences(recorded_run: RecordedRun, code: Mapping[str, str]) -> Iterator[str]:
    """Yields one line for each package or file of plugins whose code differs from the recorded one."""
    for name, digest in code.items():
        if recorded_run.code.get(name, digest) != digest:  # an added plugin is a difference of the environment
            yield f"the code of {name} has changed since the run started"


def find_environment_differences(
    recorded_run: RecordedRun, entries: Sequence[PluginEntry], cores: int
) -> Iterator[str]:
    """Yields one line for each difference of machine, packages and plugins that can change the results of the run."""
    recorded = recorded_run.environment
    if recorded is None:
        path = recorded_run.folder / run_folders.ENVIRONMENT_FILE
        yield f"cannot read {path}: the environment of the run is unknown"
        return
    current = run_record.describe_environment(entries)
    has_gpus = any(getattr(entry.load(), "on_gpus", False) for entry in entries)

    def select(environment: Environment, max_cores: int) -> dict[str, Any]:
        return {
            **{name: environment.packages[name] for name in recorded.relevant_packages if name in environment.packages},
            **{name: source for name, source in environment.plugins.items() if not name.startswith("tracker.")},
            "CPU features": environment.cpu.features,
            **({"GPUs": sorted({*(environment.gpus or ())})} if has_gpus else {}),
            "number of CPU cores": max_cores,
        }

    usable_cores = min(cores, recorded_run.cores)  # the run is limited to the recorded number
    yield from find_differences(select(current, usable_cores), select(recorded, recorded_run.cores))
