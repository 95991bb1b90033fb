"""What a tracker promises."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from expfw.api.contracts import Plugin, Tracker
from expfw.errors import ExpfwError
from expfw.sweeps import one_sweep
from expfw.testing.bench import Bench, read_run_points
from expfw.testing.contract import PluginContract
from expfw.testing.failure import fail
from expfw.testing.words import make_override
from expfw.tracking import journal, run_index
from expfw.tracking.shipper import delivery

DeliveredPoints = Sequence[tuple[str, int, float]] | Mapping[tuple[str, int], float]


class TrackerContract(PluginContract):
    """The checks of a tracker, with the journals of real runs and of a real sweep.

    Attributes:
        overrides: further overrides of these runs, as on the command line.
    """

    base: ClassVar[type[Plugin]] = Tracker
    overrides: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def needs_several_processors(cls) -> bool:
        return False

    def make_run_overrides(self, bench: Bench) -> list[str]:
        """The overrides of a run whose journal is delivered."""
        plugin_overrides = ["dataset=small_data", "model=mlp_keras", "callback=[checkpoint]", *bench.select_plugin()]
        return [*plugin_overrides, "train.epochs=2", "train.batch_size=8", "train.log_every=1", *self.overrides]

    def held(self, tracker: Any, runs_dir: Path, state: Mapping[str, Any]) -> DeliveredPoints | None:
        """What the destination holds of a run: name, step and value of each point, `[("val/loss", 4, 0.5), ...]`.

        A mapping, `{("val/loss", 4): 0.5}`, will do where the destination cannot hold a point twice.

        Override it: without it, nothing can tell whether what was delivered is there, and there once.

        Args:
            tracker: an open instance of the plugin.
            state: what `ship` keeps in mind of the run.
        """
        return None

    def test_destination_is_a_name(self, expfw_bench: Bench) -> None:
        """destination() is a text and the same each time, before open() is called."""
        first, second = (expfw_bench.make_plugin().destination(expfw_bench.runs_dir) for _ in range(2))
        if not isinstance(first, str) or first != second:
            fail(
                f"{expfw_bench.plugin_label}: destination gives {first!r}, and then {second!r}",
                "return the address or file that it writes to, found from the options alone",
            )

    def test_delivers_a_run(self, expfw_bench: Bench) -> None:
        """The journal of a run is delivered to its end, and what the tracker keeps in mind is plain JSON."""
        bench = expfw_bench
        folder = bench.run().folder
        state = _deliver_journal(bench, folder)
        self._check_delivered_points(bench, folder, state)

    def test_delivering_again_is_harmless(self, expfw_bench: Bench) -> None:
        """The same records once more change nothing: after a crash, the last ones come a second time."""
        bench = expfw_bench
        folder = bench.run().folder
        _deliver_journal(bench, folder)
        self._check_delivered_points(bench, folder, _deliver_journal(bench, folder, redeliver=True))

    def test_another_process_goes_on(self, expfw_bench: Bench) -> None:
        """Another instance goes on with what the first one kept in `state`."""
        bench = expfw_bench
        folder = bench.run("seed=5").folder
        records, _ = journal.read_records(folder / journal.NAME)
        state: dict[str, Any] = {}
        for batch, state_survives in ((records[:1], True), (records[1:9], False), (records[1:], True)):
            tracker, new_state = _open_tracker(bench), dict(state)
            try:
                tracker.ship(folder, new_state, batch)
            except Exception as error:
                problem = f"{bench.plugin_label}: ship raises {type(error).__name__} in a new process: {error}"
                fail(problem, "put what it must know of a run into `state`, not into attributes", cause=error)
            tracker.close()
            if (
                state_survives
            ):  # else the process died before it was: the state is the old one, and the records come again
                state = json.loads(json.dumps(new_state))
        self._check_delivered_points(bench, folder, state)

    def _check_delivered_points(self, bench: Bench, folder: Path, state: Mapping[str, Any]) -> None:
        tracker = _open_tracker(bench)
        held = self.held(tracker, bench.runs_dir, state)
        tracker.close()
        if held is None:
            return
        delivered: dict[tuple[str, int], list[float]] = {}
        points = [(*key, value) for key, value in held.items()] if isinstance(held, Mapping) else held
        for name, step, value in points:
            delivered.setdefault((name, step), []).append(value)
        logged = read_run_points(folder)
        for key in sorted(logged.keys() | delivered.keys()):
            expected, actual = logged.get(key, []), delivered.get(key, [])
            if len(expected) != len(actual) or not np.allclose(sorted(expected), sorted(actual), equal_nan=True):
                fail(
                    f"{bench.plugin_label}: {key[0]} at step {key[1]} is {expected} in the journal and {actual} there",
                    "deliver every record of the kind `metrics`, by name, step and value, and none a second time",
                )

    def test_delivers_a_sweep(self, expfw_bench: Bench) -> None:
        """A sweep and its trials are delivered by a process of its own while they run."""
        bench = expfw_bench
        option_overrides = [
            make_override(f"{bench.options_key}.{name}", value) for name, value in bench.options.items()
        ]
        overrides = [
            *self.make_run_overrides(bench),
            *option_overrides,
            "quiet=true",
            make_override("runs_dir", str(bench.runs_dir)),
            "seed=7,8",
        ]
        result = one_sweep.run_sweep(overrides, bench.catalogue)
        entries = [*run_index.list_sweeps(bench.runs_dir), *run_index.list_runs(bench.runs_dir)]
        journals = [e.folder for e in entries if e.folder == result.folder or result.folder in e.folder.parents]
        for folder in journals:
            progress = delivery.describe_progress(folder).get(bench.entry.name, "nothing was delivered")
            if progress != delivery.COMPLETE or len(journals) != 3:
                fail(
                    f"{bench.plugin_label}: of a sweep with two trials, {folder.name} is not delivered ({progress})",
                    f"ship what belongs to a sweep or leave it out; the log below {bench.runs_dir}/.shipping says more",
                )


def _open_tracker(bench: Bench) -> Tracker:
    tracker: Tracker = bench.make_plugin()
    try:
        tracker.open(bench.runs_dir)
    except Exception as error:
        remedy = "set `options` to a place that is there, a file below runs_dir say"
        fail(f"{bench.plugin_label}: open raises {type(error).__name__}: {error}", remedy, cause=error)
    return tracker


def _deliver_journal(bench: Bench, folder: Path, redeliver: bool = False) -> dict[str, Any]:
    """Delivers a journal as the shipper does; returns what the tracker keeps in mind."""
    tracker = _open_tracker(bench)
    journal_delivery = delivery.Delivery(
        bench.entry.name, tracker, folder, tracker.destination(bench.runs_dir), redeliver
    )
    if journal_delivery.is_complete:
        return journal_delivery.state
    try:
        while journal_delivery.deliver_portion():
            pass
    except (TypeError, ValueError, ExpfwError, OSError, LookupError, AttributeError, NotImplementedError) as error:
        problem = f"{bench.plugin_label}: delivering a run raises {type(error).__name__}: {error}"
        fail(problem, "mend ship; what it keeps in `state` must be JSON values", cause=error)
    tracker.close()
    return journal_delivery.state
