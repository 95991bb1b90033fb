"""Contract of a tracker."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from expfw.api.contracts import Plugin, Tracker
from expfw.api.result import Point
from expfw.config.compose import Composition
from expfw.errors import ExpfwError
from expfw.runs import exact_comparison
from expfw.sweeps import one_sweep
from expfw.testing.bench import Bench, read_run_points
from expfw.testing.contract import PluginContract
from expfw.tracking import journal, run_index
from expfw.tracking.shipper import delivery

DeliveredPoints = Sequence[tuple[str, int, float]] | Mapping[tuple[str, int], float]


class TrackerContract(PluginContract):
    """The checks of a tracker, with the journals of real runs and of a real sweep.

    Attributes:
        overrides: additional overrides of these runs, as on the command line.
    """

    base: ClassVar[type[Plugin]] = Tracker
    epochs: ClassVar[int] = 2

    def read_points(self, tracker: Any, runs_dir: Path, state: Mapping[str, Any]) -> DeliveredPoints | None:
        """Returns all points of a run at the destination: name, step and value, as in `[("val/loss", 4, 0.5), ...]`.

        Return a mapping, such as `{("val/loss", 4): 0.5}`, if the destination cannot store a point twice.

        Override this method. If it returns None, the checks cannot verify that each point was delivered exactly once.

        Args:
            tracker: open instance of the plugin.
            runs_dir: runs folder.
            state: `state` of `ship` for the run.
        """
        return None

    def test_destination_is_stable(self, expfw_bench: Bench) -> None:
        """destination() returns the same text in each call, before open() is called."""
        first, second = (expfw_bench.make_plugin().destination(expfw_bench.runs_dir) for _ in range(2))
        if not isinstance(first, str) or first != second:
            remedy = "return the address or file that the tracker writes to, computed only from the options"
            expfw_bench.fail(f"destination returns first {first!r}, then {second!r}", remedy)

    def test_delivers_a_run(self, expfw_bench: Bench) -> None:
        """The journal of a run is delivered completely, and the tracker's state is plain JSON."""
        folder = expfw_bench.run().folder
        self._check_delivered_points(expfw_bench, folder, _deliver_journal(expfw_bench, folder))

    def test_repeated_delivery_changes_nothing(self, expfw_bench: Bench) -> None:
        """Delivering the same records again changes nothing; after a crash, the last records are delivered twice."""
        folder = expfw_bench.run().folder
        _deliver_journal(expfw_bench, folder)
        state = _deliver_journal(expfw_bench, folder, from_beginning=True)
        self._check_delivered_points(expfw_bench, folder, state)

    def test_new_process_resumes_delivery(self, expfw_bench: Bench) -> None:
        """A new instance resumes the delivery with the `state` of the first one."""
        folder = expfw_bench.run("seed=5").folder
        records, _ = journal.read_records(folder / journal.NAME)
        state: dict[str, Any] = {}
        for batch, state_survives in ((records[:1], True), (records[1:9], False), (records[1:], True)):
            tracker, new_state = _open_tracker(expfw_bench), dict(state)
            try:
                tracker.ship(folder, new_state, batch)
            except Exception as error:
                problem = f"ship raises {type(error).__name__} in a new process: {error}"
                expfw_bench.fail(problem, "store information about a run in `state`, not in attributes", cause=error)
            tracker.close()
            if state_survives:  # otherwise the process died: the old state is used, the records are delivered again
                state = json.loads(json.dumps(new_state))
        self._check_delivered_points(expfw_bench, folder, state)

    def _check_delivered_points(self, bench: Bench, folder: Path, state: Mapping[str, Any]) -> None:
        tracker = _open_tracker(bench)
        points = self.read_points(tracker, bench.runs_dir, state)
        tracker.close()
        if points is None:
            return
        rows = [(*key, value) for key, value in points.items()] if isinstance(points, Mapping) else points
        delivered = exact_comparison.group_points(Point(step, {name: value}) for name, step, value in rows)
        logged = read_run_points(folder)
        for name, step in sorted(logged.keys() | delivered.keys()):
            expected, actual = sorted(logged.get((name, step), [])), sorted(delivered.get((name, step), []))
            if len(expected) != len(actual) or not np.allclose(expected, actual, equal_nan=True):
                problem = f"{name} at step {step} is {expected} in the journal, but {actual} at the destination"
                remedy = "deliver every record of the kind `metrics`, with name, step and value, exactly once"
                bench.fail(problem, remedy)

    def test_delivers_a_sweep(self, expfw_bench: Bench) -> None:
        """A shipper process delivers a sweep and its trials while they run."""
        bench = expfw_bench
        result = one_sweep.run_sweep(Composition([*bench.list_overrides(), "sweep.seeds=2"], bench.catalogue))
        runs = [*run_index.list_sweeps(bench.runs_dir), *run_index.list_runs(bench.runs_dir)]
        folders = [run.folder for run in runs if result.folder in (run.folder, *run.folder.parents)]
        for folder in folders:
            progress = delivery.describe_progress(folder).get(bench.entry.name, "nothing was delivered")
            if progress != delivery.COMPLETE or len(folders) != 3:
                bench.fail(
                    f"of a sweep with two trials, {folder.name} is not delivered ({progress})",
                    f"deliver or skip the records of a sweep; see the log in {bench.runs_dir}/.delivery",
                )


def _open_tracker(bench: Bench) -> Tracker:
    tracker: Tracker = bench.make_plugin()
    try:
        tracker.open(bench.runs_dir)
    except Exception as error:
        remedy = "set `options` to an existing destination, for example a file in runs_dir"
        bench.fail(f"open raises {type(error).__name__}: {error}", remedy, cause=error)
    return tracker


def _deliver_journal(bench: Bench, folder: Path, from_beginning: bool = False) -> dict[str, Any]:
    """Delivers a journal like the shipper. Returns the tracker's state."""
    tracker = _open_tracker(bench)
    destination = tracker.destination(bench.runs_dir)
    journal_delivery = delivery.Delivery(bench.entry.name, tracker, folder, destination, from_beginning)
    try:
        while not journal_delivery.is_complete and journal_delivery.deliver_portion():
            pass
    except (TypeError, ValueError, ExpfwError, OSError, LookupError, AttributeError, NotImplementedError) as error:
        problem = f"delivering a run raises {type(error).__name__}: {error}"
        bench.fail(problem, "fix ship; `state` must contain only JSON values", cause=error)
    tracker.close()
    return journal_delivery.state
