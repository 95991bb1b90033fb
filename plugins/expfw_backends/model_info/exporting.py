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
    """Writes a `.keras` file with the preprocessing as its first layer; returns a function that predicts with the file.

    Raises:
        ConfigError: if the model is not a Keras model, or Keras alone cannot load the file.
    """
    if not isinstance(model, keras.Model):
        raise ConfigError(
            "--format keras needs a Keras model, but this model is a tf.Module (low-level TensorFlow); use "
            "--format savedmodel"
        )
    was_compiled, model.compiled = model.compiled, False  # a prediction needs neither loss nor optimizer
    try:
        inputs = _make_inputs(data.input_shape)
        exported_model = keras.Model(
            inputs, _replace_custom_layers(model)(_map_parts(_rescale, inputs, _expand_preprocessing(data)))
        )
        exported_model.save(path)
    finally:
        model.compiled = was_compiled
    _check_saved_classes(path)
    loaded = keras.models.load_model(path, compile=False)
    return lambda raw: _to_arrays(loaded(_to_tensors(raw), training=False))


def _replace_custom_layers(model: keras.Model) -> keras.Model:
    """Returns the model with each custom layer replaced by Keras layers, if the layer supports this."""

    def is_convertible(layer: Any) -> bool:
        return hasattr(layer, "in_keras_layers")

    if not any(map(is_convertible, model.layers)):
        return model
    return keras.models.clone_model(
        model, clone_function=lambda layer: layer.in_keras_layers() if is_convertible(layer) else layer
    )


def _make_inputs(shape: Any) -> Any:
    if not isinstance(shape, Mapping):
        return keras.Input(shape, dtype="float32", name="raw")
    return {name: keras.Input(part_shape, dtype="float32", name=name) for name, part_shape in shape.items()}


def _rescale(inputs: Any, preprocessing: AffineScaling) -> Any:
    values = (_to_float_or_array(preprocessing.scale), _to_float_or_array(preprocessing.offset))
    return keras.layers.Rescaling(*values, dtype="float32")(inputs)


def _to_float_or_array(value: Any) -> Any:
    array = np.asarray(value, np.float32)
    return array if array.ndim else float(array)


def _check_saved_classes(path: Path) -> None:
    """Rejects a file with classes or functions that are not from Keras, even if this process can load them."""
    with zipfile.ZipFile(path) as archive:
        config = json.loads(archive.read("config.json"))
    if foreign_names := sorted(set(_find_foreign_names(config))):
        raise ConfigError(
            f"the model contains {', '.join(foreign_names)}, so Keras alone cannot load it; use --format savedmodel, "
            "which contains the computation itself"
        )


def _find_foreign_names(value: Any) -> Iterator[str]:
    if isinstance(value, list):
        for nested_value in value:
            yield from _find_foreign_names(nested_value)
    elif isinstance(value, Mapping):
        module, name = value.get("module") or "", value.get("class_name")
        if name == "function":
            yield f"the function {value.get('config')}"
        elif name and module.partition(".")[0] not in ("", "keras", "builtins"):
            yield f"{name} of {module}"
        for nested_value in value.values():
            yield from _find_foreign_names(nested_value)


def export_saved_model(model: Any, data: DataSpec, path: Path) -> PredictFunction:
    """Writes a SavedModel with the signature `serve(raw)`; returns a function that predicts with the loaded files."""
    preprocessing = _expand_preprocessing(data)

    def serve(raw: Any) -> Any:
        preprocessed = _map_parts(
            lambda x, scaling: x * _make_constant(scaling.scale) + _make_constant(scaling.offset), raw, preprocessing
        )
        return model.predict_step(preprocessed)

    # With the names of the inputs; otherwise the signature numbers them.
    specs = {
        name: tf.TensorSpec((None, *shape), tf.float32, name) for name, shape in _name_parts(data.input_shape).items()
    }
    signature = specs if isinstance(data.input_shape, Mapping) else specs["raw"]
    exported_module = tf.Module()
    # All variables that the function may read; in a Keras model, these are without those of the optimizer.
    exported_module.weights = [get_tensorflow_variable(variable) for variable in model.variables]
    exported_module.serve = tf.function(serve, input_signature=[signature], autograph=False)
    tf.saved_model.save(exported_module, path, signatures={"serving_default": exported_module.serve})
    loaded = tf.saved_model.load(path)
    return lambda raw: _to_arrays(loaded.serve(_to_tensors(raw)))


def export_tflite(model: Any, data: DataSpec, path: Path) -> PredictFunction:
    """Writes a LiteRT (TensorFlow Lite) file; returns a function that predicts with the loaded file."""
    with tempfile.TemporaryDirectory(prefix="expfw-") as folder:
        export_saved_model(model, data, Path(folder) / "model")
        path.write_bytes(tf.lite.TFLiteConverter.from_saved_model(f"{folder}/model").convert())
    with warnings.catch_warnings(action="ignore"):  # a warning that the interpreter moves to a separate package
        run_signature = tf.lite.Interpreter(str(path)).get_signature_runner()

    def predict(raw: Any) -> Any:
        outputs = run_signature(**{name: np.asarray(part, np.float32) for name, part in _name_parts(raw).items()})
        return outputs["output_0"] if list(outputs) == ["output_0"] else outputs

    return predict


def _make_constant(value: Any) -> tf.Tensor:
    return tf.constant(value, tf.float32)


def _expand_preprocessing(data: DataSpec) -> Any:
    if isinstance(data.input_shape, Mapping) and not isinstance(data.preprocessing, Mapping):
        return dict.fromkeys(data.input_shape, data.preprocessing)
    return data.preprocessing


def _map_parts(function: Callable[..., Any], value: Any, *others: Any) -> Any:
    if not isinstance(value, Mapping):
        return function(value, *others)
    return {name: function(part, *(other[name] for other in others)) for name, part in value.items()}


def _name_parts(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {"raw": value}


def _to_tensors(raw: Any) -> Any:
    return _map_parts(lambda part: tf.constant(part, tf.float32), raw)


def _to_arrays(outputs: Any) -> Any:
    return tf.nest.map_structure(lambda output: output.numpy(), outputs)


FORMATS: Mapping[str, Callable[[Any, DataSpec, Path], PredictFunction]] = {
    "keras": export_keras,
    "savedmodel": export_saved_model,
    "tflite": export_tflite,
}
