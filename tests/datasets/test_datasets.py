"""Datasets: what they load, and what they say of files that are not what they should be."""

from __future__ import annotations

import gzip

import numpy as np
import pytest
from support.small_datasets import encode_cifar_records, encode_idx

import expfw
from expfw_callbacks.augmenting.image_batches import AugmentedImages
from expfw_datasets.cifar10 import Cifar10, read_records
from expfw_datasets.digits import Digits
from expfw_datasets.files.idx import read_idx
from expfw_datasets.line import Line
from expfw_datasets.mnist import FILE_NAMES, Mnist
from expfw_datasets.noise import Noise

IMAGES = np.arange(50 * 3 * 4).reshape(50, 3, 4) % 256
LABELS = np.arange(50) % 10


@pytest.fixture
def folder(tmp_path):
    for part, array in {
        "train_images": IMAGES,
        "train_labels": LABELS,
        "test_images": IMAGES[:20],
        "test_labels": LABELS[:20],
    }.items():
        (tmp_path / FILE_NAMES[part]).write_bytes(encode_idx(array))
    return tmp_path


def mnist(folder, **options):
    return Mnist(Mnist.Config(str(folder), **options), "mnist")


def test_the_line():
    data = Line(Line.Config(), "line").load(0)
    assert (data.train.x.shape, data.train.y.shape, data.spec.output_shape) == ((10, 1), (10, 1), (1,))
    assert (data.validation, data.test) == (None, None)


def test_digits_are_split_without_overlap_and_the_same_for_every_seed():
    data = Digits(Digits.Config(), "digits").load(0)
    assert [len(data.train), len(data.validation), len(data.test)] == [1294, 144, 359]
    np.testing.assert_array_equal(data.train.x, Digits(Digits.Config(), "digits").load(1).train.x)
    other = Digits(Digits.Config(split_seed=1), "digits").load(0)
    assert not np.array_equal(data.test.y, other.test.y)


@pytest.mark.parametrize("zipped", [False, True])
def test_mnist_gzipped_or_not(folder, zipped):
    if zipped:
        for path in list(folder.iterdir()):
            path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes()))
            path.unlink()
    data = mnist(folder, scaling="unit", validation=0.2).load(0)
    np.testing.assert_allclose(data.train.x[..., 0], IMAGES[:40] / 255, atol=1e-6)
    np.testing.assert_array_equal(data.validation.y, LABELS[40:])
    np.testing.assert_array_equal(data.test.y, LABELS[:20])
    assert (data.train.x.dtype, data.train.y.dtype, data.spec.classes) == (np.float32, np.int32, 10)


def test_standard_scaling_is_the_one_of_the_recipe(folder):
    data = mnist(folder, validation=0).load(0)
    pixels = (IMAGES.reshape(50, -1) / 255 - 0.5) * 2
    expected = (pixels - pixels.mean(axis=0)) / pixels.std()
    np.testing.assert_allclose(data.train.x[:].reshape(50, -1), expected, atol=1e-5)
    assert data.validation is None


def test_preprocessing_makes_the_same_from_raw_pixels(folder):
    data = mnist(folder).load(0)
    np.testing.assert_array_equal(data.spec.preprocessing(IMAGES[:20, ..., np.newaxis]), data.test.x)


