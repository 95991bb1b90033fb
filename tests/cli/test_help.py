"""`--help`: examples and line lengths."""

import re

import click
import pytest
from support.commands import COMMANDS


@pytest.mark.parametrize("path", COMMANDS)
def test_help_has_an_example_and_fits(path):
    command, context = COMMANDS[path]
    text = command.get_help(context)
    assert f"  {path} " in text or f"  {path}\n" in text or f"  {path.replace('expfw', 'expfw -p mine.py')}" in text
    assert [line for line in text.splitlines() if len(line) > 80] == []
    examples = [line for line in text.splitlines() if line.startswith("  expfw ")]
    assert all(line.startswith(("  expfw -p ", f"  {path}")) for line in examples)
    # pasted prose would become arguments
    assert [line for line in examples if re.search(r"\S {2,}(?!# )\S", line)] == []


@pytest.mark.parametrize("path", [path for path, (command, _) in COMMANDS.items() if isinstance(command, click.Group)])
def test_short_help_is_not_truncated(path):
    command, context = COMMANDS[path]
    assert [
        line for line in command.get_help(context).splitlines() if line.endswith("...") and "Usage" not in line
    ] == []
