"""Redirects what native libraries write to the terminal."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from expfw.redaction import hide_secrets


@contextmanager
def redirect_fd(descriptor: int, target: int) -> Iterator[None]:
    """Lets `descriptor` be what `target` is."""
    try:
        saved_descriptor = os.dup(descriptor)
    except OSError:  # it is closed: nothing can be written to it
        yield
        return
    try:
        os.dup2(target, descriptor)
        yield
    finally:
        os.dup2(saved_descriptor, descriptor)
        os.close(saved_descriptor)


@contextmanager
def redirect_stderr(target: int) -> Iterator[None]:
    """Lets descriptor 2 be what `target` is; what Python itself writes to `sys.stderr` still reaches the screen."""
    python_stderr = sys.stderr
    writes_to_2 = _get_descriptor(python_stderr) == 2
    if writes_to_2:
        python_stderr.flush()
        sys.stderr = os.fdopen(os.dup(2), "w", buffering=1)
    try:
        with redirect_fd(2, target):
            yield
    finally:
        if writes_to_2:
            sys.stderr.flush()  # not closed: a logger that was made meanwhile, TensorFlow's for one, may keep it
            sys.stderr = python_stderr


def _get_descriptor(stream: Any) -> int | None:
    try:
        return int(stream.fileno())
    except (OSError, ValueError, AttributeError):  # replaced by something that is no file, in a notebook for example
        return None


@contextmanager
def redirect_noise(path: Path, secrets: Sequence[str] = ()) -> Iterator[None]:
    """Sends what native libraries write to file descriptor 2, and Python's log without what is `secrets`, to a file.

    What Python itself writes to `sys.stderr` still reaches the screen.
    """
    sys.stderr.flush()
    with open(path, "ab") as file, redirect_stderr(file.fileno()), log_to_file(path, logging.getLogger(), secrets):
        yield


@contextmanager
def log_to_file(path: Path, logger: logging.Logger, secrets: Sequence[str] = ()) -> Iterator[None]:
    """Adds what a logger is given, without what is `secrets`, to the end of a file."""
    handler = logging.FileHandler(path)
    handler.handleError = lambda record: None  # type: ignore[method-assign]  # the disk is full: others say so
    handler.setFormatter(_RedactingFormatter(secrets))
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        handler.close()


class _RedactingFormatter(logging.Formatter):
    """Lines of the log; an error may quote a secret."""

    def __init__(self, secrets: Sequence[str]) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")
        self._secrets = secrets

    def format(self, record: logging.LogRecord) -> str:
        return hide_secrets(super().format(record), self._secrets)


def redirect_output(path: Path) -> None:
    """File descriptors 1 and 2 to the end of a file."""
    with open(path, "ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
