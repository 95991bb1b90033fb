"""Datasets: loaded data, and errors for invalid files and options."""

from __future__ import annotations

import gzip

import numpy as np
import pytest
from support.equal_metrics import read_metrics
from support.small_datasets import encode_cifar_records, encode_idx

import expfw
from expfw.api.option_schema import build_instance
from expfw_callbacks.augmentation import AugmentedImages
from expfw_datasets.cifar10 import Cifar10, read_records
from expfw_datasets.digits import Digits
from expfw_datasets.line import Line
from expfw_datasets.mnist import FILE_NAMES, Mnist
from expfw_datasets.noise import Noise
from expfw_datasets.npz import Npz

IMAGES = np.arange(50 * 3 * 4).reshape(50, 3, 4) % 256
LABELS = np.arange(50) % 10


@pytest.fixture
def folder(tmp_path):
    parts = {"train_images": IMAGES, "train_labels": LABELS, "test_images": IMAGES[:20], "test_labels": LABELS[:20]}
    for part, array in parts.items():
        (tmp_path / FILE_NAMES[part]).write_bytes(encode_idx(array))
    return tmp_path


def make(kind, path=None, **options):
    if path is not None:
        options["path"] = str(path)
    return kind(kind.Config(**options), kind.__name__.lower())


def load(kind, path=None, seed=0, **options):
    return make(kind, path, **options).load(seed)


def count_samples(data):
    return [len(split) for split in data.get_splits().values()]


def compress_files(folder):
    for path in list(folder.iterdir()):
        path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()


def test_the_split_of_digits_depends_on_split_seed_only():
    data = load(Digits)
    assert count_samples(data) == [1294, 144, 359]
    np.testing.assert_array_equal(data.train.x, load(Digits, seed=1).train.x)
    assert not np.array_equal(data.test.y, load(Digits, split_seed=1).test.y)


@pytest.mark.parametrize("zipped", [False, True])
def test_mnist_reads_plain_and_gzipped_files(folder, zipped):
    if zipped:
        compress_files(folder)
    data = load(Mnist, folder, scaling="unit", validation=0.2)
    np.testing.assert_allclose(data.train.x[..., 0], IMAGES[:40] / 255, atol=1e-6)
    np.testing.assert_array_equal(data.validation.y, LABELS[40:])
    np.testing.assert_array_equal(data.test.y, LABELS[:20])
    assert (data.train.x.dtype, data.train.y.dtype, data.spec.classes) == (np.float32, np.int32, 10)


def test_standard_scaling_is_that_of_the_recipe_and_also_for_raw_pixels(folder):
    data = load(Mnist, folder, validation=0)
    pixels = (IMAGES.reshape(50, -1) / 255 - 0.5) * 2
    expected = (pixels - pixels.mean(axis=0)) / pixels.std()
    np.testing.assert_allclose(data.train.x[:].reshape(50, -1), expected, atol=1e-5)
    assert data.validation is None
    np.testing.assert_array_equal(data.spec.preprocessing(IMAGES[:20, ..., np.newaxis]), data.test.x)


def test_identity_changes_with_the_files(folder):
    before = make(Mnist, folder).identity()
    assert before == make(Mnist, folder).identity()
    (folder / FILE_NAMES["test_labels"]).write_bytes(encode_idx(LABELS[:20] * 0))
    assert before != make(Mnist, folder).identity()


GOOD = encode_idx(IMAGES)
COLOURS = np.random.default_rng(0).integers(0, 256, (30, 32, 32, 3), dtype=np.uint8)
TEN = np.arange(30, dtype=np.uint8) % 10
CIFAR = encode_cifar_records(COLOURS, TEN)


def read_images(path):
    return expfw.read_idx(path, dimensions=3)


