"""Event files for TensorBoard, also of runs that are resumed."""

from __future__ import annotations

import io
import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

import expfw

FLUSH_SECONDS = 1.0  # seconds; TensorBoard need not be more up to date
_MAX_EXACT_INTEGER = 2**53  # TensorBoard stores numbers as float64


class EventFiles:
    """Event files of one callback, in subfolders of `tensorboard/` in the run folder.

    TensorBoard shows each subfolder as a separate run. A resumed run writes new files, which begin with a session
    start: TensorBoard then hides the events after the checkpoint, which the resumed run writes again.

    Args:
        run: run that the files belong to.
    """

    def __init__(self, run: expfw.Run) -> None:
        self.root = run.folder / "tensorboard"
        self._run, self._start_step = run, 0 if run.resumed_at is None else run.resumed_at + 1
        self._writers: dict[str, Any] = {}
        self._flushed_at = time.monotonic()
        self._is_usable = True

    def write_scalars(self, folder: str, step: int, values: Mapping[str, float]) -> None:
        """Writes numbers by tag as one event, which is faster than one event for each number."""
        from tensorboard.plugins.scalar.summary_v2 import scalar_pb

        self.write_summary(folder, step, *(scalar_pb(tag, value) for tag, value in values.items()))

    def write_histograms(self, folder: str, step: int, arrays: Mapping[str, np.ndarray]) -> None:
        """Writes a histogram of each array, by tag."""
        from tensorboard.plugins.histogram.summary_v2 import histogram_pb

        self.write_summary(folder, step, *(histogram_pb(tag, array) for tag, array in arrays.items()))

    def write_images(
        self, folder: str, step: int, tag: str, pictures: np.ndarray, description: str | None = None
    ) -> None:
        """Writes images with values in [0, 1], `(n, height, width, channels)`, under one tag."""
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.plugins.image.metadata import create_summary_metadata
        from tensorboard.util.tensor_util import make_tensor_proto

        _, height, width, _ = pictures.shape
        texts = [str(width).encode(), str(height).encode(), *map(_encode_png, pictures)]
        metadata = create_summary_metadata(None, description)
        value = Summary.Value(tag=tag, metadata=metadata, tensor=make_tensor_proto(np.array(texts, object)))
        self.write_summary(folder, step, Summary(value=[value]))

    def write_graph(self, folder: str, graph: Any) -> None:
        """Writes a `tf.Graph`."""
        self._write_event(folder, 0, graph_def=graph.as_graph_def(add_shapes=True).SerializeToString())

    def write_summary(self, folder: str, step: int, *summaries: Any) -> None:
        """Writes `Summary` messages as one event."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        # bytes, because TensorFlow and TensorBoard define the same message twice
        content = b"".join(summary.SerializeToString() for summary in summaries)
        self._write_event(folder, step, summary=Summary.FromString(content))

    def flush(self, min_seconds: float = 0.0) -> None:
        """Writes the events in memory to the files, unless the last flush was less than `min_seconds` seconds ago."""
        if time.monotonic() - self._flushed_at >= min_seconds:
            self._disable_on_error(lambda: [writer.flush() for writer in self._writers.values()])
            self._flushed_at = time.monotonic()

    def close(self) -> None:
        """Closes all files."""
        self._disable_on_error(lambda: [writer.close() for writer in self._writers.values()])
        self._writers = {}

    def _write_event(self, folder: str, step: int, **content: Any) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        def write() -> None:
            if folder not in self._writers:
                self._writers[folder] = self._begin_file(folder)
            self._writers[folder].write(Event(wall_time=time.time(), step=step, **content).SerializeToString())

        self._disable_on_error(write)

    def _begin_file(self, folder: str) -> Any:
        import tensorflow as tf
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog

        (self.root / folder).mkdir(parents=True, exist_ok=True)
        writer = tf.io.TFRecordWriter(str(self.root / folder / f"events.out.tfevents.{time.time_ns()}.v2"))
        session_start = SessionLog(status=SessionLog.START)
        for content in ({"file_version": "brain.Event:2"}, {"step": self._start_step, "session_log": session_start}):
            writer.write(Event(wall_time=time.time(), **content).SerializeToString())
        return writer

    def _disable_on_error(self, action: Callable[[], Any]) -> None:
        """Calls `action`; after a disk error, no more events are written, but checkpoints continue."""
        import tensorflow as tf

        if not self._is_usable:
            return
        try:
            action()
        except (tf.errors.OpError, OSError) as error:
            self._is_usable = False
            reason = error.message if isinstance(error, tf.errors.OpError) else error.strerror
            self._run.warn(
                f"cannot write TensorBoard files to {self.root}: {reason}; the run continues without them, and its "
                "journal contains every metric"
            )


def _encode_png(picture: np.ndarray) -> bytes:
    from PIL import Image

    pixels = (255 * np.clip(picture, 0, 1) + 0.5).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(buffer, "PNG")
    return buffer.getvalue()


def make_session_start(run: expfw.Run) -> Any:
    """Returns the `Summary` with the swept values of a trial, as text if TensorBoard cannot store them.

    The run ID is the name of the trial in the table of hyperparameters.
    """
    from tensorboard.plugins.hparams.summary_v2 import hparams_pb

    def is_storable(value: Any) -> bool:  # one infinite number would hide all other trials
        if isinstance(value, str):
            return True
        return math.isfinite(value) if isinstance(value, float) else abs(value) <= _MAX_EXACT_INTEGER

    values = {key: value if is_storable(value) else str(value) for key, value in run.swept.items()}
    return hparams_pb(values, trial_id=run.id, start_time_secs=time.time() - run.seconds)


def make_session_end(status: str) -> Any:
    """Returns the `Summary` with the status of a trial; a pruned trial counts as a success."""
    from tensorboard.plugins.hparams.api_pb2 import Status
    from tensorboard.plugins.hparams.summary import session_end_pb

    return session_end_pb(Status.Value("STATUS_SUCCESS" if status in ("FINISHED", "PRUNED") else "STATUS_FAILURE"))
