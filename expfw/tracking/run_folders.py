"""Folders of runs and sweeps: names and creation."""

from __future__ import annotations

import secrets
import shlex
import time
from collections.abc import Iterable
from pathlib import Path

from expfw.config.overrides import format_override
from expfw.errors import RunsFolderError

CONFIG_FILE, ENVIRONMENT_FILE, LOG_FILE = "config.yaml", "environment.json", "log.txt"
DELETED_PREFIX = ".deleted-"
"""Prefix of the names of folders that are about to be deleted; they are not listed."""
_ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"  # without letters and digits that are easily confused


def make_id() -> str:
    """Returns a short random ID from the randomness of the system, which does not depend on seeds."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(8))


def make_run_folder(runs_dir: Path, run_id: str) -> Path:
    """Creates `<runs_dir>/<date>/<time>-<id>/`; see `make_folder`."""
    now = time.localtime()
    return make_folder(runs_dir / time.strftime("%Y-%m-%d", now) / f"{time.strftime('%H-%M-%S', now)}-{run_id}")


def make_folder(folder: Path) -> Path:
    """Creates a run folder or sweep folder, which must not exist."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir()
    except OSError as error:
        raise RunsFolderError(
            f"cannot create folder {folder}: {error.strerror}; choose another runs folder with runs_dir=FOLDER"
        ) from error
    return folder


def format_runs_dir_option(runs_dir: str | Path) -> str:
    """Returns the option that selects this runs folder, with a leading space; empty for the default folder."""
    absolute = Path(runs_dir).absolute()
    return "" if absolute == Path("runs").absolute() else f" --runs-dir {shlex.quote(str(absolute))}"


def format_plugin_options(files: Iterable[str]) -> str:
    """Returns the options `-p FILE`, which come before the command, with a leading space; empty without files."""
    return "".join(f" -p {shlex.quote(file)}" for file in files)


def make_begin_from_hint(folder: Path) -> str:
    """Explains how to start a new run from a checkpoint of the run in `folder`; quoted for a shell."""
    override = shlex.quote(format_override("train.begin_from", folder / "checkpoints" / "STEP"))
    return f"to start a new run from its weights: expfw run ... {override}"


def make_relative_path(path: Path) -> Path:
    """Returns the path relative to the working directory if it is inside, otherwise the path."""
    try:
        return path.relative_to(Path.cwd())
    except ValueError:
        return path
