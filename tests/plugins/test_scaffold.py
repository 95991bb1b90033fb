"""expfw plugins new: writes complete, valid distributions, or nothing."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from conftest import ROOT

from expfw.plugins.kinds import KINDS
from expfw.plugins.scaffold import new

KINDS_BY_NAME = {
    "wide-net": "model",
    "one-device": "backend",
    "underfit": "callback",
    "spiral": "dataset",
    "my-kind": "tracker",
}
MAX_LINES = 70
"""Maximum number of lines of a generated file."""


@pytest.fixture(scope="module")
def distributions(tmp_path_factory):
    """A folder with a distribution of each kind."""
    folder = tmp_path_factory.mktemp("distributions")
    for name, kind in KINDS_BY_NAME.items():
        new.write_distribution(new.name_plugin(kind, name), folder)
    return folder


def test_every_kind_has_a_template():
    assert set(KINDS_BY_NAME.values()) == set(KINDS)


@pytest.mark.parametrize("name", KINDS_BY_NAME)
def test_a_new_distribution_is_short_and_complete(distributions, name):
    folder, module = distributions / f"expfw-{name}", f"expfw_{name.replace('-', '_')}"
    texts = {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}
    assert set(texts) == {
        *("pyproject.toml", "README.md", ".gitignore", ".github/workflows/tests.yaml"),
        *(f"src/{module}/__init__.py", f"src/{module}/py.typed", f"tests/test_{module.removeprefix('expfw_')}.py"),
    }
    for path, text in texts.items():
        assert len(text.splitlines()) <= MAX_LINES, path
        assert not any(word in text for word in ("my_plugin", "my-plugin", "MyPlugin", "MY_", "my_kind_kind")), path
        assert path.endswith("py.typed") or text.endswith("\n")
    project = tomllib.loads(texts["pyproject.toml"])
    ((group, points),) = project["project"]["entry-points"].items()
    assert group == f"expfw.{KINDS_BY_NAME[name]}"
    ((option, target),) = points.items()
    assert (option, target.partition(":")[0]) == (name.replace("-", "_"), module)
    assert project["project"]["dependencies"] == ["expfw>=0.1,<1"]
    tree = ast.parse(texts[f"src/{module}/__init__.py"])
    classes = [node.name for node in tree.body if isinstance(node, ast.ClassDef)]
    assert classes == [target.partition(":")[2]]
    assert "help=" in texts[f"src/{module}/__init__.py"]
    steps = yaml.safe_load(texts[".github/workflows/tests.yaml"])["jobs"]["tests"]["steps"]
    assert [step["run"] for step in steps if "run" in step][1:] == [f"expfw plugins check {option}", "mypy", "pytest"]


def test_a_plugin_name_may_be_a_placeholder_of_the_templates():
    text = new.NewPlugin("tracker", "my_kind").fill_template("my_plugin my-plugin MyPlugin my_kind")
    assert text == "my_kind my-kind MyKind tracker"


def test_the_name_of_an_installed_distribution_is_rejected(call, planted):
    planted.install_distribution("expfw-wide", None, {})
    assert "distribution expfw-wide already exists" in call("plugins", "new", "wide", "--kind", "model")[2]


def test_no_file_is_overwritten_and_no_partial_distribution_remains(call, workdir, monkeypatch):
    code, out, _ = call("plugins", "new", "wide", "--kind", "model", "--folder", "mine/plugins")
    assert code == 0
    assert "next: cd mine/plugins/expfw-wide && pip install -e '.[test]' && pytest" in out
    assert "expfw run model=wide" in out
    before = {path: path.stat().st_mtime_ns for path in workdir.rglob("*")}
    code, _, err = call("plugins", "new", "wide", "--kind", "model", "--folder", "mine/plugins")
    assert (code, err.count("\n")) == (2, 1)
    assert "expfw-wide already exists" in err
    write = Path.write_text

    def full(self, text):
        if self.name.startswith("test_"):
            raise OSError(28, "No space left on device")
        return write(self, text)

    monkeypatch.setattr(Path, "write_text", full)
    code, _, err = call("plugins", "new", "wider", "--kind", "model", "--folder", "mine/plugins")
    monkeypatch.undo()
    assert code == 2
    assert "No space left on device" in err
    after = {path: path.stat().st_mtime_ns for path in workdir.rglob("*")}
    assert after.keys() == before.keys()


@pytest.mark.slow
def test_new_distributions_pass_strict_mypy(distributions, tmp_path):
    """Uses the mypy settings of the distributions."""
    sources = [str(path) for path in distributions.glob("expfw-*/src")]
    environment = {**os.environ, "MYPYPATH": os.pathsep.join([*sources, str(ROOT), str(ROOT / "plugins")])}
    command = [sys.executable, "-m", "mypy", "--follow-imports=silent", "--cache-dir", str(tmp_path / "cache")]
    files = [str(path) for folder in ("src", "tests") for path in distributions.glob(f"expfw-*/{folder}")]
    settings = ["--config-file", str(distributions / "expfw-wide-net" / "pyproject.toml")]
    done = subprocess.run([*command, *settings, *files], capture_output=True, text=True, env=environment, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "no issues found in 10 source files" in done.stdout


@pytest.mark.slow
def test_the_tests_of_new_distributions_pass(distributions):
    """Runs the tests of all five distributions in one process."""
    sources = " ".join(str(path) for path in distributions.glob("expfw-*/src"))
    tests = [str(path) for path in distributions.glob("expfw-*/tests")]
    options = ["-q", "-p", "no:cacheprovider", "--import-mode=importlib", "-o", f"pythonpath={sources}", "--rootdir"]
    command = [sys.executable, "-m", "pytest", *options, str(distributions), *tests]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, cwd=distributions)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout
