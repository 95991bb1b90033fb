"""Output of native code goes to the log, that of Python code does not, and secrets to neither."""

from __future__ import annotations

import io
import subprocess
import sys
from threading import Thread

import click

from expfw.redaction import HIDDEN
from expfw.system.redirection import redact_stream, redacted_output

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


def test_a_secret_is_hidden_if_its_line_is_written_in_parts(capsys):
    with redacted_output():
        print("Bearer", "abc123.def-4")
        print("progress", end="\r")
        print("Authorization: Bearer ", end="", file=sys.stderr)
        print("abc123.def-4", end="", file=sys.stderr)
    output = capsys.readouterr()
    assert output.out == f"Bearer {HIDDEN}\nprogress\r"
    assert output.err == f"Authorization: Bearer {HIDDEN}"


def test_click_writes_text():
    """Click tests a stream with bytes, and takes one that accepts them for a binary stream."""
    output = io.StringIO()
    click.echo("text", file=redact_stream(output))
    assert output.getvalue() == "text\n"


def test_threads_lose_no_part_of_a_line():
    output = io.StringIO()
    stream = redact_stream(output)
    threads = [Thread(target=lambda: [print("a", "b", file=stream) for _ in range(1000)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stream.flush()
    assert sorted(output.getvalue()) == sorted("a b\n" * 4000)
