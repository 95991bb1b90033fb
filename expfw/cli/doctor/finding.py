"""One thing that was looked at."""

from __future__ import annotations

from dataclasses import dataclass

OK, NOTE, PROBLEM = "ok", "note", "problem"


@dataclass(frozen=True)
class Finding:
    """What was found.

    Attributes:
        about: what was looked at, in a word or two.
        what: what was found, in one line.
        fit: whether a training can do with it.
        remedy: what to do; of something that is fit, what to know.
    """

    about: str
    what: str
    fit: bool = True
    remedy: str = ""

    @property
    def mark(self) -> str:
        """`ok`, `note` or `problem`."""
        return PROBLEM if not self.fit else NOTE if self.remedy else OK
