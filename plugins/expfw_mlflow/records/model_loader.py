"""Loads a logged model for `mlflow.pyfunc.load_model`; TensorFlow is imported here, not when the model is logged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import expfw


class Predictor:
    """Predicts from raw input, as the dataset's files hold it."""

    def __init__(self, saved_model: expfw.SavedModel) -> None:
        self.saved_model = saved_model

    def predict(self, raw: Any, params: dict[str, Any] | None = None) -> Any:
        """Raw samples `(n, *input_shape)` to outputs `(n, ...)`."""
        return self.saved_model.predict(raw)


def _load_pyfunc(path: str) -> Predictor:
    """What MLflow calls, with the saved model's folder."""
    return Predictor(expfw.load_model(Path(path)))
