"""Loads a logged model for `mlflow.pyfunc.load_model`; imports TensorFlow here, not when the model is logged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import expfw


class Predictor:
    """Predicts from raw input, in the format of the dataset's files."""

    def __init__(self, saved_model: expfw.SavedModel) -> None:
        self.saved_model = saved_model

    def predict(self, raw: Any, params: dict[str, Any] | None = None) -> Any:
        """Returns outputs `(n, ...)` for raw samples `(n, *input_shape)`."""
        return self.saved_model.predict(raw)


def _load_pyfunc(path: str) -> Predictor:
    """Loads the saved model in a folder; called by MLflow."""
    return Predictor(expfw.load_model(Path(path)))
