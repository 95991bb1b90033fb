"""The folder in which the commands of the gallery are typed: runs, sweeps, plugins and data, good and bad."""

from __future__ import annotations

import contextlib
import gzip
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from support import run_folders
from support.fake_distributions import GOOD, site

from expfw.config.compose import compose
from expfw.errors import DataError
from expfw.runs.one_run import execute
from expfw.runs.request import request
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
        "        raise expfw.DataError('these data are never there; take others')\n"
    ),
}
CALLBACK = """
from dataclasses import dataclass, field
from typing import Literal

import expfw


class Mine(expfw.Callback):
    @dataclass
    class Config:
        {option}
"""
OPTIONS = {
    "pair.py": "size: tuple[int, int] = (1, 2)",
    "letters.py": "letters: set[str] = field(default_factory=set)",
    "wrong_default.py": 'size: int = "large"',
    "refuses.py": 'size: int = 1\n\n        def __post_init__(self):\n            raise RuntimeError("never")',
    "typo.py": "size: itn = 1",
    "choice.py": 'how: Literal["slow", "fast"] = "slow"\n        times: int | None = None\n        must: str = "a"',
}
DISTRIBUTIONS = {
    "expfw-old": ("callback/old", "Good", "expfw<0.1", GOOD),
    "expfw-absent": ("callback/absent", "Good", "expfw<1", "import nothing_of_that_name\n"),
    "expfw-nameless": ("callback/nameless", "Missing", "expfw<1", GOOD),
    "expfw-other": ("model/other", "Good", "expfw<1", GOOD),
    "expfw-first": ("callback/both", "Good", "expfw<1", GOOD),
    "expfw-second": ("callback/both", "Good", "expfw<1", GOOD),
    "expfw-dotted": ("callback/my.callback", "Good", "expfw<1", GOOD),
    "expfw-strange": ("modle/strange", "Good", "expfw<1", GOOD),
    "expfw-unhooked": (
        "callback/unhooked",
        "Good",
        "expfw<1",
        GOOD.replace("expfw_epoch_ended", "expfw_epoch_over"),
    ),
}


@contextlib.contextmanager
def filled(folder: Path) -> Iterator[None]:
    """Everything in its place; what is said to run does so meanwhile."""
    for name, text in FILES.items() | {(name, CALLBACK.format(option=text)) for name, text in OPTIONS.items()}:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    _data(folder / "data")
    _finished(folder / "runs")
    _damaged(folder / "runs")
    _failed(folder)
    with _running(folder / "runs"):
        yield


@contextlib.contextmanager
def packages(folder: Path) -> Iterator[None]:
    """Distributions with faults, installed meanwhile."""
    folder.mkdir()
    with site(folder) as planted:
        for distribution, (point, cls, requires, code) in DISTRIBUTIONS.items():
            planted.plant(distribution, code, {point: cls}, requires)
        yield
    shutil.rmtree(folder)


def _data(folder: Path) -> None:
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


def _finished(runs: Path) -> None:
    run_folders.run(runs, "k3v9aaaa")
    run_folders.run(runs, "k3v9bbbb", loss=None, status="FAILED")
    run_folders.run(runs, "m2w5abcd", status=None)
    run_folders.sweep(runs, "y9z7abcd", [0.5, None], ["FINISHED", "FAILED"])
    run_folders.sweep(runs, "z5q8abcd", [0.5, 0.4])
    run_folders.sweep(runs, "r8u2abcd", [0.5], status="KILLED")
    run_folders.sweep(runs, "b3d6abcd", [])
    (runs.parent / "empty").mkdir()
    (runs.parent / "sp ace").mkdir()
    (runs.parent / "file").write_text("not a folder\n")


def _damaged(runs: Path) -> None:
    lost = run_folders.run(runs, "d7g4abcd")
    (lost / journal.NAME).write_text("")
    torn = run_folders.run(runs, "e8h5abcd") / journal.NAME
    first, *rest = torn.read_text().splitlines(keepends=True)
    torn.write_text("".join([first, "torn\n", *rest]))
    edited = run_folders.run(runs, "f9j6abcd", status=None)
    (edited / "config.yaml").write_text("seed: 1\n")
    text = run_folders.run(runs, "h6p2abcd", status=None)
    (text / "config.yaml").write_text("no configuration\n")
    shutil.rmtree(run_folders.run(runs, "v3n8abcd") / "model")


def _failed(folder: Path) -> None:
    """A real run, which was over before it began, and whose plugin file has changed since."""
    file = folder / "broken_data.py"
    config = compose(["dataset=broken", "tracker=[]", f"runs_dir={folder}/runs"], (str(file),))
    with contextlib.suppress(DataError):
        execute(request(config, (str(file),), id="g2k7abcd"))
    file.write_text(f"{file.read_text()}# changed\n")


@contextlib.contextmanager
def _running(runs: Path) -> Iterator[None]:
    """A run and a sweep that go on, as far as anybody can see."""
    run = run_folders.run(runs, "n4x6abcd", status=None)
    sweep = run_folders.sweep(runs, "s6t7abcd", [0.5])
    began = (sweep / journal.NAME).read_text().splitlines(keepends=True)[0]
    (sweep / journal.NAME).write_text(began)
    with process_lock.occupied(run), process_lock.occupied(sweep):
        yield
