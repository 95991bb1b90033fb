"""What a run that goes on has in its journal already: it is compared, and not written again."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from expfw.tracking import journal

_MOST_SHOWN = 3


class Replay:
    """Stands between a run and its journal until all that was recorded behind the checkpoint has come again.

    Until `begin` nothing is written: a run that does not come so far stays as it was.

    A point (metric, step) once recorded is never written a second time, so that trackers get it once; where another
    value comes, the difference is counted. A message that was recorded is not repeated. All else is written.

    Args:
        path: the journal; begin: where the checkpoint's part of it ends.
        pending: what was still to come again when the checkpoint was made; see `state`.
        write: `Journal.write`.
        ends: steps at which the run had ended before; what was measured there need not come again.

    Attributes:
        differences: points that came again with another value.
    """

    def __init__(
        self,
        path: Path,
        begin: int,
        pending: Mapping[str, Any],
        write: Callable[..., None],
        ends: Sequence[int] = (),
    ) -> None:
        self._write, self._ends = write, ends
        self.begun = False
        self._held: list[tuple[str, dict[str, Any]]] = []
        self._values: dict[tuple[str, int], deque[float]] = defaultdict(deque)
        self._messages: Counter[str] = Counter()
        self.differences: list[str] = []
        for name, step, values in pending.get("values", ()):
            self._values[name, step].extend(values)
        self._messages.update(pending.get("messages", {}))
        for record in journal.read(path, min(begin, path.stat().st_size))[0]:
            if record["kind"] == "metrics":
                for name, value in record["values"].items():
                    self._values[name, record["step"]].append(value)
            elif record["kind"] == "message":
                self._messages[record["text"]] += 1

    def begin(self) -> None:
        """Writes what was held back."""
        self.begun = True
        for kind, fields in self._held:
            self.record(kind, **fields)

    def state(self) -> dict[str, Any]:
        """What has still to come again, as JSON values, for a checkpoint."""
        values = [[name, step, list(left)] for (name, step), left in self._values.items()]
        return {"values": values, "messages": {text: count for text, count in self._messages.items() if count > 0}}

    def record(self, kind: str, **fields: Any) -> None:
        """Writes what is new."""
        if not self.begun:
            self._held.append((kind, fields))
            return
        if kind == "series" and self._values:
            for one in journal.steps({"kind": kind, **fields}):
                self.record(**one)
        elif kind == "metrics":
            new = self._new(fields["step"], fields["values"])
            if new:
                self._write(kind, step=fields["step"], values=new)
        elif kind == "message" and self._messages[fields["text"]] > 0:
            self._messages[fields["text"]] -= 1
        else:
            self._write(kind, **fields)

    def summary(self, step: int) -> str | None:
        """What did not come again as it was recorded, up to `step`; None where all did."""
        absent = sum(at < step and at not in self._ends for _, at in self._values)
        parts = []
        if self.differences:
            more = f" and {len(self.differences) - _MOST_SHOWN} more" if len(self.differences) > _MOST_SHOWN else ""
            parts.append(f"other values than recorded: {'; '.join(self.differences[:_MOST_SHOWN])}{more}")
        if absent:
            parts.append(f"{absent} recorded values did not come again")
        return ", and ".join(parts) or None

    def _new(self, step: int, values: Mapping[str, float]) -> dict[str, float]:
        new = {}
        for name, value in values.items():
            recorded = self._values.get((name, step))
            if not recorded:
                new[name] = value
                continue
            before = recorded.popleft()
            if not recorded:
                del self._values[name, step]
            if before != value and not (before != before and value != value):
                self.differences.append(f"{name} at step {step} is {value!r}, recorded was {before!r}")
        return new
