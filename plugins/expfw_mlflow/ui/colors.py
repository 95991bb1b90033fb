"""Colors for the trials of a sweep."""

from __future__ import annotations

COLORS = (  # ten distinct colors, then darker versions of them
    *("#4269d0", "#efb118", "#ff725c", "#6cc5b0", "#3ca951", "#ff8ab7", "#a463f2", "#97bbf5", "#9c6b4e", "#9498a0"),
    *("#1b3a93", "#b07d00", "#b0301f", "#1f7d6a", "#1c6b2b", "#c23d78", "#6a2ab8", "#3f7fd6", "#5e3a22", "#55595f"),
)


def get_trial_color(number: int) -> str:
    """Returns one of 20 colors in turn; MLflow's choice, by the run's ID, soon repeats a color."""
    return COLORS[number % len(COLORS)]
