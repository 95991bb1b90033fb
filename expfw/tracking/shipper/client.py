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

from expfw.api.run_config import RunConfig, to_plain
from expfw.errors import RunsFolderError
from expfw.tracking import run_folders
from expfw.tracking.shipper import process as shipper
from expfw.tracking.shipper.process import CpuShare

LONGEST_WAIT_SECONDS = 60.0


@contextmanager
def running_shipper(
    config: RunConfig,
    files: tuple[str, ...] = (),
    cpu_share: CpuShare = shipper.RUN_CPU_SHARE,
    from_beginning: bool = False,
    timeout_seconds: float | None = LONGEST_WAIT_SECONDS,
) -> Iterator[Path | None]:
    """Starts a shipper for the trackers of `config`; yields the folder to announce journals in.

    At the end it waits for the delivery, up to a bound; the shipper goes on alone after that. Yields None where the
    configuration has no tracker.

    Args:
        cpu_share: how much of the machine the shipper takes while the command goes on.
        from_beginning: whether journals are delivered from their beginning, whatever was delivered before.
        timeout_seconds: the longest time to wait, in seconds; None: as long as anything gets through.

    Raises:
        RunsFolderError: the runs folder cannot be written to.
    """
    if not config.tracker:
        yield None
        return
    runs_dir = Path(config.runs_dir).absolute()
    delivery_folder = runs_dir / ".shipping" / f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}"
    options = {"config": to_plain(config), "files": files, "again": from_beginning, "effort": asdict(cpu_share)}
    try:
        delivery_folder.mkdir(parents=True)
        (delivery_folder / shipper.OPTIONS_FILE).touch(mode=0o600)  # a tracker's options may hold a password
        (delivery_folder / shipper.OPTIONS_FILE).write_text(json.dumps(options))
        process = _start_process(delivery_folder)
    except OSError as error:
        raise RunsFolderError(
            f"cannot write to the runs folder {runs_dir} ({error.strerror}); choose another with runs_dir=FOLDER"
        ) from error
    try:
        yield delivery_folder
    finally:
        _wait_for_shipper(process, delivery_folder, timeout_seconds, run_folders.format_runs_dir_option(runs_dir))


def queue_delivery(delivery_folder: Path | None, journal_id: str, folder: Path) -> None:
    """Tells the shipper that watches `delivery_folder` of a journal in `folder`."""
    if delivery_folder is not None:
        note = delivery_folder / f".{journal_id}"
        note.write_text(str(folder))
        note.rename(delivery_folder / journal_id)  # it sees the whole note or none


def _start_process(delivery_folder: Path) -> subprocess.Popen[bytes]:
    """In a session of its own, so that Ctrl-C, which reaches everything in the foreground, does not reach it."""
    command = [
        sys.executable,
        "-P",
        "-m",
        shipper.__name__,
        str(delivery_folder),
    ]  # -P: no modules from the working directory
    (delivery_folder / shipper.LOG_FILE).touch(mode=0o600)  # an error may quote an address with a password
    with open(delivery_folder / shipper.LOG_FILE, "wb") as log:
        environment = {"OPENBLAS_NUM_THREADS": "1", **os.environ}  # it computes nothing
        return subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True, env=environment
        )


def _wait_for_shipper(
    process: subprocess.Popen[bytes], delivery_folder: Path, timeout_seconds: float | None, runs_dir_option: str
) -> None:
    assert process.stdin is not None
    process.stdin.close()  # the shipper sees that the command is through
    try:
        code = process.wait(timeout_seconds)
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        print(
            f"expfw: tracking goes on in the background; {delivery_folder / shipper.LOG_FILE} tells of it",
            file=sys.stderr,
        )
        return
    if code != 0:
        for line in _describe_failures(delivery_folder, runs_dir_option, code):
            print(f"expfw: {line}", file=sys.stderr)


def _describe_failures(delivery_folder: Path, runs_dir_option: str, code: int) -> Iterator[str]:
    """What the shipper could not do, a line for each tracker."""
    log = delivery_folder / shipper.LOG_FILE
    try:
        result = json.loads((delivery_folder / shipper.RESULT_FILE).read_text())
    except (OSError, ValueError):  # it did not come to write it
        reason = f"signal {-code}" if code < 0 else f"exit code {code}, {log} says why"
        yield (
            f"the process that delivers to the trackers ended early ({reason}); nothing is lost: "
            f"`expfw runs sync{runs_dir_option}` delivers what is left"
        )
        return
    for tracker, undelivered in result["left"].items():
        count = "one journal" if len(undelivered) == 1 else f"{len(undelivered)} journals"
        yield (
            f"{count} could not be delivered to {tracker} ({next(iter(undelivered.values()))}); nothing is lost: "
            f"`expfw runs sync{runs_dir_option}` delivers what is left, {log} has the whole story"
        )
    for tracker, refusals in result["refused"].items():
        more = f" (and {len(refusals) - 1} more runs)" if len(refusals) > 1 else ""
        yield f"{tracker} refused something for good: {refusals[0]}{more}; it is in the journal, {log} says what"
