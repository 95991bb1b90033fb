"""Completion of overrides, `KEY=VALUE`: groups, keys of the selected plugins, values."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from typing import Any

import yaml

from expfw.api import option_schema
from expfw.api.option_schema import Option
from expfw.api.run_config import PRESETS, RunConfig
from expfw.cli.completion.shells import Candidate
from expfw.plugins import variants
from expfw.plugins.catalogue import Catalogue
from expfw.plugins.docstrings import read_first_sentence
from expfw.plugins.kinds import KINDS, MULTIPLE_KINDS


def complete_override(word: str, previous_words: Sequence[str], catalogue: Catalogue) -> Iterator[Candidate]:
    """Yields the candidates for the unfinished `word` after `previous_words`."""
    sign = next(sign for sign in ("++", "+", "~", "") if word.startswith(sign))
    body = word.removeprefix(sign)
    selected_plugins = _SelectedPlugins(previous_words, catalogue)
    if "=" not in body:
        candidates: Iterable[Candidate] = selected_plugins.list_keys(body)
    else:
        key, value = body.split("=", 1)
        head = value[: max(map(value.rfind, ",[]")) + 1]
        given_values = re.split(r"[\[,]", head)
        candidates = (
            Candidate(f"{key}={head}{candidate.value}", candidate.help)
            for candidate in selected_plugins.list_values(key)
            if candidate.value not in given_values
        )
    return (Candidate(sign + candidate.value, candidate.help) for candidate in candidates)


def takes_text(word: str, previous_words: Sequence[str], catalogue: Catalogue) -> bool:
    """Whether the value after `=` may be any text, for example a path."""
    key, equals, _ = word.lstrip("+~").partition("=")
    return bool(equals) and _SelectedPlugins(previous_words, catalogue).is_text(key)


class _SelectedPlugins:
    """The plugins that a command line selects, and their options."""

    def __init__(self, overrides: Sequence[str], catalogue: Catalogue) -> None:
        self._overrides, self._catalogue = overrides, catalogue

    def list_keys(self, prefix: str) -> Iterator[Candidate]:
        """Lists groups and keys up to the next dot: `train.`, then `train.epochs=`."""
        for group in (*KINDS, *PRESETS):
            yield Candidate(f"{group}=", "Choose by name.")
        depth = prefix.count(".")
        for option in self._list_options():
            parts = option.name.split(".")
            if option.name.startswith(prefix) and len(parts) > depth:
                is_complete = len(parts) == depth + 1
                yield Candidate(
                    ".".join(parts[: depth + 1]) + ("=" if is_complete else "."), option.help if is_complete else ""
                )

    def list_values(self, key: str) -> Iterator[Candidate]:
        """Lists the values of a group, or of an option with a fixed set of values."""
        if key in KINDS or key in PRESETS:
            yield from self._list_names(key)
            return
        for option in self._list_options():
            if option.name == key:
                yield from (Candidate(choice, "") for choice in option.choices)

    def is_text(self, key: str) -> bool:
        """Whether the option with this key is a text without a fixed set of values."""
        return any(
            option.name == key and re.search(r"\bstr\b", option.type) and not option.choices
            for option in self._list_options()
        )

    def _list_names(self, group: str) -> Iterator[Candidate]:
        for entry in self._catalogue.entries.get(group, ()):
            if self._catalogue.get_exclusion_reason(entry) is None:
                yield Candidate(entry.name, read_first_sentence(entry))
        for name, location in variants.find_variants(group).items():
            yield Candidate(name, location)

    def _list_options(self) -> Iterator[Option]:
        for option in option_schema.list_options(RunConfig):
            if option.name not in KINDS:
                yield option
        for kind in KINDS:
            for name in self._select_names(kind):
                prefix = f"{kind}.{name}." if kind in MULTIPLE_KINDS else f"{kind}."
                entry = self._catalogue.get(kind, name)
                yield from option_schema.list_options(entry.load().Config, prefix)

    def _select_names(self, kind: str) -> list[str]:
        """Returns the selected plugins of a kind, or the default ones."""
        names = _get_default_names(kind)
        for override in self._overrides:
            if match := re.fullmatch(rf"(\+?){kind}=\[?([^\]]*)\]?", override):
                given_names = [name for name in match[2].split(",") if name]
                names = [*names, *given_names] if match[1] else given_names
        plugin_names = (name if self._catalogue.has(kind, name) else _find_base_plugin(kind, name) for name in names)
        return [name for name in plugin_names if name and self._catalogue.has(kind, name)]


@cache
def _read_defaults() -> list[Any]:
    return list(yaml.safe_load((next(variants.find_conf_folders()) / "config.yaml").read_text())["defaults"])


def _get_default_names(kind: str) -> list[str]:
    names = next(entry[kind] for entry in _read_defaults() if isinstance(entry, dict) and kind in entry)
    return list(names) if isinstance(names, list) else [str(names)]


def _find_base_plugin(kind: str, name: str) -> str | None:
    """Returns the plugin of a named variant."""
    for folder in variants.find_conf_folders():
        file = folder / kind / f"{name}.yaml"
        if file.is_file():
            defaults = (yaml.safe_load(file.read_text()) or {}).get("defaults", [])
            return next((str(entry) for entry in defaults if isinstance(entry, str) and entry != "_self_"), None)
    return None
