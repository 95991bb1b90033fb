"""expfw plugins new: distributions that are right at once, or none."""

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
from support.fake_distributions import temporary_site

from expfw.plugins.kinds import KINDS
from expfw.plugins.scaffold import new
from expfw.plugins.scaffold.naming import PluginNames, make_names

MADE = {"wide-net": "model", "one-device": "backend", "underfit": "callback", "spiral": "dataset", "my-kind": "tracker"}
LONGEST = 70
"""Lines of a generated file."""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with a distribution of each kind."""
    folder = tmp_path_factory.mktemp("made")
    for name, kind in MADE.items():
        new.write_distribution(make_names(kind, name), folder)
    return folder


def test_there_is_a_template_for_every_kind():
    assert set(MADE.values()) == set(KINDS)


@pytest.mark.parametrize("name", MADE)
def test_a_distribution_is_short_and_whole(made, name):
    folder, module = made / f"expfw-{name}", f"expfw_{name.replace('-', '_')}"
    found = {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}
    assert set(found) == {
        *("pyproject.toml", "README.md", ".gitignore", ".github/workflows/tests.yaml"),
        *(f"src/{module}/__init__.py", f"src/{module}/py.typed", f"tests/test_{module.removeprefix('expfw_')}.py"),
    }
    for path, text in found.items():
        assert len(text.splitlines()) <= LONGEST, path
        assert not any(word in text for word in ("my_plugin", "my-plugin", "MyPlugin", "MY_", "my_kind_kind")), path
        assert path.endswith("py.typed") or text.endswith("\n")
    project = tomllib.loads(found["pyproject.toml"])
    ((group, points),) = project["project"]["entry-points"].items()
    assert group == f"expfw.{MADE[name]}"
    ((option, target),) = points.items()
    assert (option, target.partition(":")[0]) == (name.replace("-", "_"), module)
    assert project["project"]["dependencies"] == ["expfw>=0.1,<1"]
    tree = ast.parse(found[f"src/{module}/__init__.py"])
    classes = [node.name for node in tree.body if isinstance(node, ast.ClassDef)]
    assert classes == [target.partition(":")[2]]
    assert "help=" in found[f"src/{module}/__init__.py"]
    steps = yaml.safe_load(found[".github/workflows/tests.yaml"])["jobs"]["tests"]["steps"]
    assert [step["run"] for step in steps if "run" in step][1:] == [f"expfw plugins check {option}", "mypy", "pytest"]


def test_a_name_that_templates_use_is_only_a_name():
    assert (
        PluginNames("tracker", "my_kind").fill_template("my_plugin my-plugin MyPlugin my_kind")
        == "my_kind my-kind MyKind tracker"
    )


@pytest.mark.parametrize(
    ("name", "kind", "expected"),
    [
        ("Wide", "model", "'Wide' is no name for a plugin; expected lower-case letters"),
        ("wide net", "model", "is no name for a plugin"),
        ("../wide", "model", "is no name for a plugin"),
        ("2wide", "model", "is no name for a plugin"),
        ("expfw-wide", "model", "without expfw in front"),
        ("null", "model", "means something else in configurations"),
        ("model-contract", "model", "would make a class ModelContract, which there is already"),
        ("none", "model", "would make a class None, which there is already"),
        ("exception", "model", "would make a class Exception"),
        ("path", "tracker", "would make a class Path"),
        ("cnn", "model", "there is the model plugin 'cnn' of expfw 0.1.0 already; choose another name"),
        ("tf_cpu", "backend", "there is the backend plugin 'tf-cpu'"),
        ("alexnet-small", "model", "model=alexnet_small is a configuration of expfw's own already"),
        ("models", "model", "there is a package expfw_models already"),
        ("wide", "modle", "no kind 'modle'. Did you mean 'model'? There are: backend, callback"),
    ],
)
def test_a_name_that_cannot_be(call, workdir, name, kind, expected):
    code, out, err = call("plugins", "new", name, "--kind", kind)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert expected in err
    assert not list(workdir.iterdir())


def test_without_a_kind_it_says_where_they_are_named(call):
    code, _, err = call("plugins", "new", "wide")
    assert (code, err.count("\n")) == (2, 1)
    assert "Missing option '--kind'. `expfw plugins new --help` shows" in err


def test_the_name_of_an_installed_distribution(call, workdir):
    folder = workdir / "site"
    folder.mkdir()
    with temporary_site(folder) as planted:
        planted.install_distribution("expfw-wide", None, {})
        assert "there is a distribution expfw-wide already" in call("plugins", "new", "wide", "--kind", "model")[2]


def test_nothing_is_overwritten_and_nothing_is_left_half_written(call, workdir, monkeypatch):
    code, out, _ = call("plugins", "new", "wide", "--kind", "model", "--folder", "mine/plugins")
    assert code == 0
    assert "next: cd mine/plugins/expfw-wide && pip install -e '.[test]' && pytest" in out
    assert "expfw run model=wide" in out
    before = {path: path.stat().st_mtime_ns for path in workdir.rglob("*")}
    code, _, err = call("plugins", "new", "wide", "--kind", "model", "--folder", "mine/plugins")
    assert (code, err.count("\n")) == (2, 1)
    assert "expfw-wide is there already" in err
    (workdir / "file").write_text("")
    assert "file cannot be written" in call("plugins", "new", "wide", "--kind", "model", "--folder", "file")[2]
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
    (workdir / "file").unlink()
    after = {path: path.stat().st_mtime_ns for path in workdir.rglob("*")}
    assert after.keys() == before.keys()


@pytest.mark.slow
def test_the_static_checks_find_nothing(made, call, monkeypatch):
    files = [next(made.glob(f"expfw-{name}/src/*/__init__.py")) for name in MADE]
    for file in files:
        cls = next(node.name for node in ast.parse(file.read_text()).body if isinstance(node, ast.ClassDef))
        name = "".join(f"_{c.lower()}" if c.isupper() else c for c in cls).lstrip("_")
        code, out, err = call("-p", str(file), "plugins", "check", name)
        assert (code, out) == (0, "1 plugin checked, no fault found\n"), err


@pytest.mark.slow
def test_their_types_are_strict(made, tmp_path):
    """By mypy, with the settings that the distributions have."""
    sources = [str(path) for path in made.glob("expfw-*/src")]
    environment = {**os.environ, "MYPYPATH": os.pathsep.join([*sources, str(ROOT), str(ROOT / "plugins")])}
    command = [sys.executable, "-m", "mypy", "--follow-imports=silent", "--cache-dir", str(tmp_path / "cache")]
    files = [str(path) for folder in ("src", "tests") for path in made.glob(f"expfw-*/{folder}")]
    settings = ["--config-file", str(made / "expfw-wide-net" / "pyproject.toml")]
    done = subprocess.run([*command, *settings, *files], capture_output=True, text=True, env=environment, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "no issues found in 10 source files" in done.stdout


@pytest.mark.slow
def test_their_own_tests_pass(made):
    """All five in one process, which is the distributions' own but for that."""
    sources = " ".join(str(path) for path in made.glob("expfw-*/src"))
    tests = [str(path) for path in made.glob("expfw-*/tests")]
    options = ["-q", "-p", "no:cacheprovider", "--import-mode=importlib", "-o", f"pythonpath={sources}", "--rootdir"]
    command = [sys.executable, "-m", "pytest", *options, str(made), *tests]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, cwd=made)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout
