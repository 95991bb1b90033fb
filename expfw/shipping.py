"""The command's side of the shipper: starts it, tells it of journals, waits for it at the end."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from expfw import shipper
from expfw.config import plain
from expfw.errors import RunsFolderError
from expfw.settings import RunConfig

LONGEST_WAIT_SECONDS = 60.0


@contextmanager
def shipping(config: RunConfig, files: tuple[str, ...] = ()) -> Iterator[Path | None]:
    """Starts a shipper for the trackers of `config`; yields the folder to announce journals in.

    At the end it waits for the delivery, up to a bound; the shipper goes on alone after that. Yields None where the
    configuration has no tracker.

    Raises:
        RunsFolderError: the runs folder cannot be written to.
    """
    if not config.tracker:
        yield None
        return
    runs_dir = Path(config.runs_dir).absolute()
    notes = runs_dir / ".shipping" / f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}"
    order = {"config": plain(config), "files": files}
    try:
        notes.mkdir(parents=True)
        (notes / shipper.ORDER).touch(mode=0o600)  # a tracker's options may hold a password
        (notes / shipper.ORDER).write_text(json.dumps(order))
        process = _start(notes)
    except OSError as error:
        raise RunsFolderError(
            f"cannot write to the runs folder {runs_dir} ({error.strerror}); choose another with runs_dir=FOLDER"
        ) from error
    try:
        yield notes
    finally:
        _leave(process, notes)


def announce(notes: Path | None, identity: str, folder: Path) -> None:
    """Tells the shipper that watches `notes` of a journal in `folder`."""
    if notes is not None:
        note = notes / f".{identity}"
        note.write_text(str(folder))
        note.rename(notes / identity)  # it sees the whole note or none


def _start(notes: Path) -> subprocess.Popen[bytes]:
    """In a session of its own, so that Ctrl-C, which reaches everything in the foreground, does not reach it."""
    command = [sys.executable, "-P", "-m", "expfw.shipper", str(notes)]  # -P: no modules from the working directory
    with open(notes / shipper.LOG, "wb") as log:
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True)


def _leave(process: subprocess.Popen[bytes], notes: Path) -> None:
    assert process.stdin is not None
    process.stdin.close()  # the shipper sees that the command is through
    try:
        code = process.wait(LONGEST_WAIT_SECONDS)
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        print("expfw: tracking goes on in the background", file=sys.stderr)
        return
    if code != 0:
        log = notes / shipper.LOG
        print(
            f"expfw: not all could be delivered to the tracker; the journals hold it, {log} says why", file=sys.stderr
        )
