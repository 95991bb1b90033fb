"""Numbers, sizes and durations as text."""

from __future__ import annotations

MIB = 2**20


def format_number(value: float) -> str:
    """A metric for people: four significant digits."""
    return f"{value:.4g}"


def pluralize(count: int, noun: str) -> str:
    """So many of something: `1 trial`, `2 trials`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def format_size(byte_count: int) -> str:
    """Bytes for people."""
    return f"{byte_count / MIB:,.1f} MiB" if byte_count >= MIB else f"{byte_count / 1024:,.1f} KiB"


def format_duration(seconds: float) -> str:
    """A time for people: two significant digits at least."""
    for unit, length in (("days", 48 * 3600), ("h", 5400), ("min", 90)):
        if seconds >= length:
            value = seconds / {"days": 86400, "h": 3600, "min": 60}[unit]
            return f"{value:.1f} {unit}" if value < 10 else f"{value:.0f} {unit}"
    return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"


def format_value(value: object) -> str:
    """A value of a configuration or a metric: numbers with six digits, None as `null`."""
    return f"{value:.6g}" if isinstance(value, float) else "null" if value is None else str(value)
