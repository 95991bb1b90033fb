"""Small files in the formats of MNIST and CIFAR-10, from the digits of scikit-learn."""

from __future__ import annotations

import numpy as np

from expfw_datasets.mnist import FILE_NAMES


def encode_idx(array):
    header = bytes((0, 0, 8, array.ndim)) + b"".join(n.to_bytes(4, "big") for n in array.shape)
    return header + array.astype(np.uint8).tobytes()


def make_digit_images():
    """Returns 1,797 digits of 24x24 pixels, centred in 28x28, and their labels."""
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    larger = np.kron(pixels.reshape(-1, 8, 8) * 15, np.ones((3, 3)))
    return np.pad(larger, ((0, 0), (2, 2), (2, 2))).astype(np.uint8), labels


def write_mnist(folder):
    """Writes the four files: 1,400 training images and 397 test images."""
    folder.mkdir(parents=True, exist_ok=True)
    pixels, labels = make_digit_images()
    parts = {"train_images": pixels[:1400], "train_labels": labels[:1400]}
    parts |= {"test_images": pixels[1400:], "test_labels": labels[1400:]}
    for part, array in parts.items():
        (folder / FILE_NAMES[part]).write_bytes(encode_idx(array))
    return folder


def encode_cifar_records(pixels, labels):
    """Encodes images, `(n, 32, 32, 3)`, as records of the binary version of CIFAR-10."""
    planes = pixels.transpose(0, 3, 1, 2).reshape(len(pixels), -1)
    return np.concatenate([labels.reshape(-1, 1), planes], axis=1).astype(np.uint8).tobytes()


def write_cifar(folder):
    """Writes coloured digits: one training file and one test file."""
    folder.mkdir(parents=True, exist_ok=True)
    pixels, labels = make_digit_images()
    coloured = np.pad(pixels, ((0, 0), (2, 2), (2, 2)))[..., np.newaxis] // np.array([1, 2, 3], np.uint8)
    (folder / "data_batch_1.bin").write_bytes(encode_cifar_records(coloured[:600], labels[:600]))
    (folder / "test_batch.bin").write_bytes(encode_cifar_records(coloured[600:700], labels[600:700]))
    return folder
