"""Completion candidates at the end of a command line, with their help. Imports no framework."""

from __future__ import annotations

import logging
import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain, pairwise
from pathlib import Path

import click

from expfw.api.data import SPLITS
from expfw.cli.completion.overrides import complete_override, takes_text
from expfw.cli.completion.shells import Candidate, trim_candidates
from expfw.cli.runs.clean.rules import STATUSES
from expfw.errors import ExpfwError
from expfw.plugins.catalogue import Catalogue, get_catalogue
from expfw.plugins.docstrings import read_first_sentence
from expfw.plugins.kinds import KINDS
from expfw.tracking.workspace import Workspace

HYDRA_COMMANDS = ("run", "sweep", "show")
"""Commands whose arguments are Hydra's."""
_FLAGS = {
    "--cfg": "Print the configuration (job, hydra, all) and exit.",
    "--info": "Print Hydra's search path, defaults and plugins, and exit.",
    "--json": "Print the result as JSON.",
    "--help": "Show examples, choices and options.",
    "-cn": "Use another root configuration.",
    "-cd": "Add a folder of configurations.",
}
_PLAN_FLAGS = {
    "--plan": "List the trials without running them.",
    "--build": "With --plan: also build each distinct model.",
    "--all": "With --plan: list every trial.",
}
_ID_KINDS = {"runs": ("runs",), "sweeps": ("sweeps",), "ui": ("sweeps", "runs")}
_RUN_AND_SWEEP_COMMANDS = ("sync", "clean", "compare")  # commands `runs ...` that also accept sweeps


@dataclass
class _CommandLine:
    """A command line up to the cursor.

    Attributes:
        command: the named command.
        word: the unfinished last word.
        command_path: names of the command and its groups.
        arguments: words after the command, without the last word.
        files: plugin files given with `-p`.
    """

    command: click.Command
    word: str
    command_path: list[str] = field(default_factory=list)
    arguments: list[str] = field(default_factory=list)
    files: tuple[str, ...] = ()

    @property
    def catalogue(self) -> Catalogue:
        """Plugins that the command finds."""
        return get_catalogue(self.files)


def complete_line(shell: str, line: str, main: click.Group) -> list[Candidate]:
    """Returns the candidates for the last word of a line, in the form that the shell expects.

    Never prints, because the user is typing. A line that cannot be parsed has no candidates.
    """
    logging.disable()
    try:
        command_line = _parse_line(line, main)
        candidates = [
            candidate for candidate in _find_candidates(command_line) if candidate.value.startswith(command_line.word)
        ]
    except (ExpfwError, OSError, ValueError):
        return []
    finally:
        logging.disable(logging.NOTSET)
    return trim_candidates(shell, command_line.word, list(dict.fromkeys(candidates)))


def takes_files(line: str, main: click.Group) -> bool:
    """Whether the last word of a line may be a file or folder."""
    logging.disable()
    try:
        return _takes_files(_parse_line(line, main), main)
    except (ExpfwError, OSError, ValueError):
        return True  # the line cannot be parsed
    finally:
        logging.disable(logging.NOTSET)


def _takes_files(command_line: _CommandLine, main: click.Group) -> bool:
    previous_word = command_line.arguments[-1] if command_line.arguments else ""
    if command_line.command is main:
        return previous_word in ("-p", "--plugin")
    if "=" in command_line.word or (
        command_line.command_path[0] in HYDRA_COMMANDS and previous_word not in ("-cd", "--config-dir")
    ):
        return takes_text(command_line.word, command_line.arguments, command_line.catalogue)
    option = next(
        (p for p in command_line.command.params if isinstance(p, click.Option) and previous_word in p.opts), None
    )
    if option is not None and not option.is_flag:
        return isinstance(option.type, click.Path)
    return command_line.command_path[0] in HYDRA_COMMANDS or any(
        isinstance(argument.type, click.Path) for argument in _list_arguments(command_line.command)
    )


def _list_arguments(command: click.Command) -> Iterator[click.Argument]:
    return (parameter for parameter in command.params if isinstance(parameter, click.Argument))


def _parse_line(line: str, main: click.Group) -> _CommandLine:
    words = _split_words(line)
    command_line = _CommandLine(main, words.pop() if words else "")
    queue = words[1:]
    while queue:
        word = queue.pop(0)
        if command_line.command is main and word in ("-p", "--plugin") and queue:
            command_line.files += tuple(name for name in [queue.pop(0)] if not name.startswith("no:"))
        elif isinstance(command_line.command, click.Group) and word in command_line.command.commands:
            command_line.command = command_line.command.commands[word]
            command_line.command_path.append(word)
        else:
            command_line.arguments.append(word)
    return command_line


def _split_words(line: str) -> list[str]:
    """Splits a line into words; the last word is unfinished, or empty after a space; a quote may be open."""
    for closing in ("", "'", '"'):
        try:
            words = shlex.split(line + closing)
        except ValueError:
            continue
        return [*words, ""] if not line or (line[-1].isspace() and not closing) else words
    return line.split(" ")


