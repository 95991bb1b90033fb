"""What Hydra's grammar can read: text is put into quotes where it needs them; what to say of the rest."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence

from expfw.errors import did_you_mean, one_line

_EXAMPLES = {
    "choice": "choice(1,2)",
    "range": "range(1,10,2)",
    "interval": "interval(0.1,1)",
    "tag": "tag(log,interval(1e-4,1e-1))",
    "int": "int(interval(4,64))",
    "float": "float(1,2)",
    "str": "str(1,2)",
    "bool": "bool(0,1)",
    "sort": "sort(3,1,2)",
    "shuffle": "shuffle(1,2,3)",
    "glob": "glob(mlp*)",
}
"""What may stand behind `=` with brackets."""
_UNKNOWN = r"[^\x00-\x7f\ud800-\udfff]|[#!&;<>^`~]"
"""A character that Hydra takes in quotes only."""
_NO_TEXT = r"[\x00-\x08\n-\x1f\x7f\ud800-\udfff]"
_MARKS = "[({})],"
_QUOTED = re.compile(r"""[ \t]*(?:'(?:\\.|[^\\'])*'|"(?:\\.|[^\\"])*")(?=[ \t]*(?:[,\])}]|$))""", re.DOTALL)
_KEY = re.compile(r"[^:,\[\](){}]*:[ \t]*")
_TEXT = re.compile(r"(?:\$\{[^}]+\}|\\.|[^,\[\](){}])+")
_ESCAPED = r"\\([\\()\[\]{}:=, \t])"


def readable(overrides: Sequence[str]) -> list[str]:
    """These overrides as Hydra's grammar can read them, with the meaning that they have as they are typed.

    Text with characters that it knows in quotes only, such as an ö, is put into quotes; commas, brackets and braces
    mean what they always do, and `${...}` does in quotes, too.

    >>> readable(["name=é,ü", "+tags.who=[Jörg, Ann]", "dataset.path='/tmp/ä'", "model.units=32,64"])
    ["name='é','ü'", "+tags.who=['Jörg',Ann]", "dataset.path='/tmp/ä'", 'model.units=32,64']
    """
    return [_readable(word) for word in overrides]


def _readable(word: str) -> str:
    key, equals, value = word.partition("=")
    return f"{key}={''.join(_pieces(value))}" if equals and re.search(_UNKNOWN, value) else word


def _pieces(value: str) -> Iterator[str]:
    """What a value is made of, in order: marks, keys of dictionaries, quoted text, other text in quotes if need be."""
    place, inside, key_next = 0, "", False
    while place < len(value):
        mark = value[place]
        found = (_KEY.match(value, place) if key_next else None) or _QUOTED.match(value, place)
        if found is not None:
            yield found[0]
            key_next = False
        elif mark in _MARKS:
            inside = inside if mark == "," else inside + mark if mark in "[({" else inside[:-1]
            key_next = mark in "{," and inside.endswith("{")
            yield mark
        else:
            found = _TEXT.match(value, place)
            assert found is not None
            yield _in_quotes(found[0])
        place = place + 1 if found is None else found.end()


def _in_quotes(text: str) -> str:
    """Text as it is, or in quotes where it needs them and is text: nothing half quoted, no argument by name."""
    plain = text.strip(" \t")
    needed = re.search(_UNKNOWN, re.sub(r"\$\{[^}]+\}", "", plain))
    if not needed or plain[0] in "'\"~" or "=" in plain or re.search(_NO_TEXT, plain):
        return text
    return _hydras_quotes(re.sub(_ESCAPED, r"\1", plain))


def as_typed(word: str, overrides: Sequence[str]) -> str:
    """The one of these overrides that `readable` made this word of; where there is none, the word."""
    return next((typed for typed in overrides if readable([typed]) == [word]), word)


def unread(override: str, error: Exception) -> str:
    """What was given, what is wrong with it, and what it might be.

    Args:
        error: Hydra's.
    """
    key, _, value = override.partition("=")
    if "=" not in override:
        return f"{override} has no value; expected KEY=VALUE"
    if value.startswith("="):
        return f"{override} cannot be read; one = is enough: {key}={value.lstrip('=')}"
    if "LexerNoViableAlt" in str(error):
        return f"{override} cannot be read: {_strange(override)}"
    said = one_line(str(error).partition("\nSee https")[0])
    if unknown := re.search(r"Unknown function '(\w+)'", said):
        there_are = ", ".join(f"{name}(...)" for name in _EXAMPLES)
        suggestion = did_you_mean(unknown[1], _EXAMPLES)
        return f"{override}: there is no {unknown[1]}(...).{suggestion} There are: {there_are}; {_quoted(key, value)}"
    reason = (
        one_line(str(error.__cause__))
        if error.__cause__
        else said.removeprefix(f"Error parsing override '{getattr(error, 'override', override)}' ")
    )
    if (called := re.search(r"while evaluating '(\w+)\(", said)) and called[1] in _EXAMPLES:
        return f"{override} cannot be read ({reason}); expected values, such as {key}={_EXAMPLES[called[1]]}"
    reason = reason.partition(" expecting ")[0]  # what follows is for who knows the grammar
    if not value:
        return f"{override} cannot be read ({reason}); expected KEY=VALUE"
    return f"{override} cannot be read ({reason}); {_quoted(key, value)}"


def _strange(override: str) -> str:
    """Which character of it Hydra does not take there, and what to do."""
    key, _, value = override.partition("=")
    if found := re.search(rf"{_UNKNOWN}|{_NO_TEXT}|[^\w.~+@/$:-]", key):
        return f"there is {_shown(found[0])} in the key {_shown(key)}; a key has letters a-z, digits, _ and dots"
    if value.startswith("~"):
        return f"nobody replaces the ~ behind =; write the folder in full: {key}=$HOME{value[1:]}"
    if found := re.search(_NO_TEXT, value):
        return f"there is {_shown(found[0])} in it, which is no text; expected text in UTF-8, on one line"
    if found := re.search(r"['\"]", value):
        return f"there is {found[0]} without another one that closes it; {_quoted(key, value)}"
    if (found := re.search(_UNKNOWN, value)) and "{" in value:
        return f"there is {_shown(found[0])} in a key of a dictionary; these have letters a-z, digits and _"
    return f"{_shown(found[0])} takes quotes there; {_quoted(key, value)}" if found else _quoted(key, value)


def _shown(text: str) -> str:
    return repr(text) if re.search(_NO_TEXT, text) is None else ascii(text)


def _quoted(key: str, value: str) -> str:
    """What to say of a value that is no more than text."""
    return f"text with brackets or commas takes two pairs of quotes: {as_text(key, value)}"


def as_text(key: str, value: str) -> str:
    """How a value that is no more than text, whatever is in it, is written in a shell."""
    inner = _hydras_quotes(value)
    return shlex.quote(f"{key}={inner}") if re.search(r'["$`!]|\\(?!\')', inner) else f'{key}="{inner}"'


def _hydras_quotes(text: str) -> str:
    from hydra.core.override_parser.types import Quote, QuotedString

    return str(QuotedString(text, Quote.single).with_quotes())
