"""Small files with large content: gzip, npz and images that would exhaust the memory are rejected."""

from __future__ import annotations

import gzip
import io
import tracemalloc
import zipfile
import zlib

import numpy as np
import pytest

import expfw
from expfw.runs.inference import samples


def read_images(path):
    return expfw.read_idx(path, dimensions=3)


def gzip_zeros(path, mebibytes, begin=b""):
    path.write_bytes(gzip.compress(begin) + gzip.compress(bytes(1 << 20)) * mebibytes)
    return path


def zip_zeros(path, mebibytes, declared=None):
    """Writes an array of zeros, compressed; `declared` is its size in the archive's directory."""
    header = io.BytesIO()
    shape = (mebibytes << 20,)
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": shape})
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
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
        read_images: gzip_zeros(tmp_path / "images.gz", 300, idx),
        samples.read_idx: gzip_zeros(tmp_path / "samples.gz", 300, bytes((0, 0, 13, 1)) + b"\xff" * 4),
        expfw.read_numpy: zip_zeros(tmp_path / "file.npz", 300),
        samples._read_numpy: zip_zeros(tmp_path / "lies.npz", 300, declared=1000),
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
    assert expfw.read_numpy(tmp_path / "data.npz")["y_train"].tolist() == list(range(6))


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
    with pytest.raises(expfw.DataError, match=r"large.png as an image: .*") as caught:
        samples.ImageReader((8, 8), None, invert=False).read(path)
    assert len(str(caught.value)) < 400


def test_an_image_that_another_program_would_draw_is_rejected(tmp_path):
    (tmp_path / "image.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n")
    with pytest.raises(expfw.DataError, match=r"image\.png has an unknown format"):
        samples.ImageReader((8, 8), None, invert=False).read(tmp_path / "image.png")
