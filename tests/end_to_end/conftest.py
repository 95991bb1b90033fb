"""A fresh environment outside of the checkout, with the wheel in it; made once for all tests that need one."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class InstalledEnvironment:
    """The environment and a folder to work in."""

    python: Path
    workdir: Path

    def pip(self, *arguments: str) -> None:
        command = [self.python, "-m", "pip", "install", "-q", "-c", ROOT / "constraints.txt", *arguments]
        subprocess.run(command, check=True, timeout=900)

    def expfw(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """The installed command, away from the checkout."""
        command = [self.python.with_name("expfw"), *arguments]
        environment = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
        return subprocess.run(command, cwd=self.workdir, env=environment, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="session")
def installed(tmp_path_factory) -> InstalledEnvironment:
    """The wheel, built from this checkout, in a fresh environment."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--outdir", folder / "dist", ROOT]
    subprocess.run(build, check=True, stdout=subprocess.DEVNULL, timeout=300)
    venv.create(folder / "venv", with_pip=True)
    environment = InstalledEnvironment(folder / "venv" / "bin" / "python", folder / "work")
    environment.workdir.mkdir()
    (wheel,) = (folder / "dist").glob("*.whl")
    environment.pip(str(wheel))
    return environment
