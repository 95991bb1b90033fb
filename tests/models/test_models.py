"""The built-in models: parameters, options, and errors for unsuitable data."""

from __future__ import annotations

import numpy as np
import pytest

import expfw
from expfw.api.option_schema import build_instance
from expfw.config.compose import compose
from expfw_datasets.digits import Digits
from expfw_models.alexnet import AlexNet
from expfw_models.building_blocks.activations import ACTIVATION_NAMES, get_activation
from expfw_models.cnn import Cnn
from expfw_models.mlp_keras import MlpKeras
from expfw_models.mlp_layers import MlpLayers
from expfw_models.ols import Ols
from expfw_models.perceptron import Perceptron

pytestmark = pytest.mark.usefixtures("processors")  # they build models

MNIST = expfw.DataSpec((28, 28, 1), 10)


def built(kind, data=MNIST, name=None, **options):
    return kind(kind.Config(**options), name or kind.__name__.lower()).build(data)


def parameters(model):
    return sum(int(np.prod(variable.shape)) for variable in model.trainable_variables)


def test_the_networks_have_the_parameters_of_their_sources():
    assert parameters(built(Perceptron)) == 7_850
    assert parameters(built(MlpKeras)) == parameters(built(MlpLayers)) == 42_310
    assert parameters(built(Cnn)) == 3_274_634


@pytest.mark.slow
def test_alexnet_has_the_parameters_of_the_original():
    imagenet = expfw.DataSpec((227, 227, 3), 1000)
    assert parameters(built(AlexNet, imagenet, groups=2)) == 60_965_224
    assert parameters(built(AlexNet, imagenet)) == 62_378_344


def test_the_initial_weights_of_the_cnn():
    import keras

    keras.utils.set_random_seed(0)
    kernel, bias = next(layer.get_weights() for layer in built(Cnn).layers if layer.name.startswith("dense"))
    assert kernel.shape == (3136, 1024)
    assert np.abs(kernel).max() < 0.23  # truncated at two standard deviations; the deviation is 0.1 before truncation
    assert kernel.std() == pytest.approx(0.088, abs=0.01)
    np.testing.assert_array_equal(bias, np.float32(0.1))


def test_softmax_regression_starts_at_zero_and_the_mean_over_the_outputs_is_a_tenth_of_the_loss():
    x, y = np.ones((3, 28, 28, 1), np.float32), np.array([1, 2, 3], np.int32)
    for option, factor in ((False, 1.0), (True, 0.1)):
        model = built(Perceptron, mean_over_outputs=option)
        assert all(not variable.numpy().any() for variable in model.trainable_variables)
        np.testing.assert_allclose(model.predict_step(x), 0.1, rtol=1e-6)
        assert float(model.test_step((x, y))["loss"]) == pytest.approx(factor * np.log(10))


@pytest.mark.parametrize(
    ("kind", "data", "y", "options"),
    [
        (MlpLayers, MNIST, np.zeros(2, np.int32), {}),
        (Ols, expfw.DataSpec((1,), output_shape=(1,)), np.zeros((2, 1), np.float32), {"weight": 3.0}),
    ],
)
def test_l2_is_a_factor_of_the_sum_of_squares(kind, data, y, options):
    import keras

    losses, squares = [], 0.0
    for l2 in (0.0, 0.5):
        keras.utils.set_random_seed(1)
        model = built(kind, data, l2=l2, **options)
        losses.append(float(model.test_step((np.zeros((2, *data.input_shape), np.float32), y))["loss"]))
        weights = [v for v in model.trainable_variables if len(v.shape) == 2]
        squares = sum(float(np.square(w.numpy()).sum()) for w in weights)
    assert losses[1] - losses[0] == pytest.approx(0.5 * squares, rel=1e-4)


def test_options_of_a_keras_network_change_the_model():
    model = built(Cnn, filters=(4,), dense=(8, 8), batch_norm=True, l2=0.01, dropout=0.25, activation="elu")
    kinds = [type(layer).__name__ for layer in model.layers]
    assert kinds.count("BatchNormalization") == 3
    assert kinds.count("Dropout") == 2
    assert len(model.losses) == 4
    assert all(layer.synchronized for layer in model.layers if type(layer).__name__ == "BatchNormalization")
    assert "Dropout" not in [type(layer).__name__ for layer in built(MlpKeras).layers]


