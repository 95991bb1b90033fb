"""Files that were damaged in any way: a right result or a DataError, never more memory than the file is worth."""

from __future__ import annotations

import gzip
import io
import tracemalloc
import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_data import idx, records

import expfw
from expfw_datasets.archive import read_archive
from expfw_datasets.cifar10 import read_records
from expfw_datasets.idx import read_idx

MADE = np.random.default_rng(0)
IMAGES = MADE.integers(0, 256, (7, 5, 4), dtype=np.uint8)
COLOURS = MADE.integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)


def npz(compressed):
    file = io.BytesIO()
    save = np.savez_compressed if compressed else np.savez
    save(file, x_train=MADE.normal(size=(6, 3)).astype(np.float32), y_train=np.arange(6))
    return file.getvalue()


def archive_shape(path):
    arrays = read_archive(path)
    return {name: np.array(array).sum() is not None for name, array in arrays.items()}


GOOD = {
    "idx": (idx(IMAGES), lambda path: read_idx(path, dimensions=3)),
    "idx-gz": (gzip.compress(idx(IMAGES)), lambda path: read_idx(path, dimensions=3)),
    "cifar": (records(COLOURS, np.arange(3)), read_records),
    "cifar-gz": (gzip.compress(records(COLOURS, np.arange(3))), read_records),
    "npz": (npz(compressed=False), archive_shape),
    "npz-compressed": (npz(compressed=True), archive_shape),
}


@st.composite
def damaged(draw, body):
    """Bytes overwritten, cut out, put in, or cut off; most of it near the beginning, where the headers are."""
    made = bytearray(body)
    for _ in range(draw(st.integers(1, 4))):
        near = draw(st.booleans())
        place = draw(st.integers(0, max(0, min(len(made), 64 if near else len(made)) - 1)))
        new = draw(st.binary(min_size=1, max_size=9))
        match draw(st.sampled_from(["overwrite", "insert", "remove", "truncate"])):
            case "overwrite":
                made[place : place + len(new)] = new
            case "insert":
                made[place:place] = new
            case "remove":
                del made[place : place + len(new)]
            case "truncate":
                del made[place:]
    return bytes(made)


@pytest.mark.parametrize("kind", GOOD)
@settings(
    max_examples=150, deadline=2000, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_any_damage_is_a_right_result_or_a_data_error(tmp_path, kind, data):
    body, read = GOOD[kind]
    path = tmp_path / "file.npz"
    path.write_bytes(data.draw(damaged(body)))
    said = f"{path}"
    tracemalloc.start()
    try:
        read(path)
    except expfw.DataError as error:
        said = str(error)
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert str(path) in said
    assert len(said) < 600
    assert peak < (4 << 20) + 20 * path.stat().st_size


@pytest.mark.parametrize("kind", GOOD)
def test_what_is_not_damaged_is_read(tmp_path, kind):
    body, read = GOOD[kind]
    (tmp_path / "file.npz").write_bytes(body)
    assert read(tmp_path / "file.npz") is not None


def test_pickled_objects_are_never_loaded(tmp_path):
    np.savez(tmp_path / "file.npz", x_train=np.array([{"an": "object"}], dtype=object))
    with pytest.raises(expfw.DataError, match="cannot be read"):
        read_archive(tmp_path / "file.npz")


def test_an_archive_that_claims_to_be_huge(tmp_path):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (1 << 40,)})
    for compression in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        with zipfile.ZipFile(tmp_path / "file.npz", "w", compression) as archive:
            archive.writestr("x_train.npy", header.getvalue())
        with pytest.raises(expfw.DataError, match="cannot be read"):
            read_archive(tmp_path / "file.npz")
