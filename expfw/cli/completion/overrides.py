"""Completion of overrides, `KEY=VALUE`: groups, keys of the plugins that are chosen, values."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from typing import Any

import yaml

from expfw.api import schema
from expfw.api.schema import Option
from expfw.api.settings import PRESETS, RunConfig
from expfw.cli.completion.shells import Candidate
from expfw.plugins import variants
from expfw.plugins.catalogue import catalogue
from expfw.plugins.docstrings import about
from expfw.plugins.kinds import KINDS, SEVERAL


def override_values(word: str, before: Sequence[str], files: tuple[str, ...]) -> Iterator[Candidate]:
    """What the unfinished `word` may become, after the words `before`."""
    sign = next(sign for sign in ("++", "+", "~", "") if word.startswith(sign))
    body = word.removeprefix(sign)
    chosen = _Chosen(before, files)
    if "=" not in body:
        found: Iterable[Candidate] = chosen.keys(body)
    else:
        key, value = body.split("=", 1)
        head = value[: max(map(value.rfind, ",[]")) + 1]
        there = re.split(r"[\[,]", head)
        found = (
            Candidate(f"{key}={head}{one.value}", one.help) for one in chosen.values(key) if one.value not in there
        )
    return (Candidate(sign + one.value, one.help) for one in found)


def takes_text(word: str, before: Sequence[str], files: tuple[str, ...]) -> bool:
    """Whether any text may stand behind the `=` of this word, so that it may be a path."""
    key, equals, _ = word.lstrip("+~").partition("=")
    return bool(equals) and _Chosen(before, files).is_text(key)


class _Chosen:
    """The plugins that a command line chooses so far, and what may be set with them."""

    def __init__(self, words: Sequence[str], files: tuple[str, ...]) -> None:
        self._words, self._files = words, files
        self._catalogue = catalogue(files)

    def keys(self, begin: str) -> Iterator[Candidate]:
        """Groups and keys, each as far as to the next dot: `train.`, then `train.epochs=`."""
        for group in (*KINDS, *PRESETS):
            yield Candidate(f"{group}=", "choose by name")
        depth = begin.count(".")
        for option in self._options():
            parts = option.name.split(".")
            if option.name.startswith(begin) and len(parts) > depth:
                whole = len(parts) == depth + 1
                yield Candidate(".".join(parts[: depth + 1]) + ("=" if whole else "."), option.help if whole else "")

    def values(self, key: str) -> Iterator[Candidate]:
        """Those of a group or of an option that has so many."""
        if key in KINDS or key in PRESETS:
            yield from self._names(key)
            return
        for option in self._options():
            if option.name == key:
                yield from (Candidate(one, "") for one in option.choices)

    def is_text(self, key: str) -> bool:
        """Whether the option of that key is text of which no values are known."""
        return any(one.name == key and re.search(r"\bstr\b", one.type) and not one.choices for one in self._options())

    def _names(self, group: str) -> Iterator[Candidate]:
        for found in self._catalogue.found.get(group, ()):
            if self._catalogue.reason(found) is None:
                yield Candidate(found.name, about(found))
        for name, where in variants.of(group).items():
            yield Candidate(name, where)

    def _options(self) -> Iterator[Option]:
        for option in schema.options(RunConfig):
            if option.name not in KINDS:
                yield option
        for kind in KINDS:
            for name in self._of_kind(kind):
                prefix = f"{kind}.{name}." if kind in SEVERAL else f"{kind}."
                found = self._catalogue.get(kind, name)
                yield from schema.options(found.load().Config, prefix)

    def _of_kind(self, kind: str) -> list[str]:
        """The plugins of that kind: as given, else by default."""
        names = _default(kind)
        for word in self._words:
            if match := re.fullmatch(rf"(\+?){kind}=\[?([^\]]*)\]?", word):
                given = [name for name in match[2].split(",") if name]
                names = [*names, *given] if match[1] else given
        plain = (name if self._catalogue.has(kind, name) else _base(kind, name) for name in names)
        return [name for name in plain if name and self._catalogue.has(kind, name)]


@cache
def _defaults() -> list[Any]:
    return list(yaml.safe_load((next(variants.conf_folders()) / "config.yaml").read_text())["defaults"])


def _default(kind: str) -> list[str]:
    chosen = next(entry[kind] for entry in _defaults() if isinstance(entry, dict) and kind in entry)
    return list(chosen) if isinstance(chosen, list) else [str(chosen)]


def _base(kind: str, name: str) -> str | None:
    """The plugin that a named variant is made of."""
    for folder in variants.conf_folders():
        file = folder / kind / f"{name}.yaml"
        if file.is_file():
            defaults = (yaml.safe_load(file.read_text()) or {}).get("defaults", [])
            return next((str(entry) for entry in defaults if isinstance(entry, str) and entry != "_self_"), None)
    return None
