"""Output of this process: hides secrets in it, and redirects that of native libraries."""

from __future__ import annotations

import io
import logging
import os
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO, cast

from expfw.redaction import learn_environment, redact_text


class RedactedStream:
    """A text stream that hides secrets; `stream` is the original stream.

    It writes whole lines, as terminals get them: `print("Bearer", token)` passes its line in four parts.
    """

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self._parts: deque[str] = deque()

    def write(self, text: str) -> int:
        ends_line = "\n" in text or "\r" in text  # a TypeError for bytes, by which Click recognizes a text stream
        self._parts.append(text)
        if ends_line:
            self.write_parts()
        return len(text)

    def write_parts(self) -> None:
        """Writes what it has to the original stream."""
        parts: list[str] = []
        with suppress(IndexError):  # also if another thread writes the rest
            while True:
                parts.append(self._parts.popleft())
        self.stream.write(redact_text("".join(parts)))

    def flush(self) -> None:
        self.write_parts()
        self.stream.flush()

    def writelines(self, lines: Iterable[str]) -> None:
        self.write("".join(lines))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def redact_stream(stream: TextIO) -> TextIO:
    """Returns a stream that hides secrets in the output to this stream."""
    is_closed_or_redacted = stream is None or isinstance(stream, RedactedStream)
    return stream if is_closed_or_redacted else cast(TextIO, RedactedStream(stream))


def redact_output() -> None:
    """Hides secrets in all further output of this process to `sys.stdout` and `sys.stderr`."""
    learn_environment()
    sys.stdout, sys.stderr = redact_stream(sys.stdout), redact_stream(sys.stderr)


@contextmanager
def redacted_output() -> Iterator[None]:
    """Calls `redact_output` for the context."""
    streams = sys.stdout, sys.stderr
    redact_output()
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, RedactedStream):
                stream.write_parts()
        sys.stdout, sys.stderr = streams


def redact_file(path: Path) -> None:
    """Hides secrets in a file to which native code or other programs have written, if it can be read and written."""
    with suppress(OSError):  # the folder was deleted, or the disk is full
        content = path.read_bytes().decode(errors="surrogateescape")
        redacted = "".join(map(redact_text, content.splitlines(keepends=True)))
        if redacted != content:
            path.write_bytes(redacted.encode(errors="surrogateescape"))


@contextmanager
def redirect_fd(descriptor: int, target: int) -> Iterator[None]:
    """Redirects `descriptor` to `target` inside the context."""
    try:
        saved_descriptor = os.dup(descriptor)
    except OSError:  # it is closed
        yield
        return
    try:
        os.dup2(target, descriptor)
        yield
    finally:
        os.dup2(saved_descriptor, descriptor)
        os.close(saved_descriptor)


@contextmanager
def redirect_noise(path: Path = Path(os.devnull)) -> Iterator[None]:
    """Sends the output of native libraries on descriptors 1 and 2, and Python's log, to a file.

    Python's `sys.stdout` and `sys.stderr` still write to the terminal.
    """
    with (
        _keep_destination("stdout", 1),
        _keep_destination("stderr", 2),
        log_to_file(path, logging.getLogger()),
        open(path, "ab") as file,
        redirect_fd(1, file.fileno()),
        redirect_fd(2, file.fileno()),
    ):
        try:
            yield
        finally:
            import ctypes

            ctypes.CDLL(None).fflush(None)  # C keeps the output for descriptor 1 in memory


@contextmanager
def _keep_destination(name: str, descriptor: int) -> Iterator[None]:
    """Within the context, the stream `sys.<name>` writes to a copy of its descriptor."""
    stream = getattr(sys, name)
    stream.flush()
    original = stream.stream if isinstance(stream, RedactedStream) else stream
    # other streams, for example in a notebook or of the live view, do not write to the descriptor
    if not isinstance(original, io.TextIOWrapper) or original.fileno() != descriptor:
        yield
        return
    copy = redact_stream(open(os.dup(descriptor), "w", 1, original.encoding, original.errors))  # noqa: SIM115
    setattr(sys, name, copy)
    try:
        yield
    finally:
        setattr(sys, name, stream)
        copy.flush()  # not closed: a logger created in the meantime, such as TensorFlow's, may still use it


@contextmanager
def log_to_file(path: Path, logger: logging.Logger) -> Iterator[None]:
    """Appends the records of a logger to a file; hides secrets in them, and at the end in the whole file."""
    handler = _RedactingHandler(path)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    handler.handleError = lambda record: None  # type: ignore[method-assign]  # the disk is full: reported elsewhere
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        handler.close()
        redact_file(path)


class _RedactingHandler(logging.FileHandler):
    """Hides secrets, which an error may quote."""

    def format(self, record: logging.LogRecord) -> str:
        return redact_text(super().format(record))
