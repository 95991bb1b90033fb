"""What importing a plugin costs and does, found out in a process of its own."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from expfw.api import schema
from expfw.api.contracts import Dataset
from expfw.errors import ExpfwError, ending, one_line, shortened
from expfw.plugins import importing
from expfw.plugins.catalogue import catalogue
from expfw.plugins.entry import Found

HEAVY = ("tensorflow", "keras", "torch", "jax", "mlflow")
LONGEST_SECONDS = 60.0


@dataclass(frozen=True)
class Imported:
    """What happened when a fresh process imported a plugin, expfw itself being there already.

    Attributes:
        seconds: processor time that it took; waited: wall time.
        heavy: frameworks that it brought with it.
        printed: what it wrote to the screen, shortened.
        error: why it cannot be used, in one line; None where it can.
    """

    seconds: float = 0.0
    waited: float = 0.0
    heavy: tuple[str, ...] = ()
    printed: str = ""
    error: str | None = None


def probe(found: Found, limit: float = LONGEST_SECONDS, load_with: Mapping[str, Any] | None = None) -> Imported:
    """Imports a plugin in a fresh process that finds modules where this one does.

    Args:
        limit: seconds after which the import is given up.
        load_with: options; a dataset then loads its data too.
    """
    file = found.distribution.removeprefix("file ") if found.distribution.startswith("file ") else None
    order = {"kind": found.kind, "name": found.name, "file": file, "path": sys.path, "load_with": load_with}
    order["found"] = {name: value for name, value in vars(found).items() if name != "loaded"}
    command = [sys.executable, "-P", "-m", "expfw.plugins.inspection.isolated_import", json.dumps(order)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit, stdin=subprocess.DEVNULL)
    except subprocess.TimeoutExpired:
        return Imported(waited=limit, error=f"{found.who} was not imported within {limit:g} seconds")
    printed, _, answer = done.stdout.rpartition("\n")
    try:
        values = json.loads(answer)
        heavy = tuple(values.pop("heavy"))
    except (ValueError, KeyError, AttributeError, TypeError):
        how = ending(one_line(done.stderr), 200) or "it says nothing"
        return Imported(error=f"{found.who} ended the process that imported it, code {done.returncode} ({how})")
    said = printed if heavy else printed + done.stderr  # a framework that is imported prints
    values["printed"] = values["printed"] or shortened(one_line(said), 80)
    return Imported(**values, heavy=heavy)


def _import(order: dict[str, Any]) -> Imported:
    printed = Printed()
    logging.getLogger("expfw").addHandler(printed)
    before, spent, began = set(sys.modules), time.process_time(), time.monotonic()
    error = None
    try:
        if order["file"] is None:
            cls = Found(**order["found"]).load()
        else:
            cls = catalogue((order["file"],)).get(order["kind"], order["name"]).load()
        if order["load_with"] is not None and issubclass(cls, Dataset):
            cls(schema.build(cls.Config, order["load_with"], order["kind"]), order["name"]).load(0)
    except ExpfwError as trouble:
        error = str(trouble)
    spent, waited = time.process_time() - spent, time.monotonic() - began
    heavy = tuple(name for name in HEAVY if name in sys.modules and name not in before)
    return Imported(round(spent, 3), round(waited, 3), heavy, printed.text, error)


class Printed(logging.Handler):
    """Keeps what a plugin printed, of the line that tells of it."""

    text = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.text = getattr(record, importing.PRINTED, self.text)


def main(order: dict[str, Any]) -> None:
    """Answers with one line behind whatever the plugin printed."""
    sys.path[:] = order["path"]
    importing.show_noise()
    if order["file"] is not None and not Path(order["file"]).exists():
        order["file"] = None
    answer = json.dumps(asdict(_import(order)))
    sys.stdout.flush()
    os.write(1, f"\n{answer}".encode())
    os._exit(0)  # what the plugin left running is none of our business


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
