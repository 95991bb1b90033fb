"""Redirects the output of native libraries."""

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
def redirect_stderr(target: int) -> Iterator[None]:
    """Redirects descriptor 2 to `target`; Python's `sys.stderr` still writes to the terminal."""
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
            sys.stderr.flush()  # not closed: a logger created in the meantime, such as TensorFlow's, may still use it
            sys.stderr = python_stderr


def _get_descriptor(stream: Any) -> int | None:
    try:
        return int(stream.fileno())
    except (OSError, ValueError, AttributeError):  # not a file, for example in a notebook
        return None


@contextmanager
def redirect_noise(path: Path, secrets: Sequence[str] = ()) -> Iterator[None]:
    """Sends the output of native libraries on descriptor 2, and Python's log, to a file.

    Python's `sys.stderr` still writes to the terminal.

    Args:
        path: file to append to.
        secrets: texts that are hidden in the log.
    """
    sys.stderr.flush()
    with open(path, "ab") as file, redirect_stderr(file.fileno()), log_to_file(path, logging.getLogger(), secrets):
        yield


@contextmanager
def log_to_file(path: Path, logger: logging.Logger, secrets: Sequence[str] = ()) -> Iterator[None]:
    """Appends the records of a logger to a file, with `secrets` hidden."""
    handler = logging.FileHandler(path)
    handler.handleError = lambda record: None  # type: ignore[method-assign]  # the disk is full: reported elsewhere
    handler.setFormatter(_RedactingFormatter(secrets))
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        handler.close()


class _RedactingFormatter(logging.Formatter):
    """Formats log lines and hides secrets, which an error may quote."""

    def __init__(self, secrets: Sequence[str]) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")
        self._secrets = secrets

    def format(self, record: logging.LogRecord) -> str:
        return hide_secrets(super().format(record), self._secrets)


def redirect_output(path: Path) -> None:
    """Redirects descriptors 1 and 2 to the end of a file, permanently."""
    with open(path, "ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
