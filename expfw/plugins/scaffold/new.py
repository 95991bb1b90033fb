"""Writes a new distribution from the template of its kind: all of it, or nothing."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from expfw.errors import ConfigError
from expfw.plugins.scaffold.naming import Names
from expfw.version import __version__

TEMPLATE = Path(__file__).with_name("template")
_EVERY = {
    "pyproject.toml": "pyproject.toml",
    "README.md": "README.md",
    "gitignore": ".gitignore",
    "ci.yaml": ".github/workflows/tests.yaml",
    "py.typed": "src/expfw_my_plugin/py.typed",
}
_KIND = {"plugin.py": "src/expfw_my_plugin/__init__.py", "test_plugin.py": "tests/test_my_plugin.py"}
_COMMANDS = {
    "model": "expfw run model=my_plugin dataset=digits",
    "backend": "expfw run backend=my_plugin dataset=digits",
    "callback": "expfw run +callback=my_plugin dataset=digits",
    "dataset": "expfw run dataset=my_plugin model.optimizer.learning_rate=0.1",
    "tracker": "expfw run tracker=[mlflow,my_plugin] dataset=digits",
}


@dataclass(frozen=True)
class Made:
    """A distribution as it was written.

    Attributes:
        files: relative to `folder`; command: one that uses the plugin.
    """

    folder: Path
    files: tuple[str, ...]
    command: str


def new(names: Names, folder: Path) -> Made:
    """Writes the distribution into `folder`/expfw-NAME.

    Raises:
        ConfigError: something is there already, or the folder cannot be written; then nothing is left behind.
    """
    target = folder / names.distribution
    if target.exists():
        raise ConfigError(f"{target} is there already; take another name, or another --folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(prefix=f".{names.distribution}-", dir=folder))
    except OSError as error:
        raise ConfigError(f"{folder} cannot be written ({error.strerror}); choose another --folder") from error
    try:
        unfinished.chmod(0o755)  # what temporary folders are not
        files = _contents(names)
        for name, text in files.items():
            path = unfinished / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        unfinished.rename(target)
    except OSError as error:
        raise ConfigError(f"{target} cannot be written ({error.strerror}); nothing was left there") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)  # gone by now, where all went well
    return Made(target, tuple(files), names.filled(_COMMANDS[names.kind]))


def _contents(names: Names) -> dict[str, str]:
    """The text of every file, by its place in the distribution."""
    sources = {TEMPLATE / "every" / source: place for source, place in _EVERY.items()}
    sources |= {TEMPLATE / names.kind / source: place for source, place in _KIND.items()}
    variables = {"MY_COMMAND": _COMMANDS[names.kind], "MY_RANGE": _range()}
    contents = {}
    for source, place in sources.items():
        text = source.read_text()
        for variable, value in variables.items():
            text = text.replace(variable, value)
        contents[names.filled(place)] = names.filled(text)
    return contents


def _range() -> str:
    """The releases of expfw that a plugin made with this one is for."""
    major, minor, *_ = __version__.split(".")
    return f">={major}.{minor},<{int(major) + 1}"
