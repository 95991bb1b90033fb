"""The process of one trial that a job somewhere makes."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

from expfw.api.plain_values import plain
from expfw.errors import ExpfwError, JournalError
from expfw.runs import one_run, resume
from expfw.runs.request import Request
from expfw.sweeps.cluster import orders
from expfw.sweeps.cluster.orders import End, Order
from expfw.system.signals import Killed
from expfw.tracking import run_index
from expfw.tracking.run_index import RUNNING, Entry

_LEAVING_SECONDS = 90.0


def main(path: Path) -> int:
    """Makes the run, or goes on with it. Its journal tells the rest; the exit code is for those that leave none."""
    for number in (signal.SIGUSR1, signal.SIGUSR2):  # schedulers send them to all processes of a job: meant for ours
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever started the job may have it ignored
    threading.Thread(target=_end_with_the_job, daemon=True).start()
    order = orders.read(path)
    try:
        request = _with_what_is_there(order)
    except ExpfwError as error:
        orders.write_end(path, End(why=str(error)))
        return 1
    if request.announce_to is not None and not request.announce_to.exists():
        request = replace(request, announce_to=None)  # the sweep's own process is gone, and its shipper too
    try:
        one_run.execute(request)
    except (ExpfwError, KeyboardInterrupt, Killed):
        return 1  # recorded already; no traceback is needed
    return 0


def _with_what_is_there(order: Order) -> Request:
    """What to do, which is to go on where there was a beginning: in a sweep that goes on, or a job started again."""
    request = order.request
    if not order.folder.exists():
        return request
    if (entry := _begun(order.folder)) is None:
        shutil.rmtree(order.folder)
        return request
    accept = request.continues is not None and request.continues.accept
    values = {name: value for name, value in plain(request.config).items() if name != "from_environment"}
    found = replace(resume.recorded(entry), values=values)  # the record has no secrets, the order has
    made = resume.to_go_on(found, Path(request.config.runs_dir), (), accept)
    return replace(made, config=request.config, announce_to=request.announce_to)


def _begun(folder: Path) -> Entry | None:
    """The run as it was left; a process that is still leaving it, or a machine that fell silent, is waited for."""
    until = time.monotonic() + _LEAVING_SECONDS
    try:
        while (entry := run_index.entry(folder)).status == RUNNING and time.monotonic() < until:
            time.sleep(0.5)
        return entry
    except JournalError:
        return None


def _end_with_the_job() -> None:
    """A trial whose job died leaves as by Ctrl-C: recorded, not left behind."""
    os.read(0, 1)
    os.kill(os.getpid(), signal.SIGINT)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
