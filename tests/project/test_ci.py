"""CI installs Debian packages for tests that need them."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from conftest import ROOT

SCRIPTS = {
    "id": "echo $USER_ID",
    "sudo": '[ "$SUDO" = yes ] && [ "$1" = -n ] && shift && exec "$@"\nexit 1',
    "apt-get": 'echo "$@" >> $HERE/calls\n[ "$1" = update ] || [ "${*: -1}" = chromium ] || touch $HERE/${*: -1}\n'
    "chmod -f +x $HERE/${*: -1}\n",
}


@pytest.fixture
def install(tmp_path):
    """Runs the installation with an apt-get without chromium; returns its calls and the warnings."""
    (tmp_path / "bin").mkdir()
    for name, script in SCRIPTS.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/bash\n{script}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    shutil.copy(ROOT / ".ci" / "browser", tmp_path)
    packages = f"# Some.\nchromium {tmp_path}/chromium\nzsh {tmp_path}/zsh\nbash /bin/bash\n"
    (tmp_path / "debian-packages").write_text(packages)

    def call(user_id: int, sudo: str) -> tuple[list[str], str]:
        environment = {"USER_ID": str(user_id), "SUDO": sudo, "HERE": str(tmp_path)}
        environment["PATH"] = f"{tmp_path}/bin:/usr/bin:/bin"
        done = subprocess.run([tmp_path / "browser"], env=environment, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0
        calls = tmp_path / "calls"
        return calls.read_text().splitlines() if calls.exists() else [], done.stderr

    return call


@pytest.mark.parametrize(("user_id", "sudo"), [(0, "no"), (1000, "yes")])
def test_a_missing_package_is_installed_as_root_or_with_sudo(install, user_id, sudo):
    calls, warnings = install(user_id, sudo)
    assert calls == ["update", *(f"install -y --no-install-recommends {name}" for name in ("chromium", "zsh"))]
    assert "WARNING: missing: chromium; tests that need them are SKIPPED: apt-get could not install them" in warnings


def test_without_root_or_sudo_missing_packages_are_a_warning(install):
    calls, warnings = install(1000, "no")
    assert calls == []
    assert "WARNING: missing: chromium zsh; tests that need them are SKIPPED: run as root: apt-get install" in warnings
