"""What Hydra's grammar can read: text is put into quotes where it needs them; what to say of the rest."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence

from expfw.errors import did_you_mean, to_one_line

_FUNCTION_EXAMPLES = {
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
_NEEDS_QUOTES = r"[^\x00-\x7f\ud800-\udfff]|[#!&;<>^`~]"
"""A character that Hydra takes in quotes only."""
_INVALID_CHARACTER = r"[\x00-\x08\n-\x1f\x7f\ud800-\udfff]"
_MARKS = "[({})],"
_QUOTED_TEXT = re.compile(r"""[ \t]*(?:'(?:\\.|[^\\'])*'|"(?:\\.|[^\\"])*")(?=[ \t]*(?:[,\])}]|$))""", re.DOTALL)
_DICT_KEY = re.compile(r"[^:,\[\](){}]*:[ \t]*")
_PLAIN_TEXT = re.compile(r"(?:\$\{[^}]+\}|\\.|[^,\[\](){}])+")
_ESCAPED_CHARACTER = r"\\([\\()\[\]{}:=, \t])"


def quote_overrides(overrides: Sequence[str]) -> list[str]:
    """These overrides as Hydra's grammar can read them, with the meaning that they have as they are typed.

    Text with characters that it knows in quotes only, such as an ö, is put into quotes; commas, brackets and braces
    mean what they always do, and `${...}` does in quotes, too.

    >>> quote_overrides(["name=é,ü", "+tags.who=[Jörg, Ann]", "dataset.path='/tmp/ä'", "model.units=32,64"])
    ["name='é','ü'", "+tags.who=['Jörg', Ann]", "dataset.path='/tmp/ä'", 'model.units=32,64']
    """
    return [_quote_override(override) for override in overrides]


def _quote_override(override: str) -> str:
    key, equals, value = override.partition("=")
    return f"{key}={''.join(_quote_pieces(value))}" if equals and re.search(_NEEDS_QUOTES, value) else override


def _quote_pieces(value: str) -> Iterator[str]:
    """What a value is made of, in order: marks, keys of dictionaries, quoted text, other text in quotes if need be."""
    position, open_brackets, expects_key = 0, "", False
    while position < len(value):
        character = value[position]
        match = (_DICT_KEY.match(value, position) if expects_key else None) or _QUOTED_TEXT.match(value, position)
        if match is not None:
            yield match[0]
            expects_key = False
        elif character in _MARKS:
            open_brackets = (
                open_brackets
                if character == ","
                else open_brackets + character
                if character in "[({"
                else open_brackets[:-1]
            )
            expects_key = character in "{," and open_brackets.endswith("{")
            yield character
        else:
            match = _PLAIN_TEXT.match(value, position)
            assert match is not None
            yield _quote_if_needed(match[0])
        position = position + 1 if match is None else match.end()


def _quote_if_needed(text: str) -> str:
    """Text as it is, or in quotes where it needs them and is text: nothing half quoted, no argument by name."""
    stripped = text.strip(" \t")
    needs_quotes = re.search(_NEEDS_QUOTES, re.sub(r"\$\{[^}]+\}", "", stripped))
    if not needs_quotes or stripped[0] in "'\"~" or "=" in stripped or re.search(_INVALID_CHARACTER, stripped):
        return text
    return _quote_for_hydra(re.sub(_ESCAPED_CHARACTER, r"\1", stripped))


def find_typed_override(override: str, overrides: Sequence[str]) -> str:
    """The one of these overrides that `quote_overrides` made this word of; where there is none, the word."""
    return next((candidate for candidate in overrides if quote_overrides([candidate]) == [override]), override)


def explain_parse_error(override: str, error: Exception) -> str:
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
        return f"{override} cannot be read: {_explain_character(override)}"
    message = to_one_line(str(error).partition("\nSee https")[0])
    if unknown := re.search(r"Unknown function '(\w+)'", message):
        functions = ", ".join(f"{name}(...)" for name in _FUNCTION_EXAMPLES)
        suggestion = did_you_mean(unknown[1], _FUNCTION_EXAMPLES)
        return (
            f"{override}: there is no {unknown[1]}(...).{suggestion} There are: {functions}; "
            f"{_suggest_quotes(key, value)}"
        )
    reason = (
        to_one_line(str(error.__cause__))
        if error.__cause__
        else message.removeprefix(f"Error parsing override '{getattr(error, 'override', override)}' ")
    )
    if (failed_call := re.search(r"while evaluating '(\w+)\(", message)) and failed_call[1] in _FUNCTION_EXAMPLES:
        return (
            f"{override} cannot be read ({reason}); expected values, such as {key}={_FUNCTION_EXAMPLES[failed_call[1]]}"
        )
    reason = reason.partition(" expecting ")[0]  # what follows is for who knows the grammar
    if not value:
        return f"{override} cannot be read ({reason}); expected KEY=VALUE"
    return f"{override} cannot be read ({reason}); {_suggest_quotes(key, value)}"


def _explain_character(override: str) -> str:
    """Which character of it Hydra does not take there, and what to do."""
    key, _, value = override.partition("=")
    if match := re.search(rf"{_NEEDS_QUOTES}|{_INVALID_CHARACTER}|[^\w.~+@/$:-]", key):
        return (
            f"there is {_format_text(match[0])} in the key {_format_text(key)}; a key has letters a-z, digits, _ and "
            "dots"
        )
    if value.startswith("~"):
        return f"nobody replaces the ~ behind =; write the folder in full: {key}=$HOME{value[1:]}"
    if match := re.search(_INVALID_CHARACTER, value):
        return f"there is {_format_text(match[0])} in it, which is no text; expected text in UTF-8, on one line"
    if match := re.search(r"['\"]", value):
        return f"there is {match[0]} without another one that closes it; {_suggest_quotes(key, value)}"
    if (match := re.search(_NEEDS_QUOTES, value)) and "{" in value:
        return f"there is {_format_text(match[0])} in a key of a dictionary; these have letters a-z, digits and _"
    return (
        f"{_format_text(match[0])} takes quotes there; {_suggest_quotes(key, value)}"
        if match
        else _suggest_quotes(key, value)
    )


def _format_text(text: str) -> str:
    return repr(text) if re.search(_INVALID_CHARACTER, text) is None else ascii(text)


def _suggest_quotes(key: str, value: str) -> str:
    """What to say of a value that is no more than text."""
    return f"text with brackets or commas takes two pairs of quotes: {quote_for_shell(key, value)}"


def quote_for_shell(key: str, value: str) -> str:
    """How a value that is no more than text, whatever is in it, is written in a shell."""
    quoted_value = _quote_for_hydra(value)
    return (
        shlex.quote(f"{key}={quoted_value}")
        if re.search(r'["$`!]|\\(?!\')', quoted_value)
        else f'{key}="{quoted_value}"'
    )


def _quote_for_hydra(text: str) -> str:
    from hydra.core.override_parser.types import Quote, QuotedString

    return str(QuotedString(text, Quote.single).with_quotes())
