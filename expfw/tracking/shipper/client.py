"""The command's side of the shipper: starts it, tells it of journals, waits for it at the end."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from expfw.api.plain_values import plain
from expfw.api.settings import RunConfig
from expfw.errors import RunsFolderError
from expfw.tracking import run_folders
from expfw.tracking.shipper import process as shipper
from expfw.tracking.shipper.process import Effort

LONGEST_WAIT_SECONDS = 60.0


@contextmanager
def shipping(
    config: RunConfig,
    files: tuple[str, ...] = (),
    effort: Effort = shipper.BEHIND_A_TRAINING,
    again: bool = False,
    bound: float | None = LONGEST_WAIT_SECONDS,
) -> Iterator[Path | None]:
    """Starts a shipper for the trackers of `config`; yields the folder to announce journals in.

    At the end it waits for the delivery, up to a bound; the shipper goes on alone after that. Yields None where the
    configuration has no tracker.

    Args:
        effort: how much of the machine the shipper takes while the command goes on.
        again: whether journals are delivered from their beginning, whatever was delivered before.
        bound: the longest time to wait, in seconds; None: as long as anything gets through.

    Raises:
        RunsFolderError: the runs folder cannot be written to.
    """
    if not config.tracker:
        yield None
        return
    runs_dir = Path(config.runs_dir).absolute()
    notes = runs_dir / ".shipping" / f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}"
    order = {"config": plain(config), "files": files, "again": again, "effort": asdict(effort)}
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
        _leave(process, notes, bound, run_folders.option(runs_dir))


def announce(notes: Path | None, identity: str, folder: Path) -> None:
    """Tells the shipper that watches `notes` of a journal in `folder`."""
    if notes is not None:
        note = notes / f".{identity}"
        note.write_text(str(folder))
        note.rename(notes / identity)  # it sees the whole note or none


def _start(notes: Path) -> subprocess.Popen[bytes]:
    """In a session of its own, so that Ctrl-C, which reaches everything in the foreground, does not reach it."""
    command = [
        sys.executable,
        "-P",
        "-m",
        "expfw.tracking.shipper.process",
        str(notes),
    ]  # -P: no modules from the working directory
    (notes / shipper.LOG).touch(mode=0o600)  # an error may quote an address with a password
    with open(notes / shipper.LOG, "wb") as log:
        surroundings = {"OPENBLAS_NUM_THREADS": "1", **os.environ}  # it computes nothing
        return subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True, env=surroundings
        )


def _leave(process: subprocess.Popen[bytes], notes: Path, bound: float | None, where: str) -> None:
    assert process.stdin is not None
    process.stdin.close()  # the shipper sees that the command is through
    try:
        code = process.wait(bound)
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        print(f"expfw: tracking goes on in the background; {notes / shipper.LOG} tells of it", file=sys.stderr)
        return
    if code != 0:
        for line in _outcome(notes, where, code):
            print(f"expfw: {line}", file=sys.stderr)


def _outcome(notes: Path, where: str, code: int) -> Iterator[str]:
    """What the shipper could not do, a line for each tracker."""
    log = notes / shipper.LOG
    try:
        outcome = json.loads((notes / shipper.OUTCOME).read_text())
    except (OSError, ValueError):  # it did not come to write it
        how = f"signal {-code}" if code < 0 else f"exit code {code}, {log} says why"
        yield (
            f"the process that delivers to the trackers ended early ({how}); nothing is lost: "
            f"`expfw runs sync{where}` delivers what is left"
        )
        return
    for tracker, left in outcome["left"].items():
        count = "one journal" if len(left) == 1 else f"{len(left)} journals"
        yield (
            f"{count} could not be delivered to {tracker} ({next(iter(left.values()))}); nothing is lost: "
            f"`expfw runs sync{where}` delivers what is left, {log} has the whole story"
        )
    for tracker, refused in outcome["refused"].items():
        more = f" (and {len(refused) - 1} more runs)" if len(refused) > 1 else ""
        yield f"{tracker} refused something for good: {refused[0]}{more}; it is in the journal, {log} says what"
