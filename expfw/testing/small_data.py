"""Small generated data of any shape: the dataset of the contracts, used as a plugin file."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

import expfw


def format_spec(spec: expfw.DataSpec) -> str:
    """Formats a specification as text, for use as an option."""

    def encode_value(value: Any) -> Any:
        if isinstance(value, expfw.AffineScaling):
            return {"affine": [np.asarray(value.scale).tolist(), np.asarray(value.offset).tolist()]}
        return {name: encode_value(inner) for name, inner in value.items()} if isinstance(value, Mapping) else value

    return json.dumps({name: encode_value(value) for name, value in vars(spec).items()})


def parse_spec(text: str) -> expfw.DataSpec:
    """Parses the text of `format_spec`."""

    def decode_value(value: Any) -> Any:
        if isinstance(value, list):
            return tuple(value)
        if isinstance(value, dict) and value.keys() == {"affine"}:
            return expfw.AffineScaling(*value["affine"])
        return {name: decode_value(inner) for name, inner in value.items()} if isinstance(value, dict) else value

    return expfw.DataSpec(**{name: decode_value(value) for name, value in json.loads(text).items()})


class SmallData(expfw.Dataset):
    """Random samples of any shape. Classes differ in their mean; regression targets are linear in the samples."""

    uses_seed = False

    @dataclass
    class Config:
        spec: str = expfw.option(
            format_spec(expfw.DataSpec((8, 8, 1), 3)), help="specification, as text from `format_spec`"
        )
        samples: int = expfw.option(32, help="training samples; half as many for validation and for test")

    def load(self, seed: int) -> expfw.Splits:
        spec = parse_spec(self.config.spec)
        half = self.config.samples // 2
        generator = np.random.default_rng(0)
        makers = {
            target: _TargetMaker(spec, target, classes, shape, generator)
            for target, (classes, shape) in spec.targets().items()
        }
        return expfw.Splits(spec, *(_make_split(spec, makers, count, generator) for count in (2 * half, half, half)))


class _TargetMaker:
    """Parameters of one target: a mean per class for classification, linear weights for regression."""

    def __init__(self, spec: expfw.DataSpec, name: str, classes: Any, shape: Any, generator: np.random.Generator):
        self.classes, self.shape = classes, shape
        self.input_shapes = _get_input_shapes(spec)
        size = sum(math.prod(part) for part in self.input_shapes.values())
        self.means = {
            part: generator.normal(size=(classes or 1, *input_shape)) for part, input_shape in self.input_shapes.items()
        }
        self.weights = generator.normal(size=(size, math.prod(shape))) / math.sqrt(size)


def _get_input_shapes(spec: expfw.DataSpec) -> dict[str, tuple[int, ...]]:
    shapes = spec.input_shape if isinstance(spec.input_shape, Mapping) else {"": spec.input_shape}
    return {name: tuple(shape) for name, shape in shapes.items()}


def _make_split(
    spec: expfw.DataSpec, makers: Mapping[str, _TargetMaker], count: int, generator: np.random.Generator
) -> expfw.Split:
    input_shapes = _get_input_shapes(spec)
    x = {name: 0.3 * generator.normal(size=(count, *shape)) for name, shape in input_shapes.items()}
    y: dict[str, np.ndarray] = {}
    for name, maker in makers.items():
        if maker.classes is not None:
            y[name] = (np.arange(count) % maker.classes).astype(np.int32)
            x = {part: array + maker.means[part][y[name]] for part, array in x.items()}
    for name, maker in makers.items():
        if maker.classes is None:
            flat = np.concatenate([array.reshape(count, -1) for array in x.values()], axis=1)
            y[name] = (flat @ maker.weights).reshape(count, *maker.shape).astype(np.float32)
    samples = {name: array.astype(np.float32) for name, array in x.items()}
    return expfw.Split(samples.get("", samples), y.get("", y))
