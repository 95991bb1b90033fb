"""Makes and names the folders of runs and sweeps."""

from __future__ import annotations

import secrets
import shlex
import time
from pathlib import Path

from expfw.config.overrides import format_override
from expfw.errors import RunsFolderError

LOG_FILE = "log.txt"
_ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"  # no letter or digit that is easily misread


def make_id() -> str:
    """A short random id, from the system's randomness: seeds do not repeat it."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(8))


def make_run_folder(runs_dir: Path, run_id: str) -> Path:
    """Makes `<runs_dir>/<date>/<time>-<id>/`.

    Raises:
        RunsFolderError: it cannot be made there, or cannot be written to.
    """
    now = time.localtime()
    return _make_folder(runs_dir / time.strftime("%Y-%m-%d", now) / f"{time.strftime('%H-%M-%S', now)}-{run_id}")


def get_trial_folder(sweep_folder: Path, number: int, run_id: str) -> Path:
    """Where a trial's run goes: `<sweep folder>/trials/<number>-<id>/`."""
    return sweep_folder / "trials" / f"{number:03d}-{run_id}"


def make_trial_folder(sweep_folder: Path, number: int, run_id: str) -> Path:
    """Makes that folder."""
    return _make_folder(get_trial_folder(sweep_folder, number, run_id))


def _make_folder(folder: Path) -> Path:
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir()
    except OSError as error:
        raise RunsFolderError(
            f"cannot make the folder {folder} ({error.strerror}); choose another with runs_dir=FOLDER"
        ) from error
    return folder


def format_runs_dir_option(runs_dir: str | Path) -> str:
    """What a command needs at its end to find this runs folder; nothing for the usual one."""
    absolute = Path(runs_dir).absolute()
    return "" if absolute == Path("runs").absolute() else f" --runs-dir {shlex.quote(str(absolute))}"


def make_begin_from_override(folder: Path, step: str = "STEP") -> str:
    """The word that lets a new run begin from a checkpoint of the run in `folder`, as a shell takes it."""
    return shlex.quote(format_override("train.begin_from", folder / "checkpoints" / step))


def make_relative_path(path: Path) -> Path:
    """The path as seen from the working directory, where it is below that."""
    try:
        return path.relative_to(Path.cwd())
    except ValueError:
        return path
