"""Installs fake distributions with plugins in a folder on sys.path, without pip."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from expfw.plugins import catalogue

GOOD_CALLBACK = '''
from dataclasses import dataclass

import expfw


class Good(expfw.Callback):
    """Does nothing."""

    @dataclass
    class Config:
        units: int = expfw.option(4, help="how many")

    @expfw.hookimpl
    def expfw_epoch_ended(self, run):
        pass
'''


class SiteFolder:
    """A site folder for distributions."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.modules: list[str] = []

    def install_distribution(
        self,
        distribution: str,
        code: str | None,
        entry_points: Mapping[str, str],
        requires: str | None = "expfw<1,>=0.1",
        version: str = "1.0",
        text: str | None = None,
        metadata: str | None = None,
    ) -> str:
        """Installs a distribution; returns the name of its module.

        Args:
            code: code of its only module; None for no module.
            entry_points: `{"model/name": "Class"}` with classes of the module.
            requires: requirement on expfw; None for no requirement.
            text: content of entry_points.txt; replaces `entry_points`.
            metadata: content of METADATA; replaces the default.
        """
        module = distribution.replace("-", "_")
        self.modules.append(module)
        if code is not None:
            (self.path / f"{module}.py").write_text(code)
        folder = self.path / f"{module}-{version}.dist-info"
        folder.mkdir()
        if metadata is None:
            header = f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n"
            requirement = f"Requires-Dist: {requires}\n" if requires is not None else ""
            metadata = f"{header}{requirement}Requires-Dist: expfw[testing]; extra == 'test'\n"
        (folder / "METADATA").write_text(metadata)
        if text is None:
            keys = {tuple(key.split("/")): cls for key, cls in entry_points.items()}
            text = "\n".join(f"[expfw.{kind}]\n{name} = {module}:{cls}\n" for (kind, name), cls in keys.items())
        (folder / "entry_points.txt").write_text(text)
        importlib.invalidate_caches()
        catalogue.get_cached_catalogue.cache_clear()
        return module

    def install_callback(self, name: str, code: str = GOOD_CALLBACK, **options: str | None) -> str:
        """Installs a distribution with one callback, the class `Good`; see `install_distribution`."""
        distribution = f"expfw-{name.replace('_', '-')}"
        return self.install_distribution(distribution, code, {f"callback/{name}": "Good"}, **options)


@contextmanager
def temporary_site(path: Path) -> Iterator[SiteFolder]:
    """Adds a site folder at the beginning of sys.path; removes it and its modules afterwards."""
    site_folder = SiteFolder(path)
    sys.path.insert(0, str(path))
    try:
        yield site_folder
    finally:
        sys.path.remove(str(path))
        for module in site_folder.modules:
            sys.modules.pop(module, None)
        importlib.invalidate_caches()
        catalogue.get_cached_catalogue.cache_clear()
