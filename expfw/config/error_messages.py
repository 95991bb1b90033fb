"""One-line error messages for errors of Hydra, OmegaConf and YAML."""

from __future__ import annotations

import re
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from hydra.errors import HydraException, OverrideParseException
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError
from yaml.error import MarkedYAMLError

from expfw.config import recipe_errors, third_party_launchers
from expfw.config.plugin_source import make_hydra
from expfw.config.quoting import explain_parse_error, find_typed_override, quote_for_shell
from expfw.config.unknown_keys import explain_existing_key, explain_unknown_key
from expfw.errors import ConfigError, ExpfwError, PluginError, did_you_mean
from expfw.plugins.catalogue import Catalogue
from expfw.plugins.kinds import KINDS, MULTIPLE_KINDS

_HYDRA_ERRORS = (HydraException, OmegaConfBaseException, YAMLError, UnicodeDecodeError)
_YES_NO = "true or false"
_TYPE_NAMES = {"Integer": "a whole number", "Float": "a number", "Boolean": _YES_NO, "bool": _YES_NO, "String": "text"}
_WRONG_VALUE = r"Value '(.*?)' (?:of type '\w+' )?(?:could not be converted to|is not a valid) (\w+)"
_SPACE_KEY = "sweep.space"
_KEY_PATTERN = r"full_key: ([\w.\[\]-]+)"


@contextmanager
def one_line_errors(overrides: Sequence[str], catalogue: Catalogue) -> Iterator[None]:
    """Converts errors of Hydra and OmegaConf to an ExpfwError; if one of their causes is an ExpfwError, raises that."""
    try:
        yield
    except ConfigError as error:
        if line := recipe_errors.explain_malformed_recipe(overrides):
            raise ConfigError(line) from error
        raise
    except ExpfwError:
        raise
    except (*_HYDRA_ERRORS, ValueError) as error:
        if not isinstance(error, _HYDRA_ERRORS) and not _is_raised_by_hydra(error):
            raise
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, ExpfwError):
                raise cause from None
            cause = cause.__cause__ or cause.__context__
        raise _explain_error(error, overrides, catalogue) from error


def _is_raised_by_hydra(error: BaseException) -> bool:
    """Whether Hydra or OmegaConf raised the error; Hydra reports some user errors as a bare ValueError."""
    frames = list(traceback.walk_tb(error.__traceback__))
    return bool(frames) and str(frames[-1][0].f_globals.get("__name__", "")).startswith(("hydra.", "omegaconf."))


def _explain_error(error: Exception, overrides: Sequence[str], catalogue: Catalogue) -> ExpfwError:
    nameless = [override for override in overrides if re.match(r"[+~]*(=|\s*$)", override)]
    if nameless:
        return ConfigError(f"{nameless[0]!r} has no key; expected KEY=VALUE, such as train.epochs=3")
    if isinstance(error, OverrideParseException):
        override = find_typed_override(error.override, overrides)
        name, _, value = override.partition("=")
        return ConfigError(
            _explain_missing_entries(name, value) if name == _SPACE_KEY else explain_parse_error(override, error)
        )
    text = " ".join(str(part).strip() for part in (error, error.__cause__) if part and str(part).strip())
    key = (re.search(_KEY_PATTERN, text) or [None, ""])[1] or ""
    if line := _explain_several_choices(overrides):
        return ConfigError(line)

    if isinstance(error, MarkedYAMLError) and error.problem_mark is not None:
        location = f"{error.problem_mark.name}, line {error.problem_mark.line + 1}"
        return ConfigError(f"{location}: invalid YAML ({error.problem}); expected lines such as `KEY: VALUE`")
    if line := None if isinstance(error, UnicodeDecodeError) else recipe_errors.explain_malformed_recipe(overrides):
        return ConfigError(line)
    if isinstance(error, UnicodeDecodeError):
        return ConfigError(f"a configuration file is not UTF-8 text ({text}); check the file selected last")
    if missing_choice := re.search(r"Could not (?:find|load) '(hydra/\w+|\w+)/([^']*)'", text):
        return make_missing_choice_error(missing_choice[1], missing_choice[2], catalogue)
    if "is not in struct" in text or re.search(r"Key '[^']*' not in '", text):
        overridden_key = re.search(r"Could not override '([^']+)'", text)
        return ConfigError(explain_unknown_key(overridden_key[1] if overridden_key else key, overrides, catalogue))
    if wrong_value := re.search(_WRONG_VALUE, text, re.DOTALL):
        return ConfigError(f"{key} is {wrong_value[1]!r}; expected {_TYPE_NAMES.get(wrong_value[2], wrong_value[2])}")
    if list_value := re.search(r"Cannot convert 'list' to string: '(\[.*\])'", text):
        return ConfigError(f"{key} is {list_value[1]}; expected text")
    if "is not Optional" in text:
        return ConfigError(f"{key} is null; expected a value")
    if entries := re.search(
        r"merging override (\S+?)=(.*?)\s+Cannot (?:assign \w+ to Dict|merge DictConfig with)", text
    ):
        return ConfigError(_explain_missing_entries(entries[1], entries[2]))
    if part := re.search(r"(\w+) is not a subclass of (\w+)\. value: (\S+)", text):
        return ConfigError(f"{key} is {part[3]!r}, but {key} is a group of options; write {key}.OPTION=VALUE")
    if single_value := re.search(r"override (\S+?)=(\S+) .*is not a ListConfig", text):
        return ConfigError(
            f"{single_value[1]} is {single_value[2]}; expected a list, such as {single_value[1]}=[{single_value[2]}]"
        )
    if "read-only config node" in text and key.endswith(".plugin"):
        kind, _, name = key.removesuffix(".plugin").partition(".")
        if name:
            return ConfigError(f"{kind} {name!r} is selected twice, or its key `plugin` is set; name each {kind} once")
        return ConfigError(f"{key} cannot be set; select a {kind} with {kind}=NAME")
    if "Config group override must be a string or a list" in text:
        return ConfigError(
            "invalid value of a group; expected a name, such as model=mlp_keras; `expfw run --help` lists the names"
        )
    if ambiguous := re.search(r"Ambiguous value for argument '(.+)'", text):
        return ConfigError(_explain_several_values(find_typed_override(ambiguous[1], overrides)))
    if primary := re.search(r"Cannot find primary config '([^']+)'", text):
        return ConfigError(
            f"unknown configuration {primary[1]!r}; expected {primary[1]}.yaml in ./conf or in --config-dir"
        )
    if multiple := re.search(r"Multiple values for (\w+)", text):
        return ConfigError(_explain_double_choice(multiple[1], overrides))
    if existing := re.search(r"Could not append to config\. An item is already at '([^']+)'", text):
        return ConfigError(explain_existing_key(existing[1], overrides, catalogue))
    if (
        line := recipe_errors.explain_defaults_error(text)
        or _explain_failed_deletion(text)
        or _explain_failed_interpolation(key, text)
    ):
        return ConfigError(line)
    return ConfigError(re.sub(r"\s+", " ", re.sub(r"(reference_type|object_type)=\S+|Any\]$", "", text)).strip())


