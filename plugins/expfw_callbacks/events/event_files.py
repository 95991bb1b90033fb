"""Event files, which TensorBoard reads: written by one callback, exact also where a run goes on."""

from __future__ import annotations

import functools
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

import expfw

FLUSH_SECONDS = 1.0  # seconds: what TensorBoard shows need not be newer
_MAX_QUEUED_EVENTS = 1000  # events that wait in memory at most


class EventFiles:
    """Writes into folders below `tensorboard/` of a run's folder; TensorBoard shows each folder as a run of its own.

    The events of a folder are numbered from 0, whatever file they are in, and a file's name says with which number it
    begins. So a checkpoint needs to remember no more than how many events there were (`state`), and who goes on from it
    cuts off what came later (`restore`), however often the run was interrupted.

    Args:
        run: whose files they are; where it begins, what an earlier life of it left without a checkpoint is removed.
        owner: name of the callback; it is in the names of its files, those of others are left alone.
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
        """How many events a folder has."""
        return self._counts.get(folder, 0)

    def write_scalars(self, folder: str, step: int, values: Mapping[str, float]) -> None:
        """Writes numbers by tag, all as one event: that costs a fraction of one for each."""
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.plugins.scalar.summary_v2 import scalar_pb

        summary = Summary()
        for tag, value in values.items():
            summary.MergeFrom(scalar_pb(tag, value))
        self.write_summary(folder, step, summary)

    def write_histograms(self, folder: str, step: int, arrays: Mapping[str, np.ndarray]) -> None:
        """Writes how the values of arrays are distributed, by tag."""
        import tensorflow as tf

        for tag, array in arrays.items():
            self._write_event(folder, step, functools.partial(tf.summary.histogram, tag, array))

    def write_images(
        self, folder: str, step: int, tag: str, pictures: np.ndarray, description: str | None = None
    ) -> None:
        """Writes pictures with values in [0, 1], `(n, height, width, channels)`, side by side below one tag."""
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
        """Writes a `Summary` message as it is."""
        import tensorflow as tf

        self._write_event(
            folder, step, lambda: tf.summary.experimental.write_raw_pb(summary.SerializeToString(), step=step)
        )

    def flush(self, min_seconds: float = 0.0) -> None:
        """Hands to the system what waits in memory, unless that was done less than `min_seconds` seconds ago."""
        if time.monotonic() - self._flushed_at < min_seconds:
            return
        folders, self._unflushed_folders = self._unflushed_folders, set()
        self._disable_on_error(lambda: [self._writers[folder].flush() for folder in folders])
        self._flushed_at = time.monotonic()

    def close(self) -> None:
        """Ends all files."""
        self._disable_on_error(lambda: [writer.close() for writer in self._writers.values()])
        self._writers, self._unflushed_folders = {}, set()

    def state(self) -> dict[str, Any]:
        """How many events each folder has, all of them on their way to the disk."""
        self.flush()
        return {"events": dict(sorted(self._counts.items()))}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Takes away what came after `state` gave this; called before anything is written."""
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
                f"events from before step {self._run.step} are missing in {self.root} ({', '.join(gaps)}), so "
                "TensorBoard has gaps there; the run goes on, and its journal has every metric"
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
        """Does what may fail with the disk; then there are no more event files, and checkpoints are made as before."""
        import tensorflow as tf

        if not self._is_usable:
            return
        try:
            action()
        except (tf.errors.OpError, OSError) as error:
            self._is_usable = False
            reason = error.message if isinstance(error, tf.errors.OpError) else error.strerror
            self._run.warn(
                f"files for TensorBoard cannot be written in {self.root} ({reason}); the run goes on without, and its "
                "journal has every metric"
            )

    def _cut_files(self) -> dict[str, int]:
        """Leaves in each folder as many events of this owner as are counted; returns how many it found."""
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
    """Leaves so many events in a file, or as many whole ones as it has; returns how many.

    A record is its length in 8 bytes, 4 of checksum, the event, and 4 of checksum again. The first one is no event of
    ours but the version of the format.
    """
    size = path.stat().st_size
    with open(path, "r+b") as file:
        end_offset, record_count = 0, 0
        while record_count < 1 + max_events and end_offset + 8 <= size:
            file.seek(end_offset)
            next_offset = end_offset + 16 + int.from_bytes(file.read(8), "little")
            if next_offset > size:  # torn
                break
            end_offset, record_count = next_offset, record_count + 1
        file.truncate(end_offset)
    return max(0, record_count - 1)
