"""Cache of preprocessed data: hits, keys, damaged entries, eviction."""

from __future__ import annotations

import os
import time
from unittest import mock

import numpy as np
import pytest
from support.equal_metrics import assert_equal_metrics, read_metrics

import expfw
from expfw.api import data_cache, data_files
from expfw.api.data_files import read_splits, write_splits
from expfw_datasets.digits import Digits
from expfw_datasets.mnist import Mnist

RAW = np.arange(5000 * 4, dtype=np.uint8).reshape(5000, 4)


def splits(**parts):
    spec = expfw.DataSpec((4,), classes=7, preprocessing=expfw.AffineScaling(0.5, np.arange(4, dtype=np.float32)))
    rows = np.random.default_rng(0).permutation(5000)
    y = (RAW[:, 0] % 7).astype(np.int32)
    train = expfw.Split(expfw.Preprocessed(RAW, spec.preprocessing, rows), y[rows])
    return expfw.Splits(spec, train, **parts)


def same(one, other):
    assert one.get_splits().keys() == other.get_splits().keys()
    for name, split in one.get_splits().items():
        for part, array in split.arrays().items():
            np.testing.assert_array_equal(np.asarray(array), np.asarray(other.get_splits()[name].arrays()[part]))


def test_written_splits_are_memory_mapped(tmp_path):
    x = {"a": np.ones((3, 2), np.float32), "b": np.zeros((3,), np.float32)}
    preprocessing = {"a": expfw.AffineScaling(2.0), "b": expfw.AffineScaling()}
    spec = expfw.DataSpec({"a": (2,), "b": ()}, {"c": 2}, preprocessing=preprocessing)
    named = expfw.Split(x, {"c": np.array([0, 1, 1], np.int32)}, np.array([1, 2, 3], np.float32))
    named_raw = {"a": np.ones((1, 2)), "b": np.ones(1)}
    for data, raw, part in ((splits(), RAW[:3], "y"), (expfw.Splits(spec, named), named_raw, "weight")):
        folder = tmp_path / part
        folder.mkdir()
        write_splits(data, folder)
        again = read_splits(folder)
        same(data, again)
        assert all(isinstance(array, np.memmap) for array in again.train.arrays().values())
        np.testing.assert_equal(again.spec.preprocess(raw), data.spec.preprocess(raw))
        again.train.arrays()[part][0] = 5  # a plugin may write; the file does not change
        same(data, read_splits(folder))


def test_the_second_load_uses_the_cache(tmp_path):
    load = mock.Mock(side_effect=splits)
    first, again = (data_cache.load_with_cache(load, "k", tmp_path, limit_gib=1) for _ in range(2))
    assert load.call_count == 1
    same(first, again)
    for key, limit_gib in (("other", 1), (None, 1), ("k", 0)):
        data_cache.load_with_cache(load, key, tmp_path, limit_gib)
    assert load.call_count == 4
    assert sorted(os.listdir(tmp_path / data_cache.FOLDER)) == ["k", "other"]


