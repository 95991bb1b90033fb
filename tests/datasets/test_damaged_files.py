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
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.small_datasets import encode_cifar_records, encode_idx

import expfw
from expfw.api import checkpoints
from expfw.tracking import journal
from expfw_datasets.cifar10 import read_records

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
    json.dumps({"kind": kind, "time": 1.5, "step": n, "values": {"train/loss": n / 3}, **fields}).encode() + b"\n"
    for n, (kind, fields) in enumerate(
        [
            ("run_started", {"id": "abcd1234", "name": "n"}),
            *(("metrics", {}), ("metrics", {})),
            ("message", {"text": "t"}),
            ("run_ended", {"status": "FINISHED"}),
        ]
    )
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
