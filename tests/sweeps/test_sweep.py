"""One sweep on the digits dataset as in the README, and its content in MLflow."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import mlflow
import numpy as np
import pytest
import yaml

from expfw.cli import main
from expfw.reports import sweep_summary
from expfw.tracking import journal, ranking, run_index
from expfw.tracking.ledger import Ledger, Trial

OVERRIDES = [
    "model=mlp_keras",
    "dataset=digits",
    "train.epochs=4",
    "model.units=16,32",
    "model.optimizer.learning_rate=0.05,0.2",
    "tracker.mlflow.register=digits-network",
    "+tags.study=widths",
    "+tags.size=${model.units}",
]


@pytest.fixture(scope="module")
def swept(tmp_path_factory, processors):
    runs_dir = tmp_path_factory.mktemp("sweep") / "runs"
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        code = main.run_command(["sweep", *OVERRIDES, f"runs_dir={runs_dir}"])
    (entry,) = run_index.list_sweeps(runs_dir)
    client = mlflow.MlflowClient(f"sqlite:///{runs_dir}/mlflow.db")
    runs = client.search_runs([client.get_experiment_by_name("expfw").experiment_id], order_by=["start_time"])
    (parent,) = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    children = [run for run in runs if run is not parent]
    return SimpleNamespace(code=code, runs_dir=runs_dir, entry=entry, client=client, parent=parent, children=children)


def test_the_sweep_finishes_with_every_trial_and_everything_is_delivered(swept):
    assert (swept.code, swept.entry.status) == (0, "FINISHED")
    assert not list((swept.runs_dir / ".delivery").iterdir())  # all records are delivered
    assert [path.name for path in swept.runs_dir.parent.iterdir()] == ["runs"]  # nothing is written elsewhere
    trials = Ledger(swept.entry.folder).read_trials()
    assert [t.status for t in trials] == ["FINISHED"] * 4
    assert [t.name for t in trials][:2] == ["units=16 learning_rate=0.05", "units=16 learning_rate=0.2"]
    assert len({t.fingerprint for t in trials}) == 4
    assert all(t.objective_metric == "val/loss" and t.objective > 0 for t in trials)
    assert all(Path(t.folder).parent == swept.entry.folder / "trials" for t in trials)


def test_mlflow_has_a_parent_and_a_child_per_trial_named_by_the_swept_values(swept):
    names = [f"units={units} learning_rate={rate}" for units in (16, 32) for rate in (0.05, 0.2)]
    assert sorted(run.info.run_name for run in swept.children) == names
    for run in (swept.parent, *swept.children):
        assert run.info.status == "FINISHED"
        assert run.data.tags["expfw.sweep_id"] == swept.entry.id
    assert {run.data.tags["mlflow.parentRunId"] for run in swept.children} == {swept.parent.info.run_id}
    assert {run.data.tags["study"] for run in (swept.parent, *swept.children)} == {"widths"}
    assert {run.data.tags["size"] for run in swept.children} == {"16", "32"}
    assert "size" not in swept.parent.data.tags  # it differs between the trials
    experiment = swept.client.get_experiment_by_name("expfw")
    assert experiment.tags["mlflow.experimentKind"] == "custom_model_development"  # opens the view for trained models
    assert experiment.artifact_location == (swept.runs_dir / "mlartifacts").as_uri()


def test_params_are_the_flattened_configuration_and_the_logged_model_has_them_and_the_metrics_of_its_step(swept):
    for run in swept.children:
        trial = next(t for t in Ledger(swept.entry.folder).read_trials() if t.name == run.info.run_name)
        config = yaml.safe_load((Path(trial.folder) / "config.yaml").read_text())
        assert run.data.params["model.units"] == str(config["model"]["units"])
        assert run.data.params["model.optimizer.learning_rate"] == str(config["model"]["optimizer"]["learning_rate"])
        assert run.data.params["dataset.plugin"] == "digits"
        assert len(run.data.params) > 30
        model = swept.client.get_logged_model(run.outputs.model_outputs[0].model_id)
        metrics = {metric.key: metric.value for metric in model.metrics}
        assert metrics["test/accuracy"] == run.data.metrics["test/accuracy"]
        assert metrics["val/loss"] == trial.metrics["val/loss"]
        assert metrics["val/accuracy"] == trial.metrics["val/accuracy"]
        assert run.data.tags["expfw.metrics_epoch"] == str(trial.metrics_epoch)
        assert model.params == run.data.params


def test_mlflow_has_each_metric_of_the_journal_once(swept):
    for run in swept.children:
        records, _ = journal.read_records(Path(run.data.tags["expfw.folder"]) / journal.NAME)
        written = [(n, r["step"], v) for r in records if r["kind"] == "metrics" for n, v in r["values"].items()]
        stored = [
            (name, metric.step, metric.value)
            for name in run.data.metrics
            if not name.startswith("system/")
            for metric in swept.client.get_metric_history(run.info.run_id, name)
        ]
        assert sorted(stored) == sorted(written)
        names = {"train/loss", "train/epoch_loss", "val/loss", "val/accuracy", "test/accuracy"}
        assert names <= run.data.metrics.keys()
        steps = [m.step for m in swept.client.get_metric_history(run.info.run_id, "val/loss")]
        assert steps == [21, 42, 63, 84]


def test_the_model_has_a_signature_and_predicts_from_raw_pixels(swept):
    run = swept.children[0]
    mlflow.set_tracking_uri(f"sqlite:///{swept.runs_dir}/mlflow.db")
    (logged,) = run.outputs.model_outputs
    model = mlflow.pyfunc.load_model(f"models:/{logged.model_id}")
    (tensor,) = model.metadata.signature.inputs.inputs
    assert tensor.shape == (-1, 8, 8, 1)
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    output = model.predict(pixels.reshape(-1, 8, 8, 1).astype(np.float32))
    assert output.shape == (1797, 10)
    assert np.mean(output.argmax(axis=1) == labels) > 0.85
    requirements = Path(mlflow.pyfunc.get_model_dependencies(f"models:/{logged.model_id}")).read_text()
    assert "expfw==" in requirements
    assert "tensorflow==" in requirements


def test_the_parent_has_a_summary_and_the_report(swept):
    note = swept.parent.data.tags["mlflow.note.content"]
    assert note.count("FINISHED") == 4
    assert "expfw run model=mlp_keras dataset=digits" in note
    assert "| val/loss | epoch | test/accuracy |" in note
    records, _ = journal.read_records(swept.entry.folder / journal.NAME)
    assert [record["metric"] for record in records if record["kind"] == "note"] == ["val/loss"]
    best = min(t.objective for t in Ledger(swept.entry.folder).read_trials())
    assert swept.parent.data.metrics["best/val/loss"] == pytest.approx(best)
    text = (swept.entry.folder / "report.html").read_text(encoding="utf-8")
    assert all(trial.run_id in text for trial in Ledger(swept.entry.folder).read_trials())
    assert '"learning-1"' in text  # val/loss and train/loss
    local = swept.client.download_artifacts(swept.parent.info.run_id, "report.html")
    assert Path(local).read_text(encoding="utf-8") == text


def test_the_data_is_recorded_with_name_digest_shape_and_source(swept):
    for run in swept.children:
        inputs = {
            i.dataset.name: (i.dataset, {tag.key: tag.value for tag in i.tags}) for i in run.inputs.dataset_inputs
        }
        assert inputs.keys() == {"digits train", "digits validation", "digits test"}
        dataset, tags = inputs["digits train"]
        assert tags == {"mlflow.data.context": "training"}
        assert json.loads(dataset.profile) == {"samples": 1294, "classes": 10}
        assert "[-1, 8, 8, 1]" in dataset.schema
        assert json.loads(dataset.source)["tags"]["plugin"] == "digits"
    digests = {i.dataset.digest for run in swept.children for i in run.inputs.dataset_inputs}
    assert len(digests) == 3  # the same data in all trials, three splits


def test_all_files_are_in_mlflow_and_in_the_run_folder(swept, tmp_path):
    expected = {
        "config.yaml", "overrides.yaml", "environment.json", "log.txt", "evaluation/test_confusion_matrix.csv",
        "evaluation/test_classification_report.csv",
    }  # fmt: skip
    run = swept.children[0]
    for folder in (Path(run.data.tags["expfw.folder"]), Path(swept.client.download_artifacts(run.info.run_id, ""))):
        assert expected <= {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
        environment = json.loads((folder / "environment.json").read_text())
        assert {"tensorflow", "keras", "numpy"} <= environment["packages"].keys()
        assert environment["plugins"]["model.mlp_keras"].startswith("expfw ")
    for name in ("cpu_utilization_percentage", "system_memory_usage_megabytes", "process_memory_usage_megabytes"):
        assert run.data.metrics[f"system/{name}"] >= 0
    assert {"mlflow.source.git.commit", "mlflow.source.name", "expfw.plugin.model.mlp_keras"} <= run.data.tags.keys()


def test_the_best_model_is_registered_with_an_alias(swept):
    best = ranking.find_best_trial(Ledger(swept.entry.folder).read_trials(), "min")
    version = swept.client.get_model_version_by_alias("digits-network", "best")
    run = swept.client.get_run(version.run_id)
    assert run.data.tags["expfw.run_id"] == best.run_id
    assert swept.parent.data.tags["expfw.best_run"] == version.run_id
    assert len(swept.client.search_model_versions("name = 'digits-network'")) == 1


def test_a_note_of_many_trials_has_the_best_trials_and_the_command():
    trials = [
        Trial(n, "", [f"model.units={n}"], [f"model.units={n}"], "FINISHED", f"id{n}", "", n / 7, "val/loss", {})
        for n in range(1000)
    ]
    note = sweep_summary.make_markdown_note(trials, "min", ())
    assert len(note) < 8000
    assert note.startswith("Best: `` expfw run model.units=0 ``\n\n| units |")
    assert "| id0 |" in note
    assert note.endswith(f"and {1000 - note.count('FINISHED')} more")


def test_commands_list_and_show_the_sweep(swept, expfw_here):
    folder = ("--runs-dir", str(swept.runs_dir))
    listed = expfw_here("sweeps", "list", *folder)
    assert swept.entry.id in listed.out
    assert "4/4" in listed.out
    status = expfw_here("sweeps", "status", swept.entry.id[:4], *folder)
    assert status.out.count("FINISHED") == 5
    rows = [line.split() for line in status.out.splitlines() if " FINISHED " in line and "sweep" not in line]
    objectives = [float(row[2]) for row in rows]
    assert objectives == sorted(objectives)
    assert "best: expfw run model=mlp_keras" in status.out
    values = json.loads(expfw_here("sweeps", "status", swept.entry.id, "--json", *folder).out)
    assert len(values["trials"]) == 4
    runs = json.loads(expfw_here("runs", "list", "--json", *folder).out)
    assert len(runs) == 4
    shown = expfw_here("runs", "show", runs[0]["id"], *folder)
    assert "test/accuracy" in shown.out
    assert json.loads(expfw_here("runs", "show", runs[0]["id"], "--json", *folder).out)["metrics"] == runs[0]["metrics"]


def test_an_invalid_value_fails_its_trial_with_an_error(sweep_here):
    sweep = sweep_here("train.epochs=1,0", "seed=1")
    assert sweep.code == 1
    assert "epochs is 0; expected 1 or more" in sweep.out


@pytest.mark.parametrize(
    ("arguments", "message", "others_can_run"),
    [
        (["model.unitz=1,2"], "Did you mean 'model.units'?", False),
        (["dataset=npz", "dataset.path=gone.npz", "seed=1,2"], "dataset.path=gone.npz: no file /", False),
        (["dataset=npz,digits", "sweep.space={dataset: {npz: {dataset.path: gone.npz}}}"], "no file /", True),
        (["train.epochs=0,1"], "epochs is 0; expected 1 or more", True),
    ],
)
def test_an_error_of_the_first_trial_prevents_the_sweep(expfw_here, workdir, arguments, message, others_can_run):
    done, plan = expfw_here("sweep", *arguments), expfw_here("sweep", "--plan", *arguments)
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert message in done.err
    assert ("so no trial was started; `expfw sweep --plan ...`" in done.err) == others_can_run
    assert (plan.code, plan.err, bool(plan.out)) == (2, "" if others_can_run else done.err, others_can_run)
    assert ("the first trial cannot run, so `expfw sweep` starts no trial: " in plan.out) == others_can_run
    assert "to run all trials" not in plan.out
    assert list(workdir.iterdir()) == []


def test_run_with_the_multirun_flag_is_a_sweep(expfw_here, workdir):
    done = expfw_here("run", "-m", "dataset=line", "model=ols", "tracker=[]", "train.epochs=1", "seed=1,2")
    assert done.code == 0, done.err
    assert [entry.first["trials"] for entry in run_index.list_sweeps(workdir / "runs")] == [2]


def test_a_failed_callback_is_reported_and_the_best_command_has_its_file(sweep_here, workdir, caplog):
    (workdir / "boom.py").write_text(
        "import expfw\nclass Boom(expfw.Callback):\n    @expfw.hookimpl\n    def expfw_epoch_ended(self, run):\n"
        "        raise RuntimeError('no good')\n"
        "    @expfw.hookimpl\n    def expfw_sweep_ended(self, folder):\n        raise RuntimeError('no end')\n"
    )
    sweep = sweep_here("+callback=boom", files=("boom.py",))
    assert sweep.code == 0, sweep.err
    assert sweep.err.count("callback plugin 'boom' failed in expfw_epoch_ended (RuntimeError: no good)") == 2
    assert "callback plugin 'boom' failed in expfw_sweep_ended (RuntimeError: no end); this hook of" in caplog.text
    assert "Traceback" not in sweep.err
    assert "RuntimeError: no end" in (sweep.entry.folder / "log.txt").read_text()
    assert f"best: expfw -p {workdir}/boom.py run dataset=line" in sweep.out


def test_the_best_command_disables_the_plugins_that_the_sweep_disabled(sweep_here, expfw_here, workdir):
    sweep = sweep_here(files=("no:pictures", "no:mlflow"))
    assert sweep.code == 0, sweep.err
    best = "best: expfw -p no:pictures -p no:mlflow run dataset=line"
    assert best in sweep.out
    entry = sweep.entry
    assert best in expfw_here("sweeps", "status", entry.id).out  # later, without disabled plugins
    page = expfw_here("sweeps", "report", entry.id).out.strip()
    assert best.removeprefix("best: ") in (workdir / page).read_text()
    records, _ = journal.read_records(entry.folder / journal.NAME)
    assert [best.removeprefix("best: ") in record["text"] for record in records if record["kind"] == "note"] == [True]


def test_real_mnist_reaches_ninety_percent(sweep_here, real_data):
    arguments = ["model=mlp_keras", "dataset=mnist", f"dataset.path={real_data}/mnist", "train.epochs=3", "seed=1"]
    sweep = sweep_here(*arguments, "model.optimizer.learning_rate=0.001,0.01")
    assert sweep.code == 0, sweep.err
    accuracies = [t.metrics["test/accuracy"] for t in sweep.trials]
    assert len(accuracies) == 2
    assert min(accuracies) > 0.90
