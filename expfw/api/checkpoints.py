"""Checkpoints on disk, written atomically and verified by checksums.

A checkpoint is a folder, `checkpoints/<step>/`, with three files: `arrays.safetensors`, `state.json` with all other
values, and `checksums.json` with the size and SHA-256 of the first two.
"""

from __future__ import annotations

import errno
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
from expfw.system.input_files import open_file, read_bytes

FOLDER = "checkpoints"
_ARRAYS, _STATE, _CHECKSUMS = "arrays.safetensors", "state.json", "checksums.json"
_FORMAT = 1


@dataclass(frozen=True)
class Snapshot:
    """The complete state of a training at one step, in memory.

    Attributes:
        step: optimizer steps completed.
        run: state of the run, see `Run.state`.
        plugins: state of each callback, by kind and name.
        model: weights, optimizer, random states and other state of the backend.
        journal: size of the journal at this step, in bytes; a resumed run computes later records again.
        pending: earlier records that a resumed run still had to compute again.
        sync: function that forces the first `journal` bytes of the journal to disk.
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
        """Whether all weights are finite; training cannot continue otherwise."""
        arrays = (array for name, array in self.model.arrays.items() if name.startswith("weights/"))
        return all(np.isfinite(array).all() for array in arrays if np.issubdtype(array.dtype, np.inexact))

    def write(self, run_folder: Path) -> Path:
        """Writes the snapshot to `checkpoints/` in a run folder, in any thread. Returns the new folder.

        Raises:
            OSError: if the disk is full or not writable; the incomplete checkpoint is removed.
        """
        root = run_folder / FOLDER
        root.mkdir(exist_ok=True)
        folder = get_checkpoint_folder(run_folder, self.step)
        temporary_folder = folder.with_name(f".{folder.name}")
        for unfinished in root.glob(".[0-9]*"):  # of a killed process
            shutil.rmtree(unfinished, ignore_errors=True)
        try:
            temporary_folder.mkdir()
            write_arrays(temporary_folder / _ARRAYS, self.model.arrays)
            state = {"format": _FORMAT, "step": self.step, "journal": self.journal, "run": self.run}
            state |= {"plugins": self.plugins, "pending": self.pending}
            state |= {"model": self.model.values, "names": dict(self.model.names)}
            atomic_files.write_state(temporary_folder / _STATE, state, is_atomic=False)
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
        JournalError: if the folder is not a checkpoint or is damaged.
        RunsFolderError: if the folder cannot be read.
    """
    try:
        checksums = json.loads(read_bytes(folder / _CHECKSUMS))
        for name in (_ARRAYS, _STATE):
            is_same_size = checksums[name]["bytes"] == (folder / name).stat().st_size
            if not is_same_size or checksums[name] != _compute_checksum(folder / name):
                raise JournalError(f"checkpoint {folder} is damaged: {name} does not match its checksum")
        state = json.loads(read_bytes(folder / _STATE))
        if state["format"] != _FORMAT:
            raise JournalError(f"checkpoint {folder} has format {state['format']}; expected format {_FORMAT}")
        model = ModelState(read_arrays(folder / _ARRAYS), state["model"], state["names"])
        return Snapshot(state["step"], state["run"], state["plugins"], model, state["journal"], state["pending"])
    except FileNotFoundError as error:
        if any((folder / name).exists() for name in (_ARRAYS, _STATE, _CHECKSUMS)):
            raise JournalError(f"checkpoint {folder} is damaged: {Path(error.filename).name} is missing") from error
        raise JournalError(
            f"{folder} is not a checkpoint; expected a folder like runs/.../checkpoints/000000100"
        ) from error
    except OSError as error:
        kind = JournalError if error.errno in (errno.EFBIG, errno.EINVAL) else RunsFolderError
        raise kind(f"cannot read checkpoint {folder}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise JournalError(f"checkpoint {folder} is damaged ({type(error).__name__}: {error})") from error


def checkpoint_steps(run_folder: Path) -> list[int]:
    """Returns the steps of all checkpoints in ascending order, including damaged ones."""
    paths = (run_folder / FOLDER).glob("[0-9]*")
    return sorted(int(path.name) for path in paths if path.name.isdigit())


def get_checkpoint_folder(run_folder: Path, step: int) -> Path:
    """Returns the folder of the checkpoint of a step."""
    return run_folder / FOLDER / f"{step:09d}"


def read_usable_checkpoints(
    run_folder: Path, report: Callable[[str], None], journal_bytes: int | None = None
) -> Iterator[Snapshot]:
    """Yields the usable checkpoints, newest first; `report` is called with one line for each unusable one.

    If `journal_bytes`, the size of the journal, is given, checkpoints that were taken after its end are unusable.
    """
    for step in reversed(checkpoint_steps(run_folder)):
        folder = get_checkpoint_folder(run_folder, step)
        try:
            snapshot = read_checkpoint(folder)
        except JournalError as error:
            report(f"{error}; skipping it")
            continue
        if journal_bytes is not None and snapshot.journal > journal_bytes:
            problem = "was written after the last record of the journal; the end of the journal is missing"
            report(f"checkpoint {folder} {problem}; skipping it")
        else:
            yield snapshot


def remove_checkpoint(run_folder: Path, step: int) -> None:
    """Deletes the checkpoint of a step, if it exists."""
    shutil.rmtree(get_checkpoint_folder(run_folder, step), ignore_errors=True)


def _compute_checksum(path: Path) -> dict[str, Any]:
    with open_file(path) as file:
        return {"bytes": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}
