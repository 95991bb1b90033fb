"""Event files for TensorBoard, also of runs that are resumed, and on a disk that is full for a while."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

import expfw

_FLUSH_SECONDS = 1.0  # TensorBoard need not be more up to date
_MAX_WAITING_BYTES = 16 << 20


class EventFile:
    """One event file. Events wait in memory until `flush` writes them, and longer if they cannot be written.

    Attributes:
        lost_count: events that were dropped because `_MAX_WAITING_BYTES` were waiting.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._file, self.lost_count = path, -1, 0
        self._waiting: list[bytes] = []
        self._waiting_bytes = self._position = 0

    @property
    def waiting_count(self) -> int:
        """Events that are not in the file."""
        return len(self._waiting)

    def append(self, event: bytes) -> None:
        """Adds a serialized `Event`."""
        from tensorboard.summary.writer.record_writer import RecordWriter

        if self._waiting_bytes > _MAX_WAITING_BYTES:
            self.lost_count += 1
            return
        record = io.BytesIO()
        RecordWriter(record).write(event)
        self._waiting.append(record.getvalue())
        self._waiting_bytes += record.tell()

    def flush(self) -> OSError | None:
        """Writes the waiting events; returns the error if they must wait longer.

        A part that was written is written again at the same position, so TensorBoard reads each event once.
        """
        data, written = b"".join(self._waiting), 0
        try:
            if self._file < 0:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT, 0o644)
            while written < len(data):
                written += os.pwrite(self._file, data[written:], self._position + written)
        except OSError as error:
            return error
        # One statement, because a signal may raise an exception between two.
        self._position, self._waiting, self._waiting_bytes = self._position + written, [], 0
        return None

    def close(self) -> None:
        """Closes the file; waiting events are lost."""
        if self._file >= 0:
            os.close(self._file)


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
        self._files: dict[str, EventFile] = {}
        self._flushed_at, self._is_waiting = time.monotonic(), False

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
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog

        events: list[dict[str, Any]] = [{"step": step, **content}]
        if folder not in self._files:
            self._files[folder] = EventFile(self.root / folder / f"events.out.tfevents.{time.time_ns()}.v2")
            begin = {"step": self._start_step, "session_log": SessionLog(status=SessionLog.START)}
            events = [{"file_version": "brain.Event:2"}, begin, *events]
        for event in events:
            self._files[folder].append(Event(wall_time=time.time(), **event).SerializeToString())

    def flush(self, min_seconds: float = _FLUSH_SECONDS) -> None:
        """Writes the waiting events to the files, unless the last flush was less than `min_seconds` seconds ago.

        While the files cannot be written, the events stay in memory, and checkpoints continue.
        """
        if time.monotonic() - self._flushed_at >= min_seconds:
            error = self._flush_files()
            if error is not None and not self._is_waiting:
                self._run.warn(
                    f"cannot write TensorBoard files to {self.root}: {error.strerror}; the run continues and keeps "
                    f"up to {_MAX_WAITING_BYTES >> 20} MiB of events per file in memory; free some space on that disk"
                )
            self._is_waiting, self._flushed_at = error is not None, time.monotonic()

    def _flush_files(self) -> OSError | None:
        """Writes all files; returns the last error."""
        errors = [error for file in self._files.values() if (error := file.flush()) is not None]
        return errors[-1] if errors else None

    def close(self) -> None:
        """Writes and closes all files; warns if events are lost."""
        error, files = self._flush_files(), self._files.values()
        if lost := sum(file.lost_count + file.waiting_count for file in files):
            reason = f": {error.strerror}" if error is not None else ", the disk was full for too long"
            self._run.warn(
                f"{lost} events are missing in the TensorBoard files in {self.root}{reason}; the journal contains "
                "every metric"
            )
        for file in files:
            file.close()
        self._files = {}
