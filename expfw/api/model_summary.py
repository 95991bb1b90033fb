"""Layers, parameters, FLOPs and memory of a model, as shown by `expfw show`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Layer:
    """One layer of a model.

    Attributes:
        name: name of the layer.
        kind: class of the layer.
        output_shape: output shape for one sample, as text; empty if it is unknown before the model is called.
        parameters: number of parameters, trainable or not.
        flops: FLOPs of the forward pass for one sample; None if they were not counted for this layer alone.
    """

    name: str
    kind: str
    output_shape: str
    parameters: int
    flops: int | None = None


@dataclass(frozen=True)
class ModelSummary:
    """Layers, parameters, FLOPs and memory of a model.

    Attributes:
        layers: layers in order; for models without layers, their variables.
        parameters: number of trainable parameters.
        fixed: number of parameters that are not trained.
        flops: floating-point operations of the forward pass for one sample; a multiply-add counts as two.
        operations: number of operations in the graph of the forward pass, by kind.
        memory: bytes of memory in training, by purpose.
    """

    layers: Sequence[Layer]
    parameters: int
    fixed: int
    flops: int
    operations: Mapping[str, int] = field(default_factory=dict)
    memory: Mapping[str, int] = field(default_factory=dict)
