"""Trials of a sweep for TensorBoard's table of hyperparameters."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any

import expfw

_MAX_EXACT_INTEGER = 2**53  # TensorBoard stores numbers as float64


def make_session_start(run: expfw.Run) -> Any:
    """Returns the `Summary` with the swept values of a trial; the run ID is its name in the table."""
    from tensorboard.plugins.hparams.summary_v2 import hparams_pb

    return hparams_pb(_convert_values(run.swept), trial_id=run.id, start_time_secs=time.time() - run.seconds)


def make_session_end(status: str) -> Any:
    """Returns the `Summary` with the status of a trial; a pruned trial counts as a success."""
    from tensorboard.plugins.hparams.api_pb2 import Status
    from tensorboard.plugins.hparams.summary import session_end_pb

    return session_end_pb(Status.Value("STATUS_SUCCESS" if status in ("FINISHED", "PRUNED") else "STATUS_FAILURE"))


def _convert_values(swept: Mapping[str, Any]) -> dict[str, Any]:
    """Converts numbers that the table cannot store to text; an infinite one would hide all other trials."""
    return {
        key: value if isinstance(value, str) or _is_representable(value) else str(value) for key, value in swept.items()
    }


def _is_representable(value: float) -> bool:
    return math.isfinite(value) if isinstance(value, float) else abs(value) <= _MAX_EXACT_INTEGER
