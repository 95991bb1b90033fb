"""Whether this expfw is one that a plugin is made for."""

from __future__ import annotations

from expfw.version import __version__


def unmet(requires: str) -> str | None:
    """Why `expfw>=0.1,<1`, say, is not met, to be read behind a plugin's name; None where it is."""
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        wanted = Requirement(requires).specifier
    except InvalidRequirement:
        return f"requires {requires!r}, which is no requirement; mend its dependencies"
    if wanted.contains(__version__, prereleases=True):
        return None
    return f"is made for expfw{wanted}, this is expfw {__version__}; install a release that fits"
