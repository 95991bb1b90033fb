"""Numbers, sizes and durations as text."""

from __future__ import annotations

MIB = 2**20


def format_number(value: float) -> str:
    """Formats a metric with four significant digits."""
    return f"{value:.4g}"


def pluralize(count: int, noun: str) -> str:
    """Formats a count with its noun: `1 trial`, `2 trials`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def format_size(byte_count: int) -> str:
    """Formats a number of bytes in KiB or MiB."""
    return f"{byte_count / MIB:,.1f} MiB" if byte_count >= MIB else f"{byte_count / 1024:,.1f} KiB"


def format_duration(seconds: float) -> str:
    """Formats a duration with at least two significant digits."""
    for unit, length in (("days", 48 * 3600), ("h", 5400), ("min", 90)):
        if seconds >= length:
            value = seconds / {"days": 86400, "h": 3600, "min": 60}[unit]
            return f"{value:.1f} {unit}" if value < 10 else f"{value:.0f} {unit}"
    return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"


def format_value(value: object) -> str:
    """Formats a value of a configuration or a metric: floats with six significant digits, None as `null`."""
    return f"{value:.6g}" if isinstance(value, float) else "null" if value is None else str(value)
