"""Beginning with the layers of a network that was trained before."""

from __future__ import annotations

import dataclasses
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import expfw


class Transfer(expfw.Callback):
    """Takes over the layers near the input from a trained Keras network and keeps them as they are; the rest learns.

    Counted are layers that have weights, in the order of the model.
    """

    @dataclass
    class Config:
        model: str = dataclasses.field(metadata={"help": "folder of the run, or of the saved model, to take from"})
        layers: int = expfw.option(2, help="how many layers to take over, beginning at the input")
        freeze: int | None = expfw.option(None, help="how many of these are not trained on; by default all")

        def __post_init__(self) -> None:
            if self.layers < 1 or not 0 <= (self.layers if self.freeze is None else self.freeze) <= self.layers:
                raise ValueError(
                    f"layers is {self.layers} and freeze {self.freeze}; expected at least 1, and no more than layers"
                )

    @expfw.hookimpl(wrapper=True)
    def expfw_build_model(self, run: expfw.Run) -> Generator[None, Any, Any]:
        model = yield
        self._copy_layers(model)
        layer_count = "1 layer" if self.config.layers == 1 else f"{self.config.layers} layers"
        run.message(f"{layer_count} taken over from {self.config.model}")
        return model

    def _copy_layers(self, model: Any) -> None:
        frozen_count = self.config.layers if self.config.freeze is None else self.config.freeze
        own_layers, trained_layers = (
            self._list_layers(model, "this model"),
            self._list_layers(self._load_trained_model(), self.config.model),
        )
        for number, (layer, trained_layer) in enumerate(zip(own_layers, trained_layers, strict=True)):
            shapes, trained_shapes = (
                [tuple(w.shape) for w in counterpart.weights] for counterpart in (layer, trained_layer)
            )
            if shapes != trained_shapes:
                raise expfw.ConfigError(
                    f"callback.transfer.layers={self.config.layers}: layer {number + 1} ({layer.name}) has weights "
                    f"{shapes}, in {self.config.model} {trained_shapes}; take over fewer layers, or build the same ones"
                )
            layer.set_weights(trained_layer.get_weights())
            layer.trainable = number >= frozen_count
        if not model.trainable_variables:
            raise expfw.ConfigError(
                f"callback.transfer.layers={self.config.layers} takes over and freezes all that this model has; "
                "take over fewer layers, or say callback.transfer.freeze=0"
            )

    def _load_trained_model(self) -> Any:
        folder = Path(self.config.model)
        return expfw.load_model(folder / "model" if (folder / "model").is_dir() else folder).model

    def _list_layers(self, model: Any, description: str) -> list[Any]:
        if not hasattr(model, "layers"):
            raise expfw.ConfigError(
                f"{description} has no layers to take over; expected a Keras model, such as model=cnn"
            )
        weighted_layers = [layer for layer in model.layers if layer.weights]
        if len(weighted_layers) < self.config.layers:
            raise expfw.ConfigError(
                f"callback.transfer.layers={self.config.layers}, but {description} has {len(weighted_layers)} "
                "layers with weights"
            )
        return weighted_layers[: self.config.layers]
