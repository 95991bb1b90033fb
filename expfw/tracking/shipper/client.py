"""Client of the shipper: starts it, announces journals, waits for it at the end."""

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
    """Starts a shipper for the trackers of `config`; yields the folder for the announcements of journals.

    At the end it waits for the delivery, at most `timeout_seconds`; after that the shipper continues in the background.
    Yields None if the configuration has no tracker.

    Args:
        config: configuration with the trackers.
        files: plugin files.
        cpu_share: limit on the CPU time of the shipper while the command runs.
        from_beginning: whether to deliver journals from the beginning, including records that are already delivered.
        timeout_seconds: longest wait in seconds; None waits as long as the delivery makes progress.

    Raises:
        RunsFolderError: if the runs folder cannot be written.
    """
    if not config.tracker:
        yield None
        return
    runs_dir = Path(config.runs_dir).absolute()
    delivery_folder = runs_dir / ".delivery" / f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}"
    options = {
        "config": to_plain(config),
        "files": files,
        "from_beginning": from_beginning,
        "cpu_share": asdict(cpu_share),
    }
    try:
        delivery_folder.mkdir(parents=True)
        (delivery_folder / shipper.OPTIONS_FILE).touch(mode=0o600)  # options of a tracker may contain a password
        (delivery_folder / shipper.OPTIONS_FILE).write_text(json.dumps(options))
        process = _start_process(delivery_folder)
    except OSError as error:
        raise RunsFolderError(
            f"cannot write to runs folder {runs_dir}: {error.strerror}; choose another with runs_dir=FOLDER"
        ) from error
    try:
        yield delivery_folder
    finally:
        _wait_for_shipper(process, delivery_folder, timeout_seconds, run_folders.format_runs_dir_option(runs_dir))


def queue_delivery(delivery_folder: Path | None, journal_id: str, folder: Path) -> None:
    """Announces the journal in `folder` to the shipper that watches `delivery_folder`."""
    if delivery_folder is not None:
        note = delivery_folder / f".{journal_id}"
        note.write_text(str(folder))
        note.rename(delivery_folder / journal_id)  # atomic: the shipper never reads an incomplete note


def _start_process(delivery_folder: Path) -> subprocess.Popen[bytes]:
    """Starts the shipper in a new session, so that Ctrl-C does not interrupt it."""
    command = [
        sys.executable,
        "-P",
        "-m",
        shipper.__name__,
        str(delivery_folder),
    ]  # -P: no modules from the working directory
    (delivery_folder / shipper.LOG_FILE).touch(mode=0o600)  # errors may quote an address with a password
    with open(delivery_folder / shipper.LOG_FILE, "wb") as log:
        environment = {"OPENBLAS_NUM_THREADS": "1", **os.environ}  # it does no numerical work
        return subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True, env=environment
        )


def _wait_for_shipper(
    process: subprocess.Popen[bytes], delivery_folder: Path, timeout_seconds: float | None, runs_dir_option: str
) -> None:
    assert process.stdin is not None
    process.stdin.close()  # tells the shipper that the command has ended
    try:
        code = process.wait(timeout_seconds)
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        print(
            f"expfw: delivery to trackers continues in the background; log: {delivery_folder / shipper.LOG_FILE}",
            file=sys.stderr,
        )
        return
    if code != 0:
        for line in _describe_failures(delivery_folder, runs_dir_option, code):
            print(f"expfw: {line}", file=sys.stderr)


def _describe_failures(delivery_folder: Path, runs_dir_option: str, code: int) -> Iterator[str]:
    """Yields one line for each tracker with failed or rejected deliveries."""
    log = delivery_folder / shipper.LOG_FILE
    try:
        result = json.loads((delivery_folder / shipper.RESULT_FILE).read_text())
    except (OSError, ValueError):  # the shipper ended before it wrote the result
        reason = f"signal {-code}" if code < 0 else f"exit code {code}, log: {log}"
        yield (
            f"the shipper process, which delivers to trackers, ended early ({reason}); no data is lost; to deliver the "
            f"rest: expfw runs sync{runs_dir_option}"
        )
        return
    for tracker, undelivered in result["undelivered"].items():
        count = "one journal" if len(undelivered) == 1 else f"{len(undelivered)} journals"
        yield (
            f"{count} could not be delivered to {tracker} ({next(iter(undelivered.values()))}); no data is lost; log: "
            f"{log}; to deliver the rest: expfw runs sync{runs_dir_option}"
        )
    for tracker, rejections in result["rejected"].items():
        more = f" (and {len(rejections) - 1} more runs)" if len(rejections) > 1 else ""
        yield f"{tracker} rejected records permanently: {rejections[0]}{more}; the journal contains them; log: {log}"
