"""The packages and layers of expfw as text, from the package docstrings and pyproject.toml."""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PLUGIN_PACKAGES = ("expfw_models", "expfw_datasets", "expfw_backends", "expfw_callbacks", "expfw_mlflow")


def render_host_tree() -> str:
    """Returns a list of all packages of the host with their files."""
    return "\n".join(_render_tree(ROOT / "expfw"))


def render_plugin_tree() -> str:
    """Returns a list of all built-in plugin packages with their files."""
    return (
        "\n".join(line for name in PLUGIN_PACKAGES for line in [*_render_tree(ROOT / "plugins" / name), ""]).rstrip()
        + "\n"
    )


def render_packages() -> str:
    """Returns a table of the host packages in the order of their layers."""
    names = [name.strip() for layer in _read_layers() for name in layer.split(":")]
    folders = [ROOT / "expfw" / name for name in names if (ROOT / "expfw" / name).is_dir()]
    rows = [f"| `expfw/{folder.name}/` | {_read_summary(folder / '__init__.py')} |" for folder in folders]
    return "\n".join(["| package | contents |", "| --- | --- |", *rows]) + "\n"


def render_layers() -> str:
    """Returns the layers, the highest first; packages on one line do not import each other."""
    return "```text\n" + "\n".join(_read_layers()) + "\n```\n"


def _read_layers() -> list[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    contracts = project["tool"]["importlinter"]["contracts"]
    return next(list(contract["layers"]) for contract in contracts if contract["type"] == "layers")


def _render_tree(folder: Path) -> Iterator[str]:
    for package in [folder, *sorted(path.parent for path in folder.rglob("*/__init__.py"))]:
        if "template" in package.parts:
            continue
        files = ", ".join(f"`{path.name}`" for path in sorted(package.glob("*.py")) if path.name != "__init__.py")
        depth = len(package.relative_to(folder).parts)
        name = package.relative_to(folder.parent).as_posix()
        yield f"{'  ' * depth}- **{name}/**: {_read_summary(package / '__init__.py')} {files}".rstrip()


def _read_summary(file: Path) -> str:
    """Returns the first line of a package's docstring."""
    return (ast.get_docstring(ast.parse(file.read_text())) or "").splitlines()[0]


SECTIONS = {
    "host_tree": render_host_tree,
    "plugin_tree": render_plugin_tree,
    "packages": render_packages,
    "layers": render_layers,
}
