"""Transfer of layers from a trained network."""

from __future__ import annotations

import dataclasses
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import expfw


class Transfer(expfw.Callback):
    """Copies the first layers of a trained Keras model and freezes them.

    The other layers are trained. Only layers with weights count, in the order of the model.
    """

    @dataclass
    class Config:
        model: str = dataclasses.field(metadata={"help": "run folder, or folder of a saved model, to copy from"})
        layers: int = expfw.option(2, help="number of layers to copy, from the input", at_least=1)
        freeze: int | None = expfw.option(None, help="number of copied layers to freeze; by default, all", at_least=0)

        def __post_init__(self) -> None:
            if self.freeze is not None and self.freeze > self.layers:
                raise ValueError(f"freeze is {self.freeze}; expected at most layers={self.layers}")

    @expfw.hookimpl(wrapper=True)
    def expfw_build_model(self, run: expfw.Run) -> Generator[None, Any, Any]:
        model = yield
        frozen_count = self.config.layers if self.config.freeze is None else self.config.freeze
        folder = Path(self.config.model)
        saved_folder = folder / "model" if (folder / "model").is_dir() else folder
        trained_model = expfw.load_model(saved_folder, files=run.files).model
        own_layers = self._list_layers(model, "this model")
        trained_layers = self._list_layers(trained_model, self.config.model)
        for number, (layer, trained_layer) in enumerate(zip(own_layers, trained_layers, strict=True)):
            shapes, trained_shapes = (
                [tuple(w.shape) for w in counterpart.weights] for counterpart in (layer, trained_layer)
            )
            if shapes != trained_shapes:
                raise expfw.ConfigError(
                    f"callback.transfer.layers={self.config.layers}: layer {number + 1} ({layer.name}) has weights "
                    f"of shape {shapes}, but of shape {trained_shapes} in {self.config.model}; copy fewer layers, or "
                    "build the same layers"
                )
            layer.set_weights(trained_layer.get_weights())
            layer.trainable = number >= frozen_count
        if not model.trainable_variables:
            raise expfw.ConfigError(
                f"callback.transfer.layers={self.config.layers} copies and freezes all layers of this model; "
                "copy fewer layers, or add callback.transfer.freeze=0"
            )
        run.message(f"layers copied from {self.config.model}: {self.config.layers}")
        return model

    def _list_layers(self, model: Any, description: str) -> list[Any]:
        if not hasattr(model, "layers"):
            raise expfw.ConfigError(f"{description} has no layers to copy; expected a Keras model, such as model=cnn")
        weighted_layers = [layer for layer in model.layers if layer.weights]
        if len(weighted_layers) < self.config.layers:
            raise expfw.ConfigError(
                f"callback.transfer.layers={self.config.layers}, but {description} has {len(weighted_layers)} "
                "layers with weights"
            )
        return weighted_layers[: self.config.layers]
