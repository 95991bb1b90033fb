"""What a run that goes on has in its journal already: it is compared, and not written again."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from expfw.tracking import journal

_MAX_LISTED_DIFFERENCES = 3


class Replay:
    """Stands between a run and its journal until all that was recorded behind the checkpoint has come again.

    Until `begin` nothing is written: a run that does not come so far stays as it was.

    A point (metric, step) once recorded is never written a second time, so that trackers get it once; where another
    value comes, the difference is counted. A message that was recorded is not repeated. All else is written.

    Args:
        path: the journal; begin: where the checkpoint's part of it ends.
        pending: what was still to come again when the checkpoint was made; see `state`.
        write: `Journal.write`.
        end_steps: steps at which the run had ended before; what was measured there need not come again.

    Attributes:
        differences: points that came again with another value.
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
        """Writes what was held back."""
        self.has_begun = True
        for kind, fields in self._held_records:
            self.record(kind, **fields)

    def state(self) -> dict[str, Any]:
        """What has still to come again, as JSON values, for a checkpoint."""
        values = [
            [name, step, list(remaining_values)] for (name, step), remaining_values in self._expected_values.items()
        ]
        return {
            "values": values,
            "messages": {text: count for text, count in self._expected_messages.items() if count > 0},
        }

    def record(self, kind: str, **fields: Any) -> None:
        """Writes what is new."""
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
        """What did not come again as it was recorded, up to `step`; None where all did."""
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
            parts.append(f"other values than recorded: {'; '.join(self.differences[:_MAX_LISTED_DIFFERENCES])}{more}")
        if missing_count:
            parts.append(f"{missing_count} recorded values did not come again")
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
                self.differences.append(f"{name} at step {step} is {value!r}, recorded was {recorded_value!r}")
        return new_values
