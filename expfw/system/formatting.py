"""Numbers, sizes and durations as text."""

from __future__ import annotations

from collections.abc import Sequence

MIB, GIB = 2**20, 2**30


def format_number(value: float) -> str:
    """Formats a metric with four significant digits."""
    return f"{value:.4g}"


def pluralize(count: int, noun: str) -> str:
    """Formats a count with its noun: `1 trial`, `2 trials`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def join_some(words: Sequence[str], limit: int = 5) -> str:
    """Joins the first words; of all others, gives the number."""
    return " ".join(words[:limit]) + (f" and {len(words) - limit} more" if len(words) > limit else "")


def format_size(byte_count: int) -> str:
    """Formats a number of bytes in KiB or MiB."""
    return f"{byte_count / MIB:,.1f} MiB" if byte_count >= MIB else f"{byte_count / 1024:,.1f} KiB"


def format_duration(seconds: float) -> str:
    """Formats a duration with at least two significant digits."""
    units = (("days", 172800, 86400), ("h", 5400, 3600), ("min", 90, 60))
    unit, length = next(((name, length) for name, shortest, length in units if seconds >= shortest), ("s", 1))
    return f"{seconds / length:.{int(seconds < 10 * length)}f} {unit}"


def format_value(value: object) -> str:
    """Formats a value of a configuration or a metric: floats with six significant digits, None as `null`."""
    return f"{value:.6g}" if isinstance(value, float) else "null" if value is None else str(value)
