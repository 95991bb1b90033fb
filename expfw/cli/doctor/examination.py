"""The checks of one plugin, in a separate process: a plugin may crash, hang or print."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path

from expfw.config.freeze import build_config
from expfw.config.run_plugins import make_plugins
from expfw.errors import to_one_line
from expfw.plugins.catalogue import get_catalogue
from expfw.plugins.manager import make_manager
from expfw.system import atomic_files

ANSWER_FILE = "answer.json"


def main(folder: Path) -> None:
    """Runs the checks of the requested plugin and writes the results to a file."""
    request = json.loads((folder / "request.json").read_text())
    config = build_config(request["config"])
    try:
        plugins = make_plugins(config, get_catalogue(tuple(request["files"])), kinds=(request["kind"],))
        plugin = next(plugin for plugin in plugins if plugin.name == request["name"])
        hook = make_manager([plugin], report=logging.getLogger("expfw").warning).hook
        answers = hook.expfw_doctor(runs_dir=Path(config.runs_dir).absolute())
        findings = [(str(result), bool(fit), str(remedy)) for answer in answers for result, fit, remedy in answer]
    except Exception as error:  # a plugin may raise anything
        problem = to_one_line(f"{type(error).__name__}: {error}")
        findings = [(problem, False, f"expfw plugins check {request['name']}")]
    atomic_files.write_text(folder / ANSWER_FILE, json.dumps(findings))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
