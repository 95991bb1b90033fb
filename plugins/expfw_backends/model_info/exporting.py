"""Models in formats of Keras and TensorFlow: from raw samples to outputs, for programs that know nothing of expfw."""

from __future__ import annotations

import json
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from expfw import Affine, ConfigError, DataSpec
from expfw_backends.engine.model_arrays import tensorflow_variable

Predict = Callable[[Any], Any]


def to_keras(model: Any, data: DataSpec, path: Path) -> Predict:
    """Writes a `.keras` file, its first layer the preprocessing; returns what it gives when it is loaded again.

    Raises:
        ConfigError: it is no Keras model, or one that Keras alone cannot load.
    """
    if not isinstance(model, keras.Model):
        raise ConfigError(
            "this model is written in low-level TensorFlow (a tf.Module), and --format keras is for models of Keras "
            "layers; use --format savedmodel"
        )
    compiled, model.compiled = model.compiled, False  # predicting needs neither loss nor optimizer
    try:
        inputs = _inputs(data.input_shape)
        whole = keras.Model(inputs, _in_keras_layers(model)(_each(_rescaled, inputs, _preprocessing(data))))
        whole.save(path)
    finally:
        model.compiled = compiled
    _check_parts(path)
    loaded = keras.models.load_model(path, compile=False)
    return lambda raw: _arrays(loaded(_tensors(raw), training=False))


def _in_keras_layers(model: keras.Model) -> keras.Model:
    """The same model, its layers of its own in the form that they have in those of Keras, where they say it."""

    def own(layer: Any) -> bool:
        return hasattr(layer, "in_keras_layers")

    if not any(map(own, model.layers)):
        return model
    return keras.models.clone_model(model, clone_function=lambda one: one.in_keras_layers() if own(one) else one)


def _inputs(shape: Any) -> Any:
    if not isinstance(shape, Mapping):
        return keras.Input(shape, dtype="float32", name="raw")
    return {name: keras.Input(part, dtype="float32", name=name) for name, part in shape.items()}


def _rescaled(inputs: Any, preprocessing: Affine) -> Any:
    values = (_plain(preprocessing.scale), _plain(preprocessing.offset))
    return keras.layers.Rescaling(*values, dtype="float32")(inputs)


def _plain(value: Any) -> Any:
    array = np.asarray(value, np.float32)
    return array if array.ndim else float(array)


def _check_parts(path: Path) -> None:
    """Refuses a file that names classes or functions which are not Keras's own, though they may be known here."""
    with zipfile.ZipFile(path) as archive:
        config = json.loads(archive.read("config.json"))
    if foreign := sorted(set(_foreign(config))):
        raise ConfigError(
            f"this model has {', '.join(foreign)}, without which Keras cannot load it; use --format savedmodel, which "
            "holds the computation itself"
        )


def _foreign(value: Any) -> Iterator[str]:
    if isinstance(value, list):
        for inner in value:
            yield from _foreign(inner)
    elif isinstance(value, Mapping):
        module, name = value.get("module") or "", value.get("class_name")
        if name == "function":
            yield f"the function {value.get('config')}"
        elif name and module.partition(".")[0] not in ("", "keras", "builtins"):
            yield f"{name} of {module}"
        for inner in value.values():
            yield from _foreign(inner)


def to_saved_model(model: Any, data: DataSpec, path: Path) -> Predict:
    """Writes a SavedModel with `serve(raw)`, also its signature; returns what it gives when it is loaded again."""
    preprocessing = _preprocessing(data)

    def serve(raw: Any) -> Any:
        prepared = _each(lambda x, affine: x * _constant(affine.scale) + _constant(affine.offset), raw, preprocessing)
        return model.predict_step(prepared)

    # Under the names of the inputs, which the signature would otherwise number.
    specs = {name: tf.TensorSpec((None, *shape), tf.float32, name) for name, shape in _named(data.input_shape).items()}
    signature = specs if isinstance(data.input_shape, Mapping) else specs["raw"]
    exported = tf.Module()
    # All that the function may read; the optimizer's are not among a Keras model's, and need not be there.
    exported.weights = [tensorflow_variable(variable) for variable in model.variables]
    exported.serve = tf.function(serve, input_signature=[signature], autograph=False)
    tf.saved_model.save(exported, path, signatures={"serving_default": exported.serve})
    loaded = tf.saved_model.load(path)
    return lambda raw: _arrays(loaded.serve(_tensors(raw)))


def to_tflite(model: Any, data: DataSpec, path: Path) -> Predict:
    """Writes a LiteRT (TensorFlow Lite) file; returns what its interpreter gives when it is loaded again."""
    with tempfile.TemporaryDirectory(prefix="expfw-") as folder:
        to_saved_model(model, data, Path(folder) / "model")
        path.write_bytes(tf.lite.TFLiteConverter.from_saved_model(f"{folder}/model").convert())
    with warnings.catch_warnings(action="ignore"):  # the interpreter moves to a package of its own
        run = tf.lite.Interpreter(str(path)).get_signature_runner()

    def predict(raw: Any) -> Any:
        outputs = run(**{name: np.asarray(part, np.float32) for name, part in _named(raw).items()})
        return outputs["output_0"] if list(outputs) == ["output_0"] else outputs

    return predict


def _constant(value: Any) -> tf.Tensor:
    return tf.constant(value, tf.float32)


def _preprocessing(data: DataSpec) -> Any:
    if isinstance(data.input_shape, Mapping) and not isinstance(data.preprocessing, Mapping):
        return dict.fromkeys(data.input_shape, data.preprocessing)
    return data.preprocessing


def _each(function: Callable[..., Any], value: Any, *others: Any) -> Any:
    if not isinstance(value, Mapping):
        return function(value, *others)
    return {name: function(part, *(other[name] for other in others)) for name, part in value.items()}


def _named(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {"raw": value}


def _tensors(raw: Any) -> Any:
    return _each(lambda part: tf.constant(part, tf.float32), raw)


def _arrays(outputs: Any) -> Any:
    return tf.nest.map_structure(lambda output: output.numpy(), outputs)


FORMATS: Mapping[str, Callable[[Any, DataSpec, Path], Predict]] = {
    "keras": to_keras,
    "savedmodel": to_saved_model,
    "tflite": to_tflite,
}
