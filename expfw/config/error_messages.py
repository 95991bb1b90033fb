"""One-line error messages for errors of Hydra, OmegaConf and YAML."""

from __future__ import annotations

import difflib
import re
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, cast

from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from hydra.types import RunMode
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError
from yaml.error import MarkedYAMLError

from expfw.api.run_config import PRESETS
from expfw.config.plugin_source import make_hydra
from expfw.config.quoting import explain_parse_error, find_typed_override, quote_for_shell
from expfw.errors import ConfigError, ExpfwError, PluginError, list_choices, to_one_line
from expfw.plugins.catalogue import Catalogue
from expfw.plugins.kinds import KINDS

INVALID_RECIPE = (
    "{0}.yaml is not a valid recipe; expected `# @package _global_` as its first line, then lines such as "
    "`train: {{epochs: 3}}`"
)
_HYDRA_ERRORS = (HydraException, OmegaConfBaseException, YAMLError, UnicodeDecodeError)
_EXPLANATIONS = {
    r"Config group override must be a string or a list": (
        "invalid value of a group; expected a name, such as model=mlp_keras; `expfw run --help` lists the names"
    ),
    r"read-only config node\s+full_key: (.+)\.plugin": "{0}.plugin cannot be set; select a plugin with {0}=NAME",
    r"Error merging override (\S+?)=(\S+)": (
        "{0} is {1}; expected plain values, without functions such as interval(...) inside lists and dictionaries"
    ),
    r"Multiple values for (\w+)": (
        "{0} is already selected; write {0}=NAME without +, or `override /{0}: NAME` in the defaults of a recipe"
    ),
    r"In '(.+)': Could not override '.+@": INVALID_RECIPE,
    r"In '(.+)': Could not override '(.+)'": (
        f"{{0}}.yaml has `override /{{1}}` in its defaults: unknown group {{1!r}}. Available: {', '.join(KINDS)}"
    ),
    r"In '(.+)': Config\w+Error": "{0}.yaml is not valid; expected lines such as `KEY: VALUE`",
    r"An item is already at '(.+)'": (
        "{0} is already in the configuration; write {0}=VALUE, or {0}.OPTION=VALUE for a group, without +"
    ),
    r"Could not delete '(\w+)=(.+)'": (
        "~{0}={1} removes nothing; write {0}=NAME, or for a kind with several plugins {0}=[A,B] or ~{0}.{1}"
    ),
    r"Could not delete from config\. '(.+)' does not exist": (
        "~{0} removes nothing: unknown option {0!r}; `expfw run --cfg job` prints all options"
    ),
    r"Environment variable '(.+)' not found": (
        "{key} needs the environment variable {0}, which is not set; set it, or write ${{oc.env:{0},VALUE}}"
    ),
    r"Interpolation key '(.+)' not found": (
        "{key} contains ${{{0}}}: unknown option {0!r}; expected a full key, such as ${{train.epochs}}"
    ),
}
"""Explanations of errors that contain a pattern; `key` is the key of the value."""
_LAUNCHER_EXTRAS = {"ray": "ray", "ray_aws": "ray", "submitit_local": "slurm", "submitit_slurm": "slurm"}
"""The extra of expfw that installs each launcher."""
_SIMILARITY_CUTOFF = 0.7


@contextmanager
def one_line_errors(overrides: Sequence[str], catalogue: Catalogue) -> Iterator[None]:
    """Converts errors of Hydra and OmegaConf to an ExpfwError; if one of their causes is an ExpfwError, raises that."""
    try:
        yield
    except ExpfwError:
        raise
    except (*_HYDRA_ERRORS, ValueError) as error:
        *_, (frame, _) = traceback.walk_tb(error.__traceback__)
        is_from_library = str(frame.f_globals.get("__name__")).startswith(("hydra.", "omegaconf."))
        if not isinstance(error, _HYDRA_ERRORS) and not is_from_library:  # Hydra reports some errors as ValueError
            raise
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, ExpfwError):
                raise cause from None
            cause = cause.__cause__ or cause.__context__
        raise _explain_error(error, overrides, catalogue) from error


