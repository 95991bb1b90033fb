"""What a callback promises."""

from __future__ import annotations

from typing import ClassVar

from expfw.api.contracts import Callback, Plugin
from expfw.testing.bench import Bench
from expfw.testing.failing import fail
from expfw.testing.run_contract import LEFT_AT, RunContract


class CallbackContract(RunContract):
    """The checks of a callback, in runs of a small network.

    Attributes:
        model: the name of the model that it watches.
    """

    base: ClassVar[type[Plugin]] = Callback
    model: ClassVar[str] = "mlp_keras"

    def chosen(self, bench: Bench) -> list[str]:
        name = bench.found.name
        callbacks = "checkpoint" if name == "checkpoint" else f"checkpoint,{name}"
        return [f"model={self.model}", "backend=tf-cpu", f"callback=[{callbacks}]"]

    def test_state_comes_back(self, expfw_bench: Bench) -> None:
        """What state() gives is plain JSON, and restore() takes all of it back."""
        bench = expfw_bench
        folder, _ = bench.interrupted(LEFT_AT)
        _, keep = bench.go_on(folder)
        key = f"callback:{bench.found.name}"
        state, again = keep.checkpoint.get(key, {}), keep.restored.get(key, {})
        lost = [name for name in state if again.get(name) != state[name]]
        if lost:
            was, now = state[lost[0]], again.get(lost[0])
            fail(
                f"{bench.who}: of its state, {lost[0]!r} was {was!r}, after restore it is {now!r}",
                "let restore take back every value that state gives",
            )

    def remedy_for_going_on(self) -> str:
        return (
            "keep in state all that decides what the callback does next, as JSON values, and take it back in restore; "
            "draw random numbers from NumPy's or Python's global generators, whose state checkpoints have"
        )
