"""What CI installs for tests that need more than Python packages."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from conftest import ROOT

SCRIPTS = {
    "id": "echo $WHO",
    "sudo": '[ "$SUDO" = yes ] && [ "$1" = -n ] && shift && exec "$@"\nexit 1',
    "apt-get": 'echo "$@" >> $HERE/calls\n[ "$1" = update ] || [ "${*: -1}" = chromium ] || touch $HERE/${*: -1}\n'
    "chmod -f +x $HERE/${*: -1}\n",
}


@pytest.fixture
def installed(tmp_path):
    """Installs with an apt-get that has no chromium; returns what it was called with, and what is said."""
    (tmp_path / "bin").mkdir()
    for name, script in SCRIPTS.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/bash\n{script}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    shutil.copy(ROOT / ".ci" / "browser", tmp_path)
    (tmp_path / "debian-packages").write_text(
        f"# Some.\nchromium {tmp_path}/chromium\nzsh {tmp_path}/zsh\nbash /bin/bash\n"
    )

    def call(who: int, sudo: str) -> tuple[list[str], str]:
        own = {"WHO": str(who), "SUDO": sudo, "HERE": str(tmp_path), "PATH": f"{tmp_path}/bin:/usr/bin:/bin"}
        done = subprocess.run([tmp_path / "browser"], env=own, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0
        calls = tmp_path / "calls"
        return calls.read_text().splitlines() if calls.exists() else [], done.stderr

    return call


@pytest.mark.parametrize(("who", "sudo"), [(0, "no"), (1000, "yes")])
def test_what_is_absent_is_installed_as_root_or_by_sudo_and_what_there_is_none_of_keeps_no_other_away(
    installed, who, sudo
):
    calls, said = installed(who, sudo)
    assert calls == ["update", *(f"install -y --no-install-recommends {name}" for name in ("chromium", "zsh"))]
    assert "WARNING: no chromium; tests that need them will be SKIPPED: apt-get could not install them" in said


def test_who_may_not_install_is_told_and_nothing_fails(installed):
    calls, said = installed(1000, "no")
    assert calls == []
    assert "WARNING: no chromium zsh; tests that need them will be SKIPPED: run as root: apt-get install" in said
