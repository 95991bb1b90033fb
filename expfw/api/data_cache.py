"""Cache of preprocessed data on disk, shared by runs."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from filelock import FileLock

from expfw.api.data import Splits
from expfw.api.data_files import read_splits, write_splits
from expfw.api.plugin_code import hash_code
from expfw.system.temporary_folders import temporary_folder

log = logging.getLogger("expfw")
FOLDER = Path(".cache") / "data"
GIB = 2**30


def compute_key(plugin: type, options: Any, identity: Mapping[str, Any], seed: int | None) -> str:
    """Returns a key for the data, computed from the plugin and its code, its options, the files it reads, the seed."""
    name, code = f"{plugin.__module__}.{plugin.__qualname__}", hash_code(plugin)
    content = [1, name, code, repr(options), dict(identity), seed]
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:32]


def load_with_cache(load: Callable[[], Splits], key: str | None, runs_dir: Path, limit_gib: float) -> Splits:
    """Returns the result of `load`, or the cached result for the same key, as NumPy arrays.

    Data without a key is not cached; data of more than `limit_gib` is returned as `load` returns it.
    """
    if not key or limit_gib <= 0:
        return _load_and_store(load, None, limit_gib)
    folder = runs_dir.absolute() / FOLDER / key
    if (splits := _read_cached(folder)) is not None:
        return splits
    lock = FileLock(folder.parent.parent / "locks" / key[0])  # a fixed small number of lock files
    with ExitStack() as stack:  # the first trials of a sweep load the same data at the same time
        try:
            Path(lock.lock_file).parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(lock)
        except (OSError, NotImplementedError) as error:  # several processes may load the same data
            log.info("cannot lock %s: %s", folder.parent, error)
        return _read_cached(folder) or _load_and_store(load, folder, limit_gib)


def _load_and_store(load: Callable[[], Splits], folder: Path | None, limit_gib: float) -> Splits:
    splits = load()
    if not isinstance(splits, Splits):
        return splits  # rejected by `check_loaded_data`
    size = sum(split.nbytes() for split in splits.get_splits().values())
    if size > limit_gib * GIB:
        return splits
    return (_store(splits, folder, size) if folder is not None else None) or splits.take(slice(None))


def _read_cached(folder: Path) -> Splits | None:
    try:
        splits = read_splits(folder)
        os.utime(folder)
    except Exception:  # damaged bytes raise any error
        return None  # missing, damaged, or partly removed by another process
    return splits


def _store(splits: Splits, folder: Path, size: int) -> Splits | None:
    """Writes to a temporary folder, then renames it: concurrent processes do not conflict."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with temporary_folder(folder.parent, prefix=".expfw-") as parent:
            new_folder = parent / "data"
            new_folder.mkdir()
            write_splits(splits, new_folder)
            # delete the entries used least recently, to at most 3 times the size of the new entry, or 4 GiB if larger
            free_bytes = max(3 * size, 4 * GIB) - size
            old_folders = [path for path in folder.parent.iterdir() if path.name[0] != "."]
            for old_folder in sorted(old_folders, key=lambda path: -path.stat().st_mtime):
                free_bytes -= sum(file.stat().st_size for file in old_folder.iterdir())
                if free_bytes < 0:
                    shutil.rmtree(old_folder, ignore_errors=True)
            if _read_cached(folder) is None:  # missing or damaged; otherwise another process has written it
                shutil.rmtree(folder, ignore_errors=True)
                new_folder.rename(folder)
    except OSError as error:
        log.warning("cannot cache preprocessed data in %s: %s", folder, error)  # the next run only loads again
    return _read_cached(folder)
