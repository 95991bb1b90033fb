"""TAB completion: candidates, and the scripts in real shells."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from unittest import mock

import pytest
from support.fake_distributions import GOOD_CALLBACK
from support.run_folders import write_run

from expfw.cli.completion.shells import SHELLS, VARIABLE, Bash
from expfw.cli.main import main


def complete(line):
    """Returns the candidates at the end of a line."""
    completer = Bash(main, {}, "expfw", VARIABLE)
    with mock.patch.dict(os.environ, COMP_WORDS=line):
        return completer.get_completions(*completer.get_completion_args())


def complete_values(line):
    return [candidate.value for candidate in complete(line)]


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
        ("expfw run --conf", {"--config-name", "--config-dir"}),
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


def test_plugins_in_files_are_candidates_and_the_help_is_the_first_sentence(tmp_path):
    (tmp_path / "good.py").write_text(GOOD_CALLBACK)
    help_by_value = {item.value: item.help for item in complete(f"expfw -p {tmp_path}/good.py run callback=")}
    assert help_by_value["callback=good"] == "Does nothing"
    assert help_by_value["callback=tensorboard"].startswith("Writes ")
    assert all(1 < len(text) <= 70 and not text.startswith("of ") for text in help_by_value.values())
    assert complete_values(f"expfw -p {tmp_path}/good.py run callback=good callback.good.") == ["callback.good.units="]
    (noise,) = complete("expfw plugins show noise")
    assert noise.help == "dataset: Images of random pixels with random labels, drawn from the run's..."


def test_variants_in_the_working_directory_are_candidates(tmp_path, monkeypatch):
    (tmp_path / "conf" / "model").mkdir(parents=True)
    (tmp_path / "conf" / "model" / "wide.yaml").write_text("# A wide one.\ndefaults:\n  - mlp_keras\n\nunits: 512\n")
    monkeypatch.chdir(tmp_path)
    assert complete_values("expfw run model=wi") == ["model=wide"]
    assert "model.units=" in complete_values("expfw run model=wide model.")


def test_ids_are_candidates_for_commands_that_need_runs(tmp_path, monkeypatch):
    write_run(tmp_path / "runs", "abcd2345")
    monkeypatch.chdir(tmp_path)
    for line in ("expfw runs show ab", "expfw runs compare x ab", "expfw ui ab"):
        assert complete_values(line) == ["abcd2345"]
    monkeypatch.chdir("/")
    assert complete_values(f"expfw runs show --runs-dir {tmp_path}/runs ") == ["abcd2345"]
    assert complete_values("expfw runs show ") == []


FILES = [
    "run dataset=npz dataset.path=",
    "run runs_dir=",
    "-p ",
    "runs predict k3v9 ",
    "runs list --runs-dir ",
    "run -cd ",
]
NO_FILES = ["run model.optimizer.name=zz", "run model.units=", "run zz", "zz", "runs show zz", "plugins show zz"]


@pytest.mark.parametrize("line", FILES + NO_FILES)
def test_files_are_candidates_only_for_paths(line):
    assert any(item.type in ("file", "dir") for item in complete(f"expfw {line}")) is (line in FILES)


def run_shell(command, script, folder):
    """Runs a script in a shell whose path has the command `expfw`."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    environment = {**os.environ, "PATH": path, "HOME": str(folder)}
    done = subprocess.run([*command, script], capture_output=True, text=True, timeout=60, cwd=folder, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


BASH = """
source <(expfw completion bash)
compopt() { echo "compopt $*"; }
for COMP_LINE in "expfw run model=cn" "expfw sweep model=cnn,ml" "expfw run trai" "expfw run dataset.path=/" \\
    "expfw nothing x" "expfw -p absent.py run model=c"; do
    COMP_POINT=${#COMP_LINE}
    _expfw_completion expfw
    printf '<%s>\\n' "${COMPREPLY[@]}"
done
"""


def test_bash_gets_the_last_part_of_a_word_in_time(tmp_path):
    began = time.monotonic()
    lines = run_shell(["bash", "-c"], BASH, tmp_path).splitlines()
    assert lines == ["<cnn >", "<cnn,mlp_keras >", "<cnn,mlp_layers >", "<train.>", "<>", "<>", "<>"]
    assert time.monotonic() - began < 7 * 0.6 + 2  # seven commands, on a busy machine


def test_fish_gets_whole_words_with_their_help(tmp_path):
    script = "expfw completion fish | source; complete -C 'expfw sweep model=cnn,mlp_k'"
    assert run_shell(["fish", "--no-config", "-c"], script, tmp_path).startswith("model=cnn,mlp_keras\tDense layers of")


@pytest.mark.parametrize("shell", SHELLS)
def test_scripts_are_valid_in_their_shells(shell, tmp_path):
    script = SHELLS[shell](main, {}, "expfw", VARIABLE).source()
    (tmp_path / "script").write_text(script)
    assert run_shell([shell, "-n"], str(tmp_path / "script"), tmp_path) == ""
    assert {"bash": "-o nospace", "zsh": "-U -Q -S ''", "fish": "split -m 1"}[shell] in script
