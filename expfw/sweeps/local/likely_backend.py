"""Which backend a sweep will have, most likely: told before anything is composed, so that its import can begin."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from expfw.errors import ExpfwError
from expfw.plugins.catalogue import catalogue
from expfw.plugins.variants import conf_folders

_TYPED = re.compile(r"(backend|experiment)=([\w-]+)")
_OTHER_BACKEND = re.compile(r"[~+]*backend(?![\w.])")
_IN_DEFAULTS = re.compile(r"^\s*- *(?:override +)?/?backend: *([\w-]+)", re.MULTILINE)


def modules_for(words: Sequence[str]) -> Sequence[str]:
    """What the likely backend needs imported; nothing where that cannot be told.

    Only the backends of expfw's own distribution count: another one may use its framework when it is imported, and a
    process that has done so cannot fork trials.

    Args:
        words: of a sweep, as they were typed.
    """
    backend = next(_names(words), None) if words else None
    try:
        found = catalogue(()).get("backend", backend) if backend is not None else None
    except ExpfwError:
        return ()  # the command will say what is wrong with it
    return found.load().preload if found is not None and found.distribution == "expfw" else ()


def _names(words: Sequence[str]) -> Iterator[str]:
    """By what is typed, by the experiment that is, by the root configuration of expfw; most important first."""
    typed = {match[1]: match[2] for word in words if (match := _TYPED.fullmatch(word))}
    if "backend" in typed:
        yield typed["backend"]
    elif not any(_OTHER_BACKEND.match(word) for word in words):
        typed_file = [f"experiment/{typed['experiment']}.yaml"] if "experiment" in typed else []
        for file in (*typed_file, "config.yaml"):
            for path in (folder / file for folder in conf_folders()):
                yield from _IN_DEFAULTS.findall(path.read_text()) if path.is_file() else ()
