"""Export to Keras and TensorFlow formats: files that map raw samples to outputs, for programs without expfw."""

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

from expfw import AffineScaling, ConfigError, DataSpec
from expfw_backends.engine.model_arrays import get_tensorflow_variable

PredictFunction = Callable[[Any], Any]


def export_keras(model: Any, data: DataSpec, path: Path) -> PredictFunction:
    """Writes a `.keras` file that begins with the preprocessing; returns a function that predicts with the file."""
    if not isinstance(model, keras.Model):
        raise ConfigError(
            "--format keras needs a Keras model, but this model is a tf.Module (low-level TensorFlow); use "
            "--format savedmodel"
        )

    def rescale(inputs: Any, scaling: AffineScaling) -> Any:
        factors = [np.asarray(value, np.float32) for value in (scaling.scale, scaling.offset)]
        return keras.layers.Rescaling(*(f if f.ndim else float(f) for f in factors), dtype="float32")(inputs)

    was_compiled, model.compiled = model.compiled, False  # a prediction needs neither loss nor optimizer
    try:
        inputs = _map_shapes(lambda name, shape: keras.Input(shape, dtype="float32", name=name), data)
        converted_model = model
        if any(hasattr(layer, "in_keras_layers") for layer in model.layers):
            converted_model = keras.models.clone_model(
                model, clone_function=lambda layer: getattr(layer, "in_keras_layers", lambda: layer)()
            )
        outputs = converted_model(tf.nest.map_structure(rescale, inputs, _get_preprocessing(data)))
        keras.Model(inputs, outputs).save(path)
    finally:
        model.compiled = was_compiled
    # Classes or functions that are not from Keras are rejected, even if this process can load them.
    with zipfile.ZipFile(path) as archive:
        foreign_names = sorted(set(_find_foreign_names(json.loads(archive.read("config.json")))))
    if foreign_names:
        raise ConfigError(
            f"the model contains {', '.join(foreign_names)}, so Keras alone cannot load it; use --format savedmodel, "
            "which contains the computation itself"
        )
    loaded = keras.models.load_model(path, compile=False)
    return lambda raw: _compute_arrays(lambda tensors: loaded(tensors, training=False), raw)


def _find_foreign_names(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        module, name = value.get("module") or "", value.get("class_name")
        if name == "function":
            yield f"the function {value.get('config')}"
        elif name and module.partition(".")[0] not in ("", "keras", "builtins"):
            yield f"{name} of {module}"
        value = list(value.values())
    for nested_value in value if isinstance(value, list) else ():
        yield from _find_foreign_names(nested_value)


def export_saved_model(model: Any, data: DataSpec, path: Path) -> PredictFunction:
    """Writes a SavedModel with the signature `serve(raw)`; returns a function that predicts with the loaded files."""

    def scale(part: tf.Tensor, scaling: AffineScaling) -> tf.Tensor:
        return part * tf.constant(scaling.scale, tf.float32) + tf.constant(scaling.offset, tf.float32)

    def serve(raw: Any) -> Any:
        return model.predict_step(tf.nest.map_structure(scale, raw, _get_preprocessing(data)))

    # With the names of the inputs; otherwise the signature numbers them.
    signature = _map_shapes(lambda name, shape: tf.TensorSpec((None, *shape), tf.float32, name), data)
    exported_module = tf.Module()
    # All variables that the function may read; in a Keras model, these are without those of the optimizer.
    exported_module.weights = [get_tensorflow_variable(variable) for variable in model.variables]
    exported_module.serve = tf.function(serve, input_signature=[signature], autograph=False)
    tf.saved_model.save(exported_module, path, signatures={"serving_default": exported_module.serve})
    loaded = tf.saved_model.load(path)
    return lambda raw: _compute_arrays(loaded.serve, raw)


def export_tflite(model: Any, data: DataSpec, path: Path) -> PredictFunction:
    """Writes a LiteRT (TensorFlow Lite) file; returns a function that predicts with the loaded file."""
    with tempfile.TemporaryDirectory(prefix="expfw-") as folder:
        export_saved_model(model, data, Path(folder) / "model")
        path.write_bytes(tf.lite.TFLiteConverter.from_saved_model(f"{folder}/model").convert())
    with warnings.catch_warnings(action="ignore"):  # a warning that the interpreter moves to a separate package
        run_signature = tf.lite.Interpreter(str(path)).get_signature_runner()

    def predict(raw: Any) -> Any:
        parts = raw if isinstance(raw, Mapping) else {"raw": raw}
        outputs = run_signature(**{name: np.asarray(part, np.float32) for name, part in parts.items()})
        return outputs["output_0"] if list(outputs) == ["output_0"] else outputs

    return predict


def _map_shapes(function: Callable[[str, Any], Any], data: DataSpec) -> Any:
    """Applies the function to name and shape of each input; a single input is named `raw`."""
    if isinstance(data.input_shape, Mapping):
        return {name: function(name, shape) for name, shape in data.input_shape.items()}
    return function("raw", data.input_shape)


def _get_preprocessing(data: DataSpec) -> Any:
    if isinstance(data.preprocessing, Mapping):
        return dict(data.preprocessing)
    return _map_shapes(lambda name, shape: data.preprocessing, data)


def _compute_arrays(function: PredictFunction, raw: Any) -> Any:
    tensors = tf.nest.map_structure(lambda part: tf.constant(part, tf.float32), raw)
    return tf.nest.map_structure(lambda output: output.numpy(), function(tensors))


FORMATS = {"keras": export_keras, "savedmodel": export_saved_model, "tflite": export_tflite}
