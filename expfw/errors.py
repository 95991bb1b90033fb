"""Every error a user can cause: one line that says what happened, what was expected and what to do."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable


class ExpfwError(Exception):
    """An error a user can cause and mend; shown as one line, without a traceback."""

    exit_code = 2

    def __str__(self) -> str:
        return to_one_line(super().__str__())


class ConfigError(ExpfwError):
    """The composed configuration is not one that can run."""


class PluginError(ExpfwError):
    """A plugin is absent, cannot be loaded or breaks its contract."""


class DataError(ExpfwError):
    """A data file, or what a dataset plugin made of it, is not what it should be."""


class RunsFolderError(ExpfwError):
    """The folder for runs cannot be used; in the middle of a run with the exit code of a run that failed."""


class JournalError(ExpfwError):
    """A journal, ledger or saved model cannot be read."""


class NotFoundError(ExpfwError):
    """No run, sweep or plugin of that name."""


class TrainingError(ExpfwError):
    """The training itself went wrong, whatever was asked for: a loss that is no number, a process that died."""

    exit_code = 1


class ApiWarning(FutureWarning):
    """A plugin uses what goes away with the next API; says until when, and what to use instead."""


def to_one_line(text: str) -> str:
    """Any text on a single line, without colours."""
    return " ".join(re.sub(r"\x1b\[[0-9;]*m", "", text).split())


def truncate_text(text: str, max_length: int) -> str:
    """The beginning of a text, cut between words, `max_length` characters at most."""
    cut = text[: max_length - 3]
    return text if len(text) <= max_length else (cut.rpartition(" ")[0] or cut) + "..."


def truncate_start(text: str, max_length: int) -> str:
    """The end of a text, cut between words, `max_length` characters at most."""
    cut = text[3 - max_length :]
    return text if len(text) <= max_length else "..." + (cut.partition(" ")[2] or cut)


def did_you_mean(word: str, choices: Iterable[str], prefix: str = "") -> str:
    """Returns `` Did you mean 'x'?`` for the closest of `choices`, or an empty string.

    Args:
        prefix: of what is shown, before the choice.
    """
    close = difflib.get_close_matches(word, list(choices), n=1, cutoff=0.55)
    return f" Did you mean {prefix + close[0]!r}?" if close else ""
