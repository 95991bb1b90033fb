"""The shipper: the process that delivers journals to trackers, so that training never waits for a tracker.

There is one shipper per `expfw` command. Notes in a folder announce journals to it. It stores the progress of each
delivery on disk and retries failed deliveries. It ends when the command has ended and everything is delivered, or when
no delivery succeeds for 20 s.
"""

from __future__ import annotations

import gc
import json
import logging
import os
import secrets
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, NamedTuple

from expfw.api.contracts import Tracker
from expfw.api.run_config import RunConfig, to_plain
from expfw.config.freeze import build_config
from expfw.config.run_plugins import make_plugins
from expfw.errors import RunsFolderError
from expfw.plugins.catalogue import get_catalogue
from expfw.redaction import learn_secrets
from expfw.system import atomic_files, temporary_folders
from expfw.system.garbage_collection import import_modules
from expfw.system.redirection import redact_output
from expfw.tracking.run_folders import format_runs_dir_option
from expfw.tracking.shipper.delivery import TrackerWorker

POLL_SECONDS = 1.0
GIVE_UP_SECONDS = 20.0
LONGEST_WAIT_SECONDS = 60.0
DELIVERY_FOLDER = ".delivery"
"""Folder in the runs folder, with a folder for each shipper."""
LOG_FILE, RESULT_FILE = ".log", ".result"


class CpuShare(NamedTuple):
    """Limit on the CPU time of the shipper while its command runs; afterwards `share` does not apply."""

    share: float = 1.0  # of one CPU core; an idle core is not free: two cores often share caches and arithmetic units
    nice: int = 0


RUN_CPU_SHARE = CpuShare(share=0.1, nice=19)
SWEEP_CPU_SHARE = CpuShare(nice=5)  # a delayed delivery would only make the end of the sweep longer
FULL_CPU_SHARE = CpuShare()


@contextmanager
def running_shipper(
    config: RunConfig,
    files: tuple[str, ...] = (),
    cpu_share: CpuShare = RUN_CPU_SHARE,
    from_beginning: bool = False,
    timeout_seconds: float | None = LONGEST_WAIT_SECONDS,
) -> Iterator[Path | None]:
    """Starts a shipper for the trackers of `config`; yields the folder for the announcements of journals.

    At the end it waits for the delivery, at most `timeout_seconds`, or with None as long as the delivery makes
    progress; after that the shipper continues in the background. Yields None if the configuration has no tracker.

    Args:
        files: plugin files.
        from_beginning: whether to deliver journals from the beginning, including records that are already delivered.
    """
    if not config.tracker:
        yield None
        return
    runs_dir = Path(config.runs_dir).absolute()
    delivery_folder = runs_dir / DELIVERY_FOLDER / f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}"
    log_path = delivery_folder / LOG_FILE
    try:
        delivery_folder.mkdir(parents=True)
        lock = temporary_folders.mark_used(delivery_folder)
        # The log of a shipper that could not deliver is kept until `runs sync`.
        temporary_folders.remove_abandoned(delivery_folder.parent, "", lambda folder: (folder / RESULT_FILE).exists())
        log_path.touch(mode=0o600)  # libraries may write an address with a password
        with open(log_path, "wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", __name__, str(delivery_folder)],  # -P: not from this folder
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C does not interrupt it
                env={"OPENBLAS_NUM_THREADS": "1", **os.environ},  # it does no numerical work
                pass_fds=[lock],  # it uses the folder until it ends
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
        os.close(lock)
        try:
            code = process.wait(timeout_seconds)
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            print(f"expfw: delivery to trackers continues in the background; log: {log_path}", file=sys.stderr)
        else:
            result = delivery_folder / RESULT_FILE
            reason = f"signal {-code}" if code < 0 else f"exit code {code}, log: {log_path}"
            early_end = (
                f"expfw: the shipper process, which delivers to trackers, ended early ({reason}); no data is lost; to "
                f"deliver the rest: expfw runs sync{format_runs_dir_option(runs_dir)}"
            )
            if code != 0:
                print(result.read_text() if result.exists() else early_end, file=sys.stderr)


