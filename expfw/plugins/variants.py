"""Named variants and recipes: files of a group, in expfw's `conf` and in `conf` of the working directory."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from expfw.system.input_files import read_bytes


def find_conf_folders() -> Iterator[Path]:
    """Yields the folders that contain variants."""
    from importlib import resources

    yield Path(str(resources.files("expfw.conf")))
    yield Path("conf")


def find_variants(group: str) -> dict[str, str]:
    """Returns the names of a group's files, each with the first line of its comment."""
    variants = {}
    for folder in find_conf_folders():
        for file in sorted((folder / group).glob("*.yaml")):
            with suppress(OSError):
                text = read_bytes(file).decode(errors="replace")
                comments = re.findall(r"^# +(?!@package)(.*)", text, re.MULTILINE)
                variants[file.stem] = comments[0][:70] if comments else ""
    return variants
