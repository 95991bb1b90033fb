"""Completion of a command line: what may stand where the cursor is, each with a word of help. Imports no framework."""

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
from expfw.cli.completion.overrides import override_values, takes_text
from expfw.cli.completion.shells import Candidate, trimmed
from expfw.cli.runs.clean.rules import STATUSES
from expfw.errors import ExpfwError
from expfw.plugins.catalogue import catalogue
from expfw.plugins.docstrings import about
from expfw.plugins.kinds import KINDS
from expfw.tracking import run_index

COMPOSING = ("run", "sweep", "show")
"""Commands whose words are Hydra's."""
_FLAGS = {
    "--cfg": "print the configuration (job, hydra, all)",
    "--info": "Hydra's view of it",
    "--json": "the result for programs",
    "--help": "choices, flags, examples",
    "-cn": "another root of the configuration",
    "-cd": "a further folder of configurations",
}
_PLAN_FLAGS = {
    "--plan": "list the trials, start none",
    "--build": "with --plan: parameters, memory, time",
    "--all": "with --plan: every trial",
}
_IDS = {"runs": ("runs",), "sweeps": ("sweeps",), "ui": ("sweeps", "runs")}
_OF_BOTH = ("sync", "clean", "compare")  # of the commands about runs, those that take sweeps, too


@dataclass
class _Typed:
    """A command line up to the cursor.

    Attributes:
        command: the one that is named; path: its words; rest: what follows it; word: the unfinished last one.
        files: plugin files given with `-p`.
    """

    command: click.Command
    word: str
    path: list[str] = field(default_factory=list)
    rest: list[str] = field(default_factory=list)
    files: tuple[str, ...] = ()


def completed(shell: str, line: str, main: click.Group) -> list[Candidate]:
    """What may stand at the end of the line, as that shell wants it.

    Nothing is ever printed into what the user types: a line that cannot be understood has no completions.
    """
    logging.disable()
    try:
        typed = _typed(line, main)
        found = [one for one in _candidates(typed) if one.value.startswith(typed.word)]
    except (ExpfwError, OSError, ValueError):
        return []
    finally:
        logging.disable(logging.NOTSET)
    return trimmed(shell, typed.word, list(dict.fromkeys(found)))


def takes_files(line: str, main: click.Group) -> bool:
    """Whether a file, or a folder, may stand at the end of the line."""
    logging.disable()
    try:
        return _takes_files(_typed(line, main), main)
    except (ExpfwError, OSError, ValueError):
        return True  # it is not understood
    finally:
        logging.disable(logging.NOTSET)


def _takes_files(typed: _Typed, main: click.Group) -> bool:
    before = typed.rest[-1] if typed.rest else ""
    if typed.command is main:
        return before in ("-p", "--plugin")
    if "=" in typed.word or (typed.path[0] in COMPOSING and before not in ("-cd", "--config-dir")):
        return takes_text(typed.word, typed.rest, typed.files)
    option = next((p for p in typed.command.params if isinstance(p, click.Option) and before in p.opts), None)
    if option is not None and not option.is_flag:
        return isinstance(option.type, click.Path)
    return typed.path[0] in COMPOSING or any(isinstance(one.type, click.Path) for one in _words_of(typed.command))


def _words_of(command: click.Command) -> Iterator[click.Argument]:
    return (one for one in command.params if isinstance(one, click.Argument))


def _typed(line: str, main: click.Group) -> _Typed:
    words = _words(line)
    typed = _Typed(main, words.pop() if words else "")
    queue = words[1:]
    while queue:
        word = queue.pop(0)
        if typed.command is main and word in ("-p", "--plugin") and queue:
            typed.files += tuple(name for name in [queue.pop(0)] if not name.startswith("no:"))
        elif isinstance(typed.command, click.Group) and word in typed.command.commands:
            typed.command = typed.command.commands[word]
            typed.path.append(word)
        else:
            typed.rest.append(word)
    return typed


def _words(line: str) -> list[str]:
    """The words of a line, the last one being unfinished, empty behind a space; a quote may be open."""
    for closing in ("", "'", '"'):
        try:
            words = shlex.split(line + closing)
        except ValueError:
            continue
        return [*words, ""] if not line or (line[-1].isspace() and not closing) else words
    return line.split(" ")


