"""Importing what somebody else wrote: it may print, exit, or take its time, and costs nobody but who chose it."""

from __future__ import annotations

import contextlib
import io
import logging
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from expfw.errors import PluginError, one_line, shortened

SLOW_SECONDS = 5.0
PRINTED = "printed"
"""Attribute of the log's record that tells of printing: what was printed."""
log = logging.getLogger("expfw")
T = TypeVar("T")


def imported(load: Callable[[], T], module: str, who: str, owner: str) -> T:
    """What `load` imports from a module.

    What it prints becomes one line of the log, so that tables and JSON stay whole; so does a slow import, while it goes
    on.

    Args:
        who: how lines name what is imported; owner: what has to be mended.

    Raises:
        PluginError: it cannot be imported.
    """
    with contextlib.ExitStack() as watching:
        if module not in sys.modules:  # a trial of a sweep asks for what its server has imported already
            watching.enter_context(_noticed_when_slow(who))
            watching.enter_context(_printing_noticed(who))
        try:
            return load()
        except (Exception, SystemExit) as error:
            raise PluginError(f"{who} cannot be imported ({_told(error)}); mend or uninstall {owner}") from error


def _told(error: BaseException) -> str:
    """An error in one line. Python names the file of a mistake in its syntax without its folder."""
    told = f"{error.msg} ({error.filename}, line {error.lineno})" if isinstance(error, SyntaxError) else error
    return one_line(f"{type(error).__name__}: {told}")


@contextmanager
def _noticed_when_slow(who: str) -> Iterator[None]:
    def notice() -> None:
        log.warning(
            "%s is being imported for %g s now; its author can import what is heavy inside of methods",
            who,
            SLOW_SECONDS,
        )

    clock = threading.Timer(SLOW_SECONDS, notice)
    clock.daemon = True
    clock.start()
    try:
        yield
    finally:
        clock.cancel()


@contextmanager
def _printing_noticed(who: str) -> Iterator[None]:
    kept = _Kept()
    try:
        with contextlib.redirect_stdout(kept):
            yield
    finally:
        kept.over = True
        if text := one_line(kept.getvalue()):
            shown = shortened(text, 80)
            line = f"{who} prints when it is imported: {shown!r}; its author can do that when the plugin is used"
            log.warning(line, extra={PRINTED: shown})


class _Kept(io.StringIO):
    """Keeps what is printed; what a handler that was made meanwhile writes later goes to stderr."""

    over = False

    def write(self, text: str) -> int:
        return sys.stderr.write(text) if self.over else super().write(text)
