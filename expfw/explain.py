"""What Hydra, OmegaConf and YAML say of a mistake, in one line that says what to do."""

from __future__ import annotations

import re
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from hydra.errors import HydraException, OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from expfw import launchers
from expfw.errors import ConfigError, ExpfwError, PluginError, did_you_mean
from expfw.grammar import unread
from expfw.hydra_setup import hydra
from expfw.plugins import KINDS, catalogue

_THEIRS = (HydraException, OmegaConfBaseException, YAMLError, UnicodeDecodeError)
_YES_NO = "true or false"
_WORDS = {"Integer": "a whole number", "Float": "a number", "Boolean": _YES_NO, "bool": _YES_NO, "String": "text"}
_WRONG_VALUE = r"Value '(.*?)' (?:of type '\w+' )?(?:could not be converted to|is not a valid) (\w+)"
_SPACE = "sweep.space"
_KEY = r"full_key: ([\w.\[\]-]+)"


@contextmanager
def one_line_errors(overrides: Sequence[str], files: Sequence[str] = ()) -> Iterator[None]:
    """Turns what Hydra and OmegaConf raise into an ExpfwError; one of ours inside of theirs is the better text."""
    try:
        yield
    except ExpfwError:
        raise
    except (*_THEIRS, ValueError) as error:
        if not isinstance(error, _THEIRS) and not _raised_by_hydra(error):
            raise
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, ExpfwError):
                raise cause from None
            cause = cause.__cause__ or cause.__context__
        raise _explained(error, overrides, files) from error


def _raised_by_hydra(error: BaseException) -> bool:
    """Some mistakes of the user's, Hydra tells with a bare ValueError."""
    frames = list(traceback.walk_tb(error.__traceback__))
    return bool(frames) and str(frames[-1][0].f_globals.get("__name__", "")).startswith(("hydra.", "omegaconf."))


def _explained(error: Exception, overrides: Sequence[str], files: Sequence[str]) -> ExpfwError:
    if isinstance(error, OverrideParseException):
        name, _, value = error.override.partition("=")
        return ConfigError(_no_entries(name, value) if name == _SPACE else unread(error.override, error))
    text = " ".join(str(part).strip() for part in (error, error.__cause__) if part and str(part).strip())
    key = (re.search(_KEY, text) or [None, ""])[1] or ""

    if isinstance(error, UnicodeDecodeError):
        return ConfigError(f"a configuration file is no text in UTF-8 ({text}); look at the one chosen last")
    if absent := re.search(r"Could not (?:find|load) '(hydra/\w+|\w+)/([^']+)'", text):
        return _absent(absent[1], absent[2], files)
    if "is not in struct" in text or re.search(r"Key '[^']*' not in '", text):
        full = re.search(r"Could not override '([^']+)'", text)
        return ConfigError(_unknown_key(full[1] if full else key, overrides, files))
    if wrong := re.search(_WRONG_VALUE, text, re.DOTALL):
        return ConfigError(f"{key} is {wrong[1]!r}; expected {_WORDS.get(wrong[2], wrong[2])}")
    if "is not Optional" in text:
        return ConfigError(f"{key} is null; expected a value")
    if entries := re.search(
        r"merging override (\S+?)=(.*?)\s+Cannot (?:assign \w+ to Dict|merge DictConfig with)", text
    ):
        return ConfigError(_no_entries(entries[1], entries[2]))
    if part := re.search(r"(\w+) is not a subclass of (\w+)\. value: (\S+)", text):
        return ConfigError(f"{key} is {part[3]!r}; expected the options of {part[2]}, such as {key}.OPTION=VALUE")
    if single := re.search(r"override (\S+?)=(\S+) .*is not a ListConfig", text):
        return ConfigError(f"{single[1]} is {single[2]}; expected a list, such as {single[1]}=[{single[2]}]")
    if "read-only config node" in text and key.endswith(".plugin"):
        kind, _, name = key.removesuffix(".plugin").partition(".")
        if name:
            return ConfigError(f"{kind} {name!r} is chosen twice, or its key `plugin` is set; name each {kind} once")
        return ConfigError(f"{key} cannot be set; choose a {kind} with {kind}=NAME")
    if "Config group override must be a string or a list" in text:
        return ConfigError("a group takes the name of a choice, such as model=mlp_keras; `expfw run --help` lists them")
    if ambiguous := re.search(r"Ambiguous value for argument '([^']+)'", text):
        name, _, values = ambiguous[1].partition("=")
        return ConfigError(
            f"{ambiguous[1]} has several values: use `expfw sweep` to try each, or {name}=[{values}] for a list"
        )
    if primary := re.search(r"Cannot find primary config '([^']+)'", text):
        return ConfigError(
            f"no configuration {primary[1]!r}; expected {primary[1]}.yaml in ./conf or in the --config-dir"
        )
    if multiple := re.search(r"Multiple values for (\w+)", text):
        return ConfigError(f"{multiple[1]} is in the configuration already; write {multiple[1]}=NAME, without +")
    return ConfigError(re.sub(r"\s+", " ", re.sub(r"(reference_type|object_type)=\S+|Any\]$", "", text)).strip())


def _no_entries(key: str, value: str) -> str:
    """What to say of one value where several are held, each by a name."""
    if key == _SPACE:
        example = "\"{model: {cnn: {model.dropout: 'interval(0, 0.5)'}}}\""
        return f"{key} is {value}; expected options, with their values, by the choice they go with: {key}={example}"
    return f"{key} is {value}; expected entries, such as {key}={{NAME: VALUE}}"


def _absent(group: str, name: str, files: Sequence[str]) -> ExpfwError:
    """A choice that no source has."""
    if group in KINDS:
        try:
            catalogue(tuple(files)).get(group, name)
        except PluginError as error:
            return error
    if group == "hydra/launcher" and (line := launchers.missing(name)) is not None:
        return ConfigError(line)
    choices = hydra(files).config_loader.get_group_options(group)
    return ConfigError(f"no {group} {name!r}.{did_you_mean(name, choices)} There are: {', '.join(choices) or 'none'}")


def _unknown_key(key: str, overrides: Sequence[str], files: Sequence[str]) -> str:
    """What to say of a key that does not exist: what there is beside it."""
    parent, _, name = key.rpartition(".")
    try:
        choices = [o for o in overrides if o.split("=")[0].lstrip("+~").split("@")[0] in (*KINDS, "hydra/launcher")]
        whole: Any = hydra(files).compose_config("config", choices, RunMode.MULTIRUN)
        if parent and OmegaConf.select(whole, parent, default="absent") is None:
            return f"{parent} is null; give it as a whole, with {parent}={{{name}: VALUE}}"
        while parent and OmegaConf.select(whole, parent) is None:
            parent, _, name = parent.rpartition(".")
        node = OmegaConf.select(whole, parent) if parent else whole
        known = sorted(str(k) for k in node if k not in ("hydra", "plugin"))
    except (*_THEIRS, ExpfwError, TypeError):
        return f"no option {key!r}; `expfw run --cfg job` shows all there are"
    if name in known and isinstance(OmegaConf.select(whole, key), DictConfig):
        return f"{key} takes new entries with +: +{key}={{NAME: VALUE}}"
    if not known:
        return f"no option {key!r} yet; {parent} takes new ones with +{key}=VALUE"
    plugin = f" of {parent} plugin {node['plugin']!r}" if isinstance(node, DictConfig) and "plugin" in node else ""
    return f"no option {key!r}{plugin}.{did_you_mean(name, known)} Options here: {', '.join(known)}"
