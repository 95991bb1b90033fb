"""Checkpoints on disk: written as a whole or not at all, and believed only where their checksums agree.

A checkpoint is a folder, `checkpoints/<step>/`, of three files: `arrays.safetensors`, `state.json` with all that is no
array, and `checksums.json`, which knows the size and SHA-256 of the other two.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from expfw.api.model_state import ModelState, read_arrays, write_arrays
from expfw.errors import JournalError, RunsFolderError
from expfw.system import atomic_files

FOLDER = "checkpoints"
_ARRAYS, _STATE, _CHECKSUMS = "arrays.safetensors", "state.json", "checksums.json"
_FORMAT = 1


@dataclass(frozen=True)
class Snapshot:
    """The complete state of a training at one step, in memory.

    Attributes:
        step: optimizer steps done.
        run: what the run knows; see `Run.state`.
        plugins: state of each callback, by kind and name.
        model: weights, optimizer, random states, and what else the backend keeps.
        journal: bytes of the journal that belong to it; what comes behind is done again by who goes on from here.
        pending: what of the journal before that was still to come again, in a run that had gone on; see `Replay`.
        sync: forces so many bytes of the journal to disk.
    """

    step: int
    run: Mapping[str, Any]
    plugins: Mapping[str, Mapping[str, Any]]
    model: ModelState
    journal: int = 0
    pending: Mapping[str, Any] = field(default_factory=dict)
    sync: Callable[[int], None] = lambda size: None

    @property
    def finite(self) -> bool:
        """Whether all weights are numbers; a training goes nowhere from others."""
        arrays = (array for name, array in self.model.arrays.items() if name.startswith("weights/"))
        return all(np.isfinite(array).all() for array in arrays if np.issubdtype(array.dtype, np.inexact))

    def write(self, run_folder: Path) -> Path:
        """Writes it below `checkpoints/` of a run's folder; may be called by another thread. Returns its folder.

        Raises:
            OSError: the disk is full, or cannot be written; nothing is left of it then.
        """
        root = run_folder / FOLDER
        root.mkdir(exist_ok=True)
        folder = get_checkpoint_folder(run_folder, self.step)
        temporary_folder = folder.with_name(f".{folder.name}")
        shutil.rmtree(temporary_folder, ignore_errors=True)
        try:
            temporary_folder.mkdir()
            write_arrays(temporary_folder / _ARRAYS, self.model.arrays)
            state = {"format": _FORMAT, "step": self.step, "journal": self.journal, "run": self.run}
            state |= {"plugins": self.plugins, "model": self.model.values, "pending": self.pending}
            state |= {"names": dict(self.model.names)}
            (temporary_folder / _STATE).write_text(json.dumps(state))
            checksums = {name: _compute_checksum(temporary_folder / name) for name in (_ARRAYS, _STATE)}
            (temporary_folder / _CHECKSUMS).write_text(json.dumps(checksums))
            self.sync(self.journal)
            atomic_files.move_folder(temporary_folder, folder)
        except BaseException:
            shutil.rmtree(temporary_folder, ignore_errors=True)
            raise
        return folder


def read_checkpoint(folder: Path) -> Snapshot:
    """Reads a checkpoint.

    Raises:
        JournalError: there is none, or it is not as it was written.
        RunsFolderError: the system does not let us read it.
    """
    try:
        checksums = json.loads((folder / _CHECKSUMS).read_text())
        for name in (_ARRAYS, _STATE):
            if checksums[name] != _compute_checksum(folder / name):
                raise JournalError(f"the checkpoint {folder} is damaged: {name} is not as it was written")
        state = json.loads((folder / _STATE).read_text())
        if state["format"] != _FORMAT:
            raise JournalError(f"the checkpoint {folder} has format {state['format']}; this expfw reads {_FORMAT}")
        model = ModelState(read_arrays(folder / _ARRAYS), state["model"], state["names"])
        return Snapshot(state["step"], state["run"], state["plugins"], model, state["journal"], state["pending"])
    except FileNotFoundError as error:
        if any((folder / name).exists() for name in (_ARRAYS, _STATE, _CHECKSUMS)):
            raise JournalError(f"the checkpoint {folder} is damaged: {Path(error.filename).name} is missing") from error
        raise JournalError(
            f"{folder} is no checkpoint; expected a folder like runs/.../checkpoints/000000100"
        ) from error
    except OSError as error:
        raise RunsFolderError(f"the checkpoint {folder} cannot be read ({error.strerror})") from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise JournalError(f"the checkpoint {folder} is damaged ({type(error).__name__}: {error})") from error


def checkpoint_steps(run_folder: Path) -> list[int]:
    """Of which steps there are checkpoints, damaged ones among them."""
    paths = (run_folder / FOLDER).glob("[0-9]*")
    return sorted(int(path.name) for path in paths if path.name.isdigit())


def get_checkpoint_folder(run_folder: Path, step: int) -> Path:
    """Where the checkpoint of a step is."""
    return run_folder / FOLDER / f"{step:09d}"


def read_usable_checkpoints(
    run_folder: Path, report: Callable[[str], None], journal_bytes: int | None = None
) -> Iterator[Snapshot]:
    """All that can be used, the newest first; `report` is told of each that cannot.

    Args:
        journal_bytes: size of the journal; a checkpoint that counts on more of it is not used.
    """
    for step in reversed(checkpoint_steps(run_folder)):
        try:
            snapshot = read_checkpoint(get_checkpoint_folder(run_folder, step))
            if journal_bytes is not None and snapshot.journal > journal_bytes:
                raise JournalError(
                    f"the checkpoint {get_checkpoint_folder(run_folder, step)} counts on more than the journal has"
                )
            yield snapshot
        except JournalError as error:
            report(f"{error}; it is not used")


def remove_checkpoint(run_folder: Path, step: int) -> None:
    """Removes one; that it is gone already is no matter."""
    shutil.rmtree(get_checkpoint_folder(run_folder, step), ignore_errors=True)


def _compute_checksum(path: Path) -> dict[str, Any]:
    with open(path, "rb") as file:
        return {"bytes": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}
