"""Writes a new distribution from the template of its kind, atomically."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from expfw.errors import ConfigError
from expfw.plugins.scaffold.naming import PluginNames
from expfw.version import __version__

TEMPLATE = Path(__file__).with_name("template")
_COMMON_FILES = {
    "pyproject.toml": "pyproject.toml",
    "README.md": "README.md",
    "gitignore": ".gitignore",
    "ci.yaml": ".github/workflows/tests.yaml",
    "py.typed": "src/expfw_my_plugin/py.typed",
}
_KIND_FILES = {"plugin.py": "src/expfw_my_plugin/__init__.py", "test_plugin.py": "tests/test_my_plugin.py"}
_COMMANDS = {
    "model": "expfw run model=my_plugin dataset=digits",
    "backend": "expfw run backend=my_plugin dataset=digits",
    "callback": "expfw run +callback=my_plugin dataset=digits",
    "dataset": "expfw run dataset=my_plugin model.optimizer.learning_rate=0.1",
    "tracker": "expfw run tracker=[mlflow,my_plugin] dataset=digits",
}


@dataclass(frozen=True)
class NewDistribution:
    """A distribution that was written.

    Attributes:
        folder: folder of the distribution.
        files: paths of its files, relative to `folder`.
        command: an example command that uses the plugin.
    """

    folder: Path
    files: tuple[str, ...]
    command: str


def write_distribution(names: PluginNames, folder: Path) -> NewDistribution:
    """Writes the distribution into `folder`/expfw-NAME.

    Raises:
        ConfigError: if the folder already exists or cannot be written; no partial files remain.
    """
    target = folder / names.distribution
    if target.exists():
        raise ConfigError(f"{target} already exists; choose another name, or another --folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        temporary_folder = Path(tempfile.mkdtemp(prefix=f".{names.distribution}-", dir=folder))
    except OSError as error:
        raise ConfigError(f"cannot write to {folder}: {error.strerror}; choose another --folder") from error
    try:
        temporary_folder.chmod(0o755)  # mkdtemp creates private folders
        files = _fill_templates(names)
        for name, text in files.items():
            path = temporary_folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        temporary_folder.rename(target)
    except OSError as error:
        raise ConfigError(f"cannot write {target}: {error.strerror}; no file remains there") from error
    finally:
        shutil.rmtree(temporary_folder, ignore_errors=True)  # it no longer exists after a success
    return NewDistribution(target, tuple(files), names.fill_template(_COMMANDS[names.kind]))


def _fill_templates(names: PluginNames) -> dict[str, str]:
    """Returns the text of every file, by its path in the distribution."""
    sources = {TEMPLATE / "every" / source: relative_path for source, relative_path in _COMMON_FILES.items()}
    sources |= {TEMPLATE / names.kind / source: relative_path for source, relative_path in _KIND_FILES.items()}
    variables = {"MY_COMMAND": _COMMANDS[names.kind], "MY_RANGE": _make_version_range()}
    contents = {}
    for source, relative_path in sources.items():
        text = source.read_text()
        for variable, value in variables.items():
            text = text.replace(variable, value)
        contents[names.fill_template(relative_path)] = names.fill_template(text)
    return contents


def _make_version_range() -> str:
    """Returns the version range of expfw for a plugin created with this release."""
    major, minor, *_ = __version__.split(".")
    return f">={major}.{minor},<{int(major) + 1}"
