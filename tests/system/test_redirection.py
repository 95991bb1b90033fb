"""Output of native code goes to the log, that of Python code does not."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import ctypes, os
from pathlib import Path
from expfw.system.redirection import redirect_noise
libc = ctypes.CDLL(None)
print("before")
with redirect_noise(Path("log.txt")):
    libc.printf(b"native\\n")
    os.write(2, b"error\\n")
    os.system("echo child")
    print("python")
libc.printf(b"native after\\n")
print("after", flush=True)
"""


def test_only_native_output_goes_to_the_log(tmp_path):
    done = subprocess.run([sys.executable, "-c", SCRIPT], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.stderr == ""
    assert sorted(done.stdout.splitlines()) == ["after", "before", "native after", "python"]
    assert sorted((tmp_path / "log.txt").read_text().splitlines()) == ["child", "error", "native"]
