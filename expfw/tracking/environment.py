"""Environment of a run: versions, machine, source code, command line."""

from __future__ import annotations

import getpass
import importlib.metadata
import os
import platform
import subprocess
import sys
from collections.abc import Iterable
from typing import Any

from expfw.plugins.entry import PluginEntry
from expfw.redaction import redact_overrides
from expfw.system.cpu import get_cores, get_cpu_features
from expfw.version import __version__

_PACKAGES = ("tensorflow", "keras", "numpy", "mlflow", "hydra-core", "pluggy")


def describe(plugins: Iterable[PluginEntry]) -> dict[str, Any]:
    """Returns the environment, to explain differences between runs. Imports none of the packages that it lists."""
    return {
        "expfw": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: version for name in _PACKAGES if (version := _find_version(name))},
        "plugins": {f"{p.kind}.{p.name}": p.source for p in plugins},
        "cpu": {"cores": len(get_cores()), "features": get_cpu_features()},
        "git": describe_git(),
        "user": _find_user_name(),
        "command": redact_overrides(sys.argv),
        "working_directory": os.getcwd(),
    }


def describe_git() -> dict[str, Any] | None:
    """Returns commit and state of the Git repository of the working directory; None outside a repository."""
    commit = _run_git("rev-parse", "HEAD")
    if commit is None:
        return None
    diff = _run_git("diff", "HEAD") or ""
    return {"commit": commit.strip(), "dirty": bool((_run_git("status", "--porcelain") or "").strip()), "diff": diff}


def list_requirements(plugins: Iterable[PluginEntry]) -> list[str]:
    """Returns the packages that are needed to load a model of these plugins, with pinned versions."""
    names = ["expfw", "tensorflow", "keras", "numpy", *(plugin.distribution for plugin in plugins)]
    return [f"{name}=={version}" for name in dict.fromkeys(names) if (version := _find_version(name))]


def _run_git(*arguments: str) -> str | None:
    try:
        completed = subprocess.run(
            ["git", *arguments], capture_output=True, text=True, errors="replace", timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return completed.stdout


def _find_user_name() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container without a user database
        return "unknown"


def _find_version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
