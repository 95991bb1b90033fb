"""TAB completion: candidates, and the scripts in real shells."""

import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from expfw.cli.completion.candidates import complete_line, takes_files
from expfw.cli.completion.shells import SHELLS, make_script
from expfw.cli.main import main

PLUGIN = '''
from dataclasses import dataclass
import expfw
class Mine(expfw.Model):
    """A model."""
    @dataclass
    class Config:
        depth: int = expfw.option(2, help="how deep")
    def build(self, data): ...
'''


def complete_values(line, shell="zsh"):
    return [candidate.value for candidate in complete_line(shell, line, main)]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("expfw ", {"run", "sweep", "runs", "doctor"}),
        ("expfw sw", {"sweep", "sweeps"}),
        ("expfw run mod", {"model=", "model."}),
        ("expfw run model=", {"model=cnn", "model=mlp_keras", "model=alexnet_small"}),
        ("expfw run backend=", {"backend=tf-cpu", "backend=mirrored"}),
        ("expfw run experiment=po", {"experiment=polynomial"}),
        ("expfw run debug=", {"debug=fast", "debug=overfit"}),
        ("expfw run callback=[checkpoint,ea", {"callback=[checkpoint,early_stopping"}),
        ("expfw run +callback=ten", {"+callback=tensorboard"}),
        ("expfw run +callback=tensorboard callback.tensorboard.", {"callback.tensorboard.histograms="}),
        ("expfw run model=cnn model.fi", {"model.filters="}),
        ("expfw run model=alexnet_small model.st", {"model.stride="}),
        ("expfw run train.", {"train.epochs=", "train.evaluate_every."}),
        ("expfw run train.evaluate_every.", {"train.evaluate_every.epochs=", "train.evaluate_every.steps="}),
        ("expfw run train.deterministic=", {"train.deterministic=true", "train.deterministic=false"}),
        ("expfw run objective.mode=", {"objective.mode=min", "objective.mode=max"}),
        ("expfw sweep model=cnn,mlp_k", {"model=cnn,mlp_keras"}),
        ("expfw sweep --pl", {"--plan"}),
        ("expfw run --cfg ", {"job"}),
        ("expfw plugins show ml", {"mlp_keras", "mlflow"}),
        ("expfw plugins new --kind ca", {"callback"}),
        ("expfw runs clean --status ", {"failed", "killed", "pruned", "interrupted", "finished"}),
        ("expfw runs clean --status failed,k", {"failed,killed"}),
        ("expfw runs export abcd --format ", {"keras", "savedmodel", "tflite"}),
        ("expfw runs evaluate --split t", {"train", "test"}),
        ("expfw runs compare --h", {"--html", "--help"}),
        ("expfw completion ", set(SHELLS)),
    ],
)
def test_all_expected_values_are_candidates(line, expected):
    values = complete_values(line)
    assert expected <= set(values)
    assert all(value.startswith(line.split(" ")[-1]) for value in values)


def test_keys_belong_to_the_selected_model():
    assert "model.units=" not in complete_values("expfw run model=cnn model.")
    assert "model.units=" in complete_values("expfw run model.")  # of the default model


def test_the_help_of_a_plugin_is_its_first_sentence(tmp_path):
    (tmp_path / "mine.py").write_text(PLUGIN)
    help_by_value = {
        candidate.value: candidate.help
        for candidate in complete_line("zsh", f"expfw -p {tmp_path}/mine.py run model=", main)
    }
    assert help_by_value["model=mine"] == "A model"
    assert help_by_value["model=perceptron"].startswith("One layer and a softmax")
    assert all(1 < len(text) <= 70 and not text.startswith("of ") for text in help_by_value.values())
    assert {candidate.help for candidate in complete_line("zsh", "expfw plugins show noise", main)} == {
        "dataset: Images of random pixels with random labels, drawn from the run's..."
    }


