"""Quoting of typed overrides for Hydra's grammar, and explanations of parse errors."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from itertools import accumulate

from expfw.config.overrides import quote_text
from expfw.errors import ConfigError, did_you_mean, to_one_line, truncate_text
from expfw.redaction import redact_overrides

_FUNCTION_CALLS = (
    *("choice(1,2)", "range(1,10,2)", "interval(0.1,1)", "tag(log,interval(1e-4,1e-1))", "int(interval(4,64))"),
    *("float(1,2)", "str(1,2)", "bool(0,1)", "sort(3,1,2)", "shuffle(1,2,3)", "glob(mlp*)"),
)
_FUNCTION_EXAMPLES = {call.partition("(")[0]: call for call in _FUNCTION_CALLS}
"""Functions that a value may call, each with an example."""
_MAX_DEPTH = 20
_NEEDS_QUOTES = r"[^\x00-\x7f\ud800-\udfff]|[#!&;<>^`~]"
"""Characters that Hydra accepts only in quotes."""
_INVALID_CHARACTER = r"[\x00-\x08\n-\x1f\x7f\ud800-\udfff]"
_QUOTED_TEXT = re.compile(r"""[ \t]*(?:'(?:\\.|[^\\'])*'|"(?:\\.|[^\\"])*")(?=[ \t]*(?:[,\])}]|$))""", re.DOTALL)
_DICT_KEY = re.compile(r"[^:,\[\](){}]*:[ \t]*")
_PLAIN_TEXT = re.compile(r"(?:\$\{[^}]+\}|\\.|[^,\[\](){}])+")
_ESCAPED_CHARACTER = r"\\([\\()\[\]{}:=, \t])"


def quote_overrides(overrides: Sequence[str]) -> list[str]:
    """Quotes overrides so that Hydra's grammar can parse them; their meaning does not change.

    Text with characters that the grammar accepts only in quotes, such as an ö, is quoted. Commas, brackets and braces
    keep their meaning. `${...}` works in quotes, too. `retry(2)` is quoted because the grammar has no such function.

    >>> quote_overrides(["name=é,ü", "+tags.who=[Jörg, Ann]", "dataset.path='/tmp/ä'", "model.units=32,64"])
    ["name='é','ü'", "+tags.who=['Jörg', Ann]", "dataset.path='/tmp/ä'", 'model.units=32,64']
    """
    quoted_overrides = []
    for typed_override in overrides:
        if max(accumulate((c in "[({") - (c in "])}") for c in typed_override), default=0) > _MAX_DEPTH:
            text = truncate_text(typed_override, 80)
            raise ConfigError(f"{text} has too many brackets; expected values nested at most {_MAX_DEPTH} times")
        override = re.sub(r"^(sweep\.on_failure=)([^']*\([^']*\))$", r"\1'\2'", typed_override)
        key, equals, value = override.partition("=")
        needs_quotes = equals and re.search(_NEEDS_QUOTES, value)
        quoted_overrides.append(f"{key}={''.join(_quote_pieces(value))}" if needs_quotes else override)
    return quoted_overrides


def _quote_pieces(value: str) -> Iterator[str]:
    """Yields the parts of a value in order: marks, dictionary keys, quoted text, and other text, quoted if needed."""
    position, open_brackets, expects_key = 0, "", False
    while position < len(value):
        character = value[position]
        match = (_DICT_KEY.match(value, position) if expects_key else None) or _QUOTED_TEXT.match(value, position)
        if match is not None:
            yield match[0]
            expects_key = False
        elif match := _PLAIN_TEXT.match(value, position):
            text = match[0].strip(" \t")
            needs_quotes = re.search(_NEEDS_QUOTES, re.sub(r"\$\{[^}]+\}", "", text))
            is_quoted = text[:1] in ("'", '"', "~") or "=" in text  # or partly quoted, or a named argument
            if not needs_quotes or is_quoted or re.search(_INVALID_CHARACTER, text):
                yield match[0]
            else:
                yield quote_text(re.sub(_ESCAPED_CHARACTER, r"\1", text), "'")
        else:
            if character != ",":
                open_brackets = open_brackets + character if character in "[({" else open_brackets[:-1]
            expects_key = character in "{," and open_brackets.endswith("{")
            yield character
        position = position + 1 if match is None else match.end()


def find_typed_override(override: str, overrides: Sequence[str]) -> str:
    """Returns the typed override that `quote_overrides` converted to `override`; otherwise `override` itself."""
    return next((candidate for candidate in overrides if quote_overrides([candidate]) == [override]), override)


def explain_parse_error(override: str, error: Exception) -> str:
    """Explains an error of Hydra's parser: the override as typed, the error and how to fix it."""
    key, equals, value = override.partition("=")
    if not equals:
        return f"{override} has no value; expected KEY=VALUE"
    quotes = f"text with brackets or commas needs two pairs of quotes: {quote_for_shell(key, value)}"
    if redact_overrides([override]) != [override]:  # the parser quotes parts of the value
        return f"{key}=... cannot be parsed; text with brackets, commas or quotes needs {key}=\"'...'\""
    if "LexerNoViableAlt" in str(error):
        reason = quotes
        if invalid := re.search(rf"{_NEEDS_QUOTES}|{_INVALID_CHARACTER}|[^\w.~+@/$:-]", key):
            reason = f"the key {key!r} contains {invalid[0]!r}; expected letters a-z, digits, _ and dots"
        elif value.startswith("~"):
            reason = f"a ~ after = is not expanded; write the full path: {key}=$HOME{value[1:]}"
        elif invalid := re.search(_INVALID_CHARACTER, value):
            reason = f"the value contains {invalid[0]!a}; expected UTF-8 text on one line"
        elif quote := re.search(r"['\"]", value):
            reason = f"the quote {quote[0]} is not closed; for a quote in text write {quote_for_shell(key, value)}"
        elif "{" in value and (special := re.search(_NEEDS_QUOTES, value)):
            reason = f"a dictionary key contains {special[0]}; expected letters a-z, digits and _"
        return f"{override} cannot be parsed: {reason}"
    message = to_one_line(str(error).partition("\nSee https")[0])
    if unknown := re.search(r"Unknown function '(\w+)'", message):
        functions = ", ".join(f"{name}(...)" for name in _FUNCTION_EXAMPLES)
        suggestion = did_you_mean(unknown[1], _FUNCTION_EXAMPLES)
        return f"{override}: unknown function {unknown[1]}(...).{suggestion} Available: {functions}; {quotes}"
    reason = to_one_line(str(error.__cause__ or message))
    reason = reason.removeprefix(f"Error parsing override '{getattr(error, 'override', override)}' ")
    if (failed_call := re.search(r"while evaluating '(\w+)\(", message)) and failed_call[1] in _FUNCTION_EXAMPLES:
        advice = f"expected values, such as {key}={_FUNCTION_EXAMPLES[failed_call[1]]}"
    else:
        reason = reason.partition(" expecting ")[0]  # the rest helps only readers who know the grammar
        advice = quotes if value else "expected KEY=VALUE"
    return f"{override} cannot be parsed ({reason}); {advice}"


def quote_for_shell(key: str, value: str) -> str:
    """Returns an override with a plain text value, with any characters, as typed in a shell."""
    quoted_value = quote_text(value, "'")
    if re.search(r'["$`!]|\\(?!\')', quoted_value):
        return shlex.quote(f"{key}={quoted_value}")
    return f'{key}="{quoted_value}"'
