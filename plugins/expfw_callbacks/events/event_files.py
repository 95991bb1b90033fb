"""Event files for TensorBoard, exact also after a run is resumed."""

from __future__ import annotations

import functools
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

import expfw

FLUSH_SECONDS = 1.0  # seconds; TensorBoard need not be more up to date
_MAX_QUEUED_EVENTS = 1000  # most events in memory


class EventFiles:
    """Event files of one callback, in subfolders of `tensorboard/` in the run folder.

    TensorBoard shows each subfolder as a separate run. The events of a subfolder are numbered from 0, across its files,
    and the name of a file contains the number of its first event. A checkpoint therefore only saves the number of
    events (`state`). A resumed run removes all later events (`restore`), after any number of interruptions.

    Args:
        run: run that the files belong to. If it starts from the beginning, events of an earlier attempt are removed.
        owner: name of the callback. It is part of the file names; files of other callbacks are not changed.
    """

    def __init__(self, run: expfw.Run, owner: str) -> None:
        self.root = run.folder / "tensorboard"
        self._run, self._owner = run, owner
        self._counts: dict[str, int] = {}
        self._writers: dict[str, Any] = {}
        self._unflushed_folders: set[str] = set()
        self._flushed_at = time.monotonic()
        self._is_usable = True
        if run.resumed_at is None:
            self._disable_on_error(self._cut_files)

    def count_events(self, folder: str) -> int:
        """Returns the number of events in a folder."""
        return self._counts.get(folder, 0)

    def write_scalars(self, folder: str, step: int, values: Mapping[str, float]) -> None:
        """Writes numbers by tag as one event, which is faster than one event for each number."""
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.plugins.scalar.summary_v2 import scalar_pb

        summary = Summary()
        for tag, value in values.items():
            summary.MergeFrom(scalar_pb(tag, value))
        self.write_summary(folder, step, summary)

    def write_histograms(self, folder: str, step: int, arrays: Mapping[str, np.ndarray]) -> None:
        """Writes a histogram of each array, by tag."""
        import tensorflow as tf

        for tag, array in arrays.items():
            self._write_event(folder, step, functools.partial(tf.summary.histogram, tag, array))

    def write_images(
        self, folder: str, step: int, tag: str, pictures: np.ndarray, description: str | None = None
    ) -> None:
        """Writes images with values in [0, 1], `(n, height, width, channels)`, under one tag."""
        import tensorflow as tf

        count = len(pictures)
        self._write_event(
            folder, step, lambda: tf.summary.image(tag, pictures, max_outputs=count, description=description)
        )

    def write_graph(self, folder: str, graph: Any) -> None:
        """Writes a `tf.Graph`."""
        import tensorflow as tf

        self._write_event(folder, 0, lambda: tf.summary.graph(graph))

    def write_summary(self, folder: str, step: int, summary: Any) -> None:
        """Writes a `Summary` message unchanged."""
        import tensorflow as tf

        self._write_event(
            folder, step, lambda: tf.summary.experimental.write_raw_pb(summary.SerializeToString(), step=step)
        )

    def flush(self, min_seconds: float = 0.0) -> None:
        """Writes the events in memory to the files, unless the last flush was less than `min_seconds` seconds ago."""
        if time.monotonic() - self._flushed_at < min_seconds:
            return
        folders, self._unflushed_folders = self._unflushed_folders, set()
        self._disable_on_error(lambda: [self._writers[folder].flush() for folder in folders])
        self._flushed_at = time.monotonic()

    def close(self) -> None:
        """Closes all files."""
        self._disable_on_error(lambda: [writer.close() for writer in self._writers.values()])
        self._writers, self._unflushed_folders = {}, set()

    def state(self) -> dict[str, Any]:
        """Flushes the files and returns the number of events in each folder."""
        self.flush()
        return {"events": dict(sorted(self._counts.items()))}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Removes the events written after `state` returned this value. Call it before the first write."""
        self._counts = dict(state["events"])
        found_counts: dict[str, int] = {}
        self._disable_on_error(lambda: found_counts.update(self._cut_files()))
        missing_counts = {folder: count - found_counts.get(folder, 0) for folder, count in self._counts.items()}
        gaps = [
            f"{missing} of {self._counts[folder]} in {folder}"
            for folder, missing in missing_counts.items()
            if missing > 0
        ]
        if gaps and self._is_usable:
            self._run.warn(
                f"TensorBoard events before step {self._run.step} are missing in {self.root} ({', '.join(gaps)}), so "
                "its charts have gaps; the run continues, and its journal contains every metric"
            )

    def _write_event(self, folder: str, step: int, write: Callable[[], Any]) -> None:
        def write_and_count() -> None:
            with self._get_writer(folder).as_default(step=step):
                write()
            self._counts[folder] = self.count_events(folder) + 1
            self._unflushed_folders.add(folder)

        self._disable_on_error(write_and_count)

    def _get_writer(self, folder: str) -> Any:
        import tensorflow as tf

        if folder not in self._writers:
            self._writers[folder] = tf.summary.create_file_writer(
                str(self.root / folder),
                max_queue=_MAX_QUEUED_EVENTS,
                filename_suffix=f".{self._owner}.{self.count_events(folder)}.v2",
            )
        return self._writers[folder]

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

    def _cut_files(self) -> dict[str, int]:
        """Cuts this owner's events in each folder to the counted number; returns the numbers of remaining events."""
        own_file_pattern = re.compile(rf"\.tfevents\..*\.{re.escape(self._owner)}\.(\d+)\.v2$")
        found_counts: dict[str, int] = {}
        for path in sorted(self.root.rglob("events.out.*")):
            match = own_file_pattern.search(path.name)
            if match is None:
                continue
            folder = path.parent.relative_to(self.root).as_posix()
            max_events = self.count_events(folder) - int(match[1])
            if max_events > 0:
                found_counts[folder] = found_counts.get(folder, 0) + _truncate_file(path, max_events)
            else:
                path.unlink()
        return found_counts


def _truncate_file(path: Path, max_events: int) -> int:
    """Keeps the first `max_events` complete events of a file; returns the number of events kept.

    A record is the length (8 bytes), a checksum (4 bytes), the event and a second checksum (4 bytes). The first record
    contains the format version, not an event of this class.
    """
    size = path.stat().st_size
    with open(path, "r+b") as file:
        end_offset, record_count = 0, 0
        while record_count < 1 + max_events and end_offset + 8 <= size:
            file.seek(end_offset)
            next_offset = end_offset + 16 + int.from_bytes(file.read(8), "little")
            if next_offset > size:  # incomplete record
                break
            end_offset, record_count = next_offset, record_count + 1
        file.truncate(end_offset)
    return max(0, record_count - 1)
