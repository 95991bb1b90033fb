"""Damages data files at random, and reads each as a dataset, as samples for a prediction, or as a configuration.

    python benchmarks/readers/data_readers.py [--mutations 20000] [--seed 0]

Each call must return data or raise an `ExpfwError` of one short line that names the file, within two seconds. The
process may use 512 MiB of memory more than after its imports. Prints a table in Markdown, and the failures, whose
damaged files are kept.
"""

from __future__ import annotations

import argparse
import gzip
import io
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import expfw
from expfw.api.option_schema import build_instance
from expfw.runs.inference import samples
from expfw.system.yaml_files import read_yaml
from expfw_datasets.cifar10 import read_records
from expfw_datasets.npz import Npz

SECONDS, EXTRA_MIB, LONGEST_MESSAGE = 2.0, 512, 600
MARKS = (
    b"\x00",
    b"\xff",
    b"\xff\xff\xff\xff",
    b"\x7f\xff\xff\xff",
    b"(",
    b"[" * 40,
    b"'",
    b"nan",
    b"&a",
    b"*a",
    b"9" * 30,
)


def encode_idx(array: np.ndarray, kind: int = 8) -> bytes:
    return bytes((0, 0, kind, array.ndim)) + np.array(array.shape, ">u4").tobytes() + array.tobytes()


def save(function: Callable[..., Any], *arguments: Any, **values: Any) -> bytes:
    file = io.BytesIO()
    function(file, *arguments, **values)
    return file.getvalue()


def load_npz(path: Path) -> None:
    dataset = Npz(build_instance(Npz.Config, {"path": str(path)}, "dataset"), "npz")
    for split in dataset.load(0).get_splits().values():
        split.in_memory()


def read_samples(path: Path) -> None:
    read = {".csv": samples._read_csv, ".npy": samples._read_numpy, ".npz": samples._read_numpy}.get(path.suffix)
    if read is not None or samples.is_idx(path):
        samples._fit_to_shape((read or samples.read_idx)(path), (6,), str(path))
    else:
        samples.ImageReader((4, 6, 3), (0, 255), invert=False).read(path)


def pack_member(content: bytes, name: str = "y_train", compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    """Returns an archive in which only the content of one array is damaged."""
    arrays = {"x_train": save(np.save, np.ones((20, 6), "f4")), "y_train": save(np.save, np.ones(20)), name: content}
    with zipfile.ZipFile(file := io.BytesIO(), "w", compression) as archive:
        for member, body in arrays.items():
            archive.writestr(f"{member}.npy", body)
    return file.getvalue()


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "inside.idx.gz": gzip.compress,
    "inside.bin.gz": gzip.compress,
    "targets-inside.npz": pack_member,
    "samples-inside.npz": partial(pack_member, name="x_train", compression=zipfile.ZIP_STORED),
}
"""Packs the content of a file after it was damaged, so that all checksums are right."""


def make_files() -> dict[str, tuple[bytes, Callable[[Path], Any]]]:
    """Returns an undamaged file by name, each with its reader; see `PACKERS`."""
    generator = np.random.default_rng(0)
    x, classes = generator.normal(size=(20, 6)).astype("f4"), np.arange(20) % 3
    pixels = generator.integers(0, 256, (9, 7, 3), dtype=np.uint8)
    records = generator.integers(0, 10, (3, 3073), dtype=np.uint8).tobytes()
    structured = np.zeros(20, [("a", "f4"), ("b", "i8")])
    files: dict[str, tuple[bytes, Callable[[Path], Any]]] = {
        "images.idx": (encode_idx(pixels), lambda path: expfw.read_idx(path, dimensions=3)),
        "images.idx.gz": (gzip.compress(encode_idx(pixels)), lambda path: expfw.read_idx(path, dimensions=3)),
        "records.bin": (records, read_records),
        "records.bin.gz": (gzip.compress(records), read_records),
        "classes.npz": (save(np.savez, x_train=x, y_train=classes, y_names=np.array(["a", "b"])), load_npz),
        "values.npz": (save(np.savez_compressed, x_train=x, y_train=x, x_test=x, y_test=x), load_npz),
        "weights.npz": (
            save(np.savez, x_train=np.asfortranarray(x), y_train=x[:, 0], weight_train=x[:, 1] ** 2),
            load_npz,
        ),
        "structured.npz": (save(np.savez, x_train=x, y_train=structured), load_npz),
        "samples.npy": (save(np.save, x), read_samples),
        "samples.npz": (save(np.savez_compressed, x=x, y=classes), read_samples),
        "samples.idx": (encode_idx(x.astype(">f4"), 13), read_samples),
        "samples.idx.gz": (gzip.compress(encode_idx(x.astype(">f4"), 13)), read_samples),
        "samples.csv": (b"a,b,c,d,e,f\n" + save(np.savetxt, x, "%.4g", ","), read_samples),
        "inside.idx.gz": (encode_idx(pixels), lambda path: expfw.read_idx(path, dimensions=3)),
        "inside.bin.gz": (records, read_records),
        "targets-inside.npz": (save(np.save, x[:, 0]), load_npz),
        "samples-inside.npz": (save(np.save, x), load_npz),
        "recipe.yaml": (b"a: &a [1, 2.5, x]\nb: {c: *a, d: [*a, *a]}\n<<: {e: *a}\nf: 2020-01-01\n", read_yaml),
    }
    image = Image.fromarray(pixels)
    for suffix in ("png", "jpg", "gif", "bmp", "tiff", "webp", "ppm"):
        files[f"image.{suffix}"] = (save(image.save, {"jpg": "jpeg"}.get(suffix, suffix)), read_samples)
    return files


