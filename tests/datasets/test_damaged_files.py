"""Damaged files: a correct result or a one-line error, with memory in proportion to the file size."""

from __future__ import annotations

import gzip
import io
import json
import re
import subprocess
import sys
import tracemalloc
import zipfile
import zlib
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.small_datasets import encode_cifar_records, encode_idx

import expfw
from expfw.api import checkpoints
from expfw.runs.inference import samples
from expfw.tracking import journal
from expfw_datasets.cifar10 import read_records
from expfw_datasets.npz import Npz

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (7, 5, 4), dtype=np.uint8)
COLOURS = RNG.integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)


def npz(compressed):
    file = io.BytesIO()
    save = np.savez_compressed if compressed else np.savez
    save(file, x_train=RNG.normal(size=(6, 3)).astype(np.float32), y_train=np.arange(6))
    return file.getvalue()


def read_images(path):
    return expfw.read_idx(path, dimensions=3)


def read_all_arrays(path):
    return {name: np.array(array) for name, array in expfw.read_numpy(path).items()}


IDX, CIFAR = encode_idx(IMAGES), encode_cifar_records(COLOURS, np.arange(3))
GOOD = {
    "idx": (IDX, read_images),
    "idx-gz": (gzip.compress(IDX), read_images),
    "cifar": (CIFAR, read_records),
    "cifar-gz": (gzip.compress(CIFAR), read_records),
    "npz": (npz(compressed=False), read_all_arrays),
    "npz-compressed": (npz(compressed=True), read_all_arrays),
}
FUZZ = {"deadline": 2000, "derandomize": True, "suppress_health_check": [HealthCheck.function_scoped_fixture]}


@st.composite
def damaged(draw, body):
    """Overwrites, removes, inserts or truncates bytes, mostly near the beginning, in the headers."""
    content = bytearray(body)
    for _ in range(draw(st.integers(1, 4))):
        near = draw(st.booleans())
        place = draw(st.integers(0, max(0, min(len(content), 64 if near else len(content)) - 1)))
        new = draw(st.binary(min_size=1, max_size=9))
        match draw(st.sampled_from(["overwrite", "insert", "remove", "truncate"])):
            case "overwrite":
                content[place : place + len(new)] = new
            case "insert":
                content[place:place] = new
            case "remove":
                del content[place : place + len(new)]
            case "truncate":
                del content[place:]
    return bytes(content)


@contextmanager
def allow_error(kind, path):
    """Allows an error of this kind if its message names the path and is short."""
    message = str(path)
    try:
        yield
    except kind as error:
        message = str(error)
    assert str(path) in message
    assert len(message) < 600


@contextmanager
def limited_memory(path):
    """Fails if the context allocates too much memory for the size of the file."""
    tracemalloc.start()
    try:
        yield
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < (4 << 20) + 20 * path.stat().st_size


@pytest.mark.parametrize("kind", GOOD)
@settings(max_examples=150, **FUZZ)
@given(data=st.data())
def test_a_damaged_file_is_a_correct_result_or_a_data_error(tmp_path, kind, data):
    body, read = GOOD[kind]
    path = tmp_path / "file.npz"
    path.write_bytes(data.draw(damaged(body)))
    with limited_memory(path), allow_error(expfw.DataError, path):
        read(path)


SNAPSHOT = checkpoints.Snapshot(
    step=7,
    run={"step": 7, "metrics": {"train/loss": 0.5}},
    plugins={"callback:a": {"best": 1.0}},
    model=expfw.ModelState({"weights/000": RNG.normal(size=(4, 3)), "state/000": np.arange(3)}, {"seed": 1}),
)


@settings(max_examples=200, **FUZZ)
@given(data=st.data(), name=st.sampled_from(["arrays.safetensors", "state.json", "checksums.json"]))
def test_a_damaged_checkpoint_is_a_journal_error_or_unchanged(tmp_path, data, name):
    folder = SNAPSHOT.write(tmp_path)
    try:
        path = folder / name
        body = path.read_bytes()
        path.write_bytes(data.draw(damaged(body)))
        read = SNAPSHOT
        with limited_memory(path), allow_error(expfw.JournalError, folder):
            read = checkpoints.read_checkpoint(folder)
        assert (read.step, read.run, read.plugins) == (7, SNAPSHOT.run, SNAPSHOT.plugins)
        assert all((read.model.arrays[n] == array).all() for n, array in SNAPSHOT.model.arrays.items())
    finally:
        checkpoints.remove_checkpoint(tmp_path, 7)


