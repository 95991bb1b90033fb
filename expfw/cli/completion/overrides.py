"""Candidates for overrides, `KEY=VALUE`: groups, keys of the selected plugins, values."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from expfw.api import option_schema
from expfw.api.option_schema import Option
from expfw.api.run_config import PRESETS, RunConfig
from expfw.errors import ConfigError
from expfw.plugins import variants
from expfw.plugins.catalogue import Catalogue
from expfw.plugins.kinds import KINDS, MULTIPLE_KINDS
from expfw.system.yaml_files import read_yaml

_GROUPS = (*KINDS, *PRESETS)


def find_candidates(word: str, previous_words: Sequence[str], catalogue: Catalogue) -> dict[str, str] | None:
    """Returns the candidates for the unfinished `word` after `previous_words`, with their help; None for any text."""
    body = word.lstrip("+~")
    sign = word.removesuffix(body)
    key, equals, value = body.partition("=")
    options = _find_options(previous_words, catalogue)
    if not equals:
        return {sign + name: text for name, text in _list_keys(key, options.values()).items()}
    choices: Mapping[str, str] = {}
    if key in _GROUPS:
        entries = [entry for entry in catalogue.entries.get(key, ()) if catalogue.get_exclusion_reason(entry) is None]
        choices = {entry.name: entry.read_first_sentence() for entry in entries} | variants.find_variants(key)
    elif key in options:
        choices = dict.fromkeys(options[key].choices, "")
        if not choices and re.search(r"\bstr\b", options[key].type):
            return None
    head = value[: max(map(value.rfind, ",[]")) + 1]
    given_values = re.split(r"[\[,]", head)
    return {f"{sign}{key}={head}{name}": text for name, text in choices.items() if name not in given_values}


def _list_keys(prefix: str, options: Iterable[Option]) -> dict[str, str]:
    """Lists groups, and keys up to the next dot: `train.`, then `train.epochs=`."""
    keys = {f"{group}=": "Choose by name." for group in _GROUPS}
    depth = prefix.count(".")
    for option in options:
        parts = option.name.split(".")
        if len(parts) == depth + 1:
            keys[f"{option.name}="] = option.help
        elif option.name.startswith(prefix):
            keys[".".join(parts[: depth + 1]) + "."] = ""
    return keys


def _find_options(overrides: Sequence[str], catalogue: Catalogue) -> dict[str, Option]:
    """Finds the options of a run, and of the plugins that the overrides, or the defaults, select."""
    options = [option for option in option_schema.list_options(RunConfig) if option.name not in KINDS]
    folders = list(variants.find_conf_folders())
    root_defaults = [default for default in _read_defaults(folders[0] / "config.yaml") if isinstance(default, dict)]
    default_names = {kind: names for default in root_defaults for kind, names in default.items()}
    for kind in KINDS:
        names = ",".join(default_names[kind]) if kind in MULTIPLE_KINDS else default_names[kind]
        for override in overrides:
            if match := re.fullmatch(rf"(\+?){kind}=\[?([^\]]*)\]?", override):
                names = f"{names},{match[2]}" if match[1] else match[2]
        for name in names.split(","):
            files = (folder / kind / f"{name}.yaml" for folder in folders)
            if not catalogue.find_entries(kind, name):  # a variant names its plugin first
                name = next((str(plugin) for file in files for plugin in _read_defaults(file)), "")
            if catalogue.find_entries(kind, name):
                prefix = f"{kind}.{name}." if kind in MULTIPLE_KINDS else f"{kind}."
                options += option_schema.list_options(catalogue.get(kind, name).load().Config, prefix)
    return {option.name: option for option in options}


def _read_defaults(file: Path) -> list[Any]:
    """Returns the defaults of a configuration file without `_self_`; an empty list if there are none."""
    with suppress(ConfigError, AttributeError, TypeError):
        return [default for default in read_yaml(file).get("defaults", []) if default != "_self_"]
    return []
