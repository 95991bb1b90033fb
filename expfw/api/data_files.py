"""Data on disk: a specification as JSON and safetensors, splits as memory-mapped NumPy files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from expfw.api.data import DataSpec, Split, Splits, get_named_parts, map_parts
from expfw.api.model_state import read_arrays
from expfw.api.preprocessing import AffineScaling
from expfw.system import atomic_files
from expfw.system.input_files import open_file, read_bytes

_SPECIFICATION, _PREPROCESSING = "data.json", "preprocessing.safetensors"


def serialize_spec(spec: DataSpec, preprocessing_path: Path) -> dict[str, Any]:
    """Writes the preprocessing to a file and returns the rest of the specification as JSON values."""
    import numpy as np
    from safetensors.numpy import save_file

    arrays = {
        f"{part}/{name}" if part else name: np.asarray(value, np.float32, order="C")
        for part, scaling in get_named_parts(spec.preprocessing).items()
        for name, value in vars(scaling).items()
    }
    save_file(arrays, preprocessing_path)
    fields = {name: value for name, value in vars(spec).items() if name != "preprocessing"}
    return {name: map_parts(lambda part: part, value) for name, value in fields.items()}


def deserialize_spec(serialized: Mapping[str, Any], preprocessing_path: Path) -> DataSpec:
    """Returns the specification from the JSON values and the file of `serialize_spec`."""
    scaling_fields: dict[str, dict[str, Any]] = {}
    for name, array in read_arrays(preprocessing_path).items():
        part, _, field = name.rpartition("/")
        scaling_fields.setdefault(part, {})[field] = array
    scalings = {part: AffineScaling(**fields) for part, fields in scaling_fields.items()}
    values: dict[str, Any] = {
        name: map_parts(lambda part: tuple(part) if isinstance(part, list) else part, value)
        for name, value in serialized.items()
    }
    return DataSpec(**values, preprocessing=scalings.get("", scalings))


def write_splits(splits: Splits, folder: Path) -> None:
    """Writes splits to a folder; samples that are preprocessed on demand are written in chunks."""
    content = {"spec": serialize_spec(splits.spec, folder / _PREPROCESSING), "arrays": {}}
    for name, split in splits.get_splits().items():
        content["arrays"][name] = list(split.arrays())
        for part, array in split.arrays().items():
            _write_array(array, folder / f"{name}.{part}.npy")
    (folder / _SPECIFICATION).write_text(json.dumps(content))


def read_splits(folder: Path) -> Splits:
    """Memory-maps splits from a folder. Processes share the memory; changes are private to a process.

    Raises:
        Exception: any, if a file is missing or damaged.
    """
    import numpy as np

    content = json.loads(read_bytes(folder / _SPECIFICATION))
    splits: dict[str, Split] = {}
    for name, parts in content["arrays"].items():
        fields: dict[str, dict[str, Any]] = {}
        for part in parts:
            field, _, part_name = part.partition(".")
            path = folder / f"{name}.{part}.npy"
            open_file(path).close()
            array = np.load(path, mmap_mode="c", allow_pickle=False)
            fields.setdefault(field, {})[part_name] = array
        splits[name] = Split(**{field: arrays.get("", arrays) for field, arrays in fields.items()})
    return Splits(deserialize_spec(content["spec"], folder / _PREPROCESSING), **splits)


def _write_array(array: Any, path: Path, chunk_size: int = 512) -> None:
    import numpy as np

    header = {"descr": np.lib.format.dtype_to_descr(array.dtype), "fortran_order": False, "shape": tuple(array.shape)}
    with open(path, "wb") as file:
        np.lib.format.write_array_header_2_0(file, header)
        for begin in range(0, len(array), chunk_size):
            file.write(np.asarray(array[begin : begin + chunk_size], array.dtype).tobytes())
    atomic_files.sync_to_disk(path)
