"""Softmax regression."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import expfw
from expfw_models.building_blocks.network_options import get_class_count, shared_option

if TYPE_CHECKING:
    import tensorflow as tf


class Perceptron(expfw.Model):
    """One layer and a softmax, in low-level TensorFlow, with initial weights 0 and cross-entropy; for classification.

    The softmax regression of NTU and UChicago. With learning rate 0.5 and batches of 100 it reaches 91 % on MNIST in
    1,000 steps.
    """

    @dataclass
    class Config:
        mean_over_outputs: bool = expfw.option(
            False, help="divide the loss by the number of classes (the mean over all outputs, as in NTU's document)"
        )
        l2: float = shared_option("l2", 0.0)
        optimizer: expfw.Optimizer = shared_option("optimizer", expfw.Optimizer("sgd", 0.5))

    def build(self, data: expfw.DataSpec) -> tf.Module:
        import math

        import tensorflow as tf

        from expfw_models.building_blocks.initializers import make_optimizer
        from expfw_models.building_blocks.low_level import DenseClassifier

        options, classes = self.config, get_class_count(data, self.name)
        weights = [tf.zeros((math.prod(data.single_input(self.name)), classes))]
        divisor = classes if options.mean_over_outputs else 1
        return DenseClassifier(make_optimizer(options.optimizer), weights, l2=options.l2, loss_divisor=divisor)
