"""The surroundings of a run, for the record: versions, machine, source code, command line."""

from __future__ import annotations

import getpass
import importlib.metadata
import os
import platform
import subprocess
import sys
from collections.abc import Iterable
from typing import Any

from expfw.plugins.entry import Found
from expfw.redaction import redact_words
from expfw.system.cpu import _cpu_features, cores
from expfw.version import __version__

_PACKAGES = ("tensorflow", "keras", "numpy", "mlflow", "hydra-core", "pluggy")


def describe(plugins: Iterable[Found]) -> dict[str, Any]:
    """What may explain a difference between two runs later. Imports none of the packages it names."""
    return {
        "expfw": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: version for name in _PACKAGES if (version := _version(name))},
        "plugins": {f"{p.kind}.{p.name}": p.source for p in plugins},
        "cpu": {"cores": len(cores()), "features": _cpu_features()},
        "git": git(),
        "user": _user(),
        "command": redact_words(sys.argv),
        "working_directory": os.getcwd(),
    }


def git() -> dict[str, Any] | None:
    """Commit and state of the repository around the working directory; None outside of one."""
    commit = _git("rev-parse", "HEAD")
    if commit is None:
        return None
    diff = _git("diff", "HEAD") or ""
    return {"commit": commit.strip(), "dirty": bool((_git("status", "--porcelain") or "").strip()), "diff": diff}


def requirements(plugins: Iterable[Found]) -> list[str]:
    """What a model that these plugins made needs to be loaded, pinned: names and versions."""
    names = ["expfw", "tensorflow", "keras", "numpy", *(plugin.distribution for plugin in plugins)]
    return [f"{name}=={version}" for name in dict.fromkeys(names) if (version := _version(name))]


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", *arguments], capture_output=True, text=True, errors="replace", timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container without a user database
        return "unknown"


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
