"""The environment of a run: machine, versions and source code, as in `environment.json`."""

from __future__ import annotations

import importlib.metadata
import logging
import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from expfw.api.option_schema import build_instance
from expfw.api.options import option
from expfw.errors import ExpfwError, to_one_line, truncate_text
from expfw.plugins.entry import PluginEntry
from expfw.system.json_values import read_json

_RESULT_PACKAGES = ("tensorflow", "keras", "numpy")
_CUDA_PREFIXES = ("nvidia-cu", "nvidia-nccl")

log = logging.getLogger("expfw")


@dataclass(frozen=True)
class CpuInfo:
    """The CPU of a run.

    Attributes:
        cores: number of cores that the run could use.
        features: vector instructions that affect the rounding of sums.
    """

    cores: int | None = option(None, at_least=1)
    features: list[str] = field(default_factory=list)
    model: str | None = None


@dataclass(frozen=True)
class GitState:
    """Commit of the working directory, and whether there were uncommitted changes, which are in `diff.patch`."""

    commit: str
    dirty: bool = False


@dataclass(frozen=True)
class Environment:
    """Machine, versions and source code of a run, to explain differences between runs.

    Attributes:
        packages: version of each installed distribution, by normalized name.
        relevant_packages: names of the distributions of which another version can change the results of the run.
        plugins: distribution and version of each plugin, by `kind.name`.
        memory_gib: memory of the machine.
        gpus: names of the NVIDIA GPUs of the machine.
        git: state of the source code; None if the working directory is not in a git repository.
        command: command line, with secrets hidden.
    """

    expfw: str | None = None
    python: str | None = None
    platform: str | None = None
    packages: dict[str, str] = field(default_factory=dict)
    relevant_packages: list[str] = field(default_factory=list)
    plugins: dict[str, str] = field(default_factory=dict)
    cpu: CpuInfo = field(default_factory=CpuInfo)
    memory_gib: float | None = None
    gpus: list[str] | None = None
    git: GitState | None = None
    user: str | None = None
    command: list[str] = field(default_factory=list)
    working_directory: str | None = None


def read_environment(path: Path) -> Environment | None:
    """Reads the environment of a run; logs a warning and returns None if the file is invalid."""
    try:
        values = read_json(path)
        if not isinstance(values, dict):
            raise ValueError("expected a JSON object")
        environment: Environment = build_instance(Environment, values, "")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, ExpfwError) as error:
        reason = getattr(error, "strerror", None) or to_one_line(str(error)).partition(";")[0]
        log.warning("ignoring %s: the environment of the run is not readable: %s", path, truncate_text(reason, 160))
        return None
    return environment


def list_packages() -> dict[str, str]:
    """Returns the version of each installed distribution, by normalized name; reads names of folders, if possible."""
    packages: dict[str, str] = {}
    for distribution in importlib.metadata.distributions():
        # `_path`: the folder of the metadata, which has no public attribute; reading each METADATA takes much longer
        folder = str(getattr(distribution, "_path", ""))
        match = re.search(r"([^/\\]+?)-([^/\\-]+)\.dist-info$", folder)
        with suppress(OSError, ValueError, TypeError, AttributeError, KeyError):  # damaged metadata
            name, version = match.groups() if match else (distribution.name, distribution.version)
            packages.setdefault(_normalize(name), str(version))  # twice on sys.path: the first one is used
    return dict(sorted(packages.items()))


def find_relevant_packages(entries: Iterable[PluginEntry], packages: Iterable[str]) -> list[str]:
    """Returns the names of the installed packages of which another version can change the results of a run.

    These are TensorFlow, Keras, NumPy, and the packages that the distributions of its plugins require, except those of
    expfw and of trackers; if the backend uses GPUs, also NVIDIA's libraries.
    """
    names = {*_RESULT_PACKAGES}
    for entry in entries:
        if entry.kind != "tracker" and entry.file is None and entry.distribution != "expfw":
            with suppress(importlib.metadata.PackageNotFoundError):
                requirements = importlib.metadata.requires(entry.distribution) or ()
                found = [re.match(r"[\w.-]+", text) for text in requirements if "extra ==" not in text]
                names |= {_normalize(match[0]) for match in found if match}
        if getattr(entry.load(), "on_gpus", False):
            names |= {name for name in packages if name.startswith(_CUDA_PREFIXES)}
    return sorted(names & {*packages} - {"expfw"})


def _normalize(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
