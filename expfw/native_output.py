"""Where file descriptors lead that native libraries, and programs that they start, write to."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def led(descriptor: int, to: int) -> Iterator[None]:
    """Lets `descriptor` be what `to` is."""
    try:
        kept = os.dup(descriptor)
    except OSError:  # it is closed: nothing can be written to it
        yield
        return
    try:
        os.dup2(to, descriptor)
        yield
    finally:
        os.dup2(kept, descriptor)
        os.close(kept)


@contextmanager
def away(to: int) -> Iterator[None]:
    """Lets descriptor 2 be what `to` is; what Python itself writes to `sys.stderr` still reaches the screen."""
    python_stderr = sys.stderr
    writes_to_2 = _descriptor(python_stderr) == 2
    if writes_to_2:
        python_stderr.flush()
        sys.stderr = os.fdopen(os.dup(2), "w", buffering=1)
    try:
        with led(2, to):
            yield
    finally:
        if writes_to_2:
            sys.stderr.flush()  # not closed: a logger that was made meanwhile, TensorFlow's for one, may keep it
            sys.stderr = python_stderr


def _descriptor(stream: Any) -> int | None:
    try:
        return int(stream.fileno())
    except (OSError, ValueError, AttributeError):  # replaced by something that is no file, in a notebook for example
        return None
