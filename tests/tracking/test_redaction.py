"""What is not written down: secrets and what the environment holds; and that names lead nowhere."""

from __future__ import annotations

from pathlib import Path

import mlflow
import pytest
import yaml
from omegaconf import OmegaConf

import expfw
from expfw.config.compose import compose
from expfw.config.freeze import redact_config
from expfw.plugins.catalogue import get_catalogue
from expfw.redaction import HIDDEN, find_environment_values, find_secrets, mask_values, redact, redact_overrides
from expfw.tracking import journal, run_index

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
    """A plugin file with options that hold secrets, and the environment that one of them is from."""
    monkeypatch.setenv("EXPFW_TEST_PLACE", PLACE)
    (workdir / "courier.py").write_text(PLUGIN)
    return str(workdir / "courier.py")


def holding(folder, text):
    """The files below the folder in which that text is."""
    return [path for path in folder.rglob("*") if path.is_file() and text.encode() in path.read_bytes()]


@pytest.mark.parametrize("fails", [False, True])
def test_neither_secrets_nor_the_environment_are_written_anywhere(expfw_here, courier, workdir, fails):
    done = expfw_here("-p", courier, "run", "train.epochs=1", *OPTIONS, f"callback.courier.fails={fails}")
    assert done.code == int(fails)
    for text in (SECRET, PLACE, "letmein9"):
        assert holding(workdir / "runs", text) == []
    (entry,) = run_index.list_runs(workdir / "runs")
    (run,) = mlflow.MlflowClient(f"sqlite:///{workdir}/runs/mlflow.db").search_runs(["1"])
    for known in (entry.first["params"], run.data.params):
        assert known["callback.courier.api_key"] == HIDDEN
        assert known["callback.courier.where"] == "${oc.env:EXPFW_TEST_PLACE}/x"
        assert "plain" in known["callback.courier.words"]
        assert "${callback.courier.where}" in known["callback.courier.words"]
        assert known["callback.courier.address"] == f"https://{HIDDEN}@host/x"
    assert yaml.safe_load((entry.folder / "config.yaml").read_text())["callback"]["courier"]["where"].startswith("${oc")
    records, _ = journal.read_records(entry.folder / journal.NAME)
    assert f"posted to {HIDDEN}" in [record.get("text") for record in records]


def test_the_plugin_itself_gets_the_values(courier):
    options = compose([*OPTIONS], get_catalogue((courier,))).callback["courier"]
    assert options["api_key"] == SECRET
    assert options["where"] == f"{PLACE}/x"
    assert options["words"] == ["plain", f"{PLACE}/x"]


def test_a_run_that_goes_on_asks_the_environment_again_and_the_user_for_secrets(expfw_here, courier, workdir):
    expfw_here("-p", courier, "run", "train.epochs=1", "tracker=[]", *OPTIONS)
    (entry,) = run_index.list_runs(workdir / "runs")
    asked = expfw_here("runs", "resume", entry.id, "train.epochs=2")
    assert asked.code == 2
    assert "callback.courier.api_key is a secret and not in the record" in asked.err
    given = (f"callback.courier.api_key={SECRET}", "callback.courier.address=https://host")
    done = expfw_here("runs", "resume", entry.id, "train.epochs=2", *given)
    assert done.code == 0, done.err
    assert journal.read_first_and_last(entry.folder / journal.NAME)[1]["epochs"] == 2
    assert holding(entry.folder, SECRET) == holding(entry.folder, PLACE) == []


def test_a_variable_that_is_gone_when_a_run_goes_on_is_one_line(expfw_here, courier, workdir, monkeypatch):
    expfw_here("-p", courier, "run", "train.epochs=1", "tracker=[]", "+callback=courier", OPTIONS[2])
    (entry,) = run_index.list_runs(workdir / "runs")
    monkeypatch.delenv("EXPFW_TEST_PLACE")
    done = expfw_here("runs", "resume", entry.id, "train.epochs=2")
    assert done.code == 2
    assert "EXPFW_TEST_PLACE" in done.err
    assert done.err.count("\n") == 1


