"""Fixtures for all tests: commands and runs in this process or a new one, temporary folders, real data."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.fake_distributions import GOOD_CALLBACK, SiteFolder, temporary_site

from expfw.cli import main
from expfw.config.compose import compose
from expfw.plugins.catalogue import get_catalogue
from expfw.runs.one_run import execute
from expfw.runs.request import prepare_run

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class CommandResult:
    """Result of a command."""

    code: int
    out: str
    err: str


@pytest.fixture(scope="session")
def processors() -> None:
    """Four logical processors in this process; TensorFlow accepts them only before its first use."""
    import tensorflow as tf

    (processor,) = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(processor, [tf.config.LogicalDeviceConfiguration()] * 4)


@pytest.fixture
def workdir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, which contains the runs folder `runs`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return tmp_path


@pytest.fixture
def expfw_here(workdir: Path, processors: None, capfd: pytest.CaptureFixture[str]) -> Callable[..., CommandResult]:
    """Runs a command in this process, without another import of TensorFlow."""

    def run_in_process(*arguments: str) -> CommandResult:
        root = logging.getLogger()
        previous_handlers, level = list(root.handlers), root.level
        capfd.readouterr()
        code = main.run_command(lambda: main.main.main(list(arguments), standalone_mode=False))
        out, err = capfd.readouterr()
        root.handlers, root.level = (
            previous_handlers,
            level,
        )  # Hydra's --info changes the logging of the process
        return CommandResult(code, out, err)

    return run_in_process


@pytest.fixture
def expfw_process(workdir: Path) -> Callable[..., CommandResult]:
    """Runs a command in a new process, like a user."""

    def run_in_new_process(*arguments: str, python: str = sys.executable) -> CommandResult:
        command = [python, "-m", "expfw", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=workdir)
        return CommandResult(done.returncode, done.stdout, done.stderr)

    return run_in_new_process


@pytest.fixture
def train(workdir: Path, processors: None) -> Callable[..., object]:
    """Executes a run in this process; by default without a tracker, and only with the callback `checkpoint`."""

    def execute_run(*overrides: str, files: Sequence[str] = (), observers: Sequence[object] = ()) -> object:
        has_callback_override = any(word.lstrip("+").startswith(("callback", "experiment=")) for word in overrides)
        callback_overrides = [] if has_callback_override else ["callback=[checkpoint]"]  # plots take half a second
        catalogue = get_catalogue(tuple(files))
        config = compose(["tracker=[]", *callback_overrides, *overrides], catalogue)
        return execute(prepare_run(config, catalogue, overrides=overrides), observers)

    return execute_run


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder with real MNIST and CIFAR-10."""
    folder = os.environ.get("EXPFW_DATA")
    if folder is None:
        pytest.skip("EXPFW_DATA is not set; set it to a folder with mnist/ and cifar10/")
    return Path(folder).absolute()


@pytest.fixture
def call(workdir: Path, capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Runs a command in this process. Returns exit code, stdout, stderr. Only for commands without a framework."""

    def run_command(*arguments: str) -> tuple[int, str, str]:
        capfd.readouterr()
        code = main.run_command(lambda: main.main.main(list(arguments), standalone_mode=False))
        return (code, *capfd.readouterr())

    return run_command


@pytest.fixture
def planted(tmp_path: Path) -> Iterator[SiteFolder]:
    """A site folder with one valid plugin."""
    folder = tmp_path / "site"
    folder.mkdir()
    with temporary_site(folder) as plugin_site:
        plugin_site.install_distribution("expfw-good", GOOD_CALLBACK, {"callback/good": "Good"})
        yield plugin_site
