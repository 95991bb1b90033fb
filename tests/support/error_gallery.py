"""Gallery of errors: commands with their output and exit code, as in a terminal.

`python tests/support/error_gallery.py [NAME...]` updates the files; `git diff` shows the changes.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import logging
import os
import re
import shlex
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from unittest import mock

import numpy as np
from support import run_folders
from support.fake_distributions import GOOD_CALLBACK, temporary_site

from expfw.cli import main as cli
from expfw.config.compose import compose
from expfw.errors import DataError
from expfw.plugins.catalogue import get_cached_catalogue, get_catalogue
from expfw.runs.one_run import execute
from expfw.runs.request import prepare_run
from expfw.system import process_lock
from expfw.tracking import journal

GALLERY_FOLDER = Path(__file__).parents[1] / "gallery"
_VOLATILE_PATTERNS = {
    r"\b[0-9a-f]{16}\b": "HASH",
    r"\b(?!2026-01-01)\d{4}-\d\d-\d\d/\d\d-\d\d-\d\d-\w{8}\b": "NEW",
    r"at byte \d+": "at byte NUMBER",
    r"the \d+ available CPU cores": "the NUMBER available CPU cores",
    r"(?m)^.*INFO mlflow\.store.*\n": "",
}
"""Texts that differ each time, and their placeholders."""
_FILES = {
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


@dataclass(frozen=True)
class Case:
    """A command with its environment variables, its output (stdout and stderr) and its exit code."""

    file: str
    command_line: str
    output: str = ""
    exit_code: int = 2

    def __str__(self) -> str:
        return f"$ {self.command_line}\n{self.output}[{self.exit_code}]"


def read_cases(file: Path) -> list[Case]:
    """Returns the cases of a file: blocks that begin with `$`, separated by blank lines. Other blocks are comments."""
    return [block for block in _read_blocks(file) if isinstance(block, Case)]


def _read_blocks(file: Path) -> list[Case | str]:
    blocks: list[Case | str] = []
    for text in re.split(r"\n\n+(?=[$#])", file.read_text().strip("\n")):
        case = re.fullmatch(r"\$ ([^\n]*)(?:\n(.*)\[(\d+)\])?", text, re.DOTALL)
        blocks.append(Case(file.stem, case[1], case[2] or "", int(case[3] or 2)) if case else text)
    return blocks


class Workspace:
    """The working directory of the commands, and placeholders for texts that differ each time."""

    def __init__(self, folder: Path, placeholders: Mapping[str, str]) -> None:
        self.folder = folder
        self._placeholders = {"HERE": str(folder), **placeholders}

    def run_case(self, case: Case) -> Case:
        """Runs a case; returns it with the current output and exit code."""
        command_line = case.command_line
        for word, value in self._placeholders.items():
            command_line = re.sub(rf"\b{word}\b", value, command_line)
        arguments = shlex.split(command_line)
        command_index = arguments.index("expfw")
        output, variables = io.StringIO(), dict(word.split("=", 1) for word in arguments[:command_index])
        with contextlib.ExitStack() as stack:
            if case.file == "plugins":
                stack.enter_context(installed_packages(self.folder / "packages"))
            stack.enter_context(contextlib.chdir(self.folder))
            # without pytest's handlers, warnings go to stderr
            stack.enter_context(mock.patch.object(logging.getLogger(), "handlers", []))
            stack.enter_context(mock.patch.dict(os.environ, variables, COLUMNS="500"))
            stack.enter_context(contextlib.redirect_stdout(output))
            stack.enter_context(contextlib.redirect_stderr(output))
            code = cli.run_command(arguments[command_index + 1 :])
        text = output.getvalue()
        for word, value in self._placeholders.items():
            text = text.replace(value, word)
        for pattern, word in _VOLATILE_PATTERNS.items():
            text = re.sub(pattern, word, text)
        return replace(case, output="".join(f"{line.rstrip()}\n" for line in text.splitlines()), exit_code=code)


@contextlib.contextmanager
def filled_workspace(folder: Path) -> Iterator[None]:
    """Creates all files; locks the running entries meanwhile."""
    callbacks = {name: CALLBACK_TEMPLATE.format(option=text) for name, text in CALLBACK_OPTIONS.items()}
    for name, text in {**_FILES, **callbacks}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    _write_data_files(folder / "data")
    _write_runs_and_sweeps(folder / "runs")
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
    # damaged runs
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
    get_cached_catalogue.cache_clear()  # as in a new process


@contextlib.contextmanager
def _running_entries(runs_dir: Path) -> Iterator[None]:
    """Creates a run and a sweep that appear to be running: their folders are locked."""
    run = run_folders.write_run(runs_dir, "n4x6abcd", status=None)
    sweep = run_folders.write_sweep(runs_dir, "s6t7abcd", [0.5])
    first_line = (sweep / journal.NAME).read_text().splitlines(keepends=True)[0]
    (sweep / journal.NAME).write_text(first_line)
    with process_lock.lock_folder(run), process_lock.lock_folder(sweep):
        yield


@contextlib.contextmanager
def open_workspace(folder: Path) -> Iterator[Workspace]:
    """Creates a workspace with valid and invalid runs, sweeps, plugins and data."""
    with filled_workspace(folder), socket.create_server(("127.0.0.1", 0)) as listener:
        yield Workspace(folder, {"TAKEN_PORT": str(listener.getsockname()[1])})


def main(names: list[str]) -> None:
    """Updates the files."""
    for file in sorted(GALLERY_FOLDER.glob("*.txt")):
        if names and file.stem not in names:
            continue
        with tempfile.TemporaryDirectory() as folder, open_workspace(Path(folder)) as workspace:
            blocks = [workspace.run_case(block) if isinstance(block, Case) else block for block in _read_blocks(file)]
        file.write_text("\n\n".join(map(str, blocks)) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
