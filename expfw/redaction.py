"""Redaction: decides what is secret, and hides it.

Everything that leaves the process goes through a few functions (files, journals, output, JSON, errors), and each of
them calls `redact` or `redact_text`. A secret is recognized by its place: a key such as `password`, an address, a
header. The process also remembers the secrets in its options (`learn_secrets`) and hides these texts everywhere.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import quote, unquote

HIDDEN = "<hidden>"
_KEY = (
    r"passw|passphrase|pwd|secret|token(?!s|i)|credential|(?:api|access|private)[_-]?key|authorization"
    r"|(?<![a-z])auth(?![a-z])"
)
_SECRET_KEY = re.compile(_KEY, re.IGNORECASE)
_KEY_WORDS = ("passw", "passphrase", "pwd", "secret", "token", "credential", "key", "auth", "bearer")
"""Texts of which one is in every text with a secret key or a header."""
_ADDRESSES = (
    r"(://)(?P<secret>[^\s/?#\"'<>\\]{1,999})(?=@)",
    r"(://)(?P<secret>[^\s:/@\"'<>]{0,99}:(?!\d+[/?#\s])[^\s@\"'<>]{1,999})(?=@)",  # with / in the password
)
_PLACES = (
    *_ADDRESSES,
    # in the query of an address, and an option with its dotted key
    rf"([?&;#.][\w-]{{0,64}}?(?:{_KEY}|signature)[\w-]{{0,64}}=|[?&;#](?:sig|key|jwt|sas)=)"
    r"(?P<secret>(?!\.\.\.)[^\s&;#\"'<>\\]+)",
    r"\b(authori[sz]ation[\"']?\s*[:=]\s*[\"']?(?:\w+\s+)?|bearer[\s:=]+)"
    r"(?P<secret>(?!authenti|authori|credential|token)(?=\S*\d|\S{6})[\w.~+/=-]+)",
    # in JSON, in the `repr` of options, in source code
    rf"((?:{_KEY})[\w-]{{0,64}}[\"']?\]?(?:\s*[:=]\s*|\s+is\s+)[rbu]?([\"']))(?P<secret>(?:\\.|(?!\2).)+)(?=\2)",
)
_PATTERNS = [re.compile(pattern, re.IGNORECASE) for pattern in _PLACES]
_CONNECTION = re.compile(
    rf"((?:^|[\s;=\"'])\w{{0,64}}?(?:{_KEY})\w{{0,64}}\s?=\s?)(?P<secret>[^\s;\"']+)", re.IGNORECASE
)
"""In a value such as `host=db password=abc`."""
_NESTED = re.compile(
    rf"((?:{_KEY})\w{{0,64}}[\"']?\s*:\s*)(?P<secret>\"[^\"]*\"|'[^']*'|[^,\[\]{{}}\s]+)", re.IGNORECASE
)
"""In an override such as `key={token:abc}`."""
_YAML_LINE = re.compile(r"(\s*(?:- )?)([\w.+~/@-]+)(: |:$|=)(.*)")
_MIN_LENGTH = 6  # shorter texts occur in many other places
_MIN_TOKEN_LENGTH = 16  # of the part before @ in an address without a colon; shorter ones are names of users
_MAX_WORD_LENGTH, _MAX_NUMBER_LENGTH = 7, 12  # a word or number of this length also occurs in other words or numbers
_NOT_SECRET = ("PWD", "OLDPWD")  # environment variables
_OWN_WORDS = "hidden artifact dataset failure message metrics series system mlflow tensorflow FINISHED FAILED KILLED"
"""Words that all records need; also a secret that is one of them is not hidden in other texts."""


class _KnownSecrets:
    """Secrets of this process, as they may occur in texts.

    A text is not searched for a secret that is also a name (of an option or plugin) or a part of the path of the runs:
    all records would be unreadable.
    """

    def __init__(self) -> None:
        self.secrets: set[str] = set()
        self.names = set(_OWN_WORDS.split())
        self.paths: set[str] = set()
        self.patterns: dict[str, re.Pattern[str]] = {}  # longest first
        self.json_texts: tuple[str, ...] = ()

    def add(self, secrets: Iterable[str], names: Iterable[str], paths: Iterable[str]) -> None:
        sizes = len(self.secrets), len(self.names), len(self.paths)
        self.secrets.update(secrets)
        self.names.update(names)
        self.paths.update(paths)
        if sizes == (len(self.secrets), len(self.names), len(self.paths)):
            return
        texts = {
            text
            for secret in self.secrets - self.names
            for text in (secret, repr(secret)[1:-1], quote(secret, safe=""), unquote(secret))
            if len(text) >= _MIN_LENGTH and not any(text in path for path in self.paths)
        }
        self.patterns = {text: _compile_secret(text) for text in sorted(texts, key=len, reverse=True)}
        self.json_texts = tuple(json.dumps(text)[1:-1] for text in self.patterns)

    def hide(self, text: str) -> str:
        for secret, pattern in self.patterns.items():
            if secret in text:
                text = pattern.sub(HIDDEN, text)
        return text


def _compile_secret(text: str) -> re.Pattern[str]:
    is_common = (text.isalpha() and len(text) <= _MAX_WORD_LENGTH) or (
        text.isdigit() and len(text) <= _MAX_NUMBER_LENGTH
    )
    whole_word = rf"(?<![^\W_])(?<!\d\.){text}(?!\.\d|[^\W_])"
    return re.compile(whole_word if is_common else re.escape(text))


_known = _KnownSecrets()


def learn_secrets(values: Mapping[str, Any]) -> None:
    """Remembers the secrets in the options of a run: from now on, they are hidden in all texts.

    Not for recorded options: their secrets are hidden already, and a record is not trusted.
    """
    _known.add(find_secrets(values), _find_names(values), [str(values.get("runs_dir", ""))])


def learn_environment() -> None:
    """Remembers the secrets in the environment variables of this process."""
    variables = {
        name: value
        for name, value in os.environ.items()
        if name not in _NOT_SECRET and not (os.path.isabs(value) and os.path.exists(value))
    }
    _known.add(find_secrets(variables), (), (os.path.abspath(""),) if os.path.isdir(".") else ())


def learn_overrides(overrides: Iterable[str]) -> None:
    """Remembers the secrets in overrides, before they are composed."""
    for override in overrides:
        key, _, value = override.partition("=")
        texts = [value, *re.split(r"[,\[\]{}]", value)] if _SECRET_KEY.search(key) else [value]
        nested = [match["secret"] for match in _NESTED.finditer(value)]
        _known.add(find_secrets([{key: _strip(texts)}, {"secret": _strip(nested)}]), (), ())


def _strip(texts: Iterable[str]) -> list[str]:
    return [text.strip("\"' ") for text in texts]


def find_secrets(values: Any, is_secret: bool = False) -> Iterator[str]:
    """Yields the texts that `redact` hides in options, if they have 6 or more characters."""
    if isinstance(values, Mapping):
        for key, value in values.items():
            yield from find_secrets(value, is_secret or bool(_SECRET_KEY.search(str(key))))
    elif isinstance(values, (list, tuple)):
        for value in values:
            yield from find_secrets(value, is_secret)
    if is_secret and isinstance(values, (str, int, float)):
        texts = [str(values), *(line for line in str(values).splitlines() if len(line) >= _MIN_TOKEN_LENGTH)]
        yield from (text for text in dict.fromkeys(texts) if len(text) >= _MIN_LENGTH and not _is_reference(text))
    if isinstance(values, str):
        for match in (match for pattern in (*_PATTERNS, _CONNECTION) for match in pattern.finditer(values)):
            user, colon, password = match["secret"].partition(":")
            if match[1] == "://":  # a user name alone is no secret
                secret = password if colon else user if len(user) >= _MIN_TOKEN_LENGTH else ""
            else:
                secret = match["secret"].strip("\"'")
            if len(secret) >= _MIN_LENGTH and not _is_reference(secret):
                yield secret


def _find_names(values: Any) -> Iterator[str]:
    """Yields the keys, and the names of the plugins."""
    for key, value in values.items():
        yield str(key)
        if isinstance(value, Mapping):
            yield from _find_names(value)
        elif key == "plugin":
            yield str(value)


def _is_reference(text: str) -> bool:
    """Whether a text only names a secret, as `${oc.env:KEY}` does, or is already hidden."""
    return "${" in text or HIDDEN in text


def _hide_match(match: re.Match[str]) -> str:
    return match[0] if _is_reference(match["secret"]) else match[1] + HIDDEN


def _has_place(text: str) -> bool:
    """Whether the text may contain a place of a secret; fast."""
    if "://" in text or "=" in text:
        return True
    lower_text = text.lower()
    return any(word in lower_text for word in _KEY_WORDS)


def may_contain_secret(json_text: str) -> bool:
    """Whether `redact` may change the values of a JSON text; fast, because most texts contain no secret."""
    return any(secret in json_text for secret in _known.json_texts) or _has_place(json_text)


def redact_text(text: str) -> str:
    """Replaces secrets in a text by `<hidden>`."""
    if _has_place(text):  # before known secrets, which may be parts of an address
        for pattern in _PATTERNS:
            text = pattern.sub(_hide_match, text)
    return _known.hide(text)


def redact(value: Any) -> Any:
    """Returns JSON values with secrets hidden in all texts; a key that is an address is a text, too."""
    if isinstance(value, Mapping):
        return {redact_text(key) if "://" in str(key) else key: redact(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [redact(inner) for inner in value]
    return redact_text(value) if isinstance(value, str) else value


def redact_options(value: Any) -> Any:
    """Like `redact`, for options: also hides all values whose key looks like a secret."""
    if isinstance(value, Mapping):
        return {
            key: HIDDEN
            if _SECRET_KEY.search(str(key))
            and inner is not None
            and not (isinstance(inner, str) and _is_reference(inner))
            else redact_options(inner)
            for key, inner in value.items()
        }
    if isinstance(value, list):
        return [redact_options(inner) for inner in value]
    return redact_text(_CONNECTION.sub(_hide_match, value)) if isinstance(value, str) else value


def redact_overrides(overrides: Iterable[str]) -> list[str]:
    """Like `redact_options`, for overrides and command lines: `key=value`, or a mapping as in `key={token:abc}`."""
    redacted = []
    for override in overrides:
        key, equals_sign, value = override.partition("=")
        if equals_sign and _SECRET_KEY.search(key) and not _is_reference(value):
            override = f"{key}={HIDDEN}"
        elif equals_sign:
            override = _NESTED.sub(_hide_match, redact_options(override))
        redacted.append(redact_text(override))
    return redacted


def redact_yaml(text: str) -> str:
    """Like `redact_options`, for the text of a configuration."""
    lines: list[str] = []
    hidden_indent: int | None = None
    for line in text.splitlines():
        indent, match = len(line) - len(line.lstrip()), _YAML_LINE.fullmatch(line)
        if hidden_indent is not None and (indent > hidden_indent or line[indent : indent + 2] == "- "):
            continue  # more lines of the hidden value
        hidden_indent = None
        if match and _SECRET_KEY.search(match[2]) and match[4] not in ("null", "???") and not _is_reference(match[4]):
            line = f"{match[1]}{match[2]}{match[3] if match[4] else ': '}{HIDDEN}"
            hidden_indent = None if match[3] == "=" else indent
        lines.append(redact_options(line))
    return "\n".join(lines)


# Each part has a bound: source code may contain very long words and lines.
_SECRET_LITERAL = re.compile(
    rf"((?:{_KEY})\w{{0,40}}\\?[\"']?\]?\s{{0,9}}(?::\s{{0,9}}\w{{1,40}}\s{{0,9}})?[:=]=?\s{{0,9}}[bfru]?\\?)"
    r"(?:(\"+)(?:[^\"\\\n]|\\[^\"])+|('+)(?:[^'\\\n]|\\[^'])+)",
    re.IGNORECASE,
)
_SECRET_LINE = re.compile(
    rf"^([+ -]?[ \t]*(?:- |export )?[ \t]*[\w.-]{{0,40}}(?:{_KEY})\w{{0,40}}[ \t]*[:=][ \t]*)"
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
    return redact_text(_KNOWN_TOKEN.sub(rf"\1{HIDDEN}", text))
