"""Makes and names the folders of runs and sweeps."""

from __future__ import annotations

import secrets
import shlex
import time
from pathlib import Path

from expfw.config.overrides import override
from expfw.errors import RunsFolderError

LOG = "log.txt"
_ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"  # no letter or digit that is easily misread


def new_id() -> str:
    """A short random id, from the system's randomness: seeds do not repeat it."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(8))


def make(runs_dir: Path, identity: str) -> Path:
    """Makes `<runs_dir>/<date>/<time>-<id>/`.

    Raises:
        RunsFolderError: it cannot be made there, or cannot be written to.
    """
    now = time.localtime()
    return _make(runs_dir / time.strftime("%Y-%m-%d", now) / f"{time.strftime('%H-%M-%S', now)}-{identity}")


def trial_folder(sweep_folder: Path, number: int, identity: str) -> Path:
    """Where a trial's run goes: `<sweep folder>/trials/<number>-<id>/`."""
    return sweep_folder / "trials" / f"{number:03d}-{identity}"


def make_trial(sweep_folder: Path, number: int, identity: str) -> Path:
    """Makes that folder."""
    return _make(trial_folder(sweep_folder, number, identity))


def _make(folder: Path) -> Path:
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir()
    except OSError as error:
        raise RunsFolderError(
            f"cannot make the folder {folder} ({error.strerror}); choose another with runs_dir=FOLDER"
        ) from error
    return folder


def option(runs_dir: str | Path) -> str:
    """What a command needs at its end to find this runs folder; nothing for the usual one."""
    absolute = Path(runs_dir).absolute()
    return "" if absolute == Path("runs").absolute() else f" --runs-dir {shlex.quote(str(absolute))}"


def begin_from(folder: Path, step: str = "STEP") -> str:
    """The word that lets a new run begin from a checkpoint of the run in `folder`, as a shell takes it."""
    return shlex.quote(override("train.begin_from", folder / "checkpoints" / step))


def relative(path: Path) -> Path:
    """The path as seen from the working directory, where it is below that."""
    try:
        return path.relative_to(Path.cwd())
    except ValueError:
        return path