def test_what_is_of_the_environment_is_found_through_other_keys(monkeypatch):
    monkeypatch.setenv("EXPFW_TEST_PLACE", PLACE)
    made = OmegaConf.create(
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
    found = find_environment_values(made)
    assert set(found) == {"root", "data.path", "data.near", "data.list.0", "copy", "absent"}
    assert found["data.path"] == "${root}/mnist"
    values = OmegaConf.to_container(made, resolve=True)
    assert PLACE not in str(mask_values(values, found))
    assert mask_values(values, found)["plain"] == 3
    assert OmegaConf.create({"a": "${oc.env:EXPFW_TEST_PLACE}"}).a == PLACE  # the resolver is as it was


def test_secrets_deep_within_values_and_overrides():
    nested = {"a": [{"password": "long enough", "list": [{"apiKey": "abcdefgh"}, "x"]}]}
    assert list(find_secrets(nested)) == ["long enough", "abcdefgh"]
    assert redact(nested) == {"a": [{"password": HIDDEN, "list": [{"apiKey": HIDDEN}, "x"]}]}
    word = "+c.nested=[{password:SEKRETC,list:[{'token': 'SEK RETD'}],user:me},x]"
    hidden = f"+c.nested=[{{password:{HIDDEN},list:[{{'token': {HIDDEN}}}],user:me}},x]"
    assert redact_overrides([word]) == [hidden]
    assert mask_values({"l": [{"a": "x"}, ["y"]]}, {"l.0.a": "${oc.env:X}", "l.1.0": "Y"}) == {
        "l": [{"a": "${oc.env:X}"}, ["Y"]]
    }


@pytest.mark.parametrize("key", ["max_tokens", "tokenizer", "author", "authority", "units", "keys"])
def test_ordinary_options_are_no_secrets(key):
    assert redact({key: 3}) == {key: 3}


@pytest.mark.parametrize("key", ["auth", "http_auth", "pwd", "passphrase", "db_password", "hf_token", "AWS_SECRET"])
def test_these_are(key):
    assert redact({key: "x"}) == {key: HIDDEN}


@pytest.mark.slow
def test_tags_and_names_of_the_environment_are_named_only(expfw_here, workdir, monkeypatch):
    monkeypatch.setenv("EXPFW_TEST_PLACE", PLACE)
    done = expfw_here(
        "run", "model=ols", "dataset=line", "+tags.place=${oc.env:EXPFW_TEST_PLACE}", "name=${oc.env:EXPFW_TEST_PLACE}"
    )
    assert done.code == 0, done.err
    assert holding(workdir / "runs", PLACE) == []


def test_secrets_by_their_key():
    values = {"password": "long enough", "deep": {"accessKey": "abcdefg", "token": "abc", "user": "me"}, "x": [1]}
    assert redact(values)["deep"] == {"accessKey": HIDDEN, "token": HIDDEN, "user": "me"}
    assert list(find_secrets(values)) == ["long enough", "abcdefg"]
    assert redact_overrides(["a.uri=ftp://me:you@host/x", "b=1"]) == [f"a.uri=ftp://{HIDDEN}@host/x", "b=1"]


def test_what_is_recorded_has_no_trace_of_how_it_was_found():
    assert "from_environment" not in redact_config(compose([]))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["../../outside", "/tmp/outside", "a/b\\c", "..", "line\nbreak", "x" * 3000])
def test_names_lead_nowhere(workdir, expfw_here, name):
    done = expfw_here("run", "model=ols", "dataset=line", f"name='{name}'", f"+tags.odd='{name}'")
    assert done.code == 0, done.err
    assert sorted(path.name for path in workdir.iterdir()) == ["runs"]
    (entry,) = run_index.list_runs(workdir / "runs")
    assert entry.folder.is_relative_to(workdir / "runs")
    (run,) = mlflow.MlflowClient(f"sqlite:///{workdir}/runs/mlflow.db").search_runs(["1"])
    assert run.info.status == "FINISHED"


@pytest.mark.parametrize("identity", ["../x", "/etc", "*", "..", "?" * 8])
def test_ids_lead_nowhere(workdir, expfw_here, identity):
    (workdir / "runs").mkdir()
    for command in (("runs", "show"), ("runs", "resume"), ("runs", "sync"), ("sweeps", "status")):
        done = expfw_here(*command, identity)
        assert done.code == 2
        assert done.err.count("\n") == 1


def test_an_artifact_lies_in_the_folder_of_its_run(train, workdir):
    (workdir / "elsewhere.txt").write_text("x")

    class Outside(expfw.Callback):
        caught: ValueError | None = None

        @expfw.hookimpl
        def expfw_run_started(self, run):
            try:
                run.add_artifact(run.folder / ".." / ".." / ".." / "elsewhere.txt")
            except ValueError as error:
                self.caught = error

    outside = Outside(None, "outside")
    train("model=ols", "dataset=line", observers=[outside])
    assert outside.caught is not None
    assert Path("elsewhere.txt").read_text() == "x"
