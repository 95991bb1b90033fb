"""`--help`: examples and line lengths."""

import re

import click
import pytest
from support.commands import COMMANDS, HYDRA_COMMANDS

from expfw.cli import hydra_arguments
from expfw.plugins.catalogue import get_catalogue


@pytest.mark.parametrize("path", COMMANDS)
def test_help_has_an_example_and_fits(path, capsys):
    command, context = COMMANDS[path]
    text = command.get_help(context)
    if command.name in HYDRA_COMMANDS and path == f"expfw {command.name}":
        hydra_arguments.show_help(
            command.name, get_catalogue(), hydra_arguments.parse_arguments(["--help"], command.name)
        )
        text = capsys.readouterr().out
        assert all(f"expfw {command.name} " in line for line in text.splitlines() if line.startswith("  expfw"))
    assert f"  {path} " in text or f"  {path}\n" in text or f"  {path.replace('expfw', 'expfw -p mine.py')}" in text
    assert [line for line in text.splitlines() if len(line) > 80] == []
    examples = [line for line in text.splitlines() if line.startswith("  expfw ")]
    assert [
        line for line in examples if re.search(r"\S {2,}(?!# )\S", line)
    ] == []  # pasted prose would become arguments


@pytest.mark.parametrize("path", [path for path, (command, _) in COMMANDS.items() if isinstance(command, click.Group)])
def test_short_help_is_not_truncated(path):
    command, context = COMMANDS[path]
    assert [
        line for line in command.get_help(context).splitlines() if line.endswith("...") and "Usage" not in line
    ] == []