def test_batch_norm_uses_its_batch_in_training_and_moving_averages_in_evaluation(train):
    """A wrong mode would change the results, because the last validation batch has one sample."""
    import tensorflow as tf

    result = train(
        "dataset=digits", "dataset.split_by=tail", "dataset.scaling=unit", "model=cnn", "model.kernel=3",
        "model.batch_norm=true", "model.dropout=0", "train.epochs=2", "train.batch_size=143", "train.log_every=1",
    )  # fmt: skip
    saved = expfw.load_model(result.folder / "model")
    model = saved.model
    norms = [layer for layer in model.layers if type(layer).__name__ == "BatchNormalization"]
    assert len(norms) == 3
    assert all(abs(layer.moving_mean.numpy()).max() > 1e-3 for layer in norms)
    pixels = np.random.default_rng(0).uniform(0, 16, (5, 8, 8, 1))  # one sample alone has the same output as in a batch
    np.testing.assert_allclose(saved.predict(pixels[:1]), saved.predict(pixels)[:1], atol=1e-5)
    validation = Digits(Digits.Config(split_by="tail", scaling="unit"), "digits").load(0).validation
    y = tf.constant(validation.y)
    evaluation_loss, training_loss = (
        float(model.compute_loss(None, y, model(validation.x[:], training=training))) for training in (False, True)
    )
    assert result.metrics["val/loss"] == pytest.approx(evaluation_loss, rel=1e-4)
    assert result.metrics["val/loss"] != pytest.approx(training_loss, rel=1e-2)


def test_the_small_alexnet_takes_28_to_64_pixels():
    small = compose(["model=alexnet_small"]).model
    options = {name: tuple(small[name]) for name in ("filters", "kernels", "dense")} | {"stride": small["stride"]}
    for side, channels in ((28, 1), (32, 3), (64, 3)):
        model = built(AlexNet, expfw.DataSpec((side, side, channels), 10), groups=2, **options)
        assert model.output_shape == (None, 10)


def test_local_response_normalisation_follows_the_paper():
    from expfw_models.building_blocks.layers import LocalResponse

    x = np.random.default_rng(0).normal(size=(1, 1, 1, 7)).astype(np.float32) * 50
    squares = [np.square(x[..., max(0, c - 2) : c + 3]).sum() for c in range(7)]
    expected = x / (2 + 1e-4 * np.array(squares)) ** 0.75
    np.testing.assert_allclose(LocalResponse()(x), expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("kind", "data", "options", "expected"),
    [
        (Cnn, expfw.DataSpec((64,), 10), {}, "model=cnn takes images .* shape \\(64,\\)"),
        (AlexNet, expfw.DataSpec((28, 28), 10), {}, "model=alexnet takes images"),
        (Cnn, expfw.DataSpec((4, 4, 1), 10), {}, "images of 4x4 pixels are too small for model.kernel=5"),
        (Cnn, expfw.DataSpec((8, 8, 1), 10), {"filters": (4,) * 5}, "images of 8x8 .* the 5 stages of model.filters"),
        (AlexNet, MNIST, {}, "too small for model.stride=4, .* model=alexnet_small takes"),
        (AlexNet, expfw.DataSpec((8, 8, 1), 10), {}, r"8x8 .* model.kernels=\[11.* model=alexnet_small"),
        (Cnn, expfw.DataSpec((28, 28, 1), output_shape=(1,)), {}, "model=cnn needs classes, .* model=ols"),
        (Perceptron, expfw.DataSpec((3,), output_shape=(1,)), {}, "model=perceptron needs classes"),
        (Cnn, expfw.DataSpec({"a": (3,)}, 10), {}, "takes one input"),
        (Cnn, MNIST, {"activation": "reul"}, "model.activation: unknown activation 'reul'; .* relu"),
        (MlpLayers, MNIST, {"activation": "glu"}, "unknown activation 'glu'; .* that keeps the shape"),
        (Cnn, MNIST, {"initializer": "identity"}, "model.initializer is 'identity', .* 2D"),
        (MlpKeras, expfw.DataSpec((3,), 1), {}, "needs two classes or more"),
        (Cnn, MNIST, {"initializer": "he"}, "model.initializer is 'he'"),
        (Cnn, MNIST, {"optimizer": expfw.Optimizer("adamm")}, "unknown optimizer 'adamm'. Did you mean 'adam'"),
    ],
)
def test_unsuitable_data_and_options_are_rejected_before_training(kind, data, options, expected):
    with pytest.raises(expfw.ExpfwError, match=expected):
        built(kind, data, **options)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (Cnn, {"dropout": 1.0}),
        (Cnn, {"filters": (0,)}),
        (Cnn, {"l2": -1.0}),
        (MlpKeras, {"deviation": 0.0}),
        (MlpKeras, {"deviation": float("inf")}),
        (Cnn, {"bias": float("nan")}),
        (MlpLayers, {"l2": float("nan")}),
        (AlexNet, {"filters": (1, 2)}),
        (AlexNet, {"groups": 5}),
        (Ols, {"degree": 0}),
    ],
)
def test_invalid_options_are_rejected(kind, options):
    with pytest.raises(expfw.ConfigError, match="expected"):
        build_instance(kind.Config, options, "model")


