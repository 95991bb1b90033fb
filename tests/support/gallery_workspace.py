"""Workspace of the error gallery: valid and invalid runs, sweeps, plugins and data."""

from __future__ import annotations

import contextlib
import gzip
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from support import run_folders
from support.fake_distributions import GOOD_CALLBACK, temporary_site

from expfw.config.compose import compose
from expfw.errors import DataError
from expfw.plugins.catalogue import get_catalogue
from expfw.runs.one_run import execute
from expfw.runs.request import prepare_run
from expfw.system import process_lock
from expfw.tracking import journal

FILES = {
    "syntax.py": "class Mine(\n",
    "raises.py": "raise RuntimeError('on import')\n",
    "nothing.py": "x = 1\n",
    "two.py": (
        "import expfw\n\n\nclass One(expfw.Callback):\n    name = 'same'\n\n\n"
        "class Two(expfw.Callback):\n    name = 'same'\n"
    ),
    "notes.txt": "no Python\n",
    "conf/experiment/torn.yaml": "model: [\n",
    "conf/experiment/nopackage.yaml": "model: {units: 3}\n",
    "conf/experiment/empty.yaml": "",
    "conf/experiment/list.yaml": "# @package _global_\n- model\n",
    "conf/experiment/local.yaml": "defaults:\n  - override /model: cnn\n",
    "conf/experiment/modle.yaml": "# @package _global_\ndefaults:\n  - override /modle: cnn\n",
    "conf/experiment/twice.yaml": "# @package _global_\ndefaults:\n  - /model: cnn\n",
    "unmade.py": (
        'import expfw\n\n\nclass Mine(expfw.Callback):\n    """Cannot be made."""\n\n'
        "    def __init__(self, config, name):\n        raise RuntimeError('not made')\n"
    ),
    "broken_data.py": (
        "import expfw\n\n\nclass Broken(expfw.Dataset):\n    def load(self, seed):\n"
        "        raise expfw.DataError('the data is never available; choose another dataset')\n"
    ),
}
CALLBACK_TEMPLATE = """
from dataclasses import dataclass, field
from typing import Literal

import expfw


class Mine(expfw.Callback):
    @dataclass
    class Config:
        {option}
"""
CALLBACK_OPTIONS = {
    "pair.py": "size: tuple[int, int] = (1, 2)",
    "letters.py": "letters: set[str] = field(default_factory=set)",
    "wrong_default.py": 'size: int = "large"',
    "refuses.py": 'size: int = 1\n\n        def __post_init__(self):\n            raise RuntimeError("never")',
    "typo.py": "size: itn = 1",
    "choice.py": 'how: Literal["slow", "fast"] = "slow"\n        times: int | None = None\n        must: str = "a"',
}
DISTRIBUTIONS = {
    "expfw-old": ("callback/old", "Good", "expfw<0.1", GOOD_CALLBACK),
    "expfw-absent": ("callback/absent", "Good", "expfw<1", "import nothing_of_that_name\n"),
    "expfw-nameless": ("callback/nameless", "Missing", "expfw<1", GOOD_CALLBACK),
    "expfw-other": ("model/other", "Good", "expfw<1", GOOD_CALLBACK),
    "expfw-first": ("callback/both", "Good", "expfw<1", GOOD_CALLBACK),
    "expfw-second": ("callback/both", "Good", "expfw<1", GOOD_CALLBACK),
    "expfw-dotted": ("callback/my.callback", "Good", "expfw<1", GOOD_CALLBACK),
    "expfw-strange": ("modle/strange", "Good", "expfw<1", GOOD_CALLBACK),
    "expfw-unhooked": ("callback/unhooked", "Good", "expfw<1", GOOD_CALLBACK.replace("epoch_ended", "epoch_over")),
}


@contextlib.contextmanager
def filled_workspace(folder: Path) -> Iterator[None]:
    """Creates all files; locks the running entries meanwhile."""
    callbacks = {name: CALLBACK_TEMPLATE.format(option=text) for name, text in CALLBACK_OPTIONS.items()}
    for name, text in {**FILES, **callbacks}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    _write_data_files(folder / "data")
    _write_runs_and_sweeps(folder / "runs")
    _write_damaged_runs(folder / "runs")
    _make_failed_run(folder)
    with _running_entries(folder / "runs"):
        yield


