"""Values beside what was expected of them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One value, beside what was expected of it; all as they are printed."""

    what: str
    expected: str
    got: str
    difference: str
    met: bool


def near(what: str, got: float, expected: float, within: float, digits: int = 7) -> Row:
    return Row(
        what, f"{expected:.{digits}g} within {within:.2g}", f"{got:.{digits}g}", f"{got - expected:+.2g}",
        abs(got - expected) <= within,
    )  # fmt: skip


def between(what: str, got: float, low: float, high: float, digits: int = 4) -> Row:
    expected = f"{low:.{digits}g} to {high:.{digits}g}"
    outside = min(0.0, got - low) or max(0.0, got - high)
    return Row(what, expected, f"{got:.{digits}g}", f"{outside:+.2g}" if outside else "within", low <= got <= high)


def at_least(what: str, got: float, least: float, digits: int = 4) -> Row:
    return Row(what, f"at least {least:.{digits}g}", f"{got:.{digits}g}", f"{got - least:+.2g}", got >= least)


def at_most(what: str, got: float, most: float, digits: int = 4) -> Row:
    return Row(what, f"at most {most:.{digits}g}", f"{got:.{digits}g}", f"{got - most:+.2g}", got <= most)


def equal(what: str, got: object, expected: object) -> Row:
    words = {True: "yes", False: "no"}
    shown = [words[v] if isinstance(v, bool) else f"{v:,}" if isinstance(v, int) else str(v) for v in (expected, got)]
    return Row(what, *shown, "none" if got == expected else "other", got == expected)