def queue_delivery(delivery_folder: Path | None, journal_id: str, folder: Path) -> None:
    """Announces the journal in `folder` to the shipper that watches `delivery_folder`."""
    if delivery_folder is not None:
        note = delivery_folder / f".{journal_id}"
        with suppress(FileNotFoundError):  # the command and its shipper have ended
            note.write_bytes(os.fsencode(folder))
            note.rename(delivery_folder / journal_id)  # atomic: the shipper never reads an incomplete note


def deliver_all(
    workers: Sequence[TrackerWorker], delivery_folder: Path, command_pipe: IO[bytes], cpu_share: CpuShare
) -> dict[str, Path]:
    """Delivers until the command has ended, and everything is delivered or nothing more can be delivered.

    Returns the folders of the announced journals, by ID.
    """
    folders_by_id: dict[str, Path] = {}
    command_ended, last_progress_at, pause = False, time.monotonic(), 0.0
    while True:
        if command_ended:
            time.sleep(pause)
        elif select.select([command_pipe], [], [], pause)[0]:  # the command closes its pipe when it ends
            command_ended, last_progress_at = True, time.monotonic()
        notes = [path for path in delivery_folder.iterdir() if not path.name.startswith(".")]
        new_notes = [path for path in notes if path.name not in folders_by_id]
        for path in sorted(new_notes, key=lambda path: path.stat().st_mtime_ns):  # a sweep before its trials
            folders_by_id[path.name] = Path(os.fsdecode(path.read_bytes()))
        cpu_seconds = -time.process_time()
        busy = [worker.deliver(folders_by_id, command_ended) for worker in workers]
        cpu_seconds += time.process_time()
        if any(busy):
            last_progress_at = time.monotonic()
            pause = 0.0 if command_ended else cpu_seconds * (1 / cpu_share.share - 1)
        else:
            pause = POLL_SECONDS / 4 if command_ended else POLL_SECONDS
            is_finished = not any(worker.list_undelivered(folders_by_id) for worker in workers)
            if command_ended and (is_finished or time.monotonic() - last_progress_at > GIVE_UP_SECONDS):
                return folders_by_id


def main(delivery_folder: Path) -> int:
    """Runs the shipper process; returns its exit code."""
    gc.set_threshold(100_000, 50, 100)
    temporary_folders.use_process_folder()
    redact_output()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s: %(message)s")
    with open(0, "rb", buffering=0, closefd=False) as command_pipe:
        config_values, files, from_beginning, (share, nice) = json.loads(command_pipe.readline())
        os.nice(nice)
        config = build_config(config_values)
        learn_secrets(vars(config))
        trackers = make_plugins(config, get_catalogue(tuple(files)), kinds=("tracker",))
        runs_dir = Path(config.runs_dir).absolute()
        workers = [TrackerWorker(t.name, t, runs_dir, from_beginning) for t in trackers if isinstance(t, Tracker)]
        import_modules(module for tracker in trackers for module in tracker.preload)
        folders_by_id = deliver_all(workers, delivery_folder, command_pipe, CpuShare(share, nice))
    lines: list[str] = []
    for worker in workers:
        if worker.is_open:
            worker.tracker.close()
        lines += worker.describe_failures(folders_by_id, delivery_folder / LOG_FILE)
    if lines:
        atomic_files.write_text(delivery_folder / RESULT_FILE, "\n".join(lines))
    else:
        shutil.rmtree(delivery_folder, ignore_errors=True)
    with suppress(RunsFolderError):  # the command may have been killed
        temporary_folders.remove_abandoned(temporary_folders.get_process_folder().parent)
    gc.freeze()  # no garbage collection at the end of the process
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
