"""What a model is made of, as `expfw show` tells it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Layer:
    """One layer.

    Attributes:
        output_shape: of one sample, as text; empty where it is not known before the model is called.
        parameters: trained or not.
        flops: of the forward pass for one sample; None where they were not counted for this layer alone.
    """

    name: str
    kind: str
    output_shape: str
    parameters: int
    flops: int | None = None


@dataclass(frozen=True)
class ModelSummary:
    """A model in numbers.

    Attributes:
        layers: in order; for models without layers, their variables.
        parameters: trained; fixed: not trained.
        flops: floating-point operations of the forward pass for one sample; a multiplication with an addition is two.
        operations: how many of each kind the computational graph of the forward pass has.
        memory: bytes, by what they are for, in training.
    """

    layers: Sequence[Layer]
    parameters: int
    fixed: int
    flops: int
    operations: Mapping[str, int] = field(default_factory=dict)
    memory: Mapping[str, int] = field(default_factory=dict)
