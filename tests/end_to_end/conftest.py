"""A virtual environment outside the checkout with the wheel, created once for all tests."""

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
    """A virtual environment and a working directory."""

    python: Path
    workdir: Path

    @property
    def variables(self) -> dict[str, str]:
        """Environment variables in which the commands of this environment come first, without a tracking server."""
        variables = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
        return {**variables, "PATH": f"{self.python.parent}:{os.environ['PATH']}"}

    def pip(self, *arguments: str) -> None:
        command = [self.python, "-m", "pip", "install", "-q", "-c", ROOT / "constraints.txt", *arguments]
        subprocess.run(command, check=True, timeout=900)

    def expfw(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Runs the installed command outside the checkout."""
        command = [self.python.with_name("expfw"), *arguments]
        return subprocess.run(
            command, cwd=self.workdir, env=self.variables, capture_output=True, text=True, timeout=300
        )


@pytest.fixture(scope="session")
def installed(tmp_path_factory) -> InstalledEnvironment:
    """A new environment with the wheel of this checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--outdir", folder / "dist", ROOT]
    subprocess.run(build, check=True, stdout=subprocess.DEVNULL, timeout=300)
    venv.create(folder / "venv", with_pip=True)
    environment = InstalledEnvironment(folder / "venv" / "bin" / "python", folder / "work")
    environment.workdir.mkdir()
    (wheel,) = (folder / "dist").glob("*.whl")
    environment.pip(str(wheel))
    return environment
