"""What a callback promises."""

from __future__ import annotations

import json
from typing import ClassVar

from expfw import checkpoints
from expfw.testing.bench import Bench
from expfw.testing.failing import fail
from expfw.testing.run_contract import RunContract


class CallbackContract(RunContract):
    """The checks of a callback, in runs of a small network.

    Attributes:
        model: the name of the model that it watches.
    """

    model: ClassVar[str] = "mlp_keras"

    def chosen(self, bench: Bench) -> list[str]:
        name = bench.found.name
        callbacks = "checkpoint" if name == "checkpoint" else f"checkpoint,{name}"
        return [f"model={self.model}", "backend=tf-cpu", f"callback=[{callbacks}]"]

    def test_state_comes_back(self, expfw_bench: Bench) -> None:
        """What state() gives is plain JSON, and restore() takes all of it back."""
        bench = expfw_bench
        folder = bench.run().folder
        newest = next(checkpoints.good(folder, report=lambda line: None), None)
        if newest is None:
            fail(f"a run with {bench.who} leaves no checkpoint", "let the callback `checkpoint` make its own")
        state = newest.plugins.get(f"callback:{bench.found.name}", {})
        if not state:
            return
        fresh = bench.make()
        fresh.restore(state)
        again = json.loads(json.dumps(dict(fresh.state())))
        lost = [name for name in state if again.get(name) != state[name]]
        if lost:
            fail(
                f"{bench.who}: of its state, {lost[0]!r} was {state[lost[0]]!r}, after restore {again.get(lost[0])!r}",
                "let restore take back every value that state gives",
            )

    def remedy_for_going_on(self) -> str:
        return (
            "keep in state all that decides what the callback does next, as JSON values, and take it back in restore; "
            "draw random numbers from NumPy's or Python's global generators, whose state checkpoints have"
        )
