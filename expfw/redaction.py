"""What is not written down: secrets, and what the environment holds."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from omegaconf import DictConfig, ListConfig

HIDDEN = "<hidden>"
_KEYS = r"(?:api|access|private)_?key"
_WORDS = rf"passw|passphrase|pwd|secret|token(?!s|i)|credential|{_KEYS}|(?<![a-z])auth(?![a-z])"
_SECRET = re.compile(_WORDS, re.IGNORECASE)
_WITHIN = re.compile(rf"(\w*(?:{_WORDS})\w*[\"']?\s*:\s*)(\"[^\"]*\"|'[^']*'|[^,\[\]{{}}\s]+)", re.IGNORECASE)
_IN_ADDRESS = re.compile(r"(\w://)[^/@\s]+@")
_SHORTEST = 6  # a shorter text stands for many other things


def redact(value: Any) -> Any:
    """The same values with those hidden whose key looks like a secret, and user and password in addresses."""
    if isinstance(value, Mapping):
        return {k: HIDDEN if _SECRET.search(str(k)) and v is not None else redact(v) for k, v in value.items()}
    if isinstance(value, list):
        return [redact(v) for v in value]
    return without_password(value) if isinstance(value, str) else value


def redact_words(words: Iterable[str]) -> list[str]:
    """The same for overrides and command lines, `key=value` each, where a value may be a mapping: `key={token:abc}`."""
    return [_redact_word(word) for word in words]


def _redact_word(word: str) -> str:
    key, sign, _ = word.partition("=")
    if sign and _SECRET.search(key):
        return f"{key}={HIDDEN}"
    return without_password(_WITHIN.sub(rf"\1{HIDDEN}", word) if sign else word)


def without_password(text: str) -> str:
    """A text with `<hidden>` for user and password in addresses such as `https://me:word@host`."""
    return _IN_ADDRESS.sub(rf"\1{HIDDEN}@", text)


def secrets(values: Any) -> Iterator[str]:
    """The texts that `redact` hides because of their key, of some length."""
    for value in values if isinstance(values, list) else ():
        yield from secrets(value)
    for key, value in values.items() if isinstance(values, Mapping) else ():
        if isinstance(value, str) and _SECRET.search(str(key)) and len(value) >= _SHORTEST:
            yield value
        yield from secrets(value)


def without(text: str, secrets: Iterable[str]) -> str:
    """A text that may quote secrets, with `<hidden>` in their place."""
    for secret in secrets:
        text = text.replace(secret, HIDDEN)
    return text


def masked(value: Any, texts: Mapping[str, str], dotted: str = "") -> Any:
    """The same nested values, with these texts in the place of what has these dotted keys."""
    if dotted in texts:
        return texts[dotted]
    prefix = f"{dotted}." if dotted else ""
    if isinstance(value, Mapping):
        return {str(key): masked(inner, texts, f"{prefix}{key}") for key, inner in value.items()}
    if isinstance(value, list):
        return [masked(inner, texts, f"{prefix}{place}") for place, inner in enumerate(value)]
    return value


def from_environment(node: DictConfig) -> dict[str, str]:
    """What interpolations take from the environment: dotted key and text, such as `${oc.env:HOME}`.

    Through other keys too: `${data.root}/mnist`, where `data.root` is of the environment.
    """
    from omegaconf import OmegaConf

    with _environment_watched() as asked:
        return dict(_taken(node, OmegaConf.to_container(node), asked, ""))


def _taken(node: DictConfig | ListConfig, raw: Any, asked: list[str], prefix: str) -> Iterator[tuple[str, str]]:
    from omegaconf import OmegaConf

    for key in list(node) if isinstance(raw, dict) else range(len(node)):
        if OmegaConf.is_missing(node, key):
            continue
        asked.clear()
        value = node[key]
        if OmegaConf.is_interpolation(node, key):
            if OmegaConf.is_config(value):
                OmegaConf.to_container(value, resolve=True)
            if asked:
                yield f"{prefix}{key}", str(raw[key])
        elif OmegaConf.is_config(value):
            yield from _taken(value, raw[key], asked, f"{prefix}{key}.")


@contextmanager
def _environment_watched() -> Iterator[list[str]]:
    """OmegaConf's `oc.env`, with a list of the variables that it is asked for."""
    from omegaconf import OmegaConf
    from omegaconf.resolvers import oc

    asked: list[str] = []

    def watched(*arguments: Any) -> Any:
        asked.append(str(arguments[0]))
        return oc.env(*arguments)

    OmegaConf.register_new_resolver("oc.env", watched, replace=True)
    try:
        yield asked
    finally:
        OmegaConf.register_new_resolver("oc.env", oc.env, replace=True)
