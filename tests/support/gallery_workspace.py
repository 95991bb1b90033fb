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
    "expfw-unhooked": (
        "callback/unhooked",
        "Good",
        "expfw<1",
        GOOD_CALLBACK.replace("expfw_epoch_ended", "expfw_epoch_over"),
    ),
}


@contextlib.contextmanager
def filled_workspace(folder: Path) -> Iterator[None]:
    """Creates all files; locks the running entries meanwhile."""
    for name, text in FILES.items() | {
        (name, CALLBACK_TEMPLATE.format(option=text)) for name, text in CALLBACK_OPTIONS.items()
    }:
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
    np.savez(folder / "uneven.npz", x_train=rows, y_train=labels[:5])
    np.savez(folder / "alone.npz", x_train=rows, y_train=labels, x_test=rows)
    np.savez(folder / "texts.npz", x_train=np.array(["a", "b"]), y_train=np.array([0, 1]))
    np.savez(folder / "empty.npz", x_train=rows[:0], y_train=labels[:0])
    np.savez(folder / "objects.npz", x_train=np.array([{}, {}], dtype=object), y_train=np.array([0, 1]))
    np.savez(folder / "few.npz", x_train=rows, y_train=labels)
    (folder / "text.npz").write_text("no archive\n")
    (folder / "mnist").mkdir()
    for name in ("train-images-idx3", "t10k-images-idx3"):
        (folder / "mnist" / f"{name}-ubyte").write_bytes(bytes((0, 0, 8, 3)) + bytes(6))
    for name in ("train-labels-idx1", "t10k-labels-idx1"):
        (folder / "mnist" / f"{name}-ubyte").write_bytes(bytes((0, 0, 8, 1, 0, 0, 0, 0)))
    (folder / "gzip").mkdir()
    (folder / "gzip" / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(bytes(1000))[:12])
    for name in ("train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"):
        (folder / "gzip" / f"{name}-ubyte").write_bytes(bytes(8))
    (folder / "cifar10").mkdir()
    for number in range(1, 6):
        (folder / "cifar10" / f"data_batch_{number}.bin").write_bytes(bytes(100))
    (folder / "cifar10" / "test_batch.bin").write_bytes(bytes(100))


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
    emptied_run = run_folders.write_run(runs_dir, "d7g4abcd")
    (emptied_run / journal.NAME).write_text("")
    torn_journal = run_folders.write_run(runs_dir, "e8h5abcd") / journal.NAME
    first, *rest = torn_journal.read_text().splitlines(keepends=True)
    torn_journal.write_text("".join([first, "torn\n", *rest]))
    edited_run = run_folders.write_run(runs_dir, "f9j6abcd", status=None)
    (edited_run / "config.yaml").write_text("seed: 1\n")
    text_run = run_folders.write_run(runs_dir, "h6p2abcd", status=None)
    (text_run / "config.yaml").write_text("no configuration\n")
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
