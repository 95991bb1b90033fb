"""All steps of the tutorial after the installation, and of the plugin guide, in a new environment with the wheel.

The plugin guide creates, installs and tests five plugins, one of each kind, and uses them in one sweep.
"""

from __future__ import annotations

import json
import re
import sqlite3
import subprocess

import pytest
from conftest import ROOT
from support.documentation_examples import PageRunner

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]  # the first test runs the whole page

TUTORIAL = ROOT / "docs" / "guide" / "tutorial.md"
PLUGINS = {"model": "resnet", "dataset": "shapes", "callback": "goal", "backend": "one_device", "tracker": "json_lines"}


def test_the_tutorial_works(installed, tmp_path):
    folder = tmp_path / "try"
    folder.mkdir()
    runner = PageRunner(folder, installed.variables)
    runner.run_page(TUTORIAL)

    (first_run,) = re.findall(r"^FINISHED .* (runs/\S+)$", runner.outputs[0][1], re.MULTILINE)
    files_on_page = re.findall(r"^\| `([\w.]+)/?` \|", TUTORIAL.read_text(), re.MULTILINE)
    assert len(files_on_page) == 9
    assert set(files_on_page) <= {path.name for path in (folder / first_run).iterdir()}


@pytest.fixture(scope="module")
def author(installed, tmp_path_factory):
    """A page runner that has run the whole page."""
    folder = tmp_path_factory.mktemp("author") / "work"
    folder.mkdir()
    runner = PageRunner(folder, installed.variables)
    runner.run_page(ROOT / "docs" / "authors" / "plugin-guide.md")
    return runner


def test_the_tests_of_the_plugins_find_the_fault_and_pass_after_the_fix(author):
    summaries = [text.strip().splitlines()[-1] for command, text in author.outputs if command.startswith("pytest")]
    before, after, others = (re.sub(r" in [\d.]+s.*", "", summary) for summary in summaries)
    assert (before, after) == ("1 failed, 15 passed", "16 passed")
    assert re.fullmatch(r"\d+ passed", others)


def test_the_plugins_are_listed_with_their_distributions(author, installed):
    plugins = json.loads(installed.expfw("plugins", "list", "--json").stdout)
    plugins_by_name = {(plugin["kind"], plugin["name"]): plugin for plugin in plugins}
    for kind, name in PLUGINS.items():
        plugin = plugins_by_name[kind, name]
        assert (plugin["distribution"], plugin["version"]) == (f"expfw-{name.replace('_', '-')}", "0.1.0")
        assert plugin["usable"], plugin["reason"]


def test_the_plugins_pass_strict_mypy(author, installed):
    """Uses the mypy configuration in pyproject.toml, which is the same for all plugins."""
    folders = [f"expfw-{name.replace('_', '-')}" for name in PLUGINS.values()]
    files = [f"{folder}/{part}" for folder in folders for part in ("src", "tests")]
    command = [installed.python, "-m", "mypy", "--config-file", f"{folders[0]}/pyproject.toml", *files]
    done = subprocess.run(command, cwd=author.folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "no issues found in 10 source files" in done.stdout


def test_one_sweep_uses_all_plugins(author):
    (text,) = [text for command, text in author.outputs if "tracker=[mlflow,json_lines]" in command]
    sweep_id = re.search(r"sweep (\w{8})", text)[1]
    (folder,) = author.folder.glob(f"runs/*/*-{sweep_id}")
    trials = [json.loads(path.read_text()) for path in (folder / "ledger").glob("0*.json")]
    assert [trial["status"] for trial in trials] == ["FINISHED"] * 2
    (ours,) = [trial for trial in trials if "model=resnet" in trial["overrides"]]
    assert ours["metrics"]["goal/steps"] < 170  # the steps of all ten epochs

    with sqlite3.connect(author.folder / "runs" / "mlflow.db") as store:
        of_sweep = "select run_uuid from tags where key = 'expfw.sweep_id' and value = ?"
        tags = store.execute(
            f"select key, value, count(*) from tags where run_uuid in ({of_sweep}) group by 1, 2", (sweep_id,)
        )
        counts = {key.removeprefix("expfw.plugin."): (value, count) for key, value, count in tags}
    for kind, name in PLUGINS.items():
        runs = 1 if kind == "model" else 2
        assert counts[f"{kind}.{name}"] == (f"expfw-{name.replace('_', '-')} 0.1.0", runs)

    files = {path.stem: path.read_text() for path in (author.folder / "runs" / "json_lines").iterdir()}
    assert files.keys() == {trial["run_id"] for trial in trials}
    points = [json.loads(line) for line in files[ours["run_id"]].splitlines()]
    assert points[-1]["test/accuracy"] == ours["metrics"]["test/accuracy"]