def _candidates(typed: _Typed) -> Iterable[Candidate]:
    if isinstance(typed.command, click.Group):
        commands = [Candidate(name, one.get_short_help_str(70)) for name, one in typed.command.commands.items()]
        return chain(commands, _options(typed.command))
    if typed.path[0] in COMPOSING:
        return _of_composing(typed)
    before = typed.rest[-1] if typed.rest else ""
    option = next((p for p in typed.command.params if isinstance(p, click.Option) and before in p.opts), None)
    if option is not None and not option.is_flag:
        return _several(option, typed) if str(option.name) == "status" else _values(option, typed)
    if typed.word.startswith("-"):
        return _options(typed.command)
    return _arguments(typed)


def _of_composing(typed: _Typed) -> Iterable[Candidate]:
    if typed.word.startswith("-"):
        flags = _FLAGS | (_PLAN_FLAGS if typed.path[0] == "sweep" else {})
        return (Candidate(flag, about) for flag, about in flags.items())
    if typed.rest and typed.rest[-1] in ("--cfg", "-c"):
        return (Candidate(one, "") for one in ("job", "hydra", "all"))
    return override_values(typed.word, typed.rest, typed.files)


def _options(command: click.Command) -> Iterator[Candidate]:
    for option in command.params:
        if isinstance(option, click.Option):
            yield Candidate(option.opts[-1], (option.help or "").split(". ")[0])
    yield Candidate("--help", "examples, options")


def _values(option: click.Parameter, typed: _Typed) -> Iterator[Candidate]:
    """What an option or argument may be, where there are few of it."""
    known: Mapping[str, Callable[[], Iterable[str]]] = {
        "kind": lambda: KINDS,
        "split": lambda: SPLITS,
        "status": lambda: map(str.lower, STATUSES),
        "format_": lambda: _formats(typed.files),
    }
    choices = option.type.choices if isinstance(option.type, click.Choice) else known.get(str(option.name), tuple)()
    return (Candidate(str(choice), "") for choice in choices)


def _several(option: click.Parameter, typed: _Typed) -> Iterator[Candidate]:
    """The same where commas separate some of them."""
    there, comma, _ = typed.word.rpartition(",")
    return (
        Candidate(f"{there}{comma}{one.value}", one.help)
        for one in _values(option, typed)
        if one.value not in there.split(",")
    )


def _formats(files: tuple[str, ...]) -> Iterator[str]:
    """What backends and models export to, as far as they can be used."""
    known = catalogue(files)
    for found in (*known.found["backend"], *known.found["model"]):
        if known.trouble(found) is None:
            with suppress(ExpfwError):
                yield from found.load().export_formats


def _arguments(typed: _Typed) -> Iterable[Candidate]:
    group, name = typed.path[0], typed.path[-1]
    if group == "plugins" and name in ("show", "check"):
        found = catalogue(typed.files).found
        return (Candidate(one.name, f"{kind}: {about(one)}") for kind in KINDS for one in found[kind])
    for argument in typed.command.params:
        if isinstance(argument, click.Argument) and isinstance(argument.type, click.Choice):
            return _values(argument, typed)
    kinds = _IDS.get(group, ())
    if group == "runs" and name in _OF_BOTH:
        kinds = ("runs", "sweeps")
    if not any(isinstance(one, click.Argument) for one in typed.command.params):
        return ()
    if "=" in typed.word or (name in ("resume", "evaluate") and typed.rest and group == "runs"):
        return override_values(typed.word, typed.rest, typed.files)
    return _identities(kinds, _runs_dir(typed.rest))


def _runs_dir(words: Sequence[str]) -> Path:
    given = [after for word, after in pairwise(words) if word == "--runs-dir"]
    given += [word.split("=", 1)[1] for word in words if re.match(r"(--runs-dir|runs_dir)=", word)]
    return Path(given[-1] if given else "runs").absolute()


def _identities(kinds: Sequence[str], runs_dir: Path) -> Iterator[Candidate]:
    """Ids, newest first."""
    for kind in kinds:
        for entry in getattr(run_index, kind)(runs_dir):
            yield Candidate(entry.id, f"{entry.status} {entry.name}")