def _explain_several_choices(overrides: Sequence[str]) -> str | None:
    """Explains `model=[cnn,ols]`."""
    for kind in set(KINDS) - set(MULTIPLE_KINDS):
        for several in filter(None, (re.fullmatch(rf"{kind}=\[(.*,.*)\]", override) for override in overrides)):
            return (
                f"{several[0]} selects several, but a run has one {kind}; expected {kind}=NAME; to try each: "
                f"expfw sweep {kind}={several[1].replace(' ', '')}"
            )
    return None


def _explain_double_choice(group: str, overrides: Sequence[str]) -> str:
    """Explains `+model=cnn`, and a file whose defaults select a group that is already selected."""
    if any(override.startswith(f"+{group}=") for override in overrides):
        return f"{group} is already in the configuration; write {group}=NAME without +"
    return f"two files select {group}; write `override /{group}: NAME` in the defaults of the recipe"


def _explain_several_values(override: str) -> str:
    """Explains `name=a,b`."""
    name, _, values = override.partition("=")
    is_plain = name in KINDS or re.fullmatch(r"[\w.+-]+(,[\w.+-]+)*", values)
    quoting_hint = "" if is_plain else f"; for text with commas write {quote_for_shell(name, values)}"
    return (
        f"{override} has several values; expected one. `expfw sweep` tries each (--plan lists the trials); for a list "
        f"write {name}=[{values}]{quoting_hint}"
    )


def _explain_failed_deletion(text: str) -> str | None:
    """Explains a `~` override that matches nothing."""
    if choice := re.search(r"Could not delete '(\w+)=([^']+)'\. No match", text):
        group, name = choice[1], choice[2]
        advice = (
            f"to remove one, write ~{group}.{name}; to replace the list, write {group}=[A,B]"
            if group in MULTIPLE_KINDS
            else f"write {group}=NAME"
        )
        return f"~{group}={name} removes nothing; {advice}"
    if value := re.search(r"Could not delete from config\. '([^']+)' does not exist", text):
        return f"~{value[1]} removes nothing: unknown option {value[1]!r}; `expfw run --cfg job` prints all options"
    return None


def _explain_failed_interpolation(key: str, text: str) -> str | None:
    """Explains an interpolation `${...}` that cannot be resolved."""
    if variable := re.search(r"Environment variable '([^']+)' not found", text):
        example = f"${{oc.env:{variable[1]},VALUE}}"
        return f"{key} needs the environment variable {variable[1]}, which is not set; set it, or write {example}"
    if other := re.search(r"Interpolation key '([^']+)' not found", text):
        return f"{key} is ${{{other[1]}}}: unknown option {other[1]!r}; expected a full key, such as ${{train.epochs}}"
    return None


def _explain_missing_entries(key: str, value: str) -> str:
    """Explains a single value of an option that expects named entries."""
    if key == _SPACE_KEY:
        example = "\"{model: {cnn: {model.dropout: 'interval(0, 0.5)'}}}\""
        return f"{key} is {value}; expected options and their values for each choice, such as {key}={example}"
    return f"{key} is {value}; expected entries, such as {key}={{NAME: VALUE}}"


def make_missing_choice_error(group: str, name: str, catalogue: Catalogue) -> ExpfwError:
    """Returns the error for an unknown choice of a group."""
    choices = make_hydra(catalogue).config_loader.get_group_options(group)
    listing = f"Available: {', '.join(choices) or 'none'}"
    if not name:
        return ConfigError(f"{group}= has no value; expected {group}=NAME. {listing}")
    if group in KINDS:
        if not catalogue.has(group, name):
            return PluginError(f"unknown {group} plugin {name!r}.{did_you_mean(name, choices)} {listing}")
        try:
            catalogue.get(group, name)
        except PluginError as error:
            return error
    if group == "hydra/launcher" and (line := third_party_launchers.explain_missing_launcher(name)) is not None:
        return ConfigError(line)
    label = {"experiment": "recipe", "debug": "debug preset"}.get(group, group)
    return ConfigError(f"unknown {label} {name!r}.{did_you_mean(name, choices)} {listing}")
