"""Imports third-party plugins safely, as modules or as plain Python files: they may print, exit or fail."""

from __future__ import annotations

import importlib.util
import logging
import re
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, redirect_stderr, redirect_stdout
from pathlib import Path
from types import ModuleType
from typing import TypeVar

from expfw.errors import PluginError, to_one_line, truncate_text
from expfw.system.input_files import MAX_BYTES
from expfw.system.redirection import redact_stream, redirect_fd

T = TypeVar("T")
log = logging.getLogger("expfw")
printed_texts: list[str] = []
"""Texts that plugins printed on import in this process, shortened."""
_output_lock = threading.RLock()


def import_safely(load: Callable[[], T], module: str, label: str, remedy: str) -> T:
    """Imports from a module with `load`; text that it prints becomes one log line, so that JSON output stays valid.

    Raises:
        PluginError: if the import fails or exits.
    """
    try:
        # In a trial of a sweep, the fork server has already imported it.
        with nullcontext() if module in sys.modules else _log_output(label):
            return load()
    except (Exception, SystemExit) as error:
        # Python shortens the path of a SyntaxError to the file name.
        message = f"{error.msg} ({error.filename}, line {error.lineno})" if isinstance(error, SyntaxError) else error
        reason = to_one_line(f"{type(error).__name__}: {message}")
        raise PluginError(f"{label} cannot be imported ({reason}); {remedy}") from error


@contextmanager
def _log_output(label: str) -> Iterator[None]:
    """Captures the output of this process, also of native libraries and other programs, and logs it as one line."""
    with _output_lock, tempfile.TemporaryFile() as file:
        # A logger that the plugin creates may keep this stream: afterwards, it writes to stderr.
        stream = redact_stream(open(2, "w", buffering=1, closefd=False))  # noqa: SIM115
        try:
            descriptors = redirect_fd(1, file.fileno()), redirect_fd(2, file.fileno())
            with descriptors[0], descriptors[1], redirect_stdout(stream), redirect_stderr(stream):
                yield
        finally:
            file.seek(0)
            if text := truncate_text(to_one_line(file.read().decode(errors="replace")), 80):
                printed_texts.append(text)
                log.warning("%s prints on import: %r; its author can print when the plugin is used", label, text)


def get_module_name(file: Path) -> str:
    """Returns the module name of a plugin file in this process."""
    return "expfw_file_" + re.sub(r"\W", "_", str(file.resolve()))


def import_file(path: str) -> ModuleType:
    """Imports a plugin file under a unique module name; a file that is already imported is not read again.

    Raises:
        PluginError: if the file is missing or cannot be imported.
    """
    file = Path(path)
    name = get_module_name(file)
    if name in sys.modules:
        return sys.modules[name]
    if not file.is_file():
        raise PluginError(f"there is no plugin file {file}; expected a Python file with a plugin class")
    if file.stat().st_size > MAX_BYTES:
        raise PluginError(f"plugin file {file} is larger than {MAX_BYTES:,} bytes; expected a Python file")
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise PluginError(f"{file} is not a Python file; expected a name that ends in .py")
    module = importlib.util.module_from_spec(spec)
    execute = spec.loader.exec_module
    sys.modules[name] = module  # dataclasses and pickle look up the module while it runs
    try:
        import_safely(lambda: execute(module), str(file), f"plugin file {file}", f"fix it, or omit -p {file}")
    except PluginError:
        del sys.modules[name]
        raise
    return module


def forget_file(path: str) -> None:
    """Removes the cached module, so that the file is read again at the next use; it may be edited in a notebook."""
    sys.modules.pop(get_module_name(Path(path)), None)
