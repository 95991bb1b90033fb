"""Redaction: secrets and environment values are not written; names cannot escape the runs folder."""

from __future__ import annotations

from pathlib import Path

import mlflow
import pytest
import yaml
from omegaconf import OmegaConf

import expfw
from expfw.config.compose import compose
from expfw.config.environment_values import find_environment_values, mask_values
from expfw.config.freeze import redact_config
from expfw.plugins.catalogue import get_catalogue
from expfw.redaction import HIDDEN, find_secrets, redact_options, redact_overrides
from expfw.tracking import run_index

SECRET_KEYS = ("auth", "http_auth", "pwd", "passphrase", "db_password", "hf_token", "AWS_SECRET")
ORDINARY_KEYS = ("max_tokens", "tokenizer", "author", "authority", "units", "keys")
SECRET, PLACE = "hunter2-correct-horse", "place-that-only-the-environment-knows"
PLUGIN = """
from dataclasses import dataclass, field
import expfw

class Courier(expfw.Callback):
    @dataclass
    class Config:
        api_key: str = "none"
        where: str = "here"
        words: list[str] = field(default_factory=list)
        address: str = "nowhere"
        fails: bool = False

    @expfw.hookimpl
    def expfw_epoch_ended(self, run):
        run.message("posted to " + self.config.api_key)
        raise ConnectionError("no answer to " + self.config.api_key)

    @expfw.hookimpl(wrapper=True)
    def expfw_fit(self):
        result = yield
        if self.config.fails:
            raise ValueError("refused: " + self.config.api_key)
        return result
"""
OPTIONS = (
    "+callback=courier", f"callback.courier.api_key={SECRET}", "callback.courier.where=${oc.env:EXPFW_TEST_PLACE}/x",
    "callback.courier.words=[plain,${callback.courier.where}]", "callback.courier.address=https://me:letmein9@host/x",
)  # fmt: skip


@pytest.fixture
def courier(workdir, monkeypatch):
    """Plugin file with secret options, one of them from an environment variable."""
    monkeypatch.setenv("EXPFW_TEST_PLACE", PLACE)
    (workdir / "courier.py").write_text(PLUGIN)
    return str(workdir / "courier.py")


def find_files_with(folder, text):
    """Returns the files in the folder that contain the text."""
    return [path for path in folder.rglob("*") if path.is_file() and text.encode() in path.read_bytes()]


@pytest.mark.parametrize("fails", [pytest.param(False, marks=pytest.mark.slow), True])
def test_secrets_and_environment_values_are_not_written(expfw_here, courier, workdir, fails):
    named = ("+tags.place=${oc.env:EXPFW_TEST_PLACE}", "name=${oc.env:EXPFW_TEST_PLACE}")
    done = expfw_here("-p", courier, "run", "train.epochs=1", *OPTIONS, *named, f"callback.courier.fails={fails}")
    assert done.code == int(fails)
    for text in (SECRET, PLACE, "letmein9"):
        assert find_files_with(workdir / "runs", text) == []
    (entry,) = run_index.list_runs(workdir / "runs")
    (run,) = mlflow.MlflowClient(f"sqlite:///{workdir}/runs/mlflow.db").search_runs(["1"])
    for params in (entry.first["params"], run.data.params):
        assert params["callback.courier.api_key"] == HIDDEN
        assert params["callback.courier.where"] == "${oc.env:EXPFW_TEST_PLACE}/x"
        assert "plain" in params["callback.courier.words"]
        assert "${callback.courier.where}" in params["callback.courier.words"]
        assert params["callback.courier.address"] == f"https://{HIDDEN}@host/x"
    assert yaml.safe_load((entry.folder / "config.yaml").read_text())["callback"]["courier"]["where"].startswith("${oc")
    assert f"posted to {HIDDEN}" in [record["text"] for record in entry.select("message")]


def test_the_plugin_gets_the_real_values(courier):
    config = compose([*OPTIONS], get_catalogue((courier,)))
    assert "from_environment" not in redact_config(config)
    options = config.callback["courier"]
    assert options["api_key"] == SECRET
    assert options["where"] == f"{PLACE}/x"
    assert options["words"] == ["plain", f"{PLACE}/x"]


@pytest.mark.slow
def test_a_resume_reads_the_environment_and_needs_the_secrets_again(expfw_here, courier, workdir):
    expfw_here("-p", courier, "run", "train.epochs=1", "tracker=[]", *OPTIONS)
    (entry,) = run_index.list_runs(workdir / "runs")
    rejected = expfw_here("-p", courier, "runs", "resume", entry.id, "train.epochs=2")
    assert rejected.code == 2
    assert "callback.courier.api_key is a secret and not in the record" in rejected.err
    secrets = (f"callback.courier.api_key={SECRET}", "callback.courier.address=https://host")
    done = expfw_here("-p", courier, "runs", "resume", entry.id, "train.epochs=2", *secrets)
    assert done.code == 0, done.err
    assert expfw.load(entry.folder).result.epochs == 2
    assert find_files_with(entry.folder, SECRET) == find_files_with(entry.folder, PLACE) == []


