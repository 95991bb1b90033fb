"""All recipes: source, command and check."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import images
import layers
import lines
from rows import Row

if TYPE_CHECKING:
    from session import Session


@dataclass(frozen=True)
class Recipe:
    source: str
    command: str
    check: Callable[[Session, list[str]], list[Row]]


_MNIST_OVERRIDE = "dataset.path=FOLDER_WITH_MNIST"
_ACTIVATIONS = "logistic,tanh,relu,leaky_relu,elu,linear,unit_step,sign,piecewise_linear,softmax"
RECIPES = {
    "ols": Recipe("NTHU EE3700, chapter-13 notebook", "expfw run experiment=ols", lines.check_ols),
    "linear_lab": Recipe("UChicago labs 3 and 4", "expfw run experiment=linear_lab", lines.check_linear_lab),
    "linear_lab_eval": Recipe("UChicago lab 5", "expfw run experiment=linear_lab_eval", lines.check_linear_lab_eval),
    "polynomial": Recipe(
        "UChicago equations 1 to 6",
        "expfw sweep experiment=polynomial model.degree=1,2,3,4,5,6,8,10,12",
        lines.check_polynomial,
    ),
    "polynomial_samples": Recipe(
        "UChicago equations 1 to 6",
        "expfw sweep experiment=polynomial_samples dataset.limit=10,15,20,30,50,80,140",
        lines.check_polynomial_samples,
    ),
    "perceptron": Recipe(
        "NTU, UChicago lab 6", f"expfw run experiment=perceptron {_MNIST_OVERRIDE}", layers.check_perceptron
    ),
    "perceptron_mean": Recipe(
        "NTU", f"expfw run experiment=perceptron_mean {_MNIST_OVERRIDE}", layers.check_perceptron_mean
    ),
    "mlp_layers": Recipe(
        "NTHU EE3700, chapter-13 notebook",
        f"expfw run experiment=mlp_layers {_MNIST_OVERRIDE}",
        layers.check_mlp_layers,
    ),
    "mlp_keras": Recipe(
        "NTHU EE3700, chapter-13 notebook", f"expfw run experiment=mlp_keras {_MNIST_OVERRIDE}", layers.check_mlp_keras
    ),
    "cnn": Recipe("UChicago lab 7, NTU, Purdue", f"expfw run experiment=cnn {_MNIST_OVERRIDE}", images.check_cnn),
    "cnn_early_stopping": Recipe(
        "NTU", f"expfw run experiment=cnn_early_stopping {_MNIST_OVERRIDE}", images.check_cnn_early_stopping
    ),
    "cnn_multi_device": Recipe(
        "NTU, Purdue",
        f"expfw run experiment=cnn_multi_device backend.cpus=2 {_MNIST_OVERRIDE}",
        images.check_cnn_multi_device,
    ),
    "cnn_batch_norm": Recipe(
        "Purdue", f"expfw run experiment=cnn_batch_norm {_MNIST_OVERRIDE}", images.check_cnn_batch_norm
    ),
    "alexnet": Recipe("Purdue", "expfw show experiment=alexnet", images.check_alexnet),
    "alexnet_small": Recipe(
        "Purdue", f"expfw run experiment=alexnet_small {_MNIST_OVERRIDE}", images.check_alexnet_small
    ),
    "alexnet_small_cifar10": Recipe(
        "Purdue",
        "expfw run experiment=alexnet_small_cifar10 dataset.path=FOLDER_WITH_CIFAR10",
        images.check_alexnet_small_cifar10,
    ),
    "activations": Recipe(
        "NTHU EE3700, chapter-13 notebook, UChicago",
        f"expfw sweep experiment=activations model.activation={_ACTIVATIONS}",
        layers.check_activations,
    ),
    "transfer": Recipe(
        "UChicago",
        f"expfw run experiment=transfer {_MNIST_OVERRIDE} callback.transfer.model=FOLDER_OF_THE_RUN_OF_TRANSFER_SOURCE",
        images.check_transfer,
    ),
    "gradient_parts": Recipe("NTU", "expfw run experiment=gradient_parts", layers.check_gradient_parts),
    "cnn_augmented": Recipe(
        "our own", f"expfw run experiment=cnn_augmented {_MNIST_OVERRIDE}", images.check_cnn_augmented
    ),
}