BAD_FILES = [
    (read_images, b"", "is truncated: 0 bytes"),
    (read_images, GOOD[:9], "is truncated: 9 bytes"),
    (read_images, GOOD[:-1], "declares 600 bytes, shape (50, 3, 4); found 599; download it again"),
    (read_images, GOOD + b"x", "declares 600 bytes, shape (50, 3, 4); found more"),
    (read_images, b"\x89PNG" + GOOD[4:], "begins with 89 50 4e 47; expected 00 00 08 03"),
    (read_images, encode_idx(np.arange(600)), "begins with 00 00 08 01; expected 00 00 08 03"),
    (read_images, b"\x00\x00\x0d\x03" + GOOD[4:], "begins with 00 00 0d 03"),  # floats
    (read_images, GOOD[:4] + b"\xff" * 12 + GOOD[16:], "is truncated"),  # declares 4 EB
    (read_images, gzip.compress(GOOD)[:-20], "is a damaged gzip file"),
    (read_records, b"", "contains 0 bytes"),
    (read_records, CIFAR[: 2 * 3073 - 1], "6,145 bytes; expected 1 to 60,000 records of 3,073"),
    (read_records, encode_cifar_records(COLOURS[:1], TEN[:1] + 10), "has the label 10"),
    (read_records, gzip.compress(CIFAR)[:-9], "damaged gzip file"),
]


@pytest.mark.parametrize(("read", "content", "expected"), BAD_FILES, ids=[expected for _, _, expected in BAD_FILES])
def test_the_error_for_a_damaged_file_names_file_and_problem(tmp_path, read, content, expected):
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(expfw.DataError) as caught:
        read(tmp_path / "file")
    assert str(tmp_path / "file") in str(caught.value)
    assert expected in str(caught.value)


@pytest.mark.parametrize(
    ("part", "array", "expected"),
    [
        ("train_labels", LABELS[:-1], "50 train images but 49 train labels"),
        ("test_images", IMAGES[:20, :2], r"training images are \(3, 4, 1\), test images \(2, 4, 1\)"),
        ("train_images", IMAGES[:0], "0 train images but 50 train labels"),
        ("train_images", IMAGES[:, :0], "train images of 0x4 pixels"),
        ("train_images", IMAGES * 0, "all training values are equal"),
        ("test_labels", LABELS[:20] + 200, "a test label is 209, but dataset.classes is 10"),
    ],
)
def test_inconsistent_mnist_files_are_rejected(folder, part, array, expected):
    (folder / FILE_NAMES[part]).write_bytes(encode_idx(array))
    with pytest.raises(expfw.DataError, match=expected):
        load(Mnist, folder)


def test_damaged_data_is_a_one_line_error_with_exit_code_2(folder, expfw_here, workdir):
    (folder / FILE_NAMES["train_images"]).write_bytes(GOOD[:-1])
    done = expfw_here("run", "dataset=mnist", f"dataset.path={folder}", "tracker=[]", "quiet=true")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert done.err.startswith("expfw: ")
    assert "is truncated" in done.err
    (journal_file,) = workdir.glob("runs/*/*/journal.jsonl")
    assert '"FAILED"' in journal_file.read_text().splitlines()[-1]
    assert not (journal_file.parent / "model").exists()


def test_missing_data_is_an_error_before_any_file_is_written(expfw_here, workdir):
    done = expfw_here("run", "dataset=mnist", "dataset.path=nowhere")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "dataset.path=nowhere" in done.err
    assert list(workdir.iterdir()) == []


X, Y = np.zeros((4, 2), np.float32), np.array([0, 1, 2, 0], np.int32)


@pytest.mark.parametrize(
    ("x", "y", "expected"),
    [
        (X, Y[:3], "the NAME split has 4 samples but 3 targets"),
        (X[:, :1], Y, "the NAME split have shape"),
        (X, Y + 1, "the NAME split range from 1 to 3; expected 0 to 2 for 3 classes"),
        (X, Y.astype(float), "the NAME split are of type float64; expected integers, 0 to 2 for 3 classes"),
        (X, Y > 1, "the NAME split are of type bool"),
        (X[:0], Y[:0], "the NAME split is empty; expected at least one sample, or None"),
    ],
)
@pytest.mark.parametrize("name", ["train", "validation", "test"])
def test_invalid_splits_are_rejected(x, y, expected, name):
    splits = {"train": expfw.Split(X, Y)} | {name: expfw.Split(x, y)}
    with pytest.raises(expfw.DataError, match=expected.replace("NAME", name)):
        expfw.Splits(expfw.DataSpec((2,), classes=3), **splits)


