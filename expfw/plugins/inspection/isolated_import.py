"""Measures the import of a plugin in a fresh process."""

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

from expfw.api import option_schema
from expfw.api.contracts import Dataset
from expfw.errors import ExpfwError, to_one_line, truncate_start, truncate_text
from expfw.plugins import importing
from expfw.plugins.catalogue import get_catalogue
from expfw.plugins.entry import PluginEntry

HEAVY_MODULES = ("tensorflow", "keras", "torch", "jax", "mlflow")
IMPORT_TIMEOUT_SECONDS = 60.0


@dataclass(frozen=True)
class ImportResult:
    """Result of importing a plugin in a fresh process that has already imported expfw.

    Attributes:
        cpu_seconds: CPU time of the import.
        wall_seconds: wall time of the import.
        heavy: frameworks that it imported.
        printed: printed text, shortened.
        error: one line, why the plugin cannot be used, or None.
    """

    cpu_seconds: float = 0.0
    wall_seconds: float = 0.0
    heavy: tuple[str, ...] = ()
    printed: str = ""
    error: str | None = None


def probe_import(
    entry: PluginEntry, limit: float = IMPORT_TIMEOUT_SECONDS, dataset_options: Mapping[str, Any] | None = None
) -> ImportResult:
    """Imports a plugin in a fresh process with the `sys.path` of this process.

    Args:
        entry: plugin to import.
        limit: seconds after which the import is stopped.
        dataset_options: options of a dataset, which then also loads its data; None to import only.
    """
    file = entry.distribution.removeprefix("file ") if entry.distribution.startswith("file ") else None
    request = {"kind": entry.kind, "name": entry.name, "file": file, "path": sys.path, "load_with": dataset_options}
    request["found"] = {name: value for name, value in vars(entry).items() if name != "loaded"}
    command = [sys.executable, "-P", "-m", __name__, json.dumps(request)]
    try:
        process = subprocess.run(command, capture_output=True, text=True, timeout=limit, stdin=subprocess.DEVNULL)
    except subprocess.TimeoutExpired:
        return ImportResult(wall_seconds=limit, error=f"{entry.label} takes more than {limit:g} s to import")
    printed, _, answer = process.stdout.rpartition("\n")
    try:
        values = json.loads(answer)
        heavy = tuple(values.pop("heavy"))
    except (ValueError, KeyError, AttributeError, TypeError):
        reason = truncate_start(to_one_line(process.stderr), 200) or "no output"
        return ImportResult(
            error=f"{entry.label} ends the process that imports it, with code {process.returncode} ({reason})"
        )
    output = printed if heavy else printed + process.stderr  # frameworks print on import
    values["printed"] = values["printed"] or truncate_text(to_one_line(output), 80)
    return ImportResult(**values, heavy=heavy)


def _import_plugin(request: dict[str, Any]) -> ImportResult:
    handler = PrintedTextHandler()
    logging.getLogger("expfw").addHandler(handler)
    modules_before, cpu_seconds, start_time = set(sys.modules), time.process_time(), time.monotonic()
    error = None
    try:
        if request["file"] is None:
            cls = PluginEntry(**request["found"]).load()
        else:
            cls = get_catalogue((request["file"],)).get(request["kind"], request["name"]).load()
        if request["load_with"] is not None and issubclass(cls, Dataset):
            cls(option_schema.build_instance(cls.Config, request["load_with"], request["kind"]), request["name"]).load(
                0
            )
    except ExpfwError as exception:
        error = str(exception)
    cpu_seconds, wall_seconds = time.process_time() - cpu_seconds, time.monotonic() - start_time
    heavy = tuple(name for name in HEAVY_MODULES if name in sys.modules and name not in modules_before)
    return ImportResult(round(cpu_seconds, 3), round(wall_seconds, 3), heavy, handler.text, error)


class PrintedTextHandler(logging.Handler):
    """Keeps the printed text from the log record of a plugin that prints on import."""

    text = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.text = getattr(record, importing.PRINTED_ATTRIBUTE, self.text)


def main(request: dict[str, Any]) -> None:
    """Imports the plugin and prints the result as one JSON line, after any output of the plugin."""
    sys.path[:] = request["path"]
    importing.show_noise()
    if request["file"] is not None and not Path(request["file"]).exists():
        request["file"] = None
    answer = json.dumps(asdict(_import_plugin(request)))
    sys.stdout.flush()
    os.write(1, f"\n{answer}".encode())
    os._exit(0)  # without waiting for threads that the plugin left running


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
