"""Secrets in options, in all forms, are in no file, no record and no output of the commands that get them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from expfw.tracking import run_index

CANARIES = {
    "api_key": "canary-key-1",
    "address": "https://canary-user-2:canary-word-2@host/x",
    "link": "https://host/x?a=1&token=canary-token-3&X-Amz-Signature=canary-signature-3",
    "header": "Bearer canary-bearer-4",
    "connection": "host=db password=canary-dsn-5 user=me",
    "pin": "zq7",
}
PARTS = ("canary", "zq7")
PLUGIN = """
import logging, os, subprocess, sys
from dataclasses import dataclass, field
import expfw

class Courier(expfw.Callback):
    @dataclass
    class Config:
        api_key: str = "none"
        address: str = "nowhere"
        link: str = "nowhere"
        header: str = "none"
        connection: str = "none"
        pin: str = "none"
        pin_password: str = "none"
        fails: bool = False

    @expfw.hookimpl
    def expfw_run_started(self, run):
        o = self.config
        texts = [repr(o.address), o.link, o.header, f"api_key={o.api_key!r} {o.api_key} {o.connection}"]
        text = " ".join(texts) + f" {o!r}"
        print(text)
        print(text, file=sys.stderr)
        logging.getLogger("courier").warning(text)
        os.write(2, text.encode() + b"\\n")
        subprocess.run(["sh", "-c", "echo $CANARY_TEXT >&2"], env={**os.environ, "CANARY_TEXT": text}, stderr=2)
        run.warn(text)
        run.message(text)
        run.record("courier", text=text, more={"list": texts, o.address: 1})
        run.info["text"] = text

    @expfw.hookimpl(wrapper=True)
    def expfw_fit(self):
        result = yield
        if self.config.fails:
            raise ValueError(f"{self.config.address} {self.config.api_key} {self.config!r}")
        return result

    def state(self):
        return {"text": self.config.address + self.config.api_key}
"""
OPTIONS = (
    *("model=ols", "dataset=line", "train.epochs=1", "callback=[checkpoint,courier,tensorboard]"),
    *(f"callback.courier.{key}='{value}'" for key, value in CANARIES.items() if key != "pin"),
    *(f"callback.courier.pin_password={CANARIES['pin']}", "+tags.note=${callback.courier.api_key}"),
)


@pytest.fixture
def command(expfw_process, workdir):
    """Runs a command with the plugin, in a git repository with a secret in its changes; searches what it leaves."""
    (workdir / "courier.py").write_text(PLUGIN)
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b"]
    for arguments in (["init", "-q"], ["add", "courier.py"], ["commit", "-qm", "a"]):
        subprocess.run([*git, *arguments], cwd=workdir, check=True)
    (workdir / "courier.py").write_text(f'{PLUGIN}\nADDRESS = "{CANARIES["address"]}"\nAPI_KEY = "canary-diff-6"\n')

    def run(*arguments: str):
        done = expfw_process("-p", "courier.py", *arguments)
        for text in (done.out, done.err):
            assert not any(part in text for part in PARTS), text
        assert find_canaries(workdir / "runs") == []
        return done

    return run


def find_canaries(folder: Path) -> list[str]:
    """Returns the lines of files with a secret; copies of plugin files are source code, which the user wrote."""
    return [
        f"{path.relative_to(folder)}: {line[:300]!r}"
        for path in folder.rglob("*")
        if path.is_file() and path.name != "courier.py"
        for line in path.read_bytes().splitlines()
        if any(part.encode() in line for part in PARTS)
    ]


@pytest.mark.slow
@pytest.mark.parametrize("fails", [False, True])
def test_a_run_leaves_no_secret(command, workdir, fails):
    done = command("run", *OPTIONS, f"callback.courier.fails={fails}", "--json")
    assert done.code == int(fails), done.err
    (run,) = run_index.list_runs(workdir / "runs")
    assert "https://<hidden>@host/x" in (run.folder / "log.txt").read_text()
    assert any("api_key='<hidden>'" in record["text"] for record in run.select("message"))
    assert "<hidden>" in (run.folder / "diff.patch").read_text()
    assert (run.folder / "failure" / "traceback.txt").exists() == fails
    assert "<hidden>" in command("runs", "show", run.id, "--json").out
    rejected = command("runs", "resume", run.id, "train.epochs=2", "callback.courier.fails=false")
    assert rejected.code == 2
    assert "is a secret and not in the record" in rejected.err
    secrets = [option for option in OPTIONS if option.startswith(("callback.courier", "+tags"))]
    done = command("runs", "resume", run.id, "train.epochs=2", "callback.courier.fails=false", *secrets)
    assert done.code == 0, done.err


@pytest.mark.slow
def test_a_sweep_leaves_no_secret(command, workdir):
    swept = {"callback.courier.api_key": "canary-a1,canary-a2", "callback.courier.pin_password": "zq7,zq78"}
    options = [option for option in OPTIONS if option.partition("=")[0] not in swept]
    overrides = [f"{key}={values}" for key, values in swept.items()]
    done = command("sweep", *options, *overrides, "sweep.sampler=random", "sweep.trials=2")
    assert done.code == 0, done.err
    assert "<hidden>" in next((workdir / "runs").glob("*/*/study.log")).read_text()
    trials = [run.id for run in run_index.list_runs(workdir / "runs")]
    sweep_id = next((workdir / "runs").glob("*/*/study.log")).parent.name[-8:]
    for reader in (
        ["runs", "compare", *trials, "--html", "runs/compared.html"],
        ["sweeps", "status", sweep_id, "--json"],
        ["doctor", "--json"],
    ):
        done = command(*reader)
        assert done.code == 0, done.err


@pytest.mark.parametrize(
    "arguments", [("--plan",), ("--plan", "--json"), ("--cfg", "job"), ("--cfg", "all", "--resolve"), ("--info", "all")]
)
def test_a_preview_shows_no_secret(command, arguments):
    name = "sweep" if "--plan" in arguments else "run"
    done = command(name, *OPTIONS, *(["seed=1,2"] if name == "sweep" else []), *arguments)
    assert done.code == 0, done.err
    assert "<hidden>" in done.out


@pytest.mark.parametrize(
    "override", ["callback.courier.api_key=[canary", "callback.courier.pin_password={zq7", "model.pin_password=zq7"]
)
def test_an_error_shows_no_secret(command, override):
    done = command("run", *OPTIONS, override)
    assert (done.code, done.err.count("\n")) == (2, 1)
