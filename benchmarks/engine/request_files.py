"""Counts the files of expfw that `expfw run` uses, from the command line to the first training step.

    python benchmarks/engine/request_files.py [OVERRIDE ...]

A file counts if one of its functions is called; calls during an import do not count. Runs in a temporary folder and
stops before a tracker delivers anything.
"""

from __future__ import annotations

import inspect
import os
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = (f"{ROOT}/expfw/", f"{ROOT}/plugins/")


class FirstStepReached(BaseException):
    """The first training step begins."""


class FileProfiler:
    """Records the file of every function that is called outside an import."""

    def __init__(self) -> None:
        self.files: dict[str, list[str]] = {}
        self.import_depth = 0

    def __call__(self, frame: FrameType, event: str, argument: Any) -> None:
        code = frame.f_code
        if code.co_name == "<module>":
            self.import_depth += {"call": 1, "return": -1}.get(event, 0)
            return
        is_function = bool(code.co_flags & inspect.CO_OPTIMIZED)  # a class body is not
        if event == "call" and is_function and not self.import_depth and code.co_filename.startswith(FOLDERS):
            functions = self.files.setdefault(code.co_filename.removeprefix(f"{ROOT}/"), [])
            if code.co_name not in functions:
                functions.append(code.co_name)
            if code.co_qualname == "Loop.run":
                sys.setprofile(None)
                raise FirstStepReached


def main() -> None:
    from expfw.cli.main import main as command

    profiler = FileProfiler()
    with tempfile.TemporaryDirectory(prefix="expfw-files-") as folder:
        os.chdir(folder)
        sys.setprofile(profiler)
        with suppress(FirstStepReached):
            command.main(["run", *sys.argv[1:]], standalone_mode=False)
        sys.setprofile(None)
        os.chdir(ROOT)
    for file, functions in profiler.files.items():
        print(f"{file}: {', '.join(functions)}")
    print(f"{len(profiler.files)} files")


if __name__ == "__main__":
    main()