def _find_candidates(command_line: _CommandLine) -> Iterable[Candidate]:
    if isinstance(command_line.command, click.Group):
        commands = [
            Candidate(name, command.get_short_help_str(70)) for name, command in command_line.command.commands.items()
        ]
        return chain(commands, _list_options(command_line.command))
    if command_line.command_path[0] in HYDRA_COMMANDS:
        return _complete_hydra_word(command_line)
    previous_word = command_line.arguments[-1] if command_line.arguments else ""
    option = next(
        (p for p in command_line.command.params if isinstance(p, click.Option) and previous_word in p.opts), None
    )
    if option is not None and not option.is_flag:
        return (
            _list_comma_separated_values(option, command_line)
            if str(option.name) == "status"
            else _list_values(option, command_line)
        )
    if command_line.word.startswith("-"):
        return _list_options(command_line.command)
    return _complete_argument(command_line)


def _complete_hydra_word(command_line: _CommandLine) -> Iterable[Candidate]:
    if command_line.word.startswith("-"):
        flags = _FLAGS | (_PLAN_FLAGS if command_line.command_path[0] == "sweep" else {})
        return (Candidate(flag, description) for flag, description in flags.items())
    if command_line.arguments and command_line.arguments[-1] in ("--cfg", "-c"):
        return (Candidate(value, "") for value in ("job", "hydra", "all"))
    return complete_override(command_line.word, command_line.arguments, command_line.catalogue)


def _list_options(command: click.Command) -> Iterator[Candidate]:
    for option in command.params:
        if isinstance(option, click.Option):
            yield Candidate(option.opts[-1], (option.help or "").split(". ")[0])
    yield Candidate("--help", "Show examples and options.")


def _list_values(option: click.Parameter, command_line: _CommandLine) -> Iterator[Candidate]:
    """Lists the values of an option or argument that has a fixed set of values."""
    choices_by_option: Mapping[str, Callable[[], Iterable[str]]] = {
        "kind": lambda: KINDS,
        "split": lambda: SPLITS,
        "status": lambda: map(str.lower, STATUSES),
        "format_": lambda: _list_export_formats(command_line.catalogue),
    }
    choices = (
        option.type.choices
        if isinstance(option.type, click.Choice)
        else choices_by_option.get(str(option.name), tuple)()
    )
    return (Candidate(str(choice), "") for choice in choices)


def _list_comma_separated_values(option: click.Parameter, command_line: _CommandLine) -> Iterator[Candidate]:
    """Lists the values of an option with comma-separated values."""
    previous_values, comma, _ = command_line.word.rpartition(",")
    return (
        Candidate(f"{previous_values}{comma}{candidate.value}", candidate.help)
        for candidate in _list_values(option, command_line)
        if candidate.value not in previous_values.split(",")
    )


def _list_export_formats(catalogue: Catalogue) -> Iterator[str]:
    """Lists the export formats of all usable backends and models."""
    for entry in (*catalogue.entries["backend"], *catalogue.entries["model"]):
        if catalogue.find_problem(entry) is None:
            with suppress(ExpfwError):
                yield from entry.load().export_formats


def _complete_argument(command_line: _CommandLine) -> Iterable[Candidate]:
    group, name = command_line.command_path[0], command_line.command_path[-1]
    if group == "plugins" and name in ("show", "check"):
        entries_by_kind = command_line.catalogue.entries
        return (
            Candidate(entry.name, f"{kind}: {read_first_sentence(entry)}")
            for kind in KINDS
            for entry in entries_by_kind[kind]
        )
    for argument in command_line.command.params:
        if isinstance(argument, click.Argument) and isinstance(argument.type, click.Choice):
            return _list_values(argument, command_line)
    kinds = _ID_KINDS.get(group, ())
    if group == "runs" and name in _RUN_AND_SWEEP_COMMANDS:
        kinds = ("runs", "sweeps")
    if not any(isinstance(entry, click.Argument) for entry in command_line.command.params):
        return ()
    if "=" in command_line.word or (name in ("resume", "evaluate") and command_line.arguments and group == "runs"):
        return complete_override(command_line.word, command_line.arguments, command_line.catalogue)
    return _list_ids(kinds, Workspace(_find_runs_dir(command_line.arguments), command_line.catalogue))


def _find_runs_dir(words: Sequence[str]) -> Path:
    runs_dirs = [next_word for word, next_word in pairwise(words) if word == "--runs-dir"]
    runs_dirs += [word.split("=", 1)[1] for word in words if re.match(r"(--runs-dir|runs_dir)=", word)]
    return Path(runs_dirs[-1] if runs_dirs else "runs").absolute()


def _list_ids(kinds: Sequence[str], workspace: Workspace) -> Iterator[Candidate]:
    """Lists the IDs of runs or sweeps, newest first."""
    for kind in kinds:
        for entry in getattr(workspace, f"list_{kind}")():
            yield Candidate(entry.id, f"{entry.status} {entry.name}")
