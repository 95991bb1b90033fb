"""Preprocessed data, kept on disk from one run to the next."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock

from expfw.api.data import Splits
from expfw.api.data_files import read_splits, write_splits
from expfw.errors import DataError

log = logging.getLogger("expfw")
FOLDER = Path(".cache") / "data"
GIB = 2**30
_CACHE_SIZE_FACTOR = 3  # so many times the size of what is written may stay; the least recently used go


def compute_key(plugin: type, options: Any, identity: Mapping[str, Any], seed: int | None) -> str:
    """What tells these data from others: the plugin and its code, its options, the files it reads, the seed."""
    content = [
        1,
        f"{plugin.__module__}.{plugin.__qualname__}",
        _describe_code_files(plugin),
        repr(options),
        dict(identity),
        seed,
    ]
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:32]


def load_with_cache(load: Callable[[], Splits], key: str | None, runs_dir: Path, limit_gib: float) -> Splits:
    """What `load` returns, or what it returned when it was last asked for the same `compute_key`; as NumPy arrays.

    Args:
        key: None for data that nothing tells from others; they are loaded every time.
        runs_dir: what is kept lies below it.
        limit_gib: data of more than so many GiB are not kept, and stay as `load` gives them.
    """
    if not key or limit_gib <= 0:
        return _load_and_store(load, None, limit_gib)
    folder = runs_dir.absolute() / FOLDER / key
    if (splits := _read_cached(folder)) is not None:
        return splits
    with _lock_folder(folder):  # the first trials of a sweep want the same data at the same time
        return _read_cached(folder) or _load_and_store(load, folder, limit_gib)


def _load_and_store(load: Callable[[], Splits], folder: Path | None, limit_gib: float) -> Splits:
    splits = load()
    if not isinstance(splits, Splits):
        return splits  # the host says what is wrong with it
    size = sum(split.nbytes() for split in splits.get_splits().values())
    if size > limit_gib * GIB:
        return splits
    return (_store(splits, folder, size) if folder is not None else None) or load_into_memory(splits)


@contextmanager
def _lock_folder(folder: Path) -> Iterator[None]:
    """Lets other processes that want to fill this folder wait; where nothing can be locked, they load the same."""
    lock = FileLock(folder.parent.parent / "locks" / folder.name[0])  # a few, for all that are ever kept
    try:
        Path(lock.lock_file).parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except (OSError, NotImplementedError) as error:
        log.info("no lock in %s: %s", folder.parent, error)
    try:
        yield
    finally:
        lock.release()


def _read_cached(folder: Path) -> Splits | None:
    from safetensors import SafetensorError

    try:
        splits = read_splits(folder)
        os.utime(folder)
    except (OSError, ValueError, KeyError, TypeError, EOFError, SafetensorError, DataError):
        return None  # not there, or half removed by another process: then it is made once more
    return splits


def _store(splits: Splits, folder: Path, size: int) -> Splits | None:
    """Writes it beside its place, then moves it there at once; two processes that do so do not meet."""
    temporary_folder = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary_folder = Path(tempfile.mkdtemp(prefix=".", dir=folder.parent))
        write_splits(splits, temporary_folder)
        _evict_old_folders(folder.parent, size)
        if _read_cached(folder) is None:  # absent or damaged; else another process was quicker
            shutil.rmtree(folder, ignore_errors=True)
            temporary_folder.rename(folder)
    except OSError as error:
        log.warning("preprocessed data cannot be kept in %s: %s", folder, error)  # costs the next run time, no more
    finally:
        if temporary_folder is not None:
            shutil.rmtree(temporary_folder, ignore_errors=True)
    return _read_cached(folder)


def load_into_memory(splits: Splits) -> Splits:
    """The same with NumPy arrays for samples that are preprocessed on demand."""
    return Splits(splits.spec, **{name: split.in_memory() for name, split in splits.get_splits().items()})


def _evict_old_folders(folder: Path, size: int) -> None:
    """Makes room: keeps the most recently used, up to some times the size of what comes now, and 4 GiB at least."""
    free_bytes = max(_CACHE_SIZE_FACTOR * size, 4 * GIB) - size
    for old_folder in sorted((f for f in folder.iterdir() if f.name[0] != "."), key=lambda f: -f.stat().st_mtime):
        free_bytes -= sum(file.stat().st_size for file in old_folder.iterdir())
        if free_bytes < 0:
            shutil.rmtree(old_folder, ignore_errors=True)


def _describe_code_files(plugin: type) -> list[Any]:
    """When the files were changed that hold the plugin's code: its own, and those of its package."""
    file = Path(getattr(sys.modules.get(plugin.__module__), "__file__", None) or "")
    files = sorted(file.parent.rglob("*.py")) if "." in plugin.__module__ else [file]
    return [(str(f), f.stat().st_size, f.stat().st_mtime_ns) for f in files if f.is_file()]
