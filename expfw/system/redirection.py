"""Redirects the output of native libraries."""

from __future__ import annotations

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
    """Sends the output of native libraries on descriptor 2, and Python's log, to a file.

    Python's `sys.stderr` still writes to the terminal; `secrets` are hidden in the log.
    """
    python_stderr = sys.stderr
    python_stderr.flush()
    try:
        writes_to_2 = python_stderr.fileno() == 2
    except (OSError, ValueError, AttributeError):  # not a file, for example in a notebook
        writes_to_2 = False
    if writes_to_2:
        sys.stderr = os.fdopen(os.dup(2), "w", buffering=1)
    try:
        with open(path, "ab") as file, redirect_fd(2, file.fileno()), log_to_file(path, logging.getLogger(), secrets):
            yield
    finally:
        if writes_to_2:
            sys.stderr.flush()  # not closed: a logger created in the meantime, such as TensorFlow's, may still use it
            sys.stderr = python_stderr


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
