"""What to say of an override that Hydra cannot read."""

from __future__ import annotations

import re

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
    said = one_line(str(error).partition("\nSee https")[0])
    if unknown := re.search(r"Unknown function '(\w+)'", said):
        there_are = ", ".join(f"{name}(...)" for name in _EXAMPLES)
        suggestion = did_you_mean(unknown[1], _EXAMPLES)
        return f"{override}: there is no {unknown[1]}(...).{suggestion} There are: {there_are}; {_quoted(key, value)}"
    reason = (
        one_line(str(error.__cause__))
        if error.__cause__
        else said.removeprefix(f"Error parsing override {override!r} ")
    )
    if (called := re.search(r"while evaluating '(\w+)\(", said)) and called[1] in _EXAMPLES:
        return f"{override} cannot be read ({reason}); expected values, such as {key}={_EXAMPLES[called[1]]}"
    reason = reason.partition(" expecting ")[0]  # what follows is for who knows the grammar
    if not value:
        return f"{override} cannot be read ({reason}); expected KEY=VALUE"
    return f"{override} cannot be read ({reason}); {_quoted(key, value)}"


def _quoted(key: str, value: str) -> str:
    """How a value that is no more than text is written in a shell."""
    return f"text with brackets or commas takes two pairs of quotes: {key}=\"'{value}'\""