def test_a_random_split_is_drawn_by_its_own_seed(folder):
    first, again, other = (mnist(folder, split_by="random", split_seed=s).load(0).validation.x[:] for s in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_identity_changes_with_the_files(folder):
    before = mnist(folder).identity()
    assert before == mnist(folder).identity()
    (folder / FILE_NAMES["test_labels"]).write_bytes(encode_idx(LABELS[:20] * 0))
    assert before != mnist(folder).identity()


GOOD = encode_idx(IMAGES)
BAD = {
    "empty": (b"", "is truncated: 0 bytes"),
    "header only in part": (GOOD[:9], "is truncated: 9 bytes"),
    "truncated": (GOOD[:-1], "is truncated: its header promises 600 bytes (50, 3, 4), 599 are there"),
    "longer": (GOOD + b"x", "holds more than the 600 bytes"),
    "wrong magic": (b"\x89PNG" + GOOD[4:], "begins with 89 50 4e 47; expected 00 00 08 03"),
    "labels for images": (encode_idx(np.arange(600)), "begins with 00 00 08 01; expected 00 00 08 03"),
    "floats": (b"\x00\x00\x0d\x03" + GOOD[4:], "begins with 00 00 0d 03"),
    "claims 4 EB": (GOOD[:4] + b"\xff" * 12 + GOOD[16:], "is truncated"),
    "torn gzip": (gzip.compress(GOOD)[:-20], "is a damaged gzip file"),
    "flipped gzip": (
        gzip.compress(GOOD)[:15] + b"\x00\xff" + gzip.compress(GOOD)[17:],
        "damaged gzip|truncated|begins",
    ),
}


@pytest.mark.parametrize(("content", "expected"), BAD.values(), ids=BAD)
def test_a_bad_idx_file_is_named_with_what_is_wrong(tmp_path, content, expected):
    import re

    path = tmp_path / "images"
    path.write_bytes(content)
    with pytest.raises(expfw.DataError) as caught:
        read_idx(path, dimensions=3)
    assert str(path) in str(caught.value)
    assert expected in str(caught.value) or re.search(expected, str(caught.value))


def test_a_header_that_claims_too_much_costs_no_memory(tmp_path):
    import tracemalloc

    path = tmp_path / "images"
    path.write_bytes(GOOD[:4] + b"\x7f\xff\xff\xff" * 3 + b"x" * 100_000)
    tracemalloc.start()
    with pytest.raises(expfw.DataError, match="is truncated"):
        read_idx(path, dimensions=3)
    assert tracemalloc.get_traced_memory()[1] < 10_000_000
    tracemalloc.stop()


@pytest.mark.parametrize(
    ("part", "array", "expected"),
    [
        ("train_labels", LABELS[:-1], "50 train images but 49 train labels"),
        ("test_images", IMAGES[:20, :2], r"training images are \(3, 4, 1\), test images \(2, 4, 1\)"),
        ("train_images", IMAGES[:0], "0 train images but 50 train labels"),
        ("train_images", IMAGES[:, :0], "train images of 0x4 pixels"),
        ("train_images", IMAGES * 0, "all training values are equal"),
        ("test_labels", LABELS[:20] + 200, "a test label is 209, dataset.classes is 10"),
    ],
)
def test_files_that_do_not_belong_together(folder, part, array, expected):
    (folder / FILE_NAMES[part]).write_bytes(encode_idx(array))
    with pytest.raises(expfw.DataError, match=expected):
        mnist(folder).load(0)


def test_bad_data_are_one_line_and_exit_code_2(folder, expfw_here, workdir):
    (folder / FILE_NAMES["train_images"]).write_bytes(GOOD[:-1])
    done = expfw_here("run", "dataset=mnist", f"dataset.path={folder}", "tracker=[]", "quiet=true")
    assert done.code == 2
    assert done.err.startswith("expfw: ")
    assert "is truncated" in done.err
    assert done.err.count("\n") == 1
    (journal_file,) = workdir.glob("runs/*/*/journal.jsonl")
    assert '"FAILED"' in journal_file.read_text().splitlines()[-1]
    assert not (journal_file.parent / "model").exists()


def test_absent_data_are_found_out_before_anything_is_made(expfw_here, workdir):
    done = expfw_here("run", "dataset=mnist", "dataset.path=nowhere")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "dataset.path=nowhere" in done.err
    assert list(workdir.iterdir()) == []


def test_splits_that_break_the_contract():
    spec = expfw.DataSpec((2,), classes=3)
    x, y = np.zeros((4, 2), np.float32), np.array([0, 1, 2, 0], np.int32)
    wrong = {
        "3 targets": (x, y[:3]),
        "have shape": (x[:, :1], y),
        "0 to 2 for 3 classes": (x, y + 1),
        "train split are of type float64; expected integers, 0 to 2 for 3 classes": (x, y.astype(float)),
        "are of type bool": (x, y > 1),
        "is empty": (x[:0], y[:0]),
    }
    for expected, (bad_x, bad_y) in wrong.items():
        with pytest.raises(expfw.DataError, match=expected):
            expfw.Splits(spec, expfw.Split(bad_x, bad_y))
    with pytest.raises(expfw.DataError, match="validation split"):
        expfw.Splits(spec, expfw.Split(x, y), validation=expfw.Split(x, y[:1]))
    with pytest.raises(expfw.DataError, match="the test split is empty; expected at least one sample, or None"):
        expfw.Splits(spec, expfw.Split(x, y), test=expfw.Split(x[:0], y[:0]))
    with pytest.raises(expfw.DataError, match=r"Split\.y is of type list; expected a NumPy array"):
        expfw.Split(x, [0, 1])
    with pytest.raises(expfw.DataError, match="2 class_names for 3 classes"):
        expfw.DataSpec((2,), classes=3, class_names=("a", "b"))


def test_real_mnist_is_what_the_world_knows(real_data):
    data = mnist(real_data / "mnist", scaling="unit").load(0)
    assert [len(data.train), len(data.validation), len(data.test)] == [54_000, 6_000, 10_000]
    assert data.train.x[:].mean() == pytest.approx(0.1307, abs=2e-3)
    assert list(data.test.y[:5]) == [7, 2, 1, 0, 4]


def test_uncompressed_files_are_mapped_and_preprocessed_when_asked_for(folder):
    data = mnist(folder, scaling="unit").load(0)
    assert isinstance(data.train.x, expfw.Preprocessed)
    assert isinstance(data.train.x.raw.base, np.memmap)
    assert data.train.x.shape == (45, 3, 4, 1)
    np.testing.assert_array_equal(data.train.x[np.array([3, 1])], np.asarray(data.train.x)[[3, 1]])
    np.testing.assert_array_equal(data.train.take(slice(2, 4)).x, data.train.x[2:4])


def archive(path, save=np.savez, **arrays):
    made = np.random.default_rng(0)
    x, y = made.integers(0, 256, (50, 4), np.uint8), made.integers(0, 3, 50)
    save(path, **{"x_train": x, "y_train": y, **arrays})
    return x, y


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz(tmp_path, save):
    x, y = archive(tmp_path / "a.npz", save, x_test=np.ones((2, 4), np.uint8), y_test=np.array([0, 2]))
    data = npz(tmp_path / "a.npz", scaling="unit", validation=0.2, split_by="tail").load(0)
    np.testing.assert_allclose(np.asarray(data.train.x), x[:40] / 255, atol=1e-6)
    np.testing.assert_array_equal(data.validation.y, y[40:])
    assert (data.spec.classes, len(data.test), data.train.y.dtype) == (3, 2, np.int32)
    assert isinstance(data.train.x.raw, np.memmap) == (save is np.savez)


def test_npz_with_values_weights_and_validation_of_its_own(tmp_path):
    values, weight = np.linspace(0, 1, 50), np.linspace(1, 2, 50)
    own = {"x_validation": np.zeros((3, 4)), "y_validation": np.zeros(3)}
    archive(tmp_path / "a.npz", y_train=values, weight_train=weight, **own)
    data = npz(tmp_path / "a.npz").load(0)
    assert (data.spec.classes, data.spec.output_shape, len(data.train), len(data.validation)) == (None, (), 50, 3)
    np.testing.assert_allclose(data.train.weight, weight, rtol=1e-6)


def npz(path, **options):
    from expfw_datasets.npz import Npz

    return Npz(Npz.Config(str(path), **options), "npz")


def test_npz_that_cannot_be_used(tmp_path):
    def refused(match):
        with pytest.raises(expfw.DataError, match=match):
            npz(tmp_path / "a.npz").load(0)

    refused(r"a\.npz: no file /.*a\.npz; expected a \.npz file, as numpy\.savez writes it")
    (tmp_path / "a.npz").write_text("no archive")
    refused(r"is no \.npz file; expected what numpy\.savez writes")
    np.savez(tmp_path / "a.npz", x=np.ones(3))
    refused("has x; expected x_train and y_train")
    archive(tmp_path / "a.npz", x_test=np.ones((2, 4)))
    refused("has x_test without y_test")
    archive(tmp_path / "a.npz", weight_train=np.ones(49))
    refused("weight_train has 49 entries; expected 50, like x_train")
    archive(tmp_path / "a.npz", y_train=np.ones(49))
    refused("y_train has 49 entries; expected 50, like x_train")
    archive(tmp_path / "a.npz", y_train=np.array(3))
    refused(r"y_train has shape \(\); expected at least one sample")
    archive(tmp_path / "a.npz", x_train=np.ones((50, 0)))
    refused(r"x_train has shape \(50, 0\)")
    archive(tmp_path / "a.npz", y_train=np.array(["a"] * 50))
    refused("y_train is of type <U1; expected real numbers")
    archive(tmp_path / "a.npz", y_train=np.array([{}] * 50, object))
    refused("holds Python objects")
    archive(tmp_path / "a.npz")
    whole = (tmp_path / "a.npz").read_bytes()
    (tmp_path / "a.npz").write_bytes(whole[:41] + b"\0" * 60 + whole[101:])
    refused("cannot be read")


def test_points_of_ones_own():
    options = {"x": (1, 2), "y": (3, 4), "x_validation": (5,), "y_validation": (6,)}
    data = Line(Line.Config(**options), "line").load(0)
    assert (data.train.x.tolist(), data.train.y.tolist()) == ([[1], [2]], [[3], [4]])
    assert (data.validation.x.tolist(), data.validation.y.tolist()) == ([[5]], [[6]])
    for wrong in ({"x": (1,)}, {"x": (), "y": ()}, {"x_validation": (1,)}, {"x": (1,), "y": (float("nan"),)}):
        with pytest.raises(ValueError, match="expected"):
            Line.Config(**wrong)


def test_validation_as_a_number_of_samples_and_a_limit_of_the_rest(folder):
    some = mnist(folder, validation=20, limit=7, scaling="unit").load(0)
    whole = mnist(folder, validation=20, scaling="unit").load(0)
    assert [len(split) for split in some.get_splits().values()] == [7, 20, 20]
    np.testing.assert_array_equal(some.train.x, whole.train.x[:7])
    np.testing.assert_array_equal(some.validation.x, whole.validation.x)
    with pytest.raises(expfw.DataError, match="validation=50 leaves none of the 50 training samples"):
        mnist(folder, validation=50).load(0)
    for wrong in (
        {"validation": 1.5},
        {"validation": -1},
        {"validation": float("nan")},
        {"limit": 0},
        {"labels": (1,)},
        {"labels": (1, 1)},
    ):
        with pytest.raises(ValueError, match="expected"):
            mnist(folder, **wrong)
    with pytest.raises(ValueError, match="two or more of 0 to 9"):
        mnist(folder, labels=(9, 10))


def test_some_labels_are_renumbered(folder):
    data = mnist(folder, labels=(7, 2), scaling="unit", validation=0).load(0)
    assert data.spec.class_names == ("7", "2")
    assert data.spec.classes == 2
    assert len(data.train) == 10
    rows = np.flatnonzero((LABELS == 7) | (LABELS == 2))
    np.testing.assert_array_equal(data.train.y, LABELS[rows] == 2)
    np.testing.assert_allclose(data.train.x[..., 0], IMAGES[rows] / 255, atol=1e-6)


COLOURS = np.random.default_rng(0).integers(0, 256, (30, 32, 32, 3), dtype=np.uint8)
TEN = np.arange(30, dtype=np.uint8) % 10


def cifar(folder, **options):
    return Cifar10(Cifar10.Config(str(folder), **options), "cifar10")


@pytest.mark.parametrize("zipped", [False, True])
def test_cifar_reads_as_many_files_as_there_are(tmp_path, zipped):
    for name, rows in (("data_batch_1", slice(0, 10)), ("data_batch_4", slice(10, 20)), ("test_batch", slice(20, 30))):
        body = encode_cifar_records(COLOURS[rows], TEN[rows])
        path = tmp_path / (name + (".bin.gz" if zipped else ".bin"))
        path.write_bytes(gzip.compress(body) if zipped else body)
    data = cifar(tmp_path, scaling="unit", validation=5).load(0)
    assert [len(split) for split in data.get_splits().values()] == [15, 5, 10]
    assert (data.spec.input_shape, data.spec.classes, data.spec.class_names[6]) == ((32, 32, 3), 10, "frog")
    np.testing.assert_allclose(data.train.x[:], COLOURS[:15] / 255, atol=1e-6)
    np.testing.assert_array_equal(data.test.y, TEN[20:])
    assert set(cifar(tmp_path).identity()) == {path.name for path in tmp_path.iterdir()}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", "holds 0 bytes"),
        (encode_cifar_records(COLOURS[:2], TEN[:2])[:-1], "holds 6,145 bytes; expected 1 to 60,000 records of 3,073"),
        (encode_cifar_records(COLOURS[:1], TEN[:1] + 10), "has the label 10"),
        (gzip.compress(encode_cifar_records(COLOURS, TEN))[:-9], "damaged gzip file"),
    ],
)
def test_a_file_that_is_not_cifar(tmp_path, body, expected):
    (tmp_path / "a.bin").write_bytes(body)
    with pytest.raises(expfw.DataError, match=expected):
        read_records(tmp_path / "a.bin")