JOURNAL = b"".join(
    json.dumps({"kind": kind, "time": 1.5, "step": n, "values": {"train/loss": n / 3}}).encode() + b"\n"
    for n, kind in enumerate(["run_started", "metrics", "metrics", "message", "run_ended"])
)


@settings(max_examples=300, **FUZZ)
@given(data=st.data())
def test_a_damaged_journal_is_a_journal_error_or_its_complete_lines(tmp_path, data):
    path = tmp_path / journal.NAME
    path.write_bytes(data.draw(damaged(JOURNAL)))
    for read in (journal.read_records, journal.read_first_and_last):
        with allow_error(expfw.JournalError, path):
            read(path)
    lines = path.read_bytes().split(b"\n")
    try:
        with journal.Journal(path) as record:  # continues after the last complete line
            record.write("more")
    except expfw.JournalError:
        return
    assert path.read_bytes().split(b"\n")[: len(lines) - 1] == lines[:-1]
    assert b'"kind": "more"' in path.read_bytes().splitlines()[-1]


def test_an_archive_that_declares_a_huge_array_is_rejected(tmp_path):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (1 << 40,)})
    for compression in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        with zipfile.ZipFile(tmp_path / "file.npz", "w", compression) as archive:
            archive.writestr("x_train.npy", header.getvalue())
        with pytest.raises(expfw.DataError, match="cannot read"):
            expfw.read_numpy(tmp_path / "file.npz")


def gzip_zeros(path, mebibytes, begin=b""):
    with gzip.open(path, "wb") as file:
        file.write(begin)
        for _ in range(mebibytes):
            file.write(bytes(1 << 20))
    return path


def zip_zeros(path, mebibytes, declared=None):
    """Writes an array of zeros, compressed; `declared` is its size in the archive's directory."""
    header = io.BytesIO()
    shape = (mebibytes << 20,)
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": shape})
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("x.npy", "w", force_zip64=True) as file:
            file.write(header.getvalue())
            for _ in range(mebibytes):
                file.write(bytes(1 << 20))
        if declared is not None:
            archive.filelist[0].file_size = declared
    return path


def test_a_file_that_unpacks_to_much_more_than_its_size_is_rejected(tmp_path):
    idx = bytes((0, 0, 8, 3)) + b"\xff" * 4 + b"\0\0\0\x1c" * 2  # declares 3 TB
    bombs = {
        read_images: gzip_zeros(tmp_path / "images.gz", 600, idx),
        samples.read_idx: gzip_zeros(tmp_path / "samples.gz", 600, bytes((0, 0, 13, 1)) + b"\xff" * 4),
        expfw.read_numpy: zip_zeros(tmp_path / "file.npz", 600),
        samples._read_numpy: zip_zeros(tmp_path / "lies.npz", 600, declared=1000),
    }
    for read, path in bombs.items():
        tracemalloc.start()
        with pytest.raises(expfw.DataError, match=r"unpacks to more than 256 MiB|cannot read"):
            read(path)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 600 << 20, path


def test_a_compressed_file_of_ordinary_size_is_read(tmp_path):
    assert expfw.read_numpy(zip_zeros(tmp_path / "zeros.npz", 100))["x"].shape == (100 << 20,)
    np.savez_compressed(tmp_path / "data.npz", x_train=np.zeros((6, 3)), y_train=np.arange(6))
    assert read_all_arrays(tmp_path / "data.npz")["y_train"].tolist() == list(range(6))


def make_png(width, height):
    def chunk(kind, data):
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes((8, 2, 0, 0, 0))
    parts = chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(bytes(100))), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize("size", [(50_000, 50_000), (2**31 - 1, 2**31 - 1), (10_000, 10_000)])
def test_an_image_that_declares_billions_of_pixels_is_rejected(tmp_path, size):
    path = tmp_path / "large.png"
    path.write_bytes(make_png(*size))
    with limited_memory(path), pytest.raises(expfw.DataError, match=r"large.png as an image: .*") as caught:
        samples.ImageReader((8, 8), None, invert=False).read(path)
    assert len(str(caught.value)) < 400