def damage(content: bytes, generator: random.Random) -> bytes:
    """Overwrites, inserts, removes, repeats or cuts bytes, half of them in the first 64, where headers are."""
    damaged = bytearray(content)
    for _ in range(generator.choice((1, 1, 1, 2, 4))):
        length = len(damaged)
        place = generator.randrange(max(1, min(length, 64) if generator.random() < 0.5 else length))
        new = generator.choice(MARKS) if generator.random() < 0.3 else generator.randbytes(generator.randint(1, 8))
        match generator.randrange(5):
            case 0:
                damaged[place : place + len(new)] = new
            case 1:
                damaged[place:place] = new
            case 2:
                del damaged[place : place + len(new)]
            case 3:
                damaged[place:place] = damaged[place : place + 64] * generator.randint(1, 50)
            case 4:
                del damaged[place:]
    return bytes(damaged)


def stop(_signal: int, _frame: Any) -> None:
    raise TimeoutError(f"not finished after {SECONDS} s")


def read(path: Path, reader: Callable[[Path], Any]) -> tuple[str, str]:
    """Returns `data`, `error` or `failure`, and the text of the failure."""
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        reader(path)
    except expfw.ExpfwError as error:
        message = str(error)
        names_source = any(text in message for text in (str(path), " split ", "dataset."))
        is_good = names_source and len(message.replace(str(path), "")) < LONGEST_MESSAGE
        return ("error", "") if is_good else ("failure", f"message: {message[:1000]}")
    except BaseException:
        return "failure", traceback.format_exc()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    return "data", ""


def get_peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def run(mutation_count: int, seed: int, folder: Path) -> Iterator[str]:
    """Yields the failures, and prints the table."""
    files = make_files()
    for name, (content, reader) in files.items():
        (folder / name).write_bytes(PACKERS.get(name, bytes)(content))
        result, text = read(folder / name, reader)
        if result != ("error" if name.startswith("structured") else "data"):
            yield f"{name}, undamaged: {text}"
    first_mib = get_peak_mib()
    print("| file | mutations | read | rejected | failures | slowest | more memory |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for number, (name, (content, reader)) in enumerate(files.items()):
        generator, counts, slowest = random.Random(f"{seed} {name}"), Counter[str](), 0.0
        for mutation in range(number, mutation_count, len(files)):
            path = folder / name
            path.write_bytes(PACKERS.get(name, bytes)(damage(content, generator)))
            began = time.monotonic()
            result, text = read(path, reader)
            slowest = max(slowest, time.monotonic() - began)
            counts[result] += 1
            if result == "failure":
                kept = shutil.copy(path, folder / f"failure-{mutation}-{name}")
                yield f"{kept}: {text}"
        used = f"{get_peak_mib() - first_mib:.0f} MiB"
        cells = [counts.total(), counts["data"], counts["error"], counts["failure"], f"{slowest:.2f} s", used]
        print("|", name, "|", " | ".join(map(str, cells)), "|", flush=True)
    if get_peak_mib() - first_mib > EXTRA_MIB:
        yield f"the memory grew by {get_peak_mib() - first_mib:.0f} MiB; expected at most {EXTRA_MIB}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mutations", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGALRM, stop)
    folder = Path(tempfile.mkdtemp(prefix="expfw-readers-"))
    failures = list(run(options.mutations, options.seed, folder))
    print(f"\n{options.mutations:,} mutations, {len(failures)} failures.")
    for failure in failures:
        print(f"\n{failure}")
    if not failures:
        shutil.rmtree(folder)
    return bool(failures)


if __name__ == "__main__":
    sys.exit(main())