def test_cifar_files_that_are_absent(tmp_path):
    with pytest.raises(expfw.DataError, match=r"no data_batch_1\.bin"):
        cifar(tmp_path).load(0)
    (tmp_path / "data_batch_2.bin").write_bytes(encode_cifar_records(COLOURS, TEN))
    with pytest.raises(expfw.DataError, match=r"no test_batch\.bin"):
        cifar(tmp_path).load(0)


def test_real_cifar(real_data):
    data = cifar(real_data / "cifar10").load(0)
    assert [len(split) for split in data.get_splits().values()] == [9000, 1000, 1000]
    assert data.train.x[:100].std() == pytest.approx(1, abs=0.1)


def test_noise_has_the_shape_that_is_asked_for():
    data = Noise(Noise.Config(shape=(9, 8, 2), classes=3, samples=8), "noise").load(0)
    assert (data.train.x.shape, data.validation.x.shape, data.spec.classes) == ((8, 9, 8, 2), (2, 9, 8, 2), 3)
    with pytest.raises(ValueError, match="height, width and channels"):
        Noise.Config(shape=(3,))


PIXELS = np.random.default_rng(1).integers(0, 256, (12, 6, 5, 1), dtype=np.uint8)


@pytest.mark.parametrize("raw", [False, True])
def test_augmented_images_are_the_images_and_moved_copies(raw):
    ground = np.random.default_rng(2).integers(-9, 9, (6, 5, 1)).astype(np.float32)
    affine = expfw.AffineScaling(scale=2.0, offset=ground)
    images = expfw.Preprocessed(PIXELS, affine, np.arange(10)[::-1]) if raw else affine(PIXELS[:10][::-1])
    made = AugmentedImages(images, copies=3, shift=2, mirror=False, seed=4, background=ground)
    assert made.shape == (40, 6, 5, 1)
    np.testing.assert_array_equal(made[:10], images[:])
    for row in range(10, 40):
        down, right = made.shift_down[row], made.shift_right[row]
        padded = np.pad(PIXELS[9 - row % 10], ((2, 2), (2, 2), (0, 0)), mode="edge")
        np.testing.assert_array_equal(made[row], affine(padded[2 - down : 8 - down, 2 - right : 7 - right]))
    assert {-2, -1, 0, 1, 2} <= set(made.shift_down)
    np.testing.assert_array_equal(made[:], made[np.arange(40)])
    np.testing.assert_array_equal(made[np.array([39, 3])], np.stack([made[39], made[3]]))
    np.testing.assert_array_equal(made[:], AugmentedImages(images, 3, 2, False, 4, ground)[:])
    assert not np.array_equal(made[:], AugmentedImages(images, 3, 2, False, 5, ground)[:])


def test_half_of_the_copies_are_mirrored_where_asked_for():
    made = AugmentedImages(PIXELS, copies=40, shift=0, mirror=True, seed=0)
    mirrored = [np.array_equal(made[row], PIXELS[row % 12, :, ::-1]) for row in range(12, len(made))]
    same = [np.array_equal(made[row], PIXELS[row % 12]) for row in range(12, len(made))]
    assert all(a or b for a, b in zip(mirrored, same, strict=True))
    assert 180 < sum(mirrored) < 300


def test_augmentation_wraps_whatever_dataset(train):
    from support.equal_metrics import read_metrics

    copies = ("callback=[augmentation]", "callback.augmentation.copies=2", "train.epochs=1", "model=perceptron")
    once, again = (train("dataset=digits", *copies) for _ in range(2))
    assert once.steps == -(-3 * 1294 // 64)
    assert read_metrics(once.folder) == read_metrics(again.folder)
    for elsewhere in ("backend.resident_limit=0", "cache_gib=0"):
        assert read_metrics(train("dataset=digits", *copies, elsewhere).folder) == read_metrics(once.folder)
    with pytest.raises(expfw.DataError, match="callback=augmentation moves images"):
        train("dataset=line", "model=ols", "callback=[augmentation]")
