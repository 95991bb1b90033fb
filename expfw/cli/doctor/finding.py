"""The result of one check."""

from __future__ import annotations

from dataclasses import dataclass

OK, NOTE, PROBLEM = "ok", "note", "problem"


@dataclass(frozen=True)
class Finding:
    """Result of one check.

    Attributes:
        subject: subject of the check, one or two words.
        text: result, one line.
        ok: whether a run can train despite this result.
        advice: how to fix the problem; if `ok` is true, a hint.
    """

    subject: str
    text: str
    ok: bool = True
    advice: str = ""

    @property
    def mark(self) -> str:
        """`ok`, `note` or `problem`."""
        return PROBLEM if not self.ok else NOTE if self.advice else OK
