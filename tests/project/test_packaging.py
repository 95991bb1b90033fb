"""Folders, packages and entry points are consistent."""

from __future__ import annotations

import importlib
import re
import tomllib

import pytest
from conftest import ROOT

import expfw

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_every_package_folder_is_packaged():
    roots = {"expfw": ROOT / "expfw", "expfw.conf": ROOT / "conf"}
    roots |= {path.parent.name: path.parent for path in ROOT.glob("plugins/*/__init__.py")}
    inner = [
        ".".join([name, *path.parent.relative_to(root).parts])
        for name, root in roots.items()
        for path in root.rglob("*/__init__.py")
        if "template" not in path.parts
    ]
    declared = PROJECT["tool"]["setuptools"]
    assert sorted(declared["packages"]) == sorted([*roots, *inner])
    assert {name: ROOT / path for name, path in declared["package-dir"].items()} == roots


def test_plugin_classes_and_entry_points_match():
    declared = set()
    groups = {k: v for k, v in PROJECT["project"]["entry-points"].items() if k.startswith("expfw.")}
    for group, points in groups.items():
        for target in points.values():
            module, _, name = target.partition(":")
            cls = getattr(importlib.import_module(module), name)
            assert cls.kind == group.removeprefix("expfw.")
            declared.add(cls)
    defined = set()
    for path in ROOT.glob("plugins/*/*.py"):
        text = path.read_text()
        for name in re.findall(r"^class (\w+)\(expfw\.(?:Model|Dataset|Callback|Tracker)\)", text, re.MULTILINE):
            defined.add(getattr(importlib.import_module(f"{path.parent.name}.{path.stem}"), name))
    assert defined <= declared
    assert {c for c in declared if c.kind != "backend"} == defined


def test_the_version_is_dynamic_and_in_the_changelog():
    assert PROJECT["project"]["dynamic"] == ["version"]
    changelog = (ROOT / "CHANGELOG.md").read_text()
    assert f"## {expfw.__version__}" in changelog


def test_pinned_versions_are_within_the_declared_ranges():
    from packaging.requirements import Requirement

    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and line[0] != "#"]
    exact = {name.lower(): version for name, _, version in (line.partition("==") for line in lines)}
    assert all(re.fullmatch(r"[\w.\-]+==[\w.!+]+", line) for line in lines)  # only names and versions
    declared = PROJECT["project"]["dependencies"] + PROJECT["project"]["optional-dependencies"]["dev"]
    for requirement in map(Requirement, declared):
        assert requirement.specifier.contains(exact[requirement.name.lower()]), requirement


MODULES = sorted(path for folder in ("expfw", "plugins") for path in (ROOT / folder).rglob("*.py"))


@pytest.mark.parametrize("path", [path for path in MODULES if "template" not in path.parts], ids=str)
def test_every_source_file_is_short_and_has_a_docstring(path):
    text = path.read_text()
    assert len(text.splitlines()) <= 300
    assert text.startswith('"""')
    assert path.stem not in ("utils", "helpers", "common", "misc")
