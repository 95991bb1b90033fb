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
_TEXT_TOKEN = (
    r"(?<!(?<![a-z])(?:bos|cls|eos|pad|per|sep|unk)[_-])(?<!(?<![a-z])class[_-])(?<!(?<![a-z])mask[_-])"
    r"token(?!s|i|[_-]?(?:acc|class|count|dim|drop|emb|end|err|kind|label|len|level|loss|mask|mix|pool|prob|rate|ratio|si[mz]"
    r"|start|type|url|width))"
)
"""Not a secret: a token of a text, as in `token_dim` or `pad_token`."""
_KEY = (
    r"(?=[abcelmpst])(?:passw|passphrase|passcode|(?<![a-z])pass(?![a-z_])|pwd|secret"
    rf"|{_TEXT_TOKEN}|credential|bearer|cookie"
    r"|(?:access|account|api|encryption|license|master|private|shared|signing|ssh)[_-]?key"
    r"|authorization|(?<![a-z])auth(?![a-z]))"
)
"""Part of a name. The first group, the letters that it can begin with, only saves time."""
_SECRET_KEY = re.compile(_KEY, re.IGNORECASE)


def _compile(*patterns: str) -> list[re.Pattern[str]]:
    return [re.compile(pattern, re.IGNORECASE) for pattern in patterns]


# The group `secret` is hidden, group 1 before it stays. Repetitions are bounded: a line may have a million characters.
_PLACES = _compile(
    # user and password in an address; in the second form, the password contains a slash
    r"(://)(?P<secret>[^\s/?#\"'<>\\]{1,999})(?=@)",
    r"(://)(?P<secret>[^\s:/@\"'<>\[]{0,99}:(?!\d{1,5}[/?#\s])[^\s@\"'<>]{1,299}+)(?=@)",
    # in the query of an address, or after the dotted key of an option
    rf"([?&;#.][\w-]{{0,64}}?(?:{_KEY}|signature)[\w-]{{0,64}}+=|[?&;#](?:hmac|jwt|key|pw|sas|sid|sig)=)"
    r"(?P<secret>(?!\.\.\.)[^\s&;#\"'<>\\]+)",
    # in a header
    rf"\b((?:authori[sz]ation|(?:x|private)-(?:[a-z]{{1,20}}-){{0,2}}{_KEY})\\?[\"']?\s{{0,9}}[:=]\s{{0,9}}\\?[\"']?"
    r"(?:\w{1,20}\s{1,9})?|cookie:\s{0,9}|bearer[\s:=]{1,9})"
    r"(?P<secret>(?!authenti|authori|basic|bearer|credential|token)(?=\S{0,99}\d|\S{6})[\w.~+/=-]+)",
    # a text in quotes: in JSON, in the `repr` of options, in source code, and in source code within JSON
    rf"({_KEY}[\w-]{{0,64}}+\\?[\"']?\]?(?:\s{{0,9}}(?::\s{{0,9}}[\w.]{{1,40}}\s{{0,9}})?[:=]=?\s{{0,9}}|\s+is\s+)"
    r"[bfru]{0,2}(?P<escape>\\)?(?P<quote>[\"'])(?:(?P=quote){2})?)"
    r"(?P<secret>(?:\\(?(escape)(?!(?P=quote)))[^\n]|(?!(?P=quote))[^\\\n])+)",
    # known kinds of tokens, and private keys
    r"\b((?-i:AIza|AKIA|eyJ|gh[opsu]_|github_pat_|glpat-|hf_(?=[a-zA-Z\d]{20})|sk-|xox[abprs]-)(?=[\w-]{0,40}(?-i:[A-Z\d]))"
    r"|hooks\.slack\.com/services/)(?P<secret>[\w./+=-]{12,})",
    r"(-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----)(?P<secret>(?:[\w+/=\s\\:,]|-(?!----)){1,19999})",
)
_OPTION_PLACES = _compile(
    # in a value such as `host=db password=abc`, and in a mapping such as `{token: abc}`
    rf"((?:^|[\s;\"'])[\w-]{{0,64}}?{_KEY}[\w-]{{0,64}}+ ?= ?)(?P<secret>[^\s;\"']+)",
    rf"([{{,]\s?[\"']?[\w-]{{0,64}}?{_KEY}[\w-]{{0,64}}+[\"']?\s?:\s?[\"']?)(?P<secret>[^\"',{{}}\n]+)",
)
_LINE = re.compile(r"([+-]?\s*(?:- +|export +)*[\"']?)([\w.+~/@-]{1,200})(\s{0,9}(?::(?=\s|$)|=)\s{0,9})(.*)")
"""A line with a key and its value, in a file in YAML, of settings, or in a patch of such a file."""
_INDENT = re.compile(r"[+-]?\s*(?:- +)*")
_MIN_LENGTH = 6  # shorter texts occur in many other places
_MIN_TOKEN_LENGTH = 16  # of the part before @ in an address without a colon; shorter ones are names of users
_MAX_WORD_LENGTH, _MAX_NUMBER_LENGTH = 7, 12  # a word or number of this length also occurs in other words or numbers
_NOT_SECRET = ("PWD", "OLDPWD")  # environment variables
_NAME_MAPPINGS = ("code", "files", "packages", "plugins")
"""In records, mappings of the names of files, packages or plugins, such as `google-auth`, to digests or versions."""
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

    def add(self, secrets: Iterable[str], names: Iterable[str] = (), paths: Iterable[str] = ()) -> None:
        self.secrets.update(secrets)
        self.names.update(names)
        self.paths.update(paths)
        texts = {
            text
            for secret in self.secrets - self.names
            for text in (secret, repr(secret)[1:-1], json.dumps(secret)[1:-1], quote(secret, safe=""), unquote(secret))
            if len(text) >= _MIN_LENGTH and not any(text in path for path in self.paths)
        }
        self.patterns = {text: _compile_secret(text) for text in sorted(texts, key=len, reverse=True)}

    def hide(self, text: str) -> str:
        for secret, pattern in self.patterns.items():
            if secret in text:
                text = pattern.sub(HIDDEN, text)
        return text


