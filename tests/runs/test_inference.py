"""`expfw runs predict`, `evaluate` and `export`: uses of a trained model."""

from __future__ import annotations

import csv
import gzip
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support import run_folders, small_datasets

import expfw
from expfw.cli.main import run_command
from expfw.config.compose import compose
from expfw.config.run_plugins import make_plugins
from expfw.plugins.catalogue import get_catalogue
from expfw.runs.inference import samples
from expfw.runs.inference.predictions import Predictions
from expfw.runs.one_run import execute
from expfw.runs.request import prepare_run
from expfw.system.json_output import format_json
from expfw.tracking.saved_model import SavedModel

LOADING = """
import sys, numpy as np, keras, tensorflow as tf
folder = sys.argv[1]
examples = np.load(f"{folder}/examples.npz")
for model in ("keras", "savedmodel", "low_level", "lite"):
    raw = examples[f"{model}_raw"]
    if model == "keras":
        outputs = keras.models.load_model(f"{folder}/model.keras").predict(raw, verbose=0)
    elif model == "lite":
        (outputs,) = tf.lite.Interpreter(f"{folder}/lite.tflite").get_signature_runner()(raw=raw).values()
    else:
        served = tf.saved_model.load(f"{folder}/{model}").signatures["serving_default"]
        (outputs,) = served(tf.constant(raw, tf.float32)).values()
    np.testing.assert_allclose(outputs, examples[f"{model}_outputs"], atol=1e-5)
assert not [name for name in sys.modules if name.startswith("expfw")]
print("equal")
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory, processors):
    """Folder of three trained runs in `runs`, and of the training images of one of them in `mnist`."""
    folder = tmp_path_factory.mktemp("using")
    small_datasets.write_mnist(folder / "mnist")
    return folder


@pytest.fixture(scope="module")
def trained(folder):
    """Results of the runs: `images` in Keras, `digits` in low-level TensorFlow, `line` for regression."""
    overrides_by_name = {
        "images": ["dataset=mnist", f"dataset.path={folder}/mnist", "model=mlp_keras", "train.epochs=3"],
        "digits": ["dataset=digits", "model=perceptron", "train.epochs=2"],
        "line": ["dataset=line", "model=ols", "train.epochs=2"],
    }
    common = ["tracker=[]", "callback=[]", f"runs_dir={folder}/runs"]
    return {name: execute(prepare_run(compose([*overrides, *common]))) for name, overrides in overrides_by_name.items()}


@pytest.fixture
def using(folder, trained, expfw_here):
    """Calls `expfw runs COMMAND` for one of these runs."""

    def call(command, which, *arguments):
        identity = trained[which].run_id if which in trained else which
        return expfw_here("runs", command, identity, *map(str, arguments), "--runs-dir", str(folder / "runs"))

    return call


def pixels():
    """Returns the test images of the small MNIST."""
    return small_datasets.make_digit_images()[0][1400:]


def read_outputs(done):
    assert done.code == 0, done.err
    return np.array([sample["outputs"] for sample in json.loads(done.out)])


def predict(trained, which, raw):
    return expfw.load_model(trained[which].folder / "model").predict(raw)


def test_every_file_format_gives_the_same_predictions(using, trained, workdir):
    raw = pixels()[:3]
    flat = raw.reshape(3, -1)
    np.save("x.npy", raw)
    np.savez("x.npz", x=flat, y=[0, 1, 2])
    (workdir / "x-idx3-ubyte").write_bytes(small_datasets.encode_idx(raw))
    (workdir / "x-idx3-ubyte.gz").write_bytes(gzip.compress(small_datasets.encode_idx(raw)))
    np.savetxt("x.csv", flat, "%d", ",")
    np.savetxt("named.csv", flat, "%d", ";", header=";".join(f"p{i}" for i in range(784)), comments="")
    files = ["x.npy", "x.npz", "x-idx3-ubyte", "x-idx3-ubyte.gz", "x.csv", "named.csv"]
    done = using("predict", "images", *files, "--json")
    outputs = read_outputs(done)
    assert outputs.shape == (18, 10)
    np.testing.assert_allclose(outputs, np.tile(predict(trained, "images", raw), (6, 1)), atol=1e-6)
    first = json.loads(done.out)[4]
    assert (first["sample"], first["class"]) == ("x.npz:2", int(outputs[1].argmax()))
    assert first["probability"] == outputs[1].max()
    assert first["runner_up_probability"] == np.sort(outputs[1])[-2]


def test_images_are_converted_to_the_input_of_the_model(using, trained, workdir):
    from PIL import Image

    raw = pixels()[:2]
    for name, pixel_values in zip(("scans/above/a.png", "scans/deeper/b.png"), raw, strict=True):
        (workdir / name).parent.mkdir(parents=True)
        Image.fromarray(255 - pixel_values).convert("RGB").resize((56, 56), Image.Resampling.NEAREST).save(name)
    Image.fromarray(raw[0]).save("unchanged.png")
    outputs = read_outputs(using("predict", "images", "unchanged.png", "--json"))
    np.testing.assert_allclose(outputs, predict(trained, "images", raw[:1]), atol=1e-6)
    done = using("predict", "images", "scans", "--invert")
    assert [line.split()[0] for line in done.out.splitlines() if ".png" in line] == ["above/a.png", "deeper/b.png"]
    assert done.err.strip() == (
        "2 images: converted to gray, resized to 28x28 from 56x56, inverted, values 0 to 255 as in the training data"
    )
    classes = [line.split()[1] for line in done.out.splitlines() if ".png" in line]
    assert classes == [str(output.argmax()) for output in predict(trained, "images", raw)]
    assert "values 0 to 16" in using("predict", "digits", "unchanged.png").err


def test_transparent_rotated_and_16_bit_images_are_converted(using, trained, workdir):
    from PIL import Image

    raw = pixels()[0]
    transparent = np.dstack([np.zeros((28, 28, 3), np.uint8), raw])  # the opaque parts are black
    Image.fromarray(transparent, "RGBA").save("transparent.png")
    Image.fromarray(raw.astype(np.uint16) * 257).save("deep.png")
    rotated = Image.fromarray(np.rot90(raw))
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 90 degrees clockwise to display
    rotated.save("rotated.png", exif=exif)
    expected = predict(trained, "images", raw[np.newaxis])
    np.testing.assert_allclose(
        read_outputs(using("predict", "images", "deep.png", "rotated.png", "--json")), expected.repeat(2, 0), atol=1e-6
    )
    np.testing.assert_allclose(
        read_outputs(using("predict", "images", "transparent.png", "--invert", "--json")), expected, atol=1e-6
    )


def test_scaled_values_are_reported(using, workdir):
    np.save("raw.npy", pixels()[0].reshape(-1))
    np.save("scaled.npy", pixels()[:2] / 255)
    done = using("predict", "images", "raw.npy")
    assert (done.err, " in None" in done.out) == ("", False)  # no file was written
    done = using("predict", "images", "scaled.npy")
    assert done.code == 0
    assert done.err.startswith("scaled.npy has values from 0 to 0.941176, the training data from 0 to 240")


def test_a_long_list_is_shortened_on_screen_and_complete_in_files(using, trained, workdir):
    raw = pixels()[:50]
    np.save("x.npy", raw)
    done = using("predict", "images", "x.npy", "--output", "all.csv")
    assert "x.npy:20" in done.out
    assert "x.npy:21" not in done.out
    assert "and 30 more, 50 samples in total" in done.out
    assert "50 predictions are in all.csv" in done.out
    assert "unknown format '.cvs'. Did you mean '.csv'" in using("predict", "images", "x.npy", "--output=x.cvs").err
    expected = predict(trained, "images", raw)
    header, *rows = csv.reader((workdir / "all.csv").read_text().splitlines())
    assert header[:4] == ["sample", "class", "class_name", "probability_0"]
    np.testing.assert_allclose(np.array([row[3:] for row in rows], float), expected, atol=1e-6)
    for name in ("all.npz", "all.json"):
        assert using("predict", "images", "x.npy", "--output", name).code == 0
    archive = np.load("all.npz")
    np.testing.assert_array_equal(archive["classes"], expected.argmax(axis=1))
    assert list(archive["samples"][:2]) == ["x.npy:1", "x.npy:2"]
    assert len(json.loads((workdir / "all.json").read_text())) == 50
    assert not list(workdir.glob(".unfinished*"))


def test_regression_values_are_predicted(using, trained, workdir):
    (workdir / "x.csv").write_text("x\n0.5\n2\n")
    done = using("predict", "line", "x.csv", "--json")
    values = [sample["values"] for sample in json.loads(done.out)]
    np.testing.assert_allclose(values, predict(trained, "line", np.array([[0.5], [2.0]])).reshape(-1), rtol=1e-6)
    assert f"{values[0]:.4g}" in using("predict", "line", "x.csv").out


GAPS = np.where(np.arange(1568) == 843, np.nan, 0.0).reshape(2, 28, 28)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("absent.png", None, "absent.png: no such file or folder"),
        (".", None, r"folder \. contains no images"),
        ("text.txt", b"nothing", "text.txt has an unknown format"),
        ("cut.pgm", b"P5 28 28 255\n123", "cannot read cut.pgm as an image"),
        ("cut.gz", gzip.compress(b"0" * 99, mtime=0)[:20], "cut.gz has an unknown format"),
        ("cut.npy", b"\x93NUMPY", "cannot read cut.npy"),
        ("small.npy", np.zeros((3, 5, 5)), r"small.npy has shape \(3, 5, 5\); the model takes .* \(28, 28, 1\)"),
        ("channels_first.npy", np.zeros((4, 1, 784, 1, 2)), r"has shape \(4, 1, 784, 1, 2\)"),
        ("words.npy", np.array(["a"]), "words.npy has type <U1; expected real numbers"),
        ("two.npz", {"a": [1], "b": [2]}, "two.npz contains a, b; expected one array"),
        ("words.csv", b"1,2\nq,3\n", "words.csv has 'q' in row 2 and column 1; expected numbers"),
        ("header.csv", b"a,b\n", "header.csv has no rows"),
        ("none.npy", np.zeros((0, 28, 28)), "none.npy has no samples"),
        ("gaps.npy", GAPS, r"gaps.npy has nan at index \[1, 2, 3\] \(from 0\); expected finite numbers"),
        ("labelled.csv", b",".join([b"0"] * 785), r"has shape \(1, 785\); the model takes .*, or rows of 784 numbers"),
    ],
)
def test_invalid_input_is_a_one_line_error(using, name, content, message):
    if isinstance(content, bytes):
        Path(name).write_bytes(content)
    elif content is not None:
        np.savez(name, **content) if isinstance(content, dict) else np.save(name, content)
    done = using("predict", "images", name)
    assert (done.code, len(done.err.splitlines())) == (2, 1)
    assert re.search(message, done.err)


@pytest.mark.parametrize(
    ("command", "arguments"), [("predict", ["x.csv"]), ("evaluate", []), ("export", ["--format=keras"])]
)
def test_a_run_without_a_model_is_rejected(workdir, capsys, command, arguments):
    shutil.rmtree(run_folders.write_run(workdir / "runs", "aaaa2222", 0.5, status=None) / "model")
    assert run_command(["runs", command, "aaaa2", *arguments]) == 2
    assert "expfw runs resume aaaa2222" in capsys.readouterr().err


def read_files(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("which", ["images", "digits"])
def test_evaluate_reproduces_the_recorded_metrics_and_changes_no_files(using, trained, which):
    result = trained[which]
    before = read_files(result.folder)
    done = using("evaluate", which, "--json")
    assert done.code == 0, done.err
    assert done.err == ""
    splits = json.loads(done.out)["splits"]
    assert list(splits) == ["train", "validation", "test"]
    for split, prefix in (("validation", "val"), ("test", "test")):
        assert splits[split]["metrics"] == {name: result.metrics[f"{prefix}/{name}"] for name in ("loss", "accuracy")}
    assert read_files(result.folder) == before


def test_evaluate_on_other_data(using, trained, folder, workdir):
    raw, labels = small_datasets.make_digit_images()
    arrays = {"x_train": raw[:40, ..., np.newaxis], "x_test": raw[1400:, ..., np.newaxis]}
    np.savez("mine.npz", **arrays, y_train=labels[:40], y_test=labels[1400:])
    done = using("evaluate", "images", "dataset=npz", "dataset.path=mine.npz", "dataset.validation=0", "--split=test")
    assert done.code == 0, done.err
    assert "npz in mine.npz" in done.out
    (row,) = [line.split() for line in done.out.splitlines() if line.strip().startswith("test")]
    accuracy = np.mean(predict(trained, "images", raw[1400:]).argmax(axis=1) == labels[1400:])
    assert row[1] == "397"
    assert float(row[3]) == pytest.approx(accuracy, rel=1e-3)
    # the same files; a new preprocessing of fewer samples would scale them differently
    done = using("evaluate", "images", "dataset.limit=200", "--split", "test", "--json")
    metrics = json.loads(done.out)["splits"]["test"]["metrics"]
    assert metrics["loss"] == pytest.approx(trained["images"].metrics["test/loss"], rel=1e-4)


MINE = """
import numpy as np
import expfw

