"""One-line error messages for errors of Hydra, OmegaConf and YAML."""

from __future__ import annotations

import re
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from hydra.types import RunMode
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError
from yaml.error import MarkedYAMLError

from expfw.config.plugin_source import make_hydra
from expfw.config.quoting import explain_parse_error, find_typed_override, quote_for_shell
from expfw.config.third_party_launchers import EXTRAS
from expfw.config.unknown_keys import suggest_key
from expfw.errors import ConfigError, ExpfwError, PluginError, did_you_mean, to_one_line
from expfw.plugins.catalogue import Catalogue
from expfw.plugins.kinds import KINDS

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
    r"In '(.+)': Could not override '.+@": (
        "{0}.yaml is not a valid recipe; expected `# @package _global_` as its first line, then lines such as "
        "`train: {{epochs: 3}}`"
    ),
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
        "{key} is ${{{0}}}: unknown option {0!r}; expected a full key, such as ${{train.epochs}}"
    ),
}
"""Explanations of errors that contain a pattern; `key` is the key of the value."""


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
    if unknown := re.search(r"Could not override '(.+)'\.\nTo append", text):
        return ConfigError(_explain_unknown_key(unknown[1], overrides, catalogue))
    if ambiguous := re.search(r"Ambiguous value for argument '(.+)'", text):
        return ConfigError(_explain_several_values(find_typed_override(ambiguous[1], overrides)))
    for pattern, explanation in _EXPLANATIONS.items():
        if match := re.search(pattern, text):
            return ConfigError(explanation.format(*match.groups(), key=getattr(error, "full_key", None)))
    return ConfigError(to_one_line(re.sub(r"(reference_type|object_type)=\S+|Any\]$", "", text)))


def _explain_unknown_key(key: str, overrides: Sequence[str], catalogue: Catalogue) -> str:
    """Explains a key whose first part is unknown, or an unknown option of Hydra."""
    launcher_choices = [override for override in overrides if override.startswith("hydra/launcher=")]
    composed = make_hydra(catalogue).compose_config("config", launcher_choices, RunMode.MULTIRUN)
    values = cast("dict[str, Any]", OmegaConf.to_container(composed))
    known_values, siblings = {"hydra": values.pop("hydra")}, values
    if key.startswith("hydra."):
        siblings = OmegaConf.select(composed, key.rpartition(".")[0], default={})
    else:
        known_values = values
    return f"unknown option {key!r}.{suggest_key(key, known_values)} Available: {', '.join(sorted(siblings))}"


def _explain_several_values(override: str) -> str:
    """Explains `name=a,b`."""
    name, _, values = override.partition("=")
    is_plain = name in KINDS or re.fullmatch(r"[\w.+-]+(,[\w.+-]+)*", values)
    quoting_hint = "" if is_plain else f"; for text with commas write {quote_for_shell(name, values)}"
    return (
        f"{override} has several values; expected one. `expfw sweep` tries each (--plan lists the trials); for a list "
        f"write {name}=[{values}]{quoting_hint}"
    )


def make_missing_choice_error(group: str, name: str, catalogue: Catalogue) -> ExpfwError:
    """Returns the error for an unknown choice of a group; an empty group stands for the root configurations."""
    if not group:
        return ConfigError(f"unknown configuration {name!r}; expected {name}.yaml in ./conf or in --config-dir")
    choices = make_hydra(catalogue).config_loader.get_group_options(group)
    listing = f"Available: {', '.join(choices) or 'none'}"
    if not name:
        return ConfigError(f"{group}= has no value; expected {group}=NAME. {listing}")
    if group in KINDS:
        try:
            catalogue.get(group, name)
        except PluginError as error:
            return error
    if group == "hydra/launcher" and name in EXTRAS:
        extra = f"'expfw[{EXTRAS[name]}]'"
        return ConfigError(f"{group}={name} is not installed; install it with: pip install {extra}")
    label = {"experiment": "recipe", "debug": "debug preset"}.get(group, group)
    return ConfigError(f"unknown {label} {name!r}.{did_you_mean(name, choices)} {listing}")
