"""Everything about plugins, found out in processes of their own: one that exits, hangs or prints costs only itself.

One fresh process, which has imported expfw and nothing else, forks for each plugin.
"""

from __future__ import annotations

import inspect
import json
import logging
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import redirect_stderr, suppress
from io import StringIO
from pathlib import Path
from typing import Any

from expfw.api import schema
from expfw.api.plain_values import plain
from expfw.errors import ConfigError, ExpfwError, ending, one_line, shortened
from expfw.plugins import importing
from expfw.plugins.catalogue import catalogue
from expfw.plugins.entry import Found, made
from expfw.plugins.inspection import static_checks
from expfw.plugins.inspection.isolated_import import HEAVY, LONGEST_SECONDS, Imported, Printed, probe
from expfw.plugins.inspection.static_checks import Fault
from expfw.plugins.kinds import SEVERAL
from expfw.plugins.validation import hooks

_LOOK_SECONDS = 0.005


def inspect_all(founds: Sequence[Found], files: Sequence[str], limit: float = LONGEST_SECONDS) -> list[dict[str, Any]]:
    """What there is to say about each plugin, as JSON values: `facts`, `faults`, `reason`, and how it was imported.

    Args:
        files: the plugin files of the catalogue that the plugins are of.
        limit: seconds after which the import of a plugin is given up.

    `reason` is why it cannot be used, in one line, or None; then `faults` has the checks that failed.
    """
    declared = [(found.kind, found.name, found.target, found.distribution) for found in founds]
    order = {"path": sys.path, "files": list(files), "plugins": declared, "limit": limit}
    with tempfile.TemporaryDirectory(prefix="expfw-") as folder:
        command = [sys.executable, "-P", "-m", "expfw.plugins.inspection.inspect", folder]
        done = subprocess.run(command, input=json.dumps(order), capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise ExpfwError(
                f"plugins cannot be looked at: {ending(one_line(done.stderr), 300) or 'the process ended'}"
            )
        return [json.loads((Path(folder) / f"{number}.json").read_text()) for number in range(len(founds))]


def inspected(found: Found) -> dict[str, Any]:
    """What there is to say about one plugin, which is imported in this process."""
    noticed = Printed()
    log, said = logging.getLogger("expfw"), StringIO()
    log.addHandler(noticed)
    log.propagate = False
    before, spent, began = set(sys.modules), time.process_time(), time.monotonic()
    cls = reason = None
    try:
        with redirect_stderr(said):
            cls = found.load()
            found.options()
            with suppress(ConfigError):  # its options have to be given
                made(found, static_checks.default_options(found))
    except ExpfwError as error:
        reason = str(error)
    spent, waited = time.process_time() - spent, time.monotonic() - began
    heavy = tuple(name for name in HEAVY if name in sys.modules and name not in before)
    imported = Imported(spent, waited, heavy, shortened(one_line(f"{noticed.text} {said.getvalue()}"), 80))
    if found.loaded is not None:  # from a plugin file, which was imported to find it: only a new process tells
        imported = probe(found)
    how = {"import_seconds": round(imported.waited, 3), "heavy": list(imported.heavy), "printed": imported.printed}
    faults = list(static_checks.check_class(found))
    if cls is not None:
        faults += [f for name in static_checks.CHECKS if name != "import" for f in static_checks.checked(name, found)]
        faults += static_checks.faults_of_import(found, imported)
    known = {} if reason is not None else facts(found, cls)
    return {"reason": reason, **how, "facts": known, "faults": [vars(one) for one in faults]}


def facts(found: Found, cls: Any) -> dict[str, Any]:
    """What a plugin that can be used says about itself: text, options, hooks."""
    prefix = f"{found.kind}.{found.name}" if found.kind in SEVERAL else found.kind
    options = [
        {
            "option": f"{prefix}.{o.name}",
            "type": o.type,
            "required": o.required,
            "default": _told(plain(o.default)),
            "help": o.help,
        }
        for o in schema.options(cls.Config)
    ]
    return {"about": inspect.getdoc(cls) or "", "options": options, "hooks": hooks.answered(cls)}


def _told(value: Any) -> Any:
    """A plain value as JSON can hold it: nan and inf, which it cannot, as the texts that an override has for them."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, list):
        return [_told(inner) for inner in value]
    return {key: _told(inner) for key, inner in value.items()} if isinstance(value, dict) else value


def _in_a_process(found: Found, path: Path, limit: float) -> None:
    """Writes what there is to say about a plugin to `path`, whatever becomes of the process that imports it."""
    said = path.with_suffix(".err")
    pid = os.fork()
    if pid == 0:
        with open(said, "wb") as file:
            os.dup2(file.fileno(), 2)
        ended = 1
        try:
            _answer(path.with_suffix(".new"), found)
            path.with_suffix(".new").rename(path)
            ended = 0
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr)
        finally:
            sys.stderr.flush()
            os._exit(ended)  # what the plugin left running is none of our business
    code = _waited_for(pid, limit)
    if path.exists():
        return
    last = ending(one_line(said.read_text(errors="replace")), 120) if said.exists() else ""
    ends = f"ends the process that imports it, with code {code}" + (f" ({last})" if last else "")
    what = f"is not imported within {limit:g} s" if code is None else ends
    fault = Fault("import", f"{found.who} {what}", f"mend what its module does on import, or uninstall {found.source}")
    path.write_text(json.dumps(_nothing_but(fault)))


def _answer(path: Path, found: Found) -> None:
    try:
        text = json.dumps(inspected(found), default=str)
    except Exception as error:  # not of the import, which is over: of looking at what came of it
        what = f"{found.who} cannot be looked at ({one_line(f'{type(error).__name__}: {error}')})"
        remedy = f"compare it with {found.kind} plugins in docs/authors/plugin-api.md, or report it to expfw"
        text = json.dumps(_nothing_but(Fault("inspection", what, remedy)))
    path.write_text(text)


def _nothing_but(fault: Fault) -> dict[str, Any]:
    how: dict[str, Any] = {"import_seconds": None, "heavy": [], "printed": ""}
    return {"reason": str(fault), **how, "facts": {}, "faults": [vars(fault)]}


def _waited_for(pid: int, limit: float) -> int | None:
    """The exit code of a process of ours; None where it had to be ended."""
    until = time.monotonic() + limit
    while time.monotonic() < until:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(_LOOK_SECONDS)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return None


def main(folder: Path) -> None:
    """What the process does that forks for each plugin."""
    order = json.load(sys.stdin)
    sys.path[:] = order["path"]
    importing.show_noise()
    import numpy  # noqa: F401  # all of expfw has it, so that no plugin is charged with it

    known = catalogue(tuple(order["files"]))
    for number, (kind, name, target, distribution) in enumerate(order["plugins"]):
        (found, *_) = [
            one for one in known.found[kind] if (one.name, one.target, one.distribution) == (name, target, distribution)
        ]
        _in_a_process(found, folder / f"{number}.json", order["limit"])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
