"""Redirects the output of native libraries."""

from __future__ import annotations

import io
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from expfw.redaction import hide_secrets


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
def redirect_noise(path: Path = Path(os.devnull), secrets: Sequence[str] = ()) -> Iterator[None]:
    """Sends the output of native libraries on descriptors 1 and 2, and Python's log, to a file.

    Python's `sys.stdout` and `sys.stderr` still write to the terminal; `secrets` are hidden in the log.
    """
    with (
        _keep_destination("stdout", 1),
        _keep_destination("stderr", 2),
        open(path, "ab") as file,
        redirect_fd(1, file.fileno()),
        redirect_fd(2, file.fileno()),
        log_to_file(path, logging.getLogger(), secrets),
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
    # other streams, for example in a notebook or of the live view, do not write to the descriptor
    if not isinstance(stream, io.TextIOWrapper) or stream.fileno() != descriptor:
        yield
        return
    copy = open(os.dup(descriptor), "w", 1, stream.encoding, stream.errors)  # noqa: SIM115
    setattr(sys, name, copy)
    try:
        yield
    finally:
        setattr(sys, name, stream)
        copy.flush()  # not closed: a logger created in the meantime, such as TensorFlow's, may still use it


@contextmanager
def log_to_file(path: Path, logger: logging.Logger, secrets: Sequence[str] = ()) -> Iterator[None]:
    """Appends the records of a logger to a file, with `secrets` hidden."""
    handler = _RedactingHandler(path)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    handler.secrets = secrets
    handler.handleError = lambda record: None  # type: ignore[method-assign]  # the disk is full: reported elsewhere
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        handler.close()


class _RedactingHandler(logging.FileHandler):
    """Hides secrets, which an error may quote."""

    secrets: Sequence[str] = ()

    def format(self, record: logging.LogRecord) -> str:
        return hide_secrets(super().format(record), self.secrets)
