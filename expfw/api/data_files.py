"""Data on disk: a specification as JSON and safetensors, splits as NumPy files that are read by memory map."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from expfw.api.data import Affine, DataSpec, Split, Splits, by_name, each
from expfw.system import atomic_files

_SPECIFICATION, _PREPROCESSING = "data.json", "preprocessing.safetensors"


def describe_spec(spec: DataSpec, preprocessing: Path) -> dict[str, Any]:
    """Everything but the preprocessing as JSON values; the preprocessing goes to a file."""
    import numpy as np
    from safetensors.numpy import save_file

    arrays = {
        f"{part}/{name}" if part else name: np.asarray(value, np.float32, order="C")
        for part, affine in by_name(spec.preprocessing).items()
        for name, value in vars(affine).items()
    }
    save_file(arrays, preprocessing)
    described = {name: value for name, value in vars(spec).items() if name != "preprocessing"}
    return {name: each(lambda part: part, value) for name, value in described.items()}


def read_spec(described: Mapping[str, Any], preprocessing: Path) -> DataSpec:
    """The specification that `describe_spec` put into these JSON values and that file.

    Raises:
        OSError, ValueError, KeyError, TypeError, safetensors.SafetensorError: they are not such.
    """
    from safetensors.numpy import load_file

    affines: dict[str, dict[str, Any]] = {}
    for name, array in load_file(preprocessing).items():
        part, _, field = name.rpartition("/")
        affines.setdefault(part, {})[field] = array
    made = {part: Affine(**fields) for part, fields in affines.items()}
    values: dict[str, Any] = {name: each(_tupled, value) for name, value in described.items()}
    return DataSpec(**values, preprocessing=made.get("", made))


def write_splits(splits: Splits, folder: Path) -> None:
    """Writes all of it; samples that are preprocessed on demand are written in portions."""
    described = {"spec": describe_spec(splits.spec, folder / _PREPROCESSING), "arrays": {}}
    for name, split in splits.present().items():
        described["arrays"][name] = list(split.arrays())
        for part, array in split.arrays().items():
            _write_array(array, folder / f"{name}.{part}.npy")
    (folder / _SPECIFICATION).write_text(json.dumps(described))


def read_splits(folder: Path) -> Splits:
    """Reads them by memory map; processes that read the same share the memory, and what one writes stays its own.

    Raises:
        OSError, ValueError, KeyError, TypeError, safetensors.SafetensorError: the folder does not hold them.
    """
    import numpy as np

    described = json.loads((folder / _SPECIFICATION).read_text())
    splits: dict[str, Split] = {}
    for name, parts in described["arrays"].items():
        fields: dict[str, Any] = {}
        for part in parts:
            field, _, inner = part.partition(".")
            array = np.load(folder / f"{name}.{part}.npy", mmap_mode="c", allow_pickle=False)
            if inner:
                fields.setdefault(field, {})[inner] = array
            else:
                fields[field] = array
        splits[name] = Split(**fields)
    return Splits(read_spec(described["spec"], folder / _PREPROCESSING), **splits)


def _write_array(array: Any, path: Path, portion: int = 512) -> None:
    import numpy as np

    header = {"descr": np.lib.format.dtype_to_descr(array.dtype), "fortran_order": False, "shape": tuple(array.shape)}
    with open(path, "wb") as file:
        np.lib.format.write_array_header_2_0(file, header)
        for begin in range(0, len(array), portion):
            file.write(np.asarray(array[begin : begin + portion], array.dtype).tobytes())
    atomic_files.to_disk(path)


def _tupled(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
