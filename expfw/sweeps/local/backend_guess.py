"""Guess of a sweep's backend before the configuration is composed, so that its import can begin early."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from expfw.errors import ExpfwError
from expfw.plugins.catalogue import get_catalogue
from expfw.plugins.variants import find_conf_folders

_BACKEND_OR_EXPERIMENT = re.compile(r"(backend|experiment)=([\w-]+)")
_OTHER_BACKEND = re.compile(r"[~+]*backend(?![\w.])")
_DEFAULTS_BACKEND = re.compile(r"^\s*- *(?:override +)?/?backend: *([\w-]+)", re.MULTILINE)


def get_likely_modules(overrides: Sequence[str]) -> Sequence[str]:
    """Returns the modules that the likely backend imports; empty if the backend cannot be guessed.

    Only backends of expfw's own distribution are imported early: another backend may already use its framework during
    the import, and a process that has used it cannot fork trials.

    Args:
        overrides: overrides of a sweep, as typed by the user.
    """
    backend = next(_find_backend_names(overrides), None) if overrides else None
    try:
        entry = get_catalogue(()).get("backend", backend) if backend is not None else None
    except ExpfwError:
        return ()  # the command reports the error
    return entry.load().preload if entry is not None and entry.distribution == "expfw" else ()


def _find_backend_names(overrides: Sequence[str]) -> Iterator[str]:
    """Yields names from the overrides, the experiment and the root configuration; most important first."""
    choices = {match[1]: match[2] for override in overrides if (match := _BACKEND_OR_EXPERIMENT.fullmatch(override))}
    if "backend" in choices:
        yield choices["backend"]
    elif not any(_OTHER_BACKEND.match(override) for override in overrides):
        experiment_files = [f"experiment/{choices['experiment']}.yaml"] if "experiment" in choices else []
        for file in (*experiment_files, "config.yaml"):
            for path in (folder / file for folder in find_conf_folders()):
                yield from _DEFAULTS_BACKEND.findall(path.read_text()) if path.is_file() else ()
