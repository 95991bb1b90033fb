"""The architecture page matches the folders of the project."""

from __future__ import annotations

import re

import pytest
from conftest import ROOT

PAGE = (ROOT / "docs" / "internals" / "architecture.md").read_text()
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
HOST = [path for path in (ROOT / "expfw").rglob("*.py") if "template" not in path.parts]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_source_file_that_a_page_names_exists(page):
    named = set(re.findall(r"`((?:\w+/)+\w+\.py)`", page.read_text()))
    folders = ("expfw", "plugins", "tests", "benchmarks", "docs")
    known = {f"/{path.relative_to(ROOT).as_posix()}" for folder in folders for path in (ROOT / folder).rglob("*.py")}
    plugin_files = ("src/", "tests/test_")  # files of a plugin distribution
    unknown = [name for name in sorted(named) if not any(path.endswith(f"/{name}") for path in known)]
    assert [name for name in unknown if not name.startswith(plugin_files)] == []


def test_the_architecture_page_lists_every_package_and_file():
    for path in HOST:
        folder = path.parent.relative_to(ROOT).as_posix()
        (line,) = re.findall(rf"^ *- \*\*{folder}/\*\*: .*$", PAGE, re.MULTILINE)
        assert path.name == "__init__.py" or f"`{path.name}`" in line, path


def test_the_host_has_few_packages_and_top_level_modules():
    packages = [path for path in (ROOT / "expfw").iterdir() if (path / "__init__.py").exists()]
    modules = [path for path in (ROOT / "expfw").glob("*.py") if path.name not in ("__init__.py", "__main__.py")]
    assert len(packages) <= 10
    assert len(modules) <= 6


@pytest.mark.parametrize("folder", ["expfw", "plugins", "tests", "benchmarks"])
def test_no_folder_has_more_than_twenty_files(folder):
    for path in [ROOT / folder, *(ROOT / folder).rglob("*/")]:
        assert len([file for file in path.glob("*.py") if file.name != "__init__.py"]) <= 20, path


def test_every_package_has_a_folder_of_tests():
    host = {path.parent.name for path in (ROOT / "expfw").glob("*/__init__.py")}
    plugins = {path.parent.name.removeprefix("expfw_") for path in (ROOT / "plugins").glob("*/__init__.py")}
    assert {name for name in host | plugins if not (ROOT / "tests" / name).is_dir()} == set()


def test_the_top_level_of_a_plugin_package_has_plugins_only():
    declared = (ROOT / "pyproject.toml").read_text()
    public = {"expfw_backends/tensorflow_backend.py"}  # base class for other backends
    for path in (ROOT / "plugins").glob("expfw_*/*.py"):
        name = path.relative_to(ROOT / "plugins").as_posix()
        module = name.removesuffix(".py").replace("/", ".")
        assert path.name == "__init__.py" or name in public or f' = "{module}:' in declared, name


def test_files_are_written_by_functions_that_hide_secrets():
    direct = r"(?<!atomic_files)\.write_text\(|json\.dump\(|open\([^)]*\"[wa]\""
    others = {path.relative_to(ROOT / "expfw").as_posix() for path in HOST if re.search(direct, path.read_text())}
    without_options = {
        *("api/checkpoints.py", "api/data_files.py", "tracking/saved_model.py"),  # checksums, shapes, a sample
        *("runs/inference/predictions.py", "sweeps/plan/measurement.py"),  # numbers
        "system/process_lock.py",  # a process
        *("plugins/importing.py", "plugins/scaffold/new.py", "testing/small_data.py"),  # a stream, templates, test data
    }
    assert others == without_options | {"sweeps/cluster/job.py"}  # the request of a trial, readable only by the owner
