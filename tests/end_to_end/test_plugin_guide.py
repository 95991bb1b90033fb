"""docs/authors/plugin-guide.md followed to the letter: five plugins, one of each kind.

Made, installed, tested and used in one sweep, in a fresh environment with the wheel.
"""

from __future__ import annotations

import json
import os
import re
import sqlite3
import subprocess

import pytest
from conftest import ROOT
from support.documentation_examples import PageRunner

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]  # the first one follows the whole page

PLUGINS = {
    "model": "resnet",
    "dataset": "shapes",
    "callback": "goal",
    "backend": "one_device",
    "tracker": "json_lines",
}


@pytest.fixture(scope="module")
def author(installed, tmp_path_factory):
    """Somebody who has followed the page to its end."""
    surroundings = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    quiet = {"PIP_QUIET": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_CONSTRAINT": str(ROOT / "constraints.txt")}
    path = {"PATH": f"{installed.python.parent}:{os.environ['PATH']}"}
    folder = tmp_path_factory.mktemp("author") / "work"
    folder.mkdir()
    made = PageRunner(folder, {**surroundings, **quiet, **path})
    made.run_page(ROOT / "docs" / "authors" / "plugin-guide.md")
    return made


def test_their_tests_find_what_is_wrong_and_pass(author):
    ends = [text.strip().splitlines()[-1] for typed, text in author.outputs if typed.startswith("pytest")]
    before, after, others = (re.sub(r" in [\d.]+s.*", "", end) for end in ends)
    assert (before, after) == ("1 failed, 15 passed", "16 passed")
    assert re.fullmatch(r"\d+ passed", others)


def test_they_are_listed_from_their_distributions(author, installed):
    listed = json.loads(installed.expfw("plugins", "list", "--json").stdout)
    found = {(plugin["kind"], plugin["name"]): plugin for plugin in listed}
    for kind, name in PLUGINS.items():
        one = found[kind, name]
        assert (one["distribution"], one["version"]) == (f"expfw-{name.replace('_', '-')}", "0.1.0")
        assert one["usable"], one["reason"]


def test_their_types_are_strict(author, installed):
    """By mypy, with the settings that each has in its pyproject.toml, the same for all."""
    folders = [f"expfw-{name.replace('_', '-')}" for name in PLUGINS.values()]
    files = [f"{folder}/{part}" for folder in folders for part in ("src", "tests")]
    command = [installed.python, "-m", "mypy", "--config-file", f"{folders[0]}/pyproject.toml", *files]
    done = subprocess.run(command, cwd=author.folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "no issues found in 10 source files" in done.stdout


def test_one_sweep_uses_all_of_them(author):
    (text,) = [text for typed, text in author.outputs if "tracker=[mlflow,json_lines]" in typed]
    sweep_id = re.search(r"sweep (\w{8})", text)[1]
    (folder,) = author.folder.glob(f"runs/*/*-{sweep_id}")
    trials = [json.loads(path.read_text()) for path in (folder / "ledger").glob("0*.json")]
    assert [trial["status"] for trial in trials] == ["FINISHED"] * 2
    (ours,) = [trial for trial in trials if "model=resnet" in trial["overrides"]]
    assert ours["metrics"]["goal/steps"] < 170  # which all ten epochs would have

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
