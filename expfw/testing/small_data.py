"""Small data of any shape that models can learn from: the data of the contracts, used as a plugin file."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

import expfw


def as_text(spec: expfw.DataSpec) -> str:
    """A specification as an option can hold it."""

    def part(value: Any) -> Any:
        if isinstance(value, expfw.Affine):
            return {"affine": [np.asarray(value.scale).tolist(), np.asarray(value.offset).tolist()]}
        return {name: part(inner) for name, inner in value.items()} if isinstance(value, Mapping) else value

    return json.dumps({name: part(value) for name, value in vars(spec).items()})


def from_text(text: str) -> expfw.DataSpec:
    """The specification that `as_text` made this of."""

    def part(value: Any) -> Any:
        if isinstance(value, list):
            return tuple(value)
        if isinstance(value, dict) and value.keys() == {"affine"}:
            return expfw.Affine(*value["affine"])
        return {name: part(inner) for name, inner in value.items()} if isinstance(value, dict) else value

    return expfw.DataSpec(**{name: part(value) for name, value in json.loads(text).items()})


class SmallData(expfw.Dataset):
    """Random samples of some shape; classes differ in their mean, values are linear in the samples."""

    uses_seed = False

    @dataclass
    class Config:
        spec: str = expfw.option(as_text(expfw.DataSpec((8, 8, 1), 3)), help="the specification, as `as_text` makes it")
        samples: int = expfw.option(32, help="training samples; there are half as many to validate and to test")

    def load(self, seed: int) -> expfw.Splits:
        spec = from_text(self.config.spec)
        half = self.config.samples // 2
        generator = np.random.default_rng(0)
        made = {
            target: _Maker(spec, target, classes, shape, generator)
            for target, (classes, shape) in spec.targets().items()
        }
        return expfw.Splits(spec, *(_split(spec, made, count, generator) for count in (2 * half, half, half)))


class _Maker:
    """Makes one target, and what it adds to the samples or takes from them."""

    def __init__(self, spec: expfw.DataSpec, name: str, classes: Any, shape: Any, generator: np.random.Generator):
        self.classes, self.shape = classes, shape
        self.inputs = _inputs(spec)
        size = sum(math.prod(part) for part in self.inputs.values())
        self.means = {part: generator.normal(size=(classes or 1, *form)) for part, form in self.inputs.items()}
        self.weights = generator.normal(size=(size, math.prod(shape))) / math.sqrt(size)


def _inputs(spec: expfw.DataSpec) -> dict[str, tuple[int, ...]]:
    shapes = spec.input_shape if isinstance(spec.input_shape, Mapping) else {"": spec.input_shape}
    return {name: tuple(shape) for name, shape in shapes.items()}


def _split(
    spec: expfw.DataSpec, makers: Mapping[str, _Maker], count: int, generator: np.random.Generator
) -> expfw.Split:
    inputs = _inputs(spec)
    x = {name: 0.3 * generator.normal(size=(count, *shape)) for name, shape in inputs.items()}
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
