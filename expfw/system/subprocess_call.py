"""Calls a function in another process, because it may crash, hang, print or use up the memory."""

from __future__ import annotations

import importlib
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from expfw import errors
from expfw.errors import ExpfwError, to_one_line, truncate_start
from expfw.system.process_exit import count_oom_kills, describe_exit
from expfw.system.redirection import redact_output


class CallError(ExpfwError):
    """A call raised an exception that is not an `ExpfwError`, or its process ended early or not in time."""


def call_in_subprocess(function: Callable[..., Any], *arguments: Any, timeout: float | None = None) -> Any:
    """Calls a function in a fresh process and returns its result; see `start_call`.

    Raises:
        ExpfwError: raised by the function; `CallError` for anything else, in one line with the end of the output.
    """
    with start_call(function, *arguments) as call:
        return call.wait_for_result(timeout)


@dataclass(frozen=True)
class SubprocessCall:
    """A call in another process, see `start_call`; `output` is None if it goes to a log."""

    process: subprocess.Popen[bytes]
    answer: IO[bytes]
    output: IO[bytes] | None
    memory_kills: int

    def wait_for_result(self, timeout: float | None = None) -> Any:
        """Waits until the process ends, at most `timeout` seconds; result and errors as in `call_in_subprocess`."""
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout)
        return _read_result(self.answer, self.output, self.process.returncode, timeout, self.memory_kills)


@contextmanager
def start_call(
    function: Callable[..., Any],
    *arguments: Any,
    log: Path | None = None,
    environment: Mapping[str, str] | None = None,
    working_directory: Path | None = None,
    inherit_path: bool = True,
    end_with_parent: signal.Signals | None = signal.SIGKILL,
) -> Iterator[SubprocessCall]:
    """Starts to call a function in a fresh process; the end of the context kills the process and its children.

    The process has a session of its own, so Ctrl-C does not reach it. It does not import from the working directory.

    Args:
        function: function at the top level of a module; its arguments and its result must be valid for JSON.
        log: file to which the output of the process is appended; None to keep it for errors.
        environment: additional environment variables.
        inherit_path: whether the process imports from the same folders as this process.
        end_with_parent: signal that the process and its children receive when this process ends; None to let them
            continue.
    """
    path = sys.path if inherit_path else None
    request = (path, function.__module__, function.__qualname__, arguments, end_with_parent)
    with (
        tempfile.TemporaryFile() as answer,
        tempfile.TemporaryFile() if log is None else open(log, "ab") as output,
        subprocess.Popen(
            [sys.executable, "-P", "-m", __name__, str(answer.fileno())],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            pass_fds=[answer.fileno()],
            cwd=working_directory,
            env={**os.environ, **(environment or {})},
            start_new_session=True,
        ) as process,
    ):
        call = SubprocessCall(process, answer, output if log is None else None, count_oom_kills())
        assert process.stdin is not None
        try:
            with suppress(BrokenPipeError):  # it has already ended: `wait_for_result` reports why
                process.stdin.write(json.dumps(request, default=str).encode() + b"\n")
                process.stdin.flush()
            yield call
        finally:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            with suppress(BrokenPipeError):
                process.stdin.close()


def call_in_fork(function: Callable[..., Any], *arguments: Any, timeout: float) -> Any:
    """Calls a function in a fork of this process, which must have no threads; otherwise as `call_in_subprocess`."""
    with tempfile.TemporaryFile() as answer, tempfile.TemporaryFile() as output:

        def run() -> None:
            for descriptor in (1, 2):
                os.dup2(output.fileno(), descriptor)
            exit_code = _answer_call(answer, function, arguments)
            os._exit(exit_code)  # without waiting for threads that the function left running

        process = multiprocessing.get_context("fork").Process(target=run)
        process.start()
        process.join(timeout)
        exit_code = process.exitcode
        process.kill()
        process.join()
        return _read_result(answer, output, exit_code, timeout)


def run_command(command: Sequence[str]) -> int:
    """Runs a command and returns its exit code. SIGTERM is left to the command, which receives it too."""
    process = subprocess.Popen(command)
    signal.signal(signal.SIGTERM, lambda number, frame: None)
    return process.wait()


def _answer_call(answer: IO[bytes], function: Callable[..., Any], arguments: Any) -> int:
    """Calls the function, writes its result or its error for `_read_result`, and returns the exit code."""
    try:
        values = {"result": function(*arguments)}
    except ExpfwError as error:
        values = {"error": type(error).__name__, "text": " ".join([str(error), *getattr(error, "__notes__", ())])}
    except Exception as error:
        traceback.print_exc()
        values = {"error": CallError.__name__, "text": to_one_line(f"{type(error).__name__}: {error}")}
    sys.stdout.flush()
    sys.stderr.flush()
    answer.write(json.dumps(values, default=str).encode())
    answer.flush()
    return int("error" in values)


def _read_result(
    answer: IO[bytes],
    output: IO[bytes] | None,
    exit_code: int | None,
    timeout: float | None,
    memory_kills: int | None = None,
) -> Any:
    """Returns the result; raises the error of the function, or `CallError` if the process has not answered."""
    if not (text := _read_text(answer)):
        is_late = exit_code is None
        problem = f"its process did not end within {timeout:g} s" if is_late else describe_exit(exit_code, memory_kills)
        last_output = "" if output is None else truncate_start(to_one_line(_read_text(output)), 200)
        raise CallError(f"{problem} ({last_output})" if last_output else problem)
    values = json.loads(text)
    if "error" in values:
        raise getattr(errors, values["error"], CallError)(values["text"])
    return values["result"]


def _read_text(file: IO[bytes]) -> str:
    size = os.fstat(file.fileno()).st_size
    return os.pread(file.fileno(), size, 0).decode(errors="replace")  # not `read`: the processes share a position


def _main() -> None:
    redact_output()
    path, module, name, arguments, end_with_parent = json.loads(sys.stdin.buffer.readline())
    sys.path[:] = path or sys.path
    parent = os.dup(0)
    with open(os.devnull, "rb") as empty_input:
        os.dup2(empty_input.fileno(), 0)

    def wait_for_end_of_parent() -> None:
        os.read(parent, 1)
        os.killpg(os.getpid(), end_with_parent)

    if end_with_parent is not None:
        threading.Thread(target=wait_for_end_of_parent, daemon=True).start()
    with open(int(sys.argv[1]), "wb") as answer:
        exit_code = _answer_call(answer, getattr(importlib.import_module(module), name), arguments)
    if any(not thread.daemon for thread in threading.enumerate() if thread is not threading.main_thread()):
        os._exit(exit_code)  # without waiting for threads that the function left running
    sys.exit(exit_code)


if __name__ == "__main__":
    _main()
