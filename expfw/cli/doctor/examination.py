"""What one plugin says of the machine, in a process of its own: it may crash, hang, or print."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path

from expfw.config.freeze import from_plain, make_plugins
from expfw.errors import one_line
from expfw.plugins.catalogue import catalogue
from expfw.plugins.manager import manager
from expfw.system import atomic_files

ANSWER = "answer.json"


def main(folder: Path) -> None:
    """Asks the plugin that the order names, and writes its answer down."""
    order = json.loads((folder / "order.json").read_text())
    config = from_plain(order["config"])
    try:
        made = make_plugins(config, catalogue(tuple(order["files"])), kinds=(order["kind"],))
        plugin = next(one for one in made if one.name == order["name"])
        hook = manager([plugin], report=logging.getLogger("expfw").warning).hook
        answers = hook.expfw_doctor(runs_dir=Path(config.runs_dir).absolute())
        found = [(str(what), bool(fit), str(remedy)) for answer in answers for what, fit, remedy in answer]
    except Exception as error:  # whatever a plugin raises
        what = one_line(f"{type(error).__name__}: {error}")
        found = [(what, False, f"expfw plugins check {order['name']}")]
    atomic_files.write_text(folder / ANSWER, json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