class Mine(expfw.Dataset):
    def load(self, seed):
        x = np.ones((4, 28, 28, 1), np.float32)
        return expfw.Splits(expfw.DataSpec((28, 28, 1), 10), expfw.Split(x, np.arange(4, dtype=np.int32)))
"""


def test_evaluate_on_a_dataset_from_a_plugin_file(folder, trained, workdir, expfw_here):
    (workdir / "mine.py").write_text(MINE)
    arguments = ["runs", "evaluate", trained["images"].run_id, "dataset=mine", "--json", f"--runs-dir={folder}/runs"]
    done = expfw_here("-p", "mine.py", *arguments)
    assert done.code == 0, done.err
    split = json.loads(done.out)["splits"]["train"]
    outputs = predict(trained, "images", np.ones((4, 28, 28, 1)))
    assert split["samples"] == 4
    assert split["metrics"]["loss"] == pytest.approx(-np.mean(np.log(outputs[np.arange(4), np.arange(4)])), rel=1e-4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["dataset=digits"], "the samples have shape (8, 8, 1); the model takes (28, 28, 1)"),
        (["dataset=npz", "dataset.path=values.npz"], "the targets are values; the model predicts 10 classes"),
        (["dataset=npz", "dataset.path=more.npz"], "the targets are 12 classes; the model predicts 10 classes"),
        (["model=cnn"], "model=cnn cannot change here; expected dataset=NAME"),
        (["dataset.pth=x"], "dataset.pth"),
        (["--split=tset"], "unknown split 'tset'. Did you mean 'test'?"),
    ],
)
def test_data_that_does_not_fit_the_model_is_rejected(using, workdir, arguments, message):
    x = np.zeros((12, 28, 28, 1), np.uint8)
    np.savez("values.npz", x_train=x, y_train=np.zeros(12, np.float32))
    np.savez("more.npz", x_train=x, y_train=np.arange(12))
    done = using("evaluate", "images", *arguments)
    assert done.code == 2
    assert message in done.err


def test_changed_data_is_reported(using, trained, folder):
    file = next((folder / "mnist").iterdir())
    original = file.stat()
    os.utime(file, (original.st_atime, original.st_mtime + 5))
    try:
        done = using("evaluate", "images", "--split", "test")
    finally:
        os.utime(file, ns=(original.st_atime_ns, original.st_mtime_ns))
    assert done.code == 0
    assert "the data has changed since the run started" in done.err


@pytest.mark.slow
def test_exported_models_predict_without_expfw(using, trained, workdir):
    exports = {
        "keras": ("images", "model.keras"),
        "savedmodel": ("images", "savedmodel"),
        "low_level": ("digits", "low_level"),
        "lite": ("digits", "lite.tflite"),
    }
    examples = {}
    for name, (which, path) in exports.items():
        form = {"keras": "keras", "lite": "tflite"}.get(name, "savedmodel")
        done = using("export", which, "--format", form, "--output", path)
        assert done.code == 0, done.err
        assert done.err == ""
        lines = done.out.splitlines()
        assert lines[0] == path
        assert "any number n of raw samples" in lines[1]
        assert float(lines[2].rpartition("largest difference ")[2]) < 1e-5
        raw = (
            pixels()[:5, ..., np.newaxis]
            if which == "images"
            else np.random.default_rng(0).uniform(0, 16, (3, 8, 8, 1))
        )
        examples |= {f"{name}_raw": raw.astype(np.float32), f"{name}_outputs": predict(trained, which, raw)}
    np.savez("examples.npz", **examples)
    done = subprocess.run([sys.executable, "-c", LOADING, str(workdir)], capture_output=True, text=True, timeout=300)
    assert done.stdout == "equal\n", done.stderr


def test_export_rejects_existing_paths_and_unknown_formats(using, trained, workdir):
    assert using("export", "digits", "--format", "savedmodel").code == 0
    path = workdir / f"{trained['digits'].run_id}-savedmodel"
    before = path.stat().st_ino
    (workdir / "mine").mkdir()
    (workdir / "mine" / "letter.txt").write_text("dear")
    for arguments, message in (
        (["savedmodel"], f"{path.name} already exists; replace it with --force"),
        (["savedmodel", "--output", "mine", "--force"], "contains files that are not a saved model"),
        (["savedmodle"], "Did you mean 'savedmodel'? Available: keras, savedmodel, tflite"),
        (["keras"], "low-level TensorFlow"),
    ):
        done = using("export", "digits", "--format", *arguments)
        assert (done.code, message in done.err) == (2, True), done.err
    assert path.stat().st_ino == before
    assert using("export", "digits", "--format", "savedmodel", "--force").code == 0
    assert path.stat().st_ino != before
    assert sorted(p.name for p in workdir.iterdir()) == sorted(["mine", path.name])
    assert (workdir / "mine" / "letter.txt").exists()


def test_an_export_with_wrong_outputs_is_deleted(using, workdir, monkeypatch):
    from expfw_backends.model_info import exporting

    def wrong(model, data, path):
        path.write_text("")
        return lambda raw: np.zeros((len(raw), 10))

    monkeypatch.setattr(exporting, "FORMATS", {"keras": wrong})
    done = using("export", "images", "--format", "keras", "--output", "model.keras")
    assert done.code == 1
    assert "outputs of the exported model and the run's model differ by" in done.err
    assert list(workdir.iterdir()) == []


def test_export_rejects_models_that_keras_alone_cannot_load(processors, tmp_path):
    import keras

    from expfw_backends.model_info import exporting
    from expfw_models.building_blocks import activations

    @keras.saving.register_keras_serializable("mine")
    class Doubled(keras.layers.Layer):
        def call(self, x):
            return 2 * x

    own_function = keras.layers.Dense(1, activations.get_activation("piecewise_linear"))
    for layer, message in (
        (Doubled(), r"Doubled of .*test_inference"),
        (own_function, r"the function piecewise_linear, .*--format savedmodel"),
    ):
        model = keras.Sequential([keras.Input((2,)), layer])
        model.compile("sgd", "mse")
        with pytest.raises(expfw.ConfigError, match=message):
            exporting.export_keras(model, expfw.DataSpec((2,)), tmp_path / "model.keras")
        assert model.compiled
    exported_model = exporting.export_saved_model(model, expfw.DataSpec((2,)), tmp_path / "model")
    np.testing.assert_allclose(exported_model(np.ones((3, 2))), model.predict(np.ones((3, 2)), verbose=0), rtol=1e-6)


def test_alexnet_is_exported_in_keras_layers(processors, tmp_path):
    from expfw_backends.model_info import exporting

    config = compose(["model=alexnet_small", "dataset=digits", "model.dense=[8]", "model.filters=[8,8,4,4,4]"])
    data = expfw.DataSpec((28, 28, 1), 10, preprocessing=expfw.AffineScaling(1 / 255))
    (plugin,) = make_plugins(config, get_catalogue(()), kinds=("model",))
    model = plugin.build(data)
    raw = np.random.default_rng(0).uniform(0, 255, (3, 28, 28, 1))
    outputs = exporting.export_keras(model, data, tmp_path / "model.keras")(raw)
    np.testing.assert_allclose(outputs, model.predict(data.preprocess(raw), verbose=0), atol=1e-5)


def test_several_inputs_and_outputs_are_exported_with_their_names(processors, tmp_path):
    import keras
    import tensorflow as tf

    from expfw_backends.model_info import exporting

    left, right = keras.Input((2,), name="left"), keras.Input((3,), name="right")
    both = keras.layers.Concatenate()([left, right])
    outputs = {"kind": keras.layers.Dense(4, activation="softmax")(both), "size": keras.layers.Dense(1)(both)}
    model = keras.Model({"left": left, "right": right}, outputs)
    shapes = {"left": (2,), "right": (3,)}
    preprocessing = {"left": expfw.AffineScaling(0.5), "right": expfw.AffineScaling(2.0, np.array([1.0, 2.0, 3.0]))}
    data = expfw.DataSpec(shapes, {"kind": 4}, {"size": (1,)}, preprocessing)
    raw = {name: np.random.default_rng(0).random((5, *shape)) for name, shape in shapes.items()}
    expected = model.predict(data.preprocess(raw), verbose=0)
    for name, export in exporting.FORMATS.items():
        outputs = export(model, data, tmp_path / f"model.{name}")(raw)
        assert outputs.keys() == expected.keys()
        for part in expected:
            np.testing.assert_allclose(outputs[part], expected[part], atol=1e-6)
    served = tf.saved_model.load(tmp_path / "model.savedmodel").signatures["serving_default"]
    assert served.structured_input_signature[1].keys() == shapes.keys()
    assert served.structured_outputs.keys() == expected.keys()


def test_several_inputs_are_read_from_one_archive(workdir):
    data = expfw.DataSpec({"left": (2,), "right": (3, 1)}, {"kind": 2}, {"size": (1,)})
    model = SavedModel(Path(), data, None, (), None, {})
    np.savez("x.npz", left=np.ones((4, 2)), right=np.zeros((4, 3)), more=[1])
    result = samples.read_samples([Path("x.npz")], model, invert=False)
    assert {name: part.shape for name, part in result.raw.items()} == {"left": (4, 2), "right": (4, 3, 1)}
    assert result.names == ["x.npz:1", "x.npz:2", "x.npz:3", "x.npz:4"]
    for right, message in (({}, "contains left; expected left"), ({"right": np.ones((5, 3))}, "4 and 5 samples")):
        np.savez("x.npz", left=np.ones((4, 2)), **right)
        with pytest.raises(expfw.DataError, match=message):
            samples.read_samples([Path("x.npz")], model, invert=False)
    np.save("x.npy", np.ones((4, 2)))
    with pytest.raises(expfw.ConfigError, match="--invert applies to images"):
        samples.read_samples([Path("x.npy")], SavedModel(Path(), expfw.DataSpec((2,)), None, (), None, {}), invert=True)


def test_predictions_of_several_outputs_single_probabilities_and_scores(workdir):
    data = expfw.DataSpec((2,), {"kind": 2, "size": None}, {"size": (3,)})
    predictions = Predictions(["a", "b"], {"kind": np.array([[0.9], [0.2]]), "size": np.ones((2, 3))}, data)
    first, second = predictions.describe_samples()
    assert first["kind"]["class"] == 1
    assert second["kind"] == {
        "class": 0,
        "class_name": "0",
        "probability": 0.8,
        "runner_up": 1,
        "runner_up_probability": 0.2,
        "outputs": [0.8, 0.2],
    }
    assert first["size"] == {"values": [1, 1, 1]}
    predictions.write(workdir / "out.csv")
    header = (workdir / "out.csv").read_text().splitlines()[0].split(",")
    assert header[1:5] == ["kind_class", "kind_class_name", "kind_probability_0", "kind_probability_1"]
    assert header[5:] == ["size_value_0", "size_value_1", "size_value_2"]
    logits = Predictions(["a"], np.array([[-3.0, 2.0]]), expfw.DataSpec((2,), 2, class_names=("cat", "dog")))
    assert logits.outputs[0].format_cells(0) == {"class": "dog", "score": "2", "runner-up": "cat (-3)"}
    assert json.loads(format_json([float("nan")])) == [None]
