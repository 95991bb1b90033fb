"""Proposed commands can be pasted and work."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest
from support.run_folders import write_run, write_sweep

from expfw.config.overrides import format_override
from expfw.tracking import journal, run_folders, run_index

WRONG = """
import expfw
class Wrong(expfw.Dataset):
    def load(self, seed):
        raise expfw.ConfigError("dataset.size is too large")
"""


@pytest.fixture
def elsewhere(workdir):
    """A runs folder whose name a shell would split."""
    runs_dir = workdir / "it's sp ace ü"
    write_run(runs_dir, "aaaa2222")
    write_run(runs_dir, "bbbb2222", status="KILLED")
    write_run(runs_dir, "dddd2222")
    write_sweep(runs_dir, "ssss2222", [0.5, None], ["FINISHED", "FAILED"])
    shutil.rmtree(runs_dir / "2026-01-01" / "00-00-00-dddd2222" / "model")
    return runs_dir


@pytest.mark.parametrize(
    ("command", "proposed"),
    [
        ("runs list", "runs resume bbbb2222"),
        ("runs show bbbb", "runs resume bbbb2222"),
        ("runs show none", "runs list"),
        ("runs show ssss", "sweeps status ssss2222"),
        ("runs resume aaaa", "runs resume aaaa2222 train.epochs=..."),
        ("runs predict dddd x.npz", "runs rerun dddd2222"),
        ("sweeps retry ssss", "sweeps retry ssss2222 --failed"),
    ],
)
def test_the_name_of_the_runs_folder_is_quoted(expfw_here, elsewhere, command, proposed):
    done = expfw_here(*command.split(), "--runs-dir", elsewhere.name)
    output = done.out + done.err
    rest = " ".join(output.split()).partition(f"expfw {proposed} --runs-dir ")[2]
    assert rest, output
    assert rest.startswith(shlex.quote(str(elsewhere.absolute())))
    words = ["runs", "list", *shlex.split(f"--runs-dir {shlex.quote(str(elsewhere.absolute()))}")]
    assert "aaaa2222" in expfw_here(*words).out


def test_paths_of_weights_are_quoted_for_shell_and_hydra(elsewhere, expfw_here):
    lost = elsewhere / "2026-01-01" / "00-00-00-aaaa2222"
    (lost / journal.NAME).write_text("torn")
    error = expfw_here("runs", "show", "aaaa", "--runs-dir", str(elsewhere)).err
    word = shlex.split(re.search(r"expfw run \.\.\. (.*?); to delete", error)[1])[0]
    from hydra.core.override_parser.overrides_parser import OverridesParser

    parsed = OverridesParser.create().parse_override(word)
    assert (parsed.key_or_group, parsed.value()) == ("train.begin_from", str(lost / "checkpoints" / "STEP"))
    assert run_folders.make_begin_from_hint(Path("/plain")).endswith(" train.begin_from=/plain/checkpoints/STEP")
    assert format_override("runs_dir", Path("/a b")) == 'runs_dir="/a b"'


def test_a_run_with_a_configuration_error_must_be_started_again(expfw_here, workdir):
    (workdir / "wrong.py").write_text(WRONG)
    done = expfw_here("-p", "wrong.py", "run", "dataset=wrong", "tracker=[]", "name=a b")
    assert done.code == 2
    (entry,) = run_index.list_runs(workdir / "runs")
    output = " ".join(expfw_here("runs", "show", entry.id).out.split())
    assert "to resume" not in output
    words = shlex.split(output.partition("correct the configuration, then start a new run: ")[2])
    assert words == ["expfw", "-p", str(workdir / "wrong.py"), "run", "dataset=wrong", "tracker=[]", "name=a b"]


def test_folders_without_a_readable_journal_are_counted(expfw_here, elsewhere, caplog):
    for identity in ("aaaa2222", "dddd2222"):
        (elsewhere / "2026-01-01" / f"00-00-00-{identity}" / journal.NAME).write_text("torn\n")
    done = expfw_here("runs", "list", "--runs-dir", str(elsewhere))
    assert "bbbb2222" in done.out
    assert "aaaa2222" not in done.out
    assert "cannot list 2 folders without a readable journal: " in caplog.text
