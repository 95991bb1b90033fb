"""Every error a user can cause: one line that says what happened, what was expected and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class ExpfwError(Exception):
    """An error a user can cause and mend; shown as one line, without a traceback, exit code 2."""


class ConfigError(ExpfwError):
    """The composed configuration is not one that can run."""


class PluginError(ExpfwError):
    """A plugin is absent, cannot be loaded or breaks its contract."""


class DataError(ExpfwError):
    """A data file, or what a dataset plugin made of it, is not what it should be."""


class RunsFolderError(ExpfwError):
    """The folder for runs cannot be used."""


class JournalError(ExpfwError):
    """A journal, ledger or saved model cannot be read."""


class NotFoundError(ExpfwError):
    """No run, sweep or plugin of that name."""


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """Returns `` Did you mean 'x'?`` for the closest of `choices`, or an empty string."""
    close = difflib.get_close_matches(word, list(choices), n=1, cutoff=0.55)
    return f" Did you mean {close[0]!r}?" if close else ""
