"""The installed wheel: the demo, and third-party plugins."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def third_party(installed, tmp_path_factory):
    """Third-party distributions, installed from copies, so the build writes no files to the checkout."""
    copies = tmp_path_factory.mktemp("distributions")
    names = ("expfw-residual", "expfw-broken")
    for name in names:
        shutil.copytree(ROOT / "tests" / "distributions" / name, copies / name)
    installed.pip(*(str(copies / name) for name in names))
    return installed


def test_the_wheel_contains_host_plugins_and_conf(installed):
    (wheel,) = (installed.python.parents[2] / "dist").glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    for folder, package in [("expfw", "expfw"), ("conf", "expfw/conf")]:
        files = [path for suffix in ("yaml", "py") for path in (ROOT / folder).rglob(f"*.{suffix}")]
        assert {f"{package}/{path.relative_to(ROOT / folder)}" for path in files} <= names
    assert {str(p.relative_to(ROOT / "plugins")) for p in ROOT.glob("plugins/**/*.py")} <= names
    assert "expfw/py.typed" in names
    assert {f"expfw/reports/html/template/page.{kind}" for kind in ("html", "css", "js")} <= names
    assert not any(name.startswith(("tests/", "runs/", "benchmarks/")) for name in names)


def test_the_demo_runs_in_the_installed_environment(installed):
    makefile = (ROOT / "Makefile").read_text()
    (line,) = [line for line in makefile.splitlines() if line.startswith("DEMO =")]
    done = installed.expfw(*line.partition("=")[2].split())
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("FINISHED") == 5  # the sweep and its four trials
    assert "best: expfw run" in done.stdout
    assert "expfw ui" in done.stdout
    assert (installed.workdir / "runs" / "mlflow.db").exists()


def test_a_third_party_model_trains_with_its_options(third_party):
    done = third_party.expfw("run", "model=residual", "model.blocks=3", "train.epochs=5")
    assert done.returncode == 0, done.stderr
    assert "FINISHED  residual digits" in done.stdout
    (run, *_) = json.loads(third_party.expfw("runs", "list", "--json").stdout)
    run_data = json.loads(third_party.expfw("runs", "show", run["id"], "--json").stdout)
    assert run_data["config"]["model.blocks"] == 3
    assert run_data["metrics"]["test/accuracy"] > 0.8
    assert "expfw-residual 1.0" in third_party.expfw("plugins", "list").stdout


def test_a_broken_plugin_is_a_one_line_error_and_does_not_affect_other_plugins(third_party):
    done = third_party.expfw("run", "model=broken")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "model plugin 'broken' of expfw-broken 0.3 cannot be imported (ModuleNotFoundError: No" in done.stderr
    listed = third_party.expfw("plugins", "list")
    assert listed.returncode == 0
    assert "expfw-broken 0.3" in listed.stdout
    assert third_party.expfw("run", "--cfg", "job").returncode == 0
