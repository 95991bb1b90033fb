"""The data of a run as MLflow dataset inputs, one for each split."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlflow.data.dataset_source import DatasetSource
    from mlflow.entities import DatasetInput
    from mlflow.types import Schema

_CONTEXTS = {"train": "training", "validation": "validation", "test": "testing"}


def make_dataset_inputs(record: Mapping[str, Any]) -> Iterator[DatasetInput]:
    """Yields the inputs for the record `dataset`: name, digest, shapes, number of samples and source."""
    from mlflow.data.schema import TensorDatasetSchema
    from mlflow.entities import Dataset, DatasetInput, InputTag

    source = _find_source(record)
    for split, split_record in record["splits"].items():
        schema = TensorDatasetSchema(
            _make_schema(split_record["arrays"], "x"), _make_schema(split_record["arrays"], "y")
        )
        dataset = Dataset(
            name=f"{record['name']} {split}",
            digest=split_record["digest"],
            source_type=source._get_source_type(),  # MLflow has no public function for it
            source=source.to_json(),
            schema=json.dumps(schema.to_dict()),
            profile=json.dumps({"samples": split_record["samples"], "classes": record["classes"]}),
        )
        yield DatasetInput(dataset, [InputTag("mlflow.data.context", _CONTEXTS[split])])


def _find_source(record: Mapping[str, Any]) -> DatasetSource:
    """Returns the folder of the dataset's files; if it reads no files, the plugin with its options."""
    from mlflow.data.code_dataset_source import CodeDatasetSource
    from mlflow.data.dataset_source_registry import resolve_dataset_source

    files = [part[0] for part in record["identity"].values() if isinstance(part, list) and part]
    paths = [file for file in files if isinstance(file, str) and os.path.isabs(file)]
    if not paths:
        return CodeDatasetSource({"plugin": record["name"], **{k: str(v) for k, v in record["options"].items()}})
    return resolve_dataset_source(os.path.commonpath(paths))


def _make_schema(arrays: Mapping[str, Mapping[str, Any]], kind: str) -> Schema:
    """Returns the schema of the arrays named `x`, or `x.left` and so on."""
    import numpy as np
    from mlflow.types import Schema, TensorSpec

    return Schema(
        [
            TensorSpec(np.dtype(array["dtype"]), (-1, *array["shape"][1:]), name.partition(".")[2] or None)
            for name, array in arrays.items()
            if name.partition(".")[0] == kind
        ]
    )