def test_arrays_are_written_with_their_declared_dtype(tmp_path):
    """Also if slices have another dtype than the whole, and for dtypes without buffer support."""

    class Doubled(expfw.Preprocessed):
        def __getitem__(self, rows):
            return super().__getitem__(rows).astype(np.float64)

    data = splits()
    doubled = expfw.Split(Doubled(RAW, data.spec.preprocessing), np.zeros(len(RAW), np.int32))
    write_splits(expfw.Splits(data.spec, doubled), tmp_path)
    np.testing.assert_array_equal(read_splits(tmp_path).train.x, data.spec.preprocess(RAW))
    days = np.arange(4).astype("datetime64[D]")
    data_files._write_array(days, tmp_path / "days.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "days.npy"), days)


def test_data_above_the_limit_is_preprocessed_on_demand(tmp_path):
    data = data_cache.load_with_cache(splits, "k", tmp_path, limit_gib=1e-6)
    assert isinstance(data.train.x, expfw.Preprocessed)
    assert not (tmp_path / data_cache.FOLDER).exists()
    assert isinstance(data_cache.load_with_cache(splits, None, tmp_path, limit_gib=1).train.x, np.ndarray)


def test_an_unwritable_cache_is_ignored(tmp_path):
    (tmp_path / "file").write_text("")
    same(data_cache.load_with_cache(splits, "k", tmp_path / "file", limit_gib=1), splits().take(slice(None)))


@pytest.mark.parametrize("damage", ["truncated", "no description", "labels"])
def test_damaged_entries_are_replaced(tmp_path, damage):
    data_cache.load_with_cache(splits, "k", tmp_path, limit_gib=1)
    expected = splits().take(slice(None))
    folder = tmp_path / data_cache.FOLDER / "k"
    if damage == "truncated":
        (folder / "train.x.npy").write_bytes((folder / "train.x.npy").read_bytes()[:100])
    elif damage == "labels":
        y = np.load(folder / "train.y.npy", mmap_mode="r+")
        y[-1] = -1
    else:
        (folder / "data.json").unlink()
    same(data_cache.load_with_cache(splits, "k", tmp_path, limit_gib=1), expected)
    same(data_cache.load_with_cache(lambda: pytest.fail("loaded again"), "k", tmp_path, limit_gib=1), expected)


def test_the_least_recently_used_entry_is_evicted(tmp_path, monkeypatch):
    monkeypatch.setattr(data_cache, "GIB", 20_000)  # 4 "GiB" are 80,000 bytes, one entry about 100,000
    for number, key in enumerate("abcde"):
        data_cache.load_with_cache(splits, key, tmp_path, limit_gib=100)
        os.utime(tmp_path / data_cache.FOLDER / key, (number, number))
    assert "e" in (kept := os.listdir(tmp_path / data_cache.FOLDER))
    assert "a" not in kept


def test_the_key_depends_on_plugin_options_files_and_seed():
    base = (Digits, Digits.Config(), {"file": 1}, 3)
    others = [
        (Mnist, Digits.Config(), {"file": 1}, 3),
        (Digits, Digits.Config(validation=0.2), {"file": 1}, 3),
        (Digits, Digits.Config(), {"file": 2}, 3),
        (Digits, Digits.Config(), {"file": 1}, 4),
    ]
    assert data_cache.compute_key(*base) == data_cache.compute_key(*base)
    assert len({data_cache.compute_key(*one) for one in (base, *others)}) == 5


def test_runs_with_different_seeds_share_cached_data(train, workdir):
    train("dataset=digits", "model=mlp_keras", "train.epochs=1")
    train("dataset=digits", "model=mlp_keras", "train.epochs=1", "seed=5")
    assert len(os.listdir(workdir / "runs" / data_cache.FOLDER)) == 1
    train("dataset=line", "model=ols", "train.epochs=1")  # no identity: not cached
    assert len(os.listdir(workdir / "runs" / data_cache.FOLDER)) == 1


def test_changed_code_loads_the_data_again(train, workdir):
    plugin = workdir / "mine.py"
    text = (
        "import expfw, numpy as np\n"
        "class Mine(expfw.Dataset):\n"
        "    def identity(self):\n"
        "        return {{'x': 1}}\n"
        "    def load(self, seed):\n"
        "        x = np.full((4, 1), {value}, np.float32)\n"
        "        return expfw.Splits(expfw.DataSpec((1,), output_shape=(1,)), expfw.Split(x, x))\n"
    )
    keys = []
    for value in ("1.0", "2.05"):
        plugin.write_text(text.format(value=value))
        train("dataset=mine", "model=ols", "train.epochs=1", files=[str(plugin)])
        keys.append(len(os.listdir(workdir / "runs" / data_cache.FOLDER)))
    assert keys == [1, 2]


def test_cached_mnist_loads_in_less_than_100_ms(real_data, tmp_path):
    dataset = Mnist(Mnist.Config(path=str(real_data / "mnist")), "mnist")
    config = type("Config", (), {"seed": 0, "runs_dir": str(tmp_path), "cache_gib": 4.0})
    first = dataset.expfw_load_data(config=config)
    began = time.perf_counter()
    again = dataset.expfw_load_data(config=config)
    assert time.perf_counter() - began < 0.1
    np.testing.assert_array_equal(first.test.x, again.test.x)


def test_streamed_data_gives_the_same_metrics_as_resident_data(train, workdir):
    generator = np.random.default_rng(3)
    y = generator.integers(0, 3, 500)
    x = (generator.normal(size=(500, 6)) + y[:, None]).astype(np.float32)
    np.savez("mine.npz", x_train=x, y_train=y, x_test=x[:50], y_test=y[:50])
    options = ("dataset=npz", "dataset.path=mine.npz", "model=mlp_keras", "train.epochs=3", "train.log_every=1")
    resident = train(*options)
    streamed = train(*options, "backend.resident_limit=0", "cache_gib=0")
    assert_equal_metrics(streamed.folder, read_metrics(resident.folder), tolerance=0)
