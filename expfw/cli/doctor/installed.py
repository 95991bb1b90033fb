"""What is installed: plugins, the configuration, and what the chosen plugins say of the machine."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from expfw.api.plain_values import plain
from expfw.api.settings import RunConfig
from expfw.cli.doctor.examination import ANSWER
from expfw.cli.doctor.finding import Finding
from expfw.config import compose
from expfw.config.freeze import chosen
from expfw.errors import ExpfwError
from expfw.plugins.catalogue import catalogue
from expfw.plugins.entry import Found
from expfw.plugins.inspection.inspect import inspect_all
from expfw.plugins.kinds import KINDS
from expfw.system.process_limits import how_it_ended

LONGEST_SECONDS = 90.0
_LOOK_SECONDS = 0.05


@dataclass(frozen=True)
class Plugins:
    """The plugins of the configuration that answer the hook `expfw_doctor`."""

    config: RunConfig
    answering: Sequence[Found]


def configuration(overrides: Sequence[str], files: tuple[str, ...]) -> tuple[RunConfig | None, list[Finding]]:
    """The configuration that these overrides make; None where there is none."""
    own = Path("conf").absolute()
    found = f"{own} is searched too" if own.is_dir() else "expfw's own; no folder ./conf here"
    try:
        config = compose.compose(overrides, files)
    except ExpfwError as error:
        return None, [Finding("configuration", str(error), False, "give other values, or mend what is in ./conf")]
    return config, [Finding("configuration", found)]


def plugins(config: RunConfig | None, files: tuple[str, ...]) -> tuple[Plugins | None, list[Finding]]:
    """All that are installed; what is wrong with those that are not chosen hurts nobody yet."""
    known = catalogue(files)
    everything = [one for kind in KINDS for one in known.found[kind] if known.reason(one) is None]
    used = [] if config is None else [found for _, _, found in chosen(config, known)]
    made, wrong, answering = [], 0, []
    for found, looked in zip(everything, inspect_all(everything, files), strict=True):
        if reason := known.trouble(found) or looked["reason"]:
            wrong += 1
            made.append(Finding("plugins", reason, found not in used, f"expfw plugins check {found.name}"))
        elif found in used and "expfw_doctor" in looked["facts"]["hooks"]:
            answering.append(found)
    for _, what, remedy in known.strays():
        made.append(Finding("plugins", what, True, remedy))
    usable = Finding("plugins", f"{len(everything) - wrong} of {len(everything)} can be used")
    return None if config is None else Plugins(config, answering), [usable, *made]


def asked(found: Plugins, files: tuple[str, ...], limit: float = LONGEST_SECONDS) -> Iterator[Finding]:
    """What these plugins say of the machine, each in a process of its own, all at once; the quickest one first."""
    with tempfile.TemporaryDirectory(prefix="expfw-") as folder:
        waiting = {
            plugin: _start(found.config, plugin, files, Path(folder) / plugin.kind) for plugin in found.answering
        }
        until = time.monotonic() + limit
        try:
            while waiting:
                late = time.monotonic() > until
                for plugin, process in list(waiting.items()):
                    if late or process.poll() is not None:
                        del waiting[plugin]
                        yield from _said(plugin, process, Path(folder) / plugin.kind, limit)
                time.sleep(_LOOK_SECONDS)
        finally:
            for process in waiting.values():
                _end(process)


def _start(config: RunConfig, found: Found, files: Sequence[str], folder: Path) -> subprocess.Popen[bytes]:
    folder.mkdir(exist_ok=True)
    order = {"config": plain(config), "files": list(files), "kind": found.kind, "name": found.name}
    (folder / "order.json").touch(mode=0o600)  # a tracker's options may hold a password
    (folder / "order.json").write_text(json.dumps(order))
    command = [sys.executable, "-P", "-m", "expfw.cli.doctor.examination", str(folder)]
    with open(folder / "log", "wb") as log:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)


def _said(found: Found, process: subprocess.Popen[bytes], folder: Path, limit: float) -> Iterator[Finding]:
    code = process.poll()
    _end(process)
    about = found.name
    if (folder / ANSWER).exists():
        for what, fit, remedy in json.loads((folder / ANSWER).read_text()):
            yield Finding(about, what, fit, remedy)
        return
    ended = how_it_ended(code, False).replace("its process ended", "ended").replace(" before the run did", "")
    how = f"was not done within {limit:g} s" if code is None else ended
    last = (folder / "log").read_text(errors="replace").strip().splitlines()[-1:]
    what = f"the examination of {found.who} {how}{f' ({last[0][:200]})' if last else ''}"
    yield Finding(about, what, False, f"mend what it imports, or go without: expfw -p no:{found.name} ...")


def _end(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
