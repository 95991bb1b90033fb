"""TensorBoard beyond scalars: histograms, weights as images, the graph."""

from __future__ import annotations

import numpy as np
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

DIGITS = ("dataset=digits", "model=perceptron", "train.steps=20", "callback=[tensorboard]")


def read(folder):
    events = EventAccumulator(str(folder), size_guidance={"tensors": 0})
    events.Reload()
    return events


def test_histograms_and_images_every_so_many_steps(train):
    result = train(*DIGITS, "callback.tensorboard={histograms: 10, images: true}")
    events = read(result.folder / "tensorboard" / "train")
    assert {"weight", "bias", "weights", "loss"} <= set(events.Tags()["tensors"])
    assert [event.step for event in events.Tensors("weight")] == [0, 10, 20]
    images = events.Tensors("weights")[-1].tensor_proto.string_val
    assert images[:2] == [b"8", b"8"]
    assert len(images) == 2 + 10  # width and height, then a PNG for each class
    assert images[2][:4] == b"\x89PNG"


def test_without_being_asked_there_are_only_scalars(train):
    result = train(*DIGITS, "train.steps=21")
    assert set(read(result.folder / "tensorboard" / "train").Tags()["tensors"]) == {
        "loss", "accuracy", "epoch_loss", "epoch_accuracy",
    }  # fmt: skip
    assert sorted(path.name for path in (result.folder / "tensorboard").iterdir()) == ["test", "train", "val"]


def test_the_graph_has_the_names_of_the_layers(train):
    result = train("dataset=digits", "train.steps=2", "callback=[tensorboard]", "callback.tensorboard.graph=true")
    events = read(result.folder / "tensorboard" / "train")
    assert events.Tags()["graph"]
    names = {node.name.split("/")[0] for node in events.Graph().node}
    assert any(name.startswith("sequential") for name in names)


def test_the_images_are_the_weights(train):
    import tensorflow as tf

    import expfw
    from expfw_callbacks.weight_images import weight_images

    result = train(*DIGITS, "callback.tensorboard.images=true")
    saved = expfw.load_model(result.folder / "model").model
    pictures = weight_images({"weight": saved.weight.numpy()}, (8, 8, 1))
    written = read(result.folder / "tensorboard" / "train").Tensors("weights")[-1].tensor_proto.string_val
    first = tf.io.decode_png(written[2]).numpy()[..., :1] / 255
    np.testing.assert_allclose(first, pictures[0] / (2 * np.abs(pictures).max()) + 0.5, atol=1 / 128)