def test_invalid_arrays_and_class_names_are_rejected():
    with pytest.raises(expfw.DataError, match=r"Split\.y is of type list; expected a NumPy array"):
        expfw.Split(X, [0, 1])
    with pytest.raises(expfw.DataError, match="2 class_names for 3 classes"):
        expfw.DataSpec((2,), classes=3, class_names=("a", "b"))


def test_uncompressed_files_are_memory_mapped_and_preprocessed_when_read(folder):
    data = load(Mnist, folder, scaling="unit")
    assert isinstance(data.train.x, expfw.Preprocessed)
    assert isinstance(data.train.x.raw.base, np.memmap)
    assert data.train.x.shape == (45, 3, 4, 1)
    np.testing.assert_array_equal(data.train.x[np.array([3, 1])], np.asarray(data.train.x)[[3, 1]])
    np.testing.assert_array_equal(data.train.take(slice(2, 4)).x, data.train.x[2:4])


def archive(path, save=np.savez, **arrays):
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (50, 4), np.uint8), rng.integers(0, 3, 50)
    save(path, **{"x_train": x, "y_train": y, **arrays})
    return x, y


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_reads_compressed_and_uncompressed_archives(tmp_path, save):
    x, y = archive(tmp_path / "a.npz", save, x_test=np.ones((2, 4), np.uint8), y_test=np.array([0, 2]))
    data = load(Npz, tmp_path / "a.npz", scaling="unit", validation=0.2, split_by="tail")
    np.testing.assert_allclose(np.asarray(data.train.x), x[:40] / 255, atol=1e-6)
    np.testing.assert_array_equal(data.validation.y, y[40:])
    assert (data.spec.classes, len(data.test), data.train.y.dtype) == (3, 2, np.int32)
    assert isinstance(data.train.x.raw, np.memmap) == (save is np.savez)


def test_npz_with_values_weights_and_a_validation_split(tmp_path):
    values, weight = np.linspace(0, 1, 50), np.linspace(1, 2, 50)
    validation = {"x_validation": np.zeros((3, 4)), "y_validation": np.zeros(3)}
    archive(tmp_path / "a.npz", y_train=values, weight_train=weight, **validation)
    data = load(Npz, tmp_path / "a.npz")
    assert (data.spec.classes, data.spec.output_shape, len(data.train), len(data.validation)) == (None, (), 50, 3)
    np.testing.assert_allclose(data.train.weight, weight, rtol=1e-6)


@pytest.mark.parametrize(
    ("arrays", "expected"),
    [
        ({"x_test": np.ones((2, 4))}, "has x_test without y_test"),
        ({"weight_train": np.ones(49)}, "weight_train has 49 entries; expected 50, as in x_train"),
        ({"y_train": np.ones(49)}, "y_train has 49 entries; expected 50, as in x_train"),
        ({"y_train": np.array(3)}, r"y_train has shape \(\); expected at least one sample"),
        ({"x_train": np.ones((50, 0))}, r"x_train has shape \(50, 0\)"),
        ({"y_train": np.array(["a"] * 50)}, "y_train has type <U1; expected real numbers"),
        ({"y_train": np.array([{}] * 50, object)}, "contains Python objects"),
    ],
)
def test_invalid_arrays_in_an_npz_file_are_rejected(tmp_path, arrays, expected):
    archive(tmp_path / "a.npz", **arrays)
    with pytest.raises(expfw.DataError, match=expected):
        load(Npz, tmp_path / "a.npz")


def test_an_invalid_npz_file_is_rejected(tmp_path):
    path = tmp_path / "a.npz"
    with pytest.raises(expfw.DataError, match=r"no file /.*a\.npz; expected a \.npz file written by numpy\.savez"):
        load(Npz, path)
    np.savez(path, x=np.ones(3))
    with pytest.raises(expfw.DataError, match="has x; expected x_train and y_train"):
        load(Npz, path)
    archive(path)
    zeros = path.read_bytes()[:41] + b"\0" * 60 + path.read_bytes()[101:]
    for content, expected in ((b"no archive", r"is not a \.npz file; expected a \.npz file"), (zeros, "cannot read")):
        path.write_bytes(content)
        with pytest.raises(expfw.DataError, match=expected):
            load(Npz, path)


