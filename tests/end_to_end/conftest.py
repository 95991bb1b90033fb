"""A virtual environment outside the checkout with the wheel, created once; a tracking server behind a proxy."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.processes import make_environment, run_expfw
from support.tracking_server import MLflowServer, ServerProxy

ROOT = Path(__file__).resolve().parents[2]
PIP_OPTIONS = {
    "PIP_QUIET": "1",
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    "PIP_CONSTRAINT": str(ROOT / "constraints.txt"),
    "PIP_NO_COMPILE": "1",  # half of the time; Python compiles what is imported
    "PIP_NO_BUILD_ISOLATION": "0",  # means true; builds with the setuptools of the environment
}


@dataclass(frozen=True)
class InstalledEnvironment:
    """A virtual environment and a working directory."""

    python: Path
    workdir: Path

    @property
    def variables(self) -> dict[str, str]:
        """Environment variables in which the commands of this environment come first, without a tracking server."""
        return make_environment(PATH=f"{self.python.parent}:{os.environ['PATH']}", **PIP_OPTIONS)

    def pip(self, *arguments: str) -> None:
        subprocess.run([self.python, "-m", "pip", "install", *arguments], check=True, timeout=900, env=self.variables)

    def expfw(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Runs the installed command outside the checkout."""
        return run_expfw(self.workdir, *arguments, python=str(self.python), **self.variables)


@pytest.fixture(scope="session")
def installed(tmp_path_factory) -> InstalledEnvironment:
    """A new environment with the wheel of this checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    # a copy: the folder build/ may contain modules that no longer exist, and another process may build there
    source = folder / "source"
    for name in ("expfw", "plugins", "conf"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    build = [sys.executable, "-m", "build", "--wheel", "--outdir", folder / "dist", source]
    subprocess.run(build, check=True, stdout=subprocess.DEVNULL, timeout=300)
    venv.create(folder / "venv", with_pip=True)
    environment = InstalledEnvironment(folder / "venv" / "bin" / "python", folder / "work")
    environment.workdir.mkdir()
    (wheel,) = (folder / "dist").glob("*.whl")
    environment.pip(str(wheel), "setuptools>=77")
    return environment


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    mlflow_server = MLflowServer(tmp_path_factory.mktemp("server"))
    mlflow_server.start()
    yield mlflow_server
    mlflow_server.kill()


@pytest.fixture
def proxy(server):
    server_proxy = ServerProxy(server)
    yield server_proxy
    server_proxy.close()
