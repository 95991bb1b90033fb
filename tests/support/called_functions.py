"""Functions that tests call in other processes, which cannot import the test files."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time

from expfw.errors import ConfigError
from expfw.system.subprocess_call import start_call


def answer(*arguments):
    print("output does not disturb the result", flush=True)
    threading.Thread(target=time.sleep, args=(60,)).start()  # is not waited for
    return {"arguments": arguments, "pid": os.getpid(), "path": sys.path}


def fail(how):
    os.write(2, b"last words\n")
    if how == "user":
        error = ConfigError("wrong value")
        error.add_note("(a note)")
        raise error
    if how == "exit":
        sys.exit(3)
    if how == "crash":
        os.kill(os.getpid(), signal.SIGABRT)  # an earlier test may have left SIGTERM ignored
    if how == "hang":
        time.sleep(60)
    raise RuntimeError("two\nlines")


def hold_trial(request):
    """Runs a trial without a framework: writes its process and its parent, then waits for the file `end`."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # an earlier test may have left it ignored
    folder = request.trial_folder
    folder.mkdir(parents=True)
    (folder / "new").write_text(f"{os.getpid()} {os.getppid()}")
    (folder / "new").rename(folder / "processes")
    while not (folder / "end").exists():
        time.sleep(0.02)


def start_child_and_hang(folder):
    with start_call(fail, "hang") as call:
        with open(f"{folder}/pid", "w") as file:
            file.write(str(call.process.pid))
        time.sleep(60)