def test_line_has_ten_training_points_or_those_of_its_options():
    data = load(Line)
    assert (data.train.x.shape, data.train.y.shape, data.spec.output_shape) == ((10, 1), (10, 1), (1,))
    assert (data.validation, data.test) == (None, None)
    options = {"x": (1, 2), "y": (3, 4), "x_validation": (5,), "y_validation": (6,)}
    data = load(Line, **options)
    assert (data.train.x.tolist(), data.train.y.tolist()) == ([[1], [2]], [[3], [4]])
    assert (data.validation.x.tolist(), data.validation.y.tolist()) == ([[5]], [[6]])
    for wrong in ({"x": (1,)}, {"x": (), "y": ()}, {"x_validation": (1,)}, {"x": (1,), "y": (float("nan"),)}):
        with pytest.raises(ValueError, match="expected"):
            Line.Config(**wrong)


def test_validation_may_be_a_number_and_limit_applies_to_the_training_samples(folder):
    limited = load(Mnist, folder, validation=20, limit=7, scaling="unit")
    complete = load(Mnist, folder, validation=20, scaling="unit")
    assert count_samples(limited) == [7, 20, 20]
    np.testing.assert_array_equal(limited.train.x, complete.train.x[:7])
    np.testing.assert_array_equal(limited.validation.x, complete.validation.x)
    with pytest.raises(expfw.DataError, match="validation=50 leaves none of the 50 samples for training"):
        load(Mnist, folder, validation=50)
    wrong_options = [{"validation": value} for value in (1.5, -1, float("nan"))]
    for wrong in (*wrong_options, {"limit": 0}, {"labels": (1,)}, {"labels": (1, 1)}):
        with pytest.raises(expfw.ConfigError, match="expected"):
            build_instance(Mnist.Config, {"path": str(folder), **wrong}, "dataset")
    with pytest.raises(ValueError, match="two or more different labels from 0 to 9"):
        load(Mnist, folder, labels=(9, 10))


def test_selected_labels_are_renumbered(folder):
    data = load(Mnist, folder, labels=(7, 2), scaling="unit", validation=0)
    assert (data.spec.class_names, data.spec.classes, len(data.train)) == (("7", "2"), 2, 10)
    rows = np.flatnonzero((LABELS == 7) | (LABELS == 2))
    np.testing.assert_array_equal(data.train.y, LABELS[rows] == 2)
    np.testing.assert_allclose(data.train.x[..., 0], IMAGES[rows] / 255, atol=1e-6)


@pytest.mark.parametrize("zipped", [False, True])
def test_cifar_reads_the_available_training_files(tmp_path, zipped):
    for name, rows in (("data_batch_1", slice(0, 10)), ("data_batch_4", slice(10, 20)), ("test_batch", slice(20, 30))):
        body = encode_cifar_records(COLOURS[rows], TEN[rows])
        (tmp_path / f"{name}.bin").write_bytes(body)
    if zipped:
        compress_files(tmp_path)
    data = load(Cifar10, tmp_path, scaling="unit", validation=5)
    assert count_samples(data) == [15, 5, 10]
    assert (data.spec.input_shape, data.spec.classes, data.spec.class_names[6]) == ((32, 32, 3), 10, "frog")
    np.testing.assert_allclose(data.train.x[:], COLOURS[:15] / 255, atol=1e-6)
    np.testing.assert_array_equal(data.test.y, TEN[20:])
    assert set(make(Cifar10, tmp_path).identity()) == {path.name for path in tmp_path.iterdir()}


def test_missing_cifar_files_are_named(tmp_path):
    with pytest.raises(expfw.DataError, match=r"no data_batch_1\.bin"):
        load(Cifar10, tmp_path)
    (tmp_path / "data_batch_2.bin").write_bytes(encode_cifar_records(COLOURS, TEN))
    with pytest.raises(expfw.DataError, match=r"no test_batch\.bin"):
        load(Cifar10, tmp_path)


