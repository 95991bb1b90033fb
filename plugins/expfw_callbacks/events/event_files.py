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

PAUSE = 1.0  # seconds: what TensorBoard shows need not be newer
_WAITING = 1000  # events that wait in memory at most


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
        self._waiting: set[str] = set()
        self._flushed = time.monotonic()
        self._usable = True
        if run.resumed_at is None:
            self._guarded(self._cut)

    def count(self, folder: str) -> int:
        """How many events a folder has."""
        return self._counts.get(folder, 0)

    def scalars(self, folder: str, step: int, values: Mapping[str, float]) -> None:
        """Writes numbers by tag, all as one event: that costs a fraction of one for each."""
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.plugins.scalar.summary_v2 import scalar_pb

        summary = Summary()
        for tag, value in values.items():
            summary.MergeFrom(scalar_pb(tag, value))
        self.summary(folder, step, summary)

    def histograms(self, folder: str, step: int, arrays: Mapping[str, np.ndarray]) -> None:
        """Writes how the values of arrays are distributed, by tag."""
        import tensorflow as tf

        for tag, array in arrays.items():
            self._write(folder, step, functools.partial(tf.summary.histogram, tag, array))

    def images(self, folder: str, step: int, tag: str, pictures: np.ndarray, description: str | None = None) -> None:
        """Writes pictures with values in [0, 1], `(n, height, width, channels)`, side by side below one tag."""
        import tensorflow as tf

        count = len(pictures)
        self._write(folder, step, lambda: tf.summary.image(tag, pictures, max_outputs=count, description=description))

    def graph(self, folder: str, graph: Any) -> None:
        """Writes a `tf.Graph`."""
        import tensorflow as tf

        self._write(folder, 0, lambda: tf.summary.graph(graph))

    def summary(self, folder: str, step: int, summary: Any) -> None:
        """Writes a `Summary` message as it is."""
        import tensorflow as tf

        self._write(folder, step, lambda: tf.summary.experimental.write_raw_pb(summary.SerializeToString(), step=step))

    def flush(self, pause: float = 0.0) -> None:
        """Hands to the system what waits in memory, unless that was done less than `pause` seconds ago."""
        if time.monotonic() - self._flushed < pause:
            return
        waiting, self._waiting = self._waiting, set()
        self._guarded(lambda: [self._writers[folder].flush() for folder in waiting])
        self._flushed = time.monotonic()

    def close(self) -> None:
        """Ends all files."""
        self._guarded(lambda: [writer.close() for writer in self._writers.values()])
        self._writers, self._waiting = {}, set()

    def state(self) -> dict[str, Any]:
        """How many events each folder has, all of them on their way to the disk."""
        self.flush()
        return {"events": dict(sorted(self._counts.items()))}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Takes away what came after `state` gave this; called before anything is written."""
        self._counts = dict(state["events"])
        found: dict[str, int] = {}
        self._guarded(lambda: found.update(self._cut()))
        fewer = {folder: count - found.get(folder, 0) for folder, count in self._counts.items()}
        lost = [f"{missing} of {self._counts[folder]} in {folder}" for folder, missing in fewer.items() if missing > 0]
        if lost and self._usable:
            self._run.warn(
                f"events from before step {self._run.step} are missing in {self.root} ({', '.join(lost)}), so "
                "TensorBoard has gaps there; the run goes on, and its journal has every metric"
            )

    def _write(self, folder: str, step: int, write: Callable[[], Any]) -> None:
        def one() -> None:
            with self._writer(folder).as_default(step=step):
                write()
            self._counts[folder] = self.count(folder) + 1
            self._waiting.add(folder)

        self._guarded(one)

    def _writer(self, folder: str) -> Any:
        import tensorflow as tf

        if folder not in self._writers:
            self._writers[folder] = tf.summary.create_file_writer(
                str(self.root / folder),
                max_queue=_WAITING,
                filename_suffix=f".{self._owner}.{self.count(folder)}.v2",
            )
        return self._writers[folder]

    def _guarded(self, action: Callable[[], Any]) -> None:
        """Does what may fail with the disk; then there are no more event files, and checkpoints are made as before."""
        import tensorflow as tf

        if not self._usable:
            return
        try:
            action()
        except (tf.errors.OpError, OSError) as error:
            self._usable = False
            what = error.message if isinstance(error, tf.errors.OpError) else error.strerror
            self._run.warn(
                f"files for TensorBoard cannot be written in {self.root} ({what}); the run goes on without, and its "
                "journal has every metric"
            )

    def _cut(self) -> dict[str, int]:
        """Leaves in each folder as many events of this owner as are counted; returns how many it found."""
        ours = re.compile(rf"\.tfevents\..*\.{re.escape(self._owner)}\.(\d+)\.v2$")
        found: dict[str, int] = {}
        for path in sorted(self.root.rglob("events.out.*")):
            match = ours.search(path.name)
            if match is None:
                continue
            folder = path.parent.relative_to(self.root).as_posix()
            wanted = self.count(folder) - int(match[1])
            if wanted > 0:
                found[folder] = found.get(folder, 0) + _shorten(path, wanted)
            else:
                path.unlink()
        return found


def _shorten(path: Path, wanted: int) -> int:
    """Leaves so many events in a file, or as many whole ones as it has; returns how many.

    A record is its length in 8 bytes, 4 of checksum, the event, and 4 of checksum again. The first one is no event of
    ours but the version of the format.
    """
    size = path.stat().st_size
    with open(path, "r+b") as file:
        end, records = 0, 0
        while records < 1 + wanted and end + 8 <= size:
            file.seek(end)
            after = end + 16 + int.from_bytes(file.read(8), "little")
            if after > size:  # torn
                break
            end, records = after, records + 1
        file.truncate(end)
    return max(0, records - 1)
