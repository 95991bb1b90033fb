"""Loads a logged model for `mlflow.pyfunc.load_model`; imports TensorFlow here, not when the model is logged."""

from __future__ import annotations

import os
from pathlib import Path

import expfw

TRUST_VARIABLE = "EXPFW_TRUST"


def _load_pyfunc(path: str) -> expfw.SavedModel:
    """Loads the saved model in a folder; called by MLflow. Plugin files in it run only if the user allows it."""
    try:
        return expfw.load_model(Path(path), trust=os.environ.get(TRUST_VARIABLE) == "1")
    except expfw.TrustError as error:
        error.add_note(f"(to trust the files of a model in MLflow, set the environment variable {TRUST_VARIABLE}=1)")
        raise
