"""Replay: records that a resumed run already has in its journal are compared and not written again."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from expfw.system.formatting import pluralize
from expfw.tracking import journal

_MAX_LISTED_DIFFERENCES = 3


class Replay:
    """Filters the records of a resumed run until all records after the checkpoint are logged again.

    Nothing is written before `begin`: a run that cannot be resumed stays unchanged.

    A recorded point (metric, step) is never written a second time, so trackers get it once; a different value is
    counted as a difference. A recorded message is not repeated. All other records are written.

    Args:
        path: path of the journal.
        offset: size of the journal in bytes when the checkpoint was saved.
        pending: records that were still expected when the checkpoint was saved; see `state`.
        write: `Journal.write`.
        end_steps: steps at which the run had ended before; points of these steps are not expected again.

    Attributes:
        has_begun: whether records are written.
        differences: one line for each point that was logged again with a different value.
    """

    def __init__(
        self,
        path: Path,
        offset: int,
        pending: Mapping[str, Any],
        write: Callable[..., None],
        end_steps: Sequence[int] = (),
    ) -> None:
        self._write, self._end_steps = write, end_steps
        self.has_begun = False
        self._held_records: list[tuple[str, dict[str, Any]]] = []
        self._expected_values: dict[tuple[str, int], deque[float]] = defaultdict(deque)
        self._expected_messages: Counter[str] = Counter()
        self.differences: list[str] = []
        for name, step, values in pending.get("values", ()):
            self._expected_values[name, step].extend(values)
        self._expected_messages.update(pending.get("messages", {}))
        for record in journal.read_records(path, min(offset, path.stat().st_size))[0]:
            if record["kind"] == "metrics":
                for name, value in record["values"].items():
                    self._expected_values[name, record["step"]].append(value)
            elif record["kind"] == "message":
                self._expected_messages[record["text"]] += 1

    def begin(self) -> None:
        """Starts to write records, first those that were held back."""
        self.has_begun = True
        for kind, fields in self._held_records:
            self.record(kind, **fields)

    def state(self) -> dict[str, Any]:
        """Returns the records that are still expected, as JSON values, for a checkpoint."""
        values = [
            [name, step, list(remaining_values)] for (name, step), remaining_values in self._expected_values.items()
        ]
        return {
            "values": values,
            "messages": {text: count for text, count in self._expected_messages.items() if count > 0},
        }

    def record(self, kind: str, **fields: Any) -> None:
        """Writes a record if it is new."""
        if not self.has_begun:
            self._held_records.append((kind, fields))
            return
        if kind == "series" and self._expected_values:
            for metrics_record in journal.expand_series({"kind": kind, **fields}):
                self.record(**metrics_record)
        elif kind == "metrics":
            new_values = self._select_new_values(fields["step"], fields["values"])
            if new_values:
                self._write(kind, step=fields["step"], values=new_values)
        elif kind == "message" and self._expected_messages[fields["text"]] > 0:
            self._expected_messages[fields["text"]] -= 1
        else:
            self._write(kind, **fields)

    def describe_differences(self, step: int) -> str | None:
        """Returns the differences from the recorded points before `step` in one line, or None."""
        missing_count = sum(
            recorded_step < step and recorded_step not in self._end_steps for _, recorded_step in self._expected_values
        )
        parts = []
        if self.differences:
            more = (
                f" and {len(self.differences) - _MAX_LISTED_DIFFERENCES} more"
                if len(self.differences) > _MAX_LISTED_DIFFERENCES
                else ""
            )
            parts.append(
                f"values differ from the record: {'; '.join(self.differences[:_MAX_LISTED_DIFFERENCES])}{more}"
            )
        if missing_count:
            verb = "was" if missing_count == 1 else "were"
            parts.append(f"{pluralize(missing_count, 'recorded value')} {verb} not logged again")
        return ", and ".join(parts) or None

    def _select_new_values(self, step: int, values: Mapping[str, float]) -> dict[str, float]:
        new_values = {}
        for name, value in values.items():
            recorded_values = self._expected_values.get((name, step))
            if not recorded_values:
                new_values[name] = value
                continue
            recorded_value = recorded_values.popleft()
            if not recorded_values:
                del self._expected_values[name, step]
            if recorded_value != value and not (recorded_value != recorded_value and value != value):
                self.differences.append(f"{name} at step {step} is {value!r}, was {recorded_value!r}")
        return new_values