def test_activations_equal_the_values_in_the_sources():
    z = np.float32(1 * 0.4 + 1.4 * 0.3 + 2.5 * 0.5)
    assert float(get_activation("logistic")(z)) == pytest.approx(0.888, abs=5e-4)
    softmax = get_activation("softmax")(np.array([[1.78, 0.76, 1.65]], np.float32))
    np.testing.assert_allclose(softmax, [[0.44668973, 0.16107406, 0.39223621]], atol=1e-7)
    x = np.array([-2, -0.25, 0, 0.25, 2], np.float32)
    np.testing.assert_array_equal(get_activation("unit_step")(x), [0, 0, 0.5, 1, 1])
    np.testing.assert_array_equal(get_activation("sign")(x), [-1, -1, 0, 1, 1])
    np.testing.assert_array_equal(get_activation("piecewise_linear")(x), [0, 0.25, 0.5, 0.75, 1])


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (MlpLayers, {}),
        (MlpKeras, {}),
        (Cnn, {"filters": (2,), "dense": (3,)}),
        (AlexNet, {"filters": (2,) * 5, "kernels": (3,) * 5, "stride": 1, "dense": (3,)}),
    ],
)
def test_every_activation_is_usable_by_name(kind, options):
    for name in ACTIVATION_NAMES:
        assert built(kind, activation=name, **options) is not None


@pytest.mark.parametrize("model", ["mlp_layers", "perceptron", "mlp_keras", "cnn"])
def test_float64_applies_to_keras_layers_only(train, model):
    result = train("dataset=digits", f"model={model}", "train.steps=3", "backend.precision=float64", "callback=[]")
    variables = expfw.load_model(result.folder / "model").model.trainable_variables
    assert {variable.numpy().dtype.name for variable in variables} == {
        "float32" if model in ("mlp_layers", "perceptron") else "float64"
    }


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"learning_rate": -1.0}, "expected 0 or more"),
        ({"learning_rate": float("nan")}, "expected 0 or more"),
        ({"weight_decay": -0.1}, "expected 0 or more"),
        ({"options": {"learning_rate": 0.5}}, "options contains learning_rate; expected it as learning_rate, outside"),
        ({"name": "adamw", "options": {"weight_decay": 0.5}}, "options contains weight_decay"),
        ({"options": {"momentum": 0.5}}, "options contains momentum"),
    ],
)
def test_invalid_optimizers_are_rejected(values, match):
    with pytest.raises(ValueError, match=match):
        expfw.Optimizer(**values)


def test_an_optimizer_without_the_option_momentum_takes_it_in_options():
    assert expfw.Optimizer("muon", options={"momentum": 0.5}).keras()["config"]["momentum"] == 0.5
