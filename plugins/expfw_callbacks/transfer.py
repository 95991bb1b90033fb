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
        self._take_over(model)
        layers = "1 layer" if self.config.layers == 1 else f"{self.config.layers} layers"
        run.message(f"{layers} taken over from {self.config.model}")
        return model

    def _take_over(self, model: Any) -> None:
        frozen = self.config.layers if self.config.freeze is None else self.config.freeze
        mine, theirs = self._layers(model, "this model"), self._layers(self._trained(), self.config.model)
        for number, (layer, trained) in enumerate(zip(mine, theirs, strict=True)):
            shapes, found = ([tuple(w.shape) for w in one.weights] for one in (layer, trained))
            if shapes != found:
                raise expfw.ConfigError(
                    f"callback.transfer.layers={self.config.layers}: layer {number + 1} ({layer.name}) has weights "
                    f"{shapes}, in {self.config.model} {found}; take over fewer layers, or build the same ones"
                )
            layer.set_weights(trained.get_weights())
            layer.trainable = number >= frozen
        if not model.trainable_variables:
            raise expfw.ConfigError(
                f"callback.transfer.layers={self.config.layers} takes over and freezes all that this model has; "
                "take over fewer layers, or say callback.transfer.freeze=0"
            )

    def _trained(self) -> Any:
        folder = Path(self.config.model)
        return expfw.load_model(folder / "model" if (folder / "model").is_dir() else folder).model

    def _layers(self, model: Any, what: str) -> list[Any]:
        if not hasattr(model, "layers"):
            raise expfw.ConfigError(f"{what} has no layers to take over; expected a Keras model, such as model=cnn")
        with_weights = [layer for layer in model.layers if layer.weights]
        if len(with_weights) < self.config.layers:
            raise expfw.ConfigError(
                f"callback.transfer.layers={self.config.layers}, but {what} has {len(with_weights)} layers with weights"
            )
        return with_weights[: self.config.layers]
