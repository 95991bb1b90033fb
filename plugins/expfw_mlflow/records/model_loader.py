"""Loads a logged model for `mlflow.pyfunc.load_model`; imports TensorFlow here, not when the model is logged."""

from __future__ import annotations

from pathlib import Path

import expfw


def _load_pyfunc(path: str) -> expfw.SavedModel:
    """Loads the saved model in a folder; called by MLflow."""
    return expfw.load_model(Path(path))