def test_an_image_that_another_program_would_draw_is_rejected(tmp_path):
    (tmp_path / "image.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n")
    with pytest.raises(expfw.DataError, match="image.png has an unknown format"):
        samples.ImageReader((8, 8), None, invert=False).read(tmp_path / "image.png")


X, VALUES, COUNTS = RNG.normal(size=(20, 4)).astype("f4"), RNG.normal(size=20), np.arange(20) % 3
ARCHIVES = [
    ({"y_train": np.where(COUNTS > 1, np.nan, VALUES)}, r"y_train has nan at index \[2\] .*one of 6 such values"),
    ({"y_train": np.where(COUNTS > 1, -np.inf, VALUES)}, r"y_train has -inf at index \[2\]"),
    ({"y_train": VALUES * 1e300}, r"y_train has .*e\+300 at index .*finite numbers of type float32"),
    ({"y_train": VALUES, "x_test": X, "y_test": VALUES * np.nan}, "y_test has nan at index"),
    ({"y_train": COUNTS, "x_test": X, "y_test": VALUES}, "y_test has type float64 .*expected classes, as in y_train"),
    ({"y_train": np.zeros(20, [("a", "f4"), ("b", "i8")])}, r"y_train has type \[\('a', '<f4'\), .*real numbers"),
    ({"y_train": np.array([None] * 20)}, "y_train has type object; expected real numbers"),
    ({"y_train": VALUES + 1j}, "y_train has type complex128; expected real numbers"),
    ({"y_train": COUNTS - 1}, "range from -1 to 1"),
    ({"y_train": COUNTS.astype("u8") + 2**63}, "y_train has .*classes"),
    ({"y_train": VALUES[:3]}, "y_train has 3 entries; expected 20"),
    ({"y_train": np.float64(3)}, r"y_train has shape \(\)"),
    ({"y_train": COUNTS, "weight_train": VALUES}, "weight_train has .*expected one weight of 0 or more"),
    ({"y_train": COUNTS, "weight_train": np.ones((20, 1))}, r"weight_train has shape \(20, 1\)"),
    ({"y_train": COUNTS, "weight_train": VALUES * np.inf}, "weight_train has"),
    ({"y_train": COUNTS, "x_test": X[:, :3], "y_test": COUNTS}, "samples of the test split have shape"),
]


def load_npz(path, **options):
    return Npz(Npz.Config(path=str(path), **options), "npz").load(0)


@pytest.mark.parametrize(("arrays", "expected"), ARCHIVES, ids=[expected for _, expected in ARCHIVES])
def test_unusable_arrays_are_an_error_of_one_line(tmp_path, arrays, expected):
    np.savez(tmp_path / "data.npz", x_train=X, **arrays)
    with pytest.raises(expfw.DataError, match=expected):
        load_npz(tmp_path / "data.npz", validation=0)


def test_arrays_that_are_not_used_may_have_any_content(tmp_path):
    unused = {"x_other": X[:3], "y_other": np.array([np.nan] * 9), "y_names": np.array(["a", "b"]), "notes": np.array({})}
    np.savez(tmp_path / "data.npz", x_train=np.asfortranarray(X), y_train=COUNTS.astype("u1"), **unused)
    data = load_npz(tmp_path / "data.npz", validation=0)
    np.testing.assert_array_equal(data.train.x, X)
    assert data.spec.classes == 3


def test_damaged_data_files_cause_no_traceback_and_no_hang():
    script = Path(__file__).parents[2] / "benchmarks" / "readers" / "data_readers.py"
    done = subprocess.run([sys.executable, script, "--mutations", "1500"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_source_file_uses_pickle():
    """Loading a pickle can run any code."""
    root = Path(expfw.__file__).parents[1]
    sources = [path for folder in ("expfw", "plugins") for path in (root / folder).rglob("*.py")]
    assert len(sources) > 50
    for path in sources:
        text = path.read_text()
        assert not re.search(r"^\s*(import|from) (pickle|dill|cloudpickle|joblib)\b", text, re.MULTILINE), path
        assert "allow_pickle=True" not in text, path
        assert text.count("np.load(") <= text.count("allow_pickle=False"), path