def _compile_secret(text: str) -> re.Pattern[str]:
    is_word, is_number = text.isalpha() and len(text) <= _MAX_WORD_LENGTH, text.isdigit()
    if is_word or (is_number and len(text) <= _MAX_NUMBER_LENGTH):
        return re.compile(rf"(?<![^\W_])(?<!\d\.){text}(?!\.\d|[^\W_])")
    return re.compile(re.escape(text))


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
    _known.add(find_secrets(variables), paths=[os.path.abspath("")] if os.path.isdir(".") else ())


def learn_overrides(overrides: Iterable[str]) -> None:
    """Remembers the secrets in overrides, before they are composed."""
    for override in overrides:
        key, _, value = override.partition("=")
        _known.add(find_secrets({key: value}))


def find_secrets(values: Any, is_secret: bool = False) -> Iterator[str]:
    """Yields the texts with six or more characters that `redact_options` hides, and each line or element of them."""
    if isinstance(values, Mapping):
        for key, value in values.items():
            yield from find_secrets(value, is_secret or bool(_SECRET_KEY.search(str(key))))
    elif isinstance(values, (list, tuple)):
        for value in values:
            yield from find_secrets(value, is_secret)
    elif isinstance(values, (str, int, float)):
        text = str(values)
        secrets = [text, *re.split(r"[,\[\]{}\n]", text)] if is_secret else []
        for match in (match for place in (*_PLACES, *_OPTION_PLACES) for match in place.finditer(text)):
            user, colon, password = match["secret"].partition(":")
            if match[1] != "://":
                secrets.append(match["secret"])
            elif colon or len(user) >= _MIN_TOKEN_LENGTH:  # the name of a user alone is no secret
                secrets.append(password or user)
        texts = dict.fromkeys(secret.strip("\"' ") for secret in secrets)
        yield from (text for text in texts if len(text) >= _MIN_LENGTH and not _is_reference(text))


def _find_names(values: Mapping[str, Any]) -> Iterator[str]:
    """Yields the keys, and the names of the plugins."""
    for key, value in values.items():
        yield str(key)
        if isinstance(value, Mapping):
            yield from _find_names(value)
        elif key == "plugin":
            yield str(value)


def _is_reference(text: str) -> bool:
    """Whether a text only names a secret, as `${oc.env:KEY}` does, is already hidden, or is a yes or no."""
    return "${" in text or HIDDEN in text or text.lower() in ("true", "false")


def _hide_places(text: str, places: Iterable[re.Pattern[str]]) -> str:
    for place in places:
        text = place.sub(lambda match: match[0] if _is_reference(match["secret"]) else match[1] + HIDDEN, text)
    return text


def redact_text(text: str) -> str:
    """Replaces secrets in a text by `<hidden>`."""
    return _known.hide(_hide_places(text, _PLACES))  # known secrets may be parts of an address


def redact(value: Any, is_option: bool = False, has_names: bool = False) -> Any:
    """Returns JSON values with secrets hidden in all texts, also in keys that are addresses.

    Args:
        is_option: whether to hide also numbers, lists and mappings whose key looks like a secret, and secrets in texts
            such as `host=db password=abc`.
        has_names: whether the keys of the mapping are names, which tell nothing about the values.
    """
    if isinstance(value, Mapping):
        return {
            redact_text(key) if "://" in str(key) else key: HIDDEN
            if not has_names and _is_secret(key, inner, is_option)
            else redact(inner, is_option, has_names=not is_option and key in _NAME_MAPPINGS)
            for key, inner in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [redact(inner, is_option) for inner in value]
    if isinstance(value, str):
        return redact_text(_hide_places(value, _OPTION_PLACES) if is_option else value)
    return value


def _is_secret(key: Any, value: Any, is_option: bool) -> bool:
    if value in (None, "") or not _SECRET_KEY.search(str(key)):
        return False
    return not _is_reference(str(value)) if isinstance(value, (str, bool)) else is_option


def redact_options(value: Any) -> Any:
    """Like `redact`, for options."""
    return redact(value, is_option=True)


def redact_overrides(overrides: Iterable[str]) -> list[str]:
    """Like `redact_options`, for overrides and command lines: `key=value`, or a mapping as in `key={token:abc}`."""
    parts = (override.partition("=") for override in overrides)
    return [redact_text(f"{key}{sign}{redact_options({key: value})[key]}") for key, sign, value in parts]


def redact_lines(text: str) -> str:
    """Like `redact_options`, for the text of a configuration or another file that is not program code."""
    lines: list[str] = []
    hidden_indent: int | None = None
    for line in text.split("\n"):
        indent, match = len(_INDENT.match(line)[0]), _LINE.fullmatch(line)  # type: ignore[index]
        if hidden_indent is not None and (indent > hidden_indent or not line.strip("+- \r")):
            continue  # more lines of the hidden value
        hidden_indent = None
        is_filled = match and (match[4] or ":" in match[3]) and match[4] not in ("null", "???")
        if match and is_filled and _SECRET_KEY.search(match[2]) and not _is_reference(match[4]):
            line = f"{match[1]}{match[2]}{match[3] if match[4] else ': '}{HIDDEN}"
            hidden_indent = None if "=" in match[3] else indent
        lines.append(line)
    return str(redact_options("\n".join(lines)))