def test_a_missing_variable_at_resume_is_a_one_line_error(expfw_here, courier, workdir, monkeypatch):
    expfw_here("-p", courier, "run", "train.epochs=1", "tracker=[]", "+callback=courier", OPTIONS[2])
    (entry,) = run_index.list_runs(workdir / "runs")
    monkeypatch.delenv("EXPFW_TEST_PLACE")
    done = expfw_here("-p", courier, "runs", "resume", entry.id, "train.epochs=2")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "EXPFW_TEST_PLACE" in done.err


def test_environment_values_are_found_through_references(monkeypatch):
    monkeypatch.setenv("EXPFW_TEST_PLACE", PLACE)
    config = OmegaConf.create(
        {
            "root": "${oc.env:EXPFW_TEST_PLACE}",
            "data": {"path": "${root}/mnist", "near": "${.path}", "list": ["${root}"]},
            "copy": "${data}",
            "number": "${oc.decode:'3'}",
            "plain": "${number}",
            "absent": "${oc.env:EXPFW_NOT_SET,5}",
            "nothing": None,
            "missing": "???",
        }
    )
    environment_values = find_environment_values(config)
    assert set(environment_values) == {"root", "data.path", "data.near", "data.list.0", "copy", "absent"}
    assert environment_values["data.path"] == "${root}/mnist"
    values = OmegaConf.to_container(config, resolve=True)
    assert PLACE not in str(mask_values(values, environment_values))
    assert mask_values(values, environment_values)["plain"] == 3
    assert OmegaConf.create({"a": "${oc.env:EXPFW_TEST_PLACE}"}).a == PLACE  # the resolver is unchanged


def test_nested_secrets_are_hidden():
    values = {"password": "long enough", "deep": {"accessKey": "abcdefg", "token": "abc", "user": "me"}, "x": [1]}
    assert redact_options(values)["deep"] == {"accessKey": HIDDEN, "token": HIDDEN, "user": "me"}
    assert list(find_secrets(values)) == ["long enough", "abcdefg"]
    assert redact_overrides(["a.uri=ftp://me:you@host/x", "b=1"]) == [f"a.uri=ftp://{HIDDEN}@host/x", "b=1"]
    nested = {"a": [{"password": "long enough", "list": [{"apiKey": "abcdefgh"}, "x"]}]}
    assert list(find_secrets(nested)) == ["long enough", "abcdefgh"]
    assert redact_options(nested) == {"a": [{"password": HIDDEN, "list": [{"apiKey": HIDDEN}, "x"]}]}
    override = "+c.nested=[{password:SEKRETC,list:[{'token': 'SEK RETD'}],user:me},x]"
    hidden = f"+c.nested=[{{password:{HIDDEN},list:[{{'token': '{HIDDEN}'}}],user:me}},x]"
    assert redact_overrides([override]) == [hidden]
    assert mask_values({"l": [{"a": "x"}, ["y"]]}, {"l.0.a": "${oc.env:X}", "l.1.0": "Y"}) == {
        "l": [{"a": "${oc.env:X}"}, ["Y"]]
    }


def test_secret_options_are_hidden():
    assert redact_options(dict.fromkeys(SECRET_KEYS, "x")) == dict.fromkeys(SECRET_KEYS, HIDDEN)
    assert redact_options(dict.fromkeys(ORDINARY_KEYS, 3)) == dict.fromkeys(ORDINARY_KEYS, 3)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["../../outside", "/tmp/outside", "a/b\\c", "..", "line\nbreak", "x" * 3000])
def test_names_cannot_escape_the_runs_folder(workdir, expfw_here, name):
    done = expfw_here("run", "model=ols", "dataset=line", f"name='{name}'", f"+tags.odd='{name}'")
    assert done.code == 0, done.err
    assert sorted(path.name for path in workdir.iterdir()) == ["runs"]
    (entry,) = run_index.list_runs(workdir / "runs")
    assert entry.folder.is_relative_to(workdir / "runs")
    (run,) = mlflow.MlflowClient(f"sqlite:///{workdir}/runs/mlflow.db").search_runs(["1"])
    assert run.info.status == "FINISHED"


@pytest.mark.parametrize("identity", ["../x", "/etc", "*", "..", "?" * 8])
def test_invalid_ids_are_one_line_errors(workdir, expfw_here, identity):
    (workdir / "runs").mkdir()
    for command in (("runs", "show"), ("runs", "resume"), ("runs", "sync"), ("sweeps", "status")):
        done = expfw_here(*command, identity)
        assert (done.code, done.err.count("\n")) == (2, 1)


def test_an_artifact_outside_the_run_folder_is_rejected(train, workdir):
    (workdir / "elsewhere.txt").write_text("x")

    class Outside(expfw.Callback):
        @expfw.hookimpl
        def expfw_run_started(self, run):
            with pytest.raises(ValueError, match="is not in the subpath"):
                run.add_artifact(run.folder / ".." / ".." / ".." / "elsewhere.txt")

    assert train("model=ols", "dataset=line", observers=[Outside(None, "outside")]).warnings == ()
    assert Path("elsewhere.txt").read_text() == "x"
