"""Fixtures for all tests: commands and runs in this process or a new one, temporary folders, real data."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
from support.fake_distributions import GOOD_CALLBACK, SiteFolder, temporary_site
from support.processes import run_expfw

from expfw.cli import main
from expfw.config.compose import compose
from expfw.plugins.catalogue import get_catalogue
from expfw.runs.one_run import execute
from expfw.runs.request import prepare_run

ROOT = Path(__file__).resolve().parent.parent
# A shell starts background jobs with SIGINT ignored, and all processes of the tests would inherit this.
signal.signal(signal.SIGINT, signal.default_int_handler)


class CommandResult(NamedTuple):
    """Exit code and output of a command."""

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
def call(workdir: Path, capfd: pytest.CaptureFixture[str]) -> Callable[..., CommandResult]:
    """Runs a command in this process. Only for commands without a framework; for all commands: `expfw_here`."""

    def run_in_process(*arguments: str) -> CommandResult:
        root = logging.getLogger()
        handlers, level = list(root.handlers), root.level
        capfd.readouterr()
        code = main.run_command(arguments)
        root.handlers, root.level = handlers, level  # Hydra's --info changes the logging of the process
        return CommandResult(code, *capfd.readouterr())

    return run_in_process


@pytest.fixture
def expfw_here(call: Callable[..., CommandResult], processors: None) -> Callable[..., CommandResult]:
    """Runs a command in this process, without another import of TensorFlow."""
    return call


@pytest.fixture
def expfw_process(workdir: Path) -> Callable[..., CommandResult]:
    """Runs a command in a new process, like a user."""

    def run_in_new_process(*arguments: str, python: str = sys.executable) -> CommandResult:
        done = run_expfw(workdir, *arguments, python=python)
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
def planted(tmp_path: Path) -> Iterator[SiteFolder]:
    """A site folder with one valid plugin."""
    folder = tmp_path / "site"
    folder.mkdir()
    with temporary_site(folder) as plugin_site:
        plugin_site.install_distribution("expfw-good", GOOD_CALLBACK, {"callback/good": "Good"})
        yield plugin_site