@contextlib.contextmanager
def installed_packages(folder: Path) -> Iterator[None]:
    """Installs faulty distributions temporarily."""
    folder.mkdir()
    with temporary_site(folder) as site_folder:
        for distribution, (entry_point, cls, requires, code) in DISTRIBUTIONS.items():
            site_folder.install_distribution(distribution, code, {entry_point: cls}, requires)
        yield
    shutil.rmtree(folder)


def _write_data_files(folder: Path) -> None:
    folder.mkdir()
    rows, labels = np.zeros((8, 4), np.float32), np.arange(8) % 2
    np.savez(folder / "named.npz", images=rows, labels=labels)
    np.savez(folder / "alone.npz", x_train=rows, y_train=labels, x_test=rows)
    for name, x, y in (
        ("uneven", rows, labels[:5]),
        ("texts", np.array(["a", "b"]), np.arange(2)),
        ("empty", rows[:0], labels[:0]),
        ("objects", np.array([{}, {}], dtype=object), np.arange(2)),
        ("few", rows, labels),
    ):
        np.savez(folder / f"{name}.npz", x_train=x, y_train=y)
    idx_files = ("train-images-idx3", "t10k-images-idx3", "train-labels-idx1", "t10k-labels-idx1")
    contents = {f"mnist/{name}-ubyte": bytes((0, 0, 8, int(name[-1]))).ljust(10, b"\0") for name in idx_files}
    contents |= {f"gzip/{name}-ubyte": bytes(8) for name in idx_files[1:]}
    contents["gzip/train-images-idx3-ubyte.gz"] = gzip.compress(bytes(1000))[:12]
    batches = ("test_batch", *(f"data_batch_{number}" for number in range(1, 6)))
    contents |= {f"cifar10/{name}.bin": bytes(100) for name in batches}
    contents["text.npz"] = b"no archive\n"
    for name, content in contents.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)


def _write_runs_and_sweeps(runs_dir: Path) -> None:
    run_folders.write_run(runs_dir, "k3v9aaaa")
    run_folders.write_run(runs_dir, "k3v9bbbb", loss=None, status="FAILED")
    run_folders.write_run(runs_dir, "m2w5abcd", status=None)
    run_folders.write_sweep(runs_dir, "y9z7abcd", [0.5, None], ["FINISHED", "FAILED"])
    run_folders.write_sweep(runs_dir, "z5q8abcd", [0.5, 0.4])
    run_folders.write_sweep(runs_dir, "r8u2abcd", [0.5], status="KILLED")
    run_folders.write_sweep(runs_dir, "b3d6abcd", [])
    (runs_dir.parent / "empty").mkdir()
    (runs_dir.parent / "sp ace").mkdir()
    (runs_dir.parent / "file").write_text("not a folder\n")


def _write_damaged_runs(runs_dir: Path) -> None:
    (run_folders.write_run(runs_dir, "d7g4abcd") / journal.NAME).write_text("")
    torn_journal = run_folders.write_run(runs_dir, "e8h5abcd") / journal.NAME
    torn_journal.write_text(torn_journal.read_text().replace("\n", "\ntorn\n", 1))
    for run_id, text in (("f9j6abcd", "seed: 1\n"), ("h6p2abcd", "no configuration\n")):
        (run_folders.write_run(runs_dir, run_id, status=None) / "config.yaml").write_text(text)
    shutil.rmtree(run_folders.write_run(runs_dir, "v3n8abcd") / "model")


def _make_failed_run(folder: Path) -> None:
    """Creates a real run that failed while loading data, and changes its plugin file afterwards."""
    file = folder / "broken_data.py"
    catalogue = get_catalogue((str(file),))
    config = compose(["dataset=broken", "tracker=[]", f"runs_dir={folder}/runs"], catalogue)
    with contextlib.suppress(DataError):
        execute(prepare_run(config, catalogue, id="g2k7abcd"))
    file.write_text(f"{file.read_text()}# changed\n")


@contextlib.contextmanager
def _running_entries(runs_dir: Path) -> Iterator[None]:
    """Creates a run and a sweep that appear to be running: their folders are locked."""
    run = run_folders.write_run(runs_dir, "n4x6abcd", status=None)
    sweep = run_folders.write_sweep(runs_dir, "s6t7abcd", [0.5])
    first_line = (sweep / journal.NAME).read_text().splitlines(keepends=True)[0]
    (sweep / journal.NAME).write_text(first_line)
    with process_lock.lock_folder(run), process_lock.lock_folder(sweep):
        yield
