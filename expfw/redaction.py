"""Redaction of secrets and of values from environment variables."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from omegaconf import DictConfig, ListConfig

HIDDEN = "<hidden>"
_KEY_PATTERN = r"(?:api|access|private)_?key"
_SECRET_PATTERN = rf"passw|passphrase|pwd|secret|token(?!s|i)|credential|{_KEY_PATTERN}|(?<![a-z])auth(?![a-z])"
_SECRET_KEY = re.compile(_SECRET_PATTERN, re.IGNORECASE)
_SECRET_IN_VALUE = re.compile(
    rf"(\w*(?:{_SECRET_PATTERN})\w*[\"']?\s*:\s*)(\"[^\"]*\"|'[^']*'|[^,\[\]{{}}\s]+)", re.IGNORECASE
)
_URL_CREDENTIALS = re.compile(r"(\w://)[^/@\s]+@")
_MIN_SECRET_LENGTH = 6  # shorter texts occur in many other places


def redact(value: Any) -> Any:
    """Returns the values with secrets hidden: values of keys that look like secrets, and user and password in URLs."""
    if isinstance(value, Mapping):
        return {k: HIDDEN if _SECRET_KEY.search(str(k)) and v is not None else redact(v) for k, v in value.items()}
    if isinstance(value, list):
        return [redact(v) for v in value]
    return hide_url_credentials(value) if isinstance(value, str) else value


def redact_overrides(overrides: Iterable[str]) -> list[str]:
    """Like `redact`, for overrides and command lines: `key=value`, or a mapping as in `key={token:abc}`."""
    redacted = []
    for override in overrides:
        key, equals_sign, _ = override.partition("=")
        if equals_sign:
            override = f"{key}={HIDDEN}" if _SECRET_KEY.search(key) else _SECRET_IN_VALUE.sub(rf"\1{HIDDEN}", override)
        redacted.append(hide_url_credentials(override))
    return redacted


def hide_url_credentials(text: str) -> str:
    """Replaces user and password in URLs such as `https://me:word@host` by `<hidden>`."""
    return _URL_CREDENTIALS.sub(rf"\1{HIDDEN}@", text)


def find_secrets(values: Any) -> Iterator[str]:
    """Yields the texts that `redact` hides because of their key, if they have 6 or more characters."""
    for value in values if isinstance(values, list) else ():
        yield from find_secrets(value)
    for key, value in values.items() if isinstance(values, Mapping) else ():
        if isinstance(value, str) and _SECRET_KEY.search(str(key)) and len(value) >= _MIN_SECRET_LENGTH:
            yield value
        yield from find_secrets(value)


def hide_secrets(text: str, secrets: Iterable[str]) -> str:
    """Replaces the given secrets in a text by `<hidden>`."""
    for secret in secrets:
        text = text.replace(secret, HIDDEN)
    return text


def mask_values(value: Any, replacements: Mapping[str, str], dotted_key: str = "") -> Any:
    """Replaces nested values by texts, by dotted key."""
    if dotted_key in replacements:
        return replacements[dotted_key]
    prefix = f"{dotted_key}." if dotted_key else ""
    if isinstance(value, Mapping):
        return {str(key): mask_values(inner, replacements, f"{prefix}{key}") for key, inner in value.items()}
    if isinstance(value, list):
        return [mask_values(inner, replacements, f"{prefix}{place}") for place, inner in enumerate(value)]
    return value


def find_environment_values(node: DictConfig) -> dict[str, str]:
    """Returns the interpolations that read environment variables, by dotted key, such as `${oc.env:HOME}`.

    Includes indirect ones, such as `${data.root}/mnist` if `data.root` reads an environment variable.
    """
    from omegaconf import OmegaConf
    from omegaconf.resolvers import oc

    variables_read: list[str] = []

    def read_variable(*arguments: Any) -> Any:
        variables_read.append(str(arguments[0]))
        return oc.env(*arguments)

    OmegaConf.register_new_resolver("oc.env", read_variable, replace=True)
    try:
        return dict(_find_in_node(node, OmegaConf.to_container(node), variables_read, ""))
    finally:
        OmegaConf.register_new_resolver("oc.env", oc.env, replace=True)


def _find_in_node(
    node: DictConfig | ListConfig, raw_values: Any, variables_read: list[str], prefix: str
) -> Iterator[tuple[str, str]]:
    from omegaconf import OmegaConf

    for key in list(node) if isinstance(raw_values, dict) else range(len(node)):
        if OmegaConf.is_missing(node, key):
            continue
        variables_read.clear()
        value = node[key]
        if OmegaConf.is_interpolation(node, key):
            if OmegaConf.is_config(value):
                OmegaConf.to_container(value, resolve=True)
            if variables_read:
                yield f"{prefix}{key}", str(raw_values[key])
        elif OmegaConf.is_config(value):
            yield from _find_in_node(value, raw_values[key], variables_read, f"{prefix}{key}.")


# Each part has a bound: source code may contain very long words and lines.
_SECRET_LITERAL = re.compile(
    rf"((?:{_SECRET_PATTERN})\w{{0,40}}\\?[\"']?\]?\s{{0,9}}(?::\s{{0,9}}\w{{1,40}}\s{{0,9}})?[:=]=?\s{{0,9}}[bfru]?\\?)"
    r"(?:(\"+)(?:[^\"\\\n]|\\[^\"])+|('+)(?:[^'\\\n]|\\[^'])+)",
    re.IGNORECASE,
)
_SECRET_LINE = re.compile(
    rf"^([+ -]?[ \t]*(?:- |export )?[ \t]*[\w.-]{{0,40}}(?:{_SECRET_PATTERN})\w{{0,40}}[ \t]*[:=][ \t]*)"
    r"[^\s\"'{\[<|>].*$",
    re.IGNORECASE | re.MULTILINE,
)
_PRIVATE_KEY = re.compile(r"(-----BEGIN [A-Z ]*PRIVATE KEY-----).*?(?=-----END|\Z)", re.DOTALL)
_KNOWN_TOKEN = re.compile(r"\b(Bearer +|gh[opsu]_|github_pat_|glpat-|hf_|sk-|xox[abprs]-|AKIA)[\w./+=-]{12,}")


def redact_source(text: str, is_code: bool) -> str:
    """Hides secrets in source code: quoted values of names that look like secrets, private keys, known kinds of tokens.

    Except in program code (`is_code`), where they are expressions, values without quotes are hidden too.
    """
    text = _SECRET_LITERAL.sub(rf"\1\2\3{HIDDEN}", text)
    text = text if is_code else _SECRET_LINE.sub(rf"\1{HIDDEN}", text)
    text = _PRIVATE_KEY.sub(rf"\1 {HIDDEN} ", text)
    return hide_url_credentials(_KNOWN_TOKEN.sub(rf"\1{HIDDEN}", text))