def test_plugins_in_files_are_candidates(tmp_path):
    (tmp_path / "mine.py").write_text(PLUGIN)
    assert "model=mine" in complete_values(f"expfw -p {tmp_path}/mine.py run model=")
    assert complete_values(f"expfw -p {tmp_path}/mine.py run model=mine model.") == ["model.depth="]


def test_variants_in_the_working_directory_are_candidates(tmp_path, monkeypatch):
    (tmp_path / "conf" / "model").mkdir(parents=True)
    (tmp_path / "conf" / "model" / "wide.yaml").write_text("# A wide one.\ndefaults:\n  - mlp_keras\n\nunits: 512\n")
    monkeypatch.chdir(tmp_path)
    assert complete_values("expfw run model=wi") == ["model=wide"]
    assert "model.units=" in complete_values("expfw run model=wide model.")


def test_ids_are_candidates_for_commands_that_need_runs(tmp_path, monkeypatch):
    from support.run_folders import write_run

    folder = write_run(tmp_path / "runs", "abcd2345")
    monkeypatch.chdir(tmp_path)
    assert folder.is_dir()
    for line in ("expfw runs show ab", "expfw runs compare x ab", "expfw ui ab"):
        assert complete_values(line) == ["abcd2345"]
    monkeypatch.chdir("/")
    assert complete_values(f"expfw runs show --runs-dir {tmp_path}/runs ") == ["abcd2345"]
    assert complete_values("expfw runs show ") == []


@pytest.mark.parametrize(
    "line", ["", "expfw run 'a", "expfw run model=[", "expfw nothing x", "expfw -p absent.py run model=c"]
)
def test_an_invalid_line_prints_nothing(line, capsys):
    complete_line("bash", line, main)
    assert capsys.readouterr() == ("", "")


def test_bash_gets_the_last_part_of_a_word():
    assert complete_values("expfw run model=cn", "bash") == ["cnn"]
    assert complete_values("expfw sweep model=cnn,ml", "bash") == ["cnn,mlp_keras", "cnn,mlp_layers"]


@pytest.mark.parametrize(
    ("line", "files"),
    [
        ("expfw run dataset=npz dataset.path=", True),
        ("expfw run runs_dir=", True),
        ("expfw -p ", True),
        ("expfw runs predict k3v9 ", True),
        ("expfw runs list --runs-dir ", True),
        ("expfw run -cd ", True),
        ("expfw run model.optimizer.name=zz", False),
        ("expfw run model.units=", False),
        ("expfw run zz", False),
        ("expfw zz", False),
        ("expfw runs show zz", False),
        ("expfw plugins show zz", False),
    ],
)
def test_files_are_candidates_only_for_paths(line, files):
    assert takes_files(line, main) is files


BASH = """
source <("$0" completion bash)
compopt() { echo "compopt $*"; }
complete_line() {
    COMP_LINE="$1"; COMP_POINT=${#COMP_LINE}
    _expfw_completion "$0"
    printf '%s\\n' "${COMPREPLY[@]}"
}
complete_line "expfw run model=cn"
complete_line "expfw run model.units="
"""


def test_the_bash_script_completes_in_time(tmp_path):
    command = str(Path(sys.executable).with_name("expfw"))
    began = time.monotonic()
    done = subprocess.run(["bash", "-c", BASH, command], capture_output=True, text=True, timeout=60, cwd=tmp_path)
    seconds = time.monotonic() - began
    assert (done.stdout, done.stderr) == ("cnn\ncompopt +o default\n\n", "")
    assert seconds < 3 * 0.6 + 2  # three commands, on a busy machine


@pytest.mark.parametrize(("shell", "check"), [("zsh", ["-n"]), ("fish", ["--no-execute"]), ("bash", ["-n"])])
def test_scripts_are_valid_in_their_shells(shell, check, tmp_path):
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    (tmp_path / "script").write_text(make_script(shell))
    done = subprocess.run([shell, *check, str(tmp_path / "script")], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
