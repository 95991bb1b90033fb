"""Fixtures that all tests share: one process with TensorFlow in it, runs in temporary folders."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.fake_distributions import GOOD, Site, site

from expfw.cli import main
from expfw.config.compose import compose
from expfw.runs.one_run import execute
from expfw.runs.request import request

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str


@pytest.fixture(scope="session")
def processors() -> None:
    """Four logical processors in this process, which TensorFlow takes only before its first use."""
    import tensorflow as tf

    (processor,) = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(processor, [tf.config.LogicalDeviceConfiguration()] * 4)


@pytest.fixture
def workdir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory; the runs folder will be `runs` in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return tmp_path


@pytest.fixture
def expfw_here(workdir: Path, processors: None, capfd: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """Runs the command in this process; for what must not cost another import of TensorFlow."""

    def call(*arguments: str) -> Done:
        root = logging.getLogger()
        before, level = list(root.handlers), root.level
        capfd.readouterr()
        code = main.guarded(lambda: main.main.main(list(arguments), standalone_mode=False))
        out, err = capfd.readouterr()
        root.handlers, root.level = before, level  # Hydra's --info sets up logging, for a process that ends then
        return Done(code, out, err)

    return call


@pytest.fixture
def expfw_process(workdir: Path) -> Callable[..., Done]:
    """Runs the command in a process of its own, as a user would."""

    def call(*arguments: str, python: str = sys.executable) -> Done:
        command = [python, "-m", "expfw", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=workdir)
        return Done(done.returncode, done.stdout, done.stderr)

    return call


@pytest.fixture
def train(workdir: Path, processors: None) -> Callable[..., object]:
    """One run in this process, by overrides; no tracker unless asked for, and only the callback `checkpoint`."""

    def call(*overrides: str, files: Sequence[str] = (), observers: Sequence[object] = ()) -> object:
        chosen = any(word.lstrip("+").startswith(("callback", "experiment=")) for word in overrides)
        fewer = [] if chosen else ["callback=[checkpoint]"]  # pictures take half a second
        config = compose(["tracker=[]", *fewer, *overrides], tuple(files))
        return execute(request(config, tuple(files), overrides=overrides), observers)

    return call


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder with real MNIST and CIFAR-10."""
    folder = os.environ.get("EXPFW_DATA")
    if folder is None:
        pytest.skip("EXPFW_DATA is not set; set it to a folder with mnist/ and cifar10/")
    return Path(folder).absolute()


@pytest.fixture
def call(workdir: Path, capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Runs the command in this process: exit code, stdout, stderr. Only for commands that need no framework."""

    def command(*arguments: str) -> tuple[int, str, str]:
        capfd.readouterr()
        code = main.guarded(lambda: main.main.main(list(arguments), standalone_mode=False))
        return (code, *capfd.readouterr())

    return command


@pytest.fixture
def planted(tmp_path: Path) -> Iterator[Site]:
    """A site folder with one good plugin."""
    folder = tmp_path / "site"
    folder.mkdir()
    with site(folder) as made:
        made.plant("expfw-good", GOOD, {"callback/good": "Good"})
        yield made