def test_real_data_has_its_known_sizes_mean_and_labels(real_data):
    mnist, cifar = load(Mnist, real_data / "mnist", scaling="unit"), load(Cifar10, real_data / "cifar10")
    assert (count_samples(mnist), count_samples(cifar)) == ([54_000, 6_000, 10_000], [9000, 1000, 1000])
    assert mnist.train.x[:].mean() == pytest.approx(0.1307, abs=2e-3)
    assert list(mnist.test.y[:5]) == [7, 2, 1, 0, 4]
    assert cifar.train.x[:100].std() == pytest.approx(1, abs=0.1)


def test_noise_has_the_configured_shape():
    data = load(Noise, shape=(9, 8, 2), classes=3, samples=8)
    assert (data.train.x.shape, data.validation.x.shape, data.spec.classes) == ((8, 9, 8, 2), (2, 9, 8, 2), 3)
    with pytest.raises(ValueError, match="height, width and channels"):
        Noise.Config(shape=(3,))


PIXELS = np.random.default_rng(1).integers(0, 256, (12, 6, 5, 1), dtype=np.uint8)


@pytest.mark.parametrize("raw", [False, True])
def test_augmented_images_are_the_images_and_shifted_copies(raw):
    background = np.random.default_rng(2).integers(-9, 9, (6, 5, 1)).astype(np.float32)
    affine = expfw.AffineScaling(scale=2.0, offset=background)
    images = expfw.Preprocessed(PIXELS, affine, np.arange(10)[::-1]) if raw else affine(PIXELS[:10][::-1])
    augmented = AugmentedImages(images, copies=3, shift=2, mirror=False, seed=4, background=background)
    assert augmented.shape == (40, 6, 5, 1)
    np.testing.assert_array_equal(augmented[:10], images[:])
    for row in range(10, 40):
        down, right = augmented.shift_down[row], augmented.shift_right[row]
        padded = np.pad(PIXELS[9 - row % 10], ((2, 2), (2, 2), (0, 0)), mode="edge")
        np.testing.assert_array_equal(augmented[row], affine(padded[2 - down : 8 - down, 2 - right : 7 - right]))
    assert {-2, -1, 0, 1, 2} <= set(augmented.shift_down)
    np.testing.assert_array_equal(augmented[:], augmented[np.arange(40)])
    np.testing.assert_array_equal(augmented[np.array([39, 3])], np.stack([augmented[39], augmented[3]]))
    np.testing.assert_array_equal(augmented[:], AugmentedImages(images, 3, 2, False, 4, background)[:])
    assert not np.array_equal(augmented[:], AugmentedImages(images, 3, 2, False, 5, background)[:])


def test_half_of_the_copies_are_mirrored_if_configured():
    augmented = AugmentedImages(PIXELS, copies=40, shift=0, mirror=True, seed=0)
    mirrored = [np.array_equal(augmented[row], PIXELS[row % 12, :, ::-1]) for row in range(12, len(augmented))]
    same = [np.array_equal(augmented[row], PIXELS[row % 12]) for row in range(12, len(augmented))]
    assert all(a or b for a, b in zip(mirrored, same, strict=True))
    assert 180 < sum(mirrored) < 300


def test_augmentation_wraps_any_image_dataset(train):
    copies = ("callback=[augmentation]", "callback.augmentation.copies=2", "train.epochs=1", "model=perceptron")
    first, second = (train("dataset=digits", *copies) for _ in range(2))
    assert first.steps == -(-3 * 1294 // 64)
    assert read_metrics(first.folder) == read_metrics(second.folder)
    for option in ("backend.resident_limit=0", "cache_gib=0"):
        assert read_metrics(train("dataset=digits", *copies, option).folder) == read_metrics(first.folder)
    with pytest.raises(expfw.DataError, match="callback=augmentation: the samples have shape"):
        train("dataset=line", "model=ols", "callback=[augmentation]")
