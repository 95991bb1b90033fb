"""All errors that a user can cause: one line with the problem, the expected value and the fix."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

from expfw.redaction import redact_text

_MAX_LENGTH = 1000
"""Characters of an error: a message may quote a value of any length."""


class ExpfwError(Exception):
    """An error that a user can cause and fix; printed as one line, without a traceback."""

    exit_code = 2

    def __str__(self) -> str:
        return to_error_text(super().__str__())


class ConfigError(ExpfwError):
    """The configuration is invalid."""


class UnknownOptionError(ConfigError):
    """The configuration contains an unknown option; `key` is its dotted key."""

    key = ""


class PluginError(ExpfwError):
    """A plugin is missing, cannot be loaded or violates its contract."""


class TrustError(PluginError):
    """A record names code that may not run without the user's consent; `files` are its plugin files, for `-p`."""

    files: tuple[str, ...] = ()


class DataError(ExpfwError):
    """A data file, or the result of a dataset plugin, is invalid."""


class RunsFolderError(ExpfwError):
    """The runs folder cannot be read or written. If raised during a run, the exit code is that of a failed run."""


class JournalError(ExpfwError):
    """A journal, ledger or saved model cannot be read."""


class NotFoundError(ExpfwError):
    """No such run, sweep or plugin."""


class TrainingError(ExpfwError):
    """The training failed with a valid configuration: the loss is not finite, or a process died."""

    exit_code = 1


class ApiWarning(FutureWarning):
    """A plugin uses a deprecated part of the API; the text names the replacement and the API version of the removal."""


def to_one_line(text: str) -> str:
    """Joins the lines of a text, removes colours and hides secrets."""
    return " ".join(redact_text(to_printable(re.sub(r"\x1b\[[0-9;]*m", "", text))).split())


def to_printable(text: str) -> str:
    """Escapes characters that control a terminal or cannot be written: records and file names may contain any."""
    escaped = (c if c.isprintable() or c.isspace() else ascii(c)[1:-1] for c in text)
    return text if text.isprintable() else "".join(escaped)


def to_error_text(text: str) -> str:
    """Returns a text in one line; of a long one, without its middle: the end often says what to do."""
    line = to_one_line(text)
    half = _MAX_LENGTH // 2
    return line if len(line) <= _MAX_LENGTH else truncate_text(line, half) + truncate_start(line, half)[3:]


def truncate_text(text: str, max_length: int) -> str:
    """Returns the beginning of a text, at most `max_length` characters, cut between words."""
    cut = text[: max_length - 3]
    return text if len(text) <= max_length else (cut.rpartition(" ")[0] or cut) + "..."


def truncate_start(text: str, max_length: int) -> str:
    """Returns the end of a text, at most `max_length` characters, cut between words."""
    cut = text[3 - max_length :]
    return text if len(text) <= max_length else "..." + (cut.partition(" ")[2] or cut)


def did_you_mean(word: str, choices: Iterable[str], prefix: str = "") -> str:
    """Returns `` Did you mean 'x'?`` for the closest of `choices`, with `prefix` before it, or an empty string."""
    close = difflib.get_close_matches(word, list(choices), n=1, cutoff=0.55)
    return f" Did you mean {prefix + close[0]!r}?" if close else ""


def list_choices(word: str, choices: Iterable[str], prefix: str = "") -> str:
    """Returns `` Did you mean 'x'? Available: x, y`` for the end of an error about an unknown name."""
    names = list(choices)
    return f"{did_you_mean(word, names, prefix)} Available: {', '.join(names) or 'none'}"
