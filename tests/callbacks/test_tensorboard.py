"""Event files for TensorBoard: scalars of any name, histograms, images, the graph, swept parameters."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from contextlib import contextmanager, suppress
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import psutil
import pytest
from support.equal_metrics import read_metrics
from support.processes import HOST, find_free_port, wait_for
from support.tensorboard_events import read_folder, read_hparams_data, read_scalars

import expfw
from expfw.tracking import run_index
from expfw.tracking.recorded_run import read_run
from expfw_callbacks.plots.samples import find_mistakes, make_weight_images, restore_images
from expfw_callbacks.tensorboard import make_session_start
from expfw_datasets.digits import Digits

DIGITS = ("dataset=digits", "model=perceptron", "train.steps=20", "callback=[tensorboard]")


def test_histograms_and_images_of_the_weights_are_written_at_an_interval(train):
    import tensorflow as tf

    result = train(*DIGITS, "callback.tensorboard={histograms: 10, images: true}")
    events = read_folder(result.folder / "tensorboard" / "train")
    assert {"weight", "bias", "weights", "loss"} <= set(events.Tags()["tensors"])
    assert [event.step for event in events.Tensors("weight")] == [0, 10, 20]
    assert [event.step for event in events.Tensors("weights")] == [0, 10, 20]  # 20 is also the end: one image, not two
    width, height, *images = events.Tensors("weights")[-1].tensor_proto.string_val
    assert (width, height, len(images), images[0][:4]) == (b"8", b"8", 10, b"\x89PNG")  # one for each class
    saved = expfw.load_model(result.folder / "model").model
    expected = make_weight_images({"weight": saved.weights[0].numpy()}, (8, 8, 1))
    np.testing.assert_allclose(tf.io.decode_png(images[0]).numpy() / 255, expected[0], atol=1 / 128)


def test_by_default_there_is_every_point_of_the_journal_and_nothing_else(train):
    options = ("model=mlp_keras", "train.epochs=2", "train.log_every=4", "callback=[tensorboard]")
    result = train("dataset=digits", *options)
    expected = {name: pytest.approx(values, rel=1e-6) for name, values in read_metrics(result.folder).items()}
    assert "train/loss" in expected
    folder = result.folder / "tensorboard"
    assert sorted(path.name for path in folder.iterdir()) == ["test", "train", "val"]
    written = {split: read_scalars(folder, split) for split in ("train", "val", "test")}
    assert {f"{split}/{tag}": points for split, tags in written.items() for tag, points in tags.items()} == expected
    assert set(read_folder(folder / "train").Tags()["tensors"]) == set(written["train"])
    assert read_hparams_data(folder) == []


def test_the_graph_has_the_names_of_the_layers(train):
    result = train("dataset=digits", "train.steps=2", "callback=[tensorboard]", "callback.tensorboard.graph=true")
    events = read_folder(result.folder / "tensorboard" / "train")
    assert events.Tags()["graph"]
    names = {node.name.split("/")[0] for node in events.Graph().node}
    assert any(name.startswith("sequential") for name in names)


def test_gradient_histograms_have_the_steps_that_computed_them(train):
    options = ("callback=[gradients,tensorboard]", "callback.gradients.every=10")
    result = train(*DIGITS[:3], *options, "callback.tensorboard={histograms: 10, gradients: true}")
    mine, theirs = (read_folder(result.folder / "tensorboard" / name) for name in ("train", "gradients"))
    assert [event.step for event in mine.Tensors("gradient/weight")] == [0, 9, 19]
    protos, gradient_protos = ([e.tensor_proto for e in events.Tensors("gradient/weight")] for events in (mine, theirs))
    assert protos == gradient_protos
    assert sorted(read_scalars(result.folder / "tensorboard", "other")["gradient/weight"]) == [0, 9, 19]  # norms


def test_gradients_without_an_interval_are_an_error(train):
    expected = "histograms, the interval in steps, is not set; add callback.tensorboard.histograms=100"
    with pytest.raises(expfw.ConfigError, match=expected):
        train(*DIGITS, "callback.tensorboard.gradients=true")


def test_misclassified_samples_are_shown_with_the_predicted_class(train):
    import tensorflow as tf

    result = train(*DIGITS, "callback.tensorboard.misclassified=6")
    data = Digits(Digits.Config(), "digits").load(0)
    split = data.validation if data.test is None else data.test
    outputs = expfw.load_model(result.folder / "model").model.predict_step(tf.constant(split.x)).numpy()
    events = read_folder(result.folder / "tensorboard" / "test")
    picture_count = 0
    for tag in (tag for tag in events.Tags()["tensors"] if tag.startswith("misclassified/")):
        true, predicted = map(int, tag.removeprefix("misclassified/").split(" taken for "))
        (event,) = events.Tensors(tag)
        _, _, *pictures = event.tensor_proto.string_val
        description = events.SummaryMetadata(tag).summary_description
        samples = [int(n) for n in description.removeprefix("samples ").removesuffix(", counted from 0").split(", ")]
        for number, png in zip(samples, pictures, strict=True):
            assert (split.y[number], outputs[number].argmax()) == (true, predicted)
            picture = tf.io.decode_png(png, channels=1).numpy() / 255
            pixels = (split.x[number] - data.spec.preprocessing.offset) / data.spec.preprocessing.scale
            np.testing.assert_allclose(picture, pixels / 16, atol=1 / 128)
            picture_count += 1
        assert event.step == 20
    assert picture_count == 6


def test_misclassified_samples_are_sorted_by_margin():
    scores = np.array([[1, 2, 0], [0, 5, 0], [4, 0, 0], [0, 1, 0]], np.float32)
    assert find_mistakes(np.array([0, 1, 2, 0]), scores).tolist() == [2, 0, 3]  # margins 4, 1, 1


def test_images_are_displayed_as_they_were_before_preprocessing():
    raw = np.random.default_rng(0).integers(0, 256, (3, 4, 5, 3))
    raw[0, 0, 0] = [0, 128, 255]
    preprocessing = expfw.AffineScaling(scale=np.array([0.1, 0.2, 0.3]), offset=np.array([5, -5, 0]))
    np.testing.assert_allclose(restore_images(preprocessing(raw), preprocessing), raw / 255, atol=1e-5)
    assert restore_images(np.ones((1, 2, 2, 1)), expfw.AffineScaling()).tolist() == np.zeros((1, 2, 2, 1)).tolist()


def test_misclassified_without_classes_is_a_message(train):
    options = ("callback=[tensorboard]", "callback.tensorboard.misclassified=3", "train.epochs=1")
    result = train("dataset=line", "model=ols", *options)
    assert result.warnings == ()
    (message,) = [m["text"] for m in read_run(result.folder).select("message") if "misclassified" in m["text"]]
    assert "callback.tensorboard.misclassified=3 has no effect: it needs images of 1 or 3 channels" in message


NAMES = {"../../evil/x": 1.0, "/etc/evil": 2.0, "noise": 3.0, "a/b/c": 4.0, "train/": 5.0, "": 6.0, "val/../../up": 7.0}


class OddNames(expfw.Callback):
    @expfw.hookimpl
    def expfw_epoch_ended(self, run):
        run.log(NAMES)


def test_no_metric_name_writes_outside_the_folder(train, workdir):
    result = train(*DIGITS[:2], "train.epochs=1", "callback=[tensorboard]", observers=[OddNames(None, "odd")])
    folder = result.folder / "tensorboard"
    assert sorted(path.name for path in folder.iterdir()) == ["other", "test", "train", "val"]
    for path in workdir.parent.rglob("*tfevents*"):
        assert path.parent.parent == folder or workdir not in path.parents
    values = {tag: value for tag, points in read_scalars(folder, "other").items() for value in points.values()}
    assert values == {name or "unnamed": value for name, value in NAMES.items() if name != "val/../../up"}
    assert list(read_scalars(folder, "val")["../../up"].values()) == [7.0]


def test_values_that_the_table_cannot_store_are_text():
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    swept = {"rate": 0.5, "units": 16, "bias": True, "model": "cnn"}
    texts = {"limit": float("inf"), "seed": 10**400, "clip": None}
    summary = make_session_start(SimpleNamespace(swept=swept | texts, id="k3v9", seconds=1.0))
    data = HParamsPluginData.FromString(summary.value[0].metadata.plugin_data.content)
    written = {key: getattr(v, v.WhichOneof("kind")) for key, v in data.session_start_info.hparams.items()}
    assert written == swept | {key: str(value) for key, value in texts.items()}


class Memory(expfw.Callback):
    """Measures the memory of this process after each epoch."""

    sizes: ClassVar[dict[int, int]] = {}

    @expfw.hookimpl
    def expfw_epoch_ended(self, run):
        self.sizes[run.step] = psutil.Process().memory_info().rss


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_steps(train):
    """Measured in MiB for each 10,000 steps: 0.0 to 2.4 with this callback, 1.2 without."""
    options = ("train.steps=8000", "train.log_every=1", "callback.tensorboard.histograms=50", "+callback=checkpoint")
    train("dataset=digits", "model=mlp_keras", "callback=[tensorboard]", *options, observers=[Memory(None, "memory")])
    (first, before), (last, after) = ((step, Memory.sizes[step]) for step in (2100, max(Memory.sizes)))
    assert (after - before) / (last - first) * 10_000 < 5 << 20


@contextmanager
def serve(folder):
    """Starts a real TensorBoard server; yields a function for requests."""
    port, quiet = find_free_port(), subprocess.DEVNULL
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", folder, "--host", HOST, "--port", str(port)]
    process = subprocess.Popen(command, stdout=quiet, stderr=quiet)

    def send_request(path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://{HOST}:{port}{path}", data, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=20) as response:
            return json.load(response)

    def is_ready():
        assert process.poll() is None, "TensorBoard has ended"
        with suppress(OSError):
            return send_request("/data/runs")

    try:
        wait_for(is_ready)
        yield send_request
    finally:
        process.terminate()
        process.wait(20)


@pytest.mark.slow
def test_one_tensorboard_on_the_folder_of_a_sweep_shows_all_trials(expfw_here, workdir):
    options = ("dataset=digits", "model=perceptron", "train.epochs=2", "tracker=[]", "+callback=tensorboard")
    swept = ("model.optimizer.learning_rate=0.01,0.1", "train.batch_size=32,64")
    assert expfw_here("sweep", *options, *swept).code == 0
    (entry,) = run_index.list_sweeps(workdir / "runs")
    trials = [f"trials/{path.name}/tensorboard" for path in sorted((entry.folder / "trials").iterdir())]
    expected = {f"{trial}/{split}" for trial in trials for split in ("train", "val", "test")} | {*trials}
    with serve(entry.folder) as send_request:
        wait_for(lambda: {*send_request("/data/runs")} == expected)
        tags = send_request("/data/plugin/scalars/tags")
        for trial in trials:
            for metric in ("loss", "accuracy"):  # the same tag in several runs: one chart
                assert all(metric in tags[f"{trial}/{split}"] for split in ("train", "val", "test"))
        experiment = send_request("/data/plugin/hparams/experiment", {})
        assert {info["name"] for info in experiment["hparamInfos"]} == {word.partition("=")[0] for word in swept}
        query = {"startIndex": 0, "sliceSize": 99, "colParams": [], "allowedStatuses": ["STATUS_SUCCESS"]}
        groups = send_request("/data/plugin/hparams/session_groups", query)["sessionGroups"]
    rows = {(g["hparams"]["model.optimizer.learning_rate"], g["hparams"]["train.batch_size"]) for g in groups}
    assert rows == {(rate, size) for rate in (0.01, 0.1) for size in (32, 64)}
    for group in groups:
        measured = {(m["name"].get("group"), m["name"]["tag"]): m["value"] for m in group["metricValues"]}
        losses = read_run(next(entry.folder.glob(f"trials/*-{group['name']}"))).metrics["val/loss"].dropna()
        assert measured["val", "loss"] == pytest.approx(losses.iloc[-1], rel=1e-6)
