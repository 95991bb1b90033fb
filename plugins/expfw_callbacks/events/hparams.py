"""A trial of a sweep as TensorBoard's table of hyperparameters knows it: a session that begins and ends."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any

import expfw

_MAX_EXACT_INTEGER = 2**53  # TensorBoard keeps numbers as float64


def make_session_start(run: expfw.Run) -> Any:
    """The `Summary` that says with which values a trial began; the table calls it by the run's id."""
    from tensorboard.plugins.hparams.summary_v2 import hparams_pb

    return hparams_pb(_convert_values(run.swept), trial_id=run.id, start_time_secs=time.time() - run.seconds)


def make_session_end(status: str) -> Any:
    """The `Summary` that says how it ended; one that was pruned did what was asked of it."""
    from tensorboard.plugins.hparams.api_pb2 import Status
    from tensorboard.plugins.hparams.summary import session_end_pb

    return session_end_pb(Status.Value("STATUS_SUCCESS" if status in ("FINISHED", "PRUNED") else "STATUS_FAILURE"))


def _convert_values(swept: Mapping[str, Any]) -> dict[str, Any]:
    """Numbers that the table cannot hold become text; one that is infinite would cost it all other trials."""
    return {
        key: value if isinstance(value, str) or _is_representable(value) else str(value) for key, value in swept.items()
    }


def _is_representable(value: float) -> bool:
    return math.isfinite(value) if isinstance(value, float) else abs(value) <= _MAX_EXACT_INTEGER
