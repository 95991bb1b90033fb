"""Event files for TensorBoard, also of runs that are resumed."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

import expfw

_FLUSH_SECONDS = 1.0  # TensorBoard need not be more up to date


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

    def write_histograms(self, folder: str, step: int, arrays: Mapping[str, np.ndarray]) -> None:
        """Writes a histogram of each array, by tag."""
        from tensorboard.plugins.histogram.summary_v2 import histogram_pb

        self.write_summary(folder, step, *(histogram_pb(tag, array) for tag, array in arrays.items()))

    def write_images(self, folder: str, step: int, tag: str, images: np.ndarray, description: str = "") -> None:
        """Writes images with values in [0, 1], `(n, height, width, channels)`, under one tag."""
        import tensorflow as tf
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.plugins.image.metadata import create_summary_metadata
        from tensorboard.util.tensor_util import make_tensor_proto

        _, height, width, _ = images.shape
        pixels = (255 * np.clip(images, 0, 1) + 0.5).astype(np.uint8)
        texts = [str(width).encode(), str(height).encode(), *(tf.io.encode_png(image).numpy() for image in pixels)]
        value = Summary.Value(
            tag=tag,
            metadata=create_summary_metadata(None, description),
            tensor=make_tensor_proto(np.array(texts, object)),
        )
        self.write_summary(folder, step, Summary(value=[value]))

    def write_summary(self, folder: str, step: int, *summaries: Any) -> None:
        """Writes `Summary` messages as one event, which is faster than one event for each."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        # bytes, because TensorFlow and TensorBoard define the same message twice
        content = b"".join(summary.SerializeToString() for summary in summaries)
        self.write_event(folder, step, summary=Summary.FromString(content))

    def write_event(self, folder: str, step: int, **content: Any) -> None:
        """Writes an event; `content` is a field of the message `Event`."""
        import tensorflow as tf
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog

        def write() -> None:
            events: list[dict[str, Any]] = [{"step": step, **content}]
            if folder not in self._writers:
                (self.root / folder).mkdir(parents=True, exist_ok=True)
                path = self.root / folder / f"events.out.tfevents.{time.time_ns()}.v2"
                self._writers[folder] = tf.io.TFRecordWriter(str(path))
                session_start = SessionLog(status=SessionLog.START)
                begin = {"step": self._start_step, "session_log": session_start}
                events = [{"file_version": "brain.Event:2"}, begin, *events]
            for event in events:
                self._writers[folder].write(Event(wall_time=time.time(), **event).SerializeToString())

        self._disable_on_error(write)

    def flush(self, min_seconds: float = _FLUSH_SECONDS) -> None:
        """Writes the events in memory to the files, unless the last flush was less than `min_seconds` seconds ago."""
        if time.monotonic() - self._flushed_at >= min_seconds:
            self._disable_on_error(lambda: [writer.flush() for writer in self._writers.values()])
            self._flushed_at = time.monotonic()

    def close(self) -> None:
        """Closes all files."""
        self._disable_on_error(lambda: [writer.close() for writer in self._writers.values()])
        self._writers = {}

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
