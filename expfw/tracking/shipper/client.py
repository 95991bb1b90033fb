"""Client of the shipper: starts it, announces journals, waits for it at the end."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
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
    log_path = delivery_folder / shipper.LOG_FILE
    try:
        delivery_folder.mkdir(parents=True)
        log_path.touch(mode=0o600)  # errors may quote an address with a password
        with open(log_path, "wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", shipper.__name__, str(delivery_folder)],  # -P: not from this folder
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C does not interrupt it
                env={"OPENBLAS_NUM_THREADS": "1", **os.environ},  # it does no numerical work
            )
        assert process.stdin is not None
        options = [to_plain(config), files, from_beginning, cpu_share]
        with suppress(BrokenPipeError):  # it has already ended: reported at the end of the command
            process.stdin.write(json.dumps(options).encode() + b"\n")
            process.stdin.flush()
    except OSError as error:
        raise RunsFolderError(
            f"cannot write to runs folder {runs_dir}: {error.strerror}; choose another with runs_dir=FOLDER"
        ) from error
    try:
        yield delivery_folder
    finally:
        with suppress(BrokenPipeError):
            process.stdin.close()  # tells the shipper that the command has ended
        try:
            code = process.wait(timeout_seconds)
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            print(f"expfw: delivery to trackers continues in the background; log: {log_path}", file=sys.stderr)
        else:
            result = delivery_folder / shipper.RESULT_FILE
            reason = f"signal {-code}" if code < 0 else f"exit code {code}, log: {log_path}"
            early_end = (
                f"expfw: the shipper process, which delivers to trackers, ended early ({reason}); no data is lost; to "
                f"deliver the rest: expfw runs sync{run_folders.format_runs_dir_option(runs_dir)}"
            )
            if code != 0:
                print(result.read_text() if result.exists() else early_end, file=sys.stderr)


def queue_delivery(delivery_folder: Path | None, journal_id: str, folder: Path) -> None:
    """Announces the journal in `folder` to the shipper that watches `delivery_folder`."""
    if delivery_folder is not None:
        note = delivery_folder / f".{journal_id}"
        note.write_text(str(folder))
        note.rename(delivery_folder / journal_id)  # atomic: the shipper never reads an incomplete note