def _explain_error(error: Exception, overrides: Sequence[str], catalogue: Catalogue) -> ExpfwError:
    if nameless := [override for override in overrides if not override.lstrip("+~").partition("=")[0].strip()]:
        return ConfigError(f"{nameless[0]!r} has no key; expected KEY=VALUE, such as train.epochs=3")
    if isinstance(error, OverrideParseException):
        return ConfigError(explain_parse_error(find_typed_override(error.override, overrides), error))
    if isinstance(error, MissingConfigException):
        group, _, name = str(error.missing_cfg_file).rpartition("/")
        return make_missing_choice_error(group, name, catalogue)
    if isinstance(error, MarkedYAMLError) and error.problem_mark is not None:
        location = f"{error.problem_mark.name}, line {error.problem_mark.line + 1}"
        return ConfigError(f"{location}: invalid YAML ({error.problem}); expected lines such as `KEY: VALUE`")
    if isinstance(error, UnicodeDecodeError):
        return ConfigError(f"a configuration file is not UTF-8 text ({error}); check the file selected last")
    text = f"{error} {error.__cause__ or ''}"
    if unknown := re.search(r"Could not override '(.+)'\.\nTo append", text):  # of Hydra, or with an unknown first part
        key, launchers = unknown[1], [override for override in overrides if override.startswith("hydra/launcher=")]
        composed = make_hydra(catalogue).compose_config("config", launchers, RunMode.MULTIRUN)
        values = cast("dict[str, Any]", OmegaConf.to_container(composed))
        hydra_values = {"hydra": values.pop("hydra")}
        known_values, siblings = values, values
        if key.startswith("hydra."):
            known_values, siblings = hydra_values, OmegaConf.select(composed, key.rpartition(".")[0], default={})
        suggestion = suggest_key(key, known_values)
        return ConfigError(f"unknown option {key!r}.{suggestion} Available: {', '.join(sorted(siblings))}")
    if ambiguous := re.search(r"Ambiguous value for argument '(.+)'", text):
        override = find_typed_override(ambiguous[1], overrides)
        name, _, several = override.partition("=")
        is_plain = name in KINDS or re.fullmatch(r"[\w.+-]+(,[\w.+-]+)*", several)
        quoting_hint = "" if is_plain else f"; for text with commas write {quote_for_shell(name, several)}"
        return ConfigError(
            f"{override} has several values; expected one. `expfw sweep` tries each (--plan lists the trials); for a "
            f"list write {name}=[{several}]{quoting_hint}"
        )
    key = getattr(error, "full_key", None) or "the configuration"
    for pattern, explanation in _EXPLANATIONS.items():
        if match := re.search(pattern, text):
            return ConfigError(explanation.format(*match.groups(), key=key))
    return ConfigError(to_one_line(re.sub(r"(reference_type|object_type)=\S+|Any\]$", "", text)))


def make_missing_choice_error(group: str, name: str, catalogue: Catalogue) -> ExpfwError:
    """Returns the error for an unknown choice of a group; an empty group stands for the root configurations."""
    if not group:
        return ConfigError(f"unknown configuration {name!r}; expected {name}.yaml in ./conf or in --config-dir")
    choices = make_hydra(catalogue).config_loader.get_group_options(group)
    if not name:
        return ConfigError(f"{group}= has no value; expected {group}=NAME.{list_choices(name, choices)}")
    if group in KINDS:
        try:
            catalogue.get(group, name)
        except PluginError as error:
            return error
    if group == "hydra/launcher" and name in _LAUNCHER_EXTRAS:
        extra = f"'expfw[{_LAUNCHER_EXTRAS[name]}]'"
        return ConfigError(f"{group}={name} is not installed; install it with: pip install {extra}")
    label = {"experiment": "recipe", "debug": "debug preset"}.get(group, group)
    return ConfigError(f"unknown {label} {name!r}.{list_choices(name, choices)}")


def suggest_key(key: str, values: Mapping[str, Any]) -> str:
    """Returns `` Did you mean 'train.epochs'?``, or an empty string; `values` may contain the unknown key, too."""
    known_keys = [known_key for known_key in _list_keys(values) if known_key != key]
    similar_key = find_similar_key(key, {*known_keys, *KINDS, *PRESETS})
    return f" Did you mean {similar_key!r}?" if similar_key else ""


def _list_keys(values: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Yields all dotted keys, including those of inner mappings."""
    for name, value in values.items():
        yield f"{prefix}{name}"
        if isinstance(value, Mapping):
            yield from _list_keys(value, f"{prefix}{name}.")


def find_similar_key(key: str, keys: Iterable[str]) -> str | None:
    """Returns the most likely key: one with the same ending, a similar one, or one with the same last part.

    >>> find_similar_key("epochs", ["train.epochs", "train.steps"])
    'train.epochs'
    """
    keys = sorted(keys, key=lambda known_key: (known_key.count("."), known_key))
    parent, _, last = key.rpartition(".")
    last_parts = {known_key: known_key.rpartition(".")[2] for known_key in keys}
    endings = [known_key for known_key in keys if known_key.endswith(f".{key}")]
    siblings = [known_key for known_key in keys if known_key.rpartition(".")[0] == parent]
    abbreviated = [known_key for known_key in siblings if _get_initials(last_parts[known_key]) == last]
    candidates = [known_key for known_key in keys if not key.startswith(f"{known_key}.")]
    similar = [
        known_key
        for known_key in difflib.get_close_matches(key, candidates, cutoff=_SIMILARITY_CUTOFF)
        if difflib.SequenceMatcher(None, last, last_parts[known_key]).ratio() > 0.5  # not only the first parts
    ]
    same_name = [name for name in keys if last in (last_parts[name], _get_initials(last_parts[name]))]
    return next(iter([*endings, *abbreviated, *similar, *same_name]), None)


def _get_initials(name: str) -> str:
    """Returns `lr` for `learning_rate`, and an empty string for a single word."""
    parts = name.split("_")
    return "".join(word[:1] for word in parts) if len(parts) > 1 else ""
