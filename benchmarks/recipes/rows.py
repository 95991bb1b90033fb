"""Measured and expected values of a recipe."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """A measured value and its expected value, as text."""

    label: str
    expected: str
    actual: str
    difference: str
    is_met: bool


def check_near(label: str, actual: float, expected: float, tolerance: float, digits: int = 7) -> Row:
    return Row(
        label, f"{expected:.{digits}g} within {tolerance:.2g}", f"{actual:.{digits}g}", f"{actual - expected:+.2g}",
        abs(actual - expected) <= tolerance,
    )  # fmt: skip


def check_between(label: str, actual: float, low: float, high: float, digits: int = 4) -> Row:
    expected = f"{low:.{digits}g} to {high:.{digits}g}"
    outside = min(0.0, actual - low) or max(0.0, actual - high)
    return Row(
        label, expected, f"{actual:.{digits}g}", f"{outside:+.2g}" if outside else "within", low <= actual <= high
    )


def check_at_least(label: str, actual: float, minimum: float, digits: int = 4) -> Row:
    return Row(
        label, f"at least {minimum:.{digits}g}", f"{actual:.{digits}g}", f"{actual - minimum:+.2g}", actual >= minimum
    )


def check_at_most(label: str, actual: float, maximum: float, digits: int = 4) -> Row:
    return Row(
        label, f"at most {maximum:.{digits}g}", f"{actual:.{digits}g}", f"{actual - maximum:+.2g}", actual <= maximum
    )


def check_equal(label: str, actual: object, expected: object) -> Row:
    bool_texts = {True: "yes", False: "no"}
    value_texts = [
        bool_texts[v] if isinstance(v, bool) else f"{v:,}" if isinstance(v, int) else str(v) for v in (expected, actual)
    ]
    return Row(label, *value_texts, "none" if actual == expected else "not equal", actual == expected)
