"""Contract of a callback."""

from __future__ import annotations

from typing import ClassVar

from expfw.api.contracts import Callback, Plugin
from expfw.testing.bench import Bench
from expfw.testing.contract import RunContract


class CallbackContract(RunContract):
    """The checks of a callback, in runs of a small network.

    Attributes:
        model: name of the model to train.
    """

    base: ClassVar[type[Plugin]] = Callback
    resume_remedy: ClassVar[str] = (
        "return the complete state of the callback from state, as JSON values, and restore it in restore; draw random "
        "numbers from NumPy's or Python's global generators, whose state is part of checkpoints"
    )

    def test_state_is_restored(self, expfw_bench: Bench) -> None:
        """state() returns plain JSON values, and restore() restores all of them."""
        _, observer = expfw_bench.resumed_run
        key = f"callback:{expfw_bench.entry.name}"
        saved_state, restored_state = observer.checkpoint_states.get(key, {}), observer.restored_states.get(key, {})
        for name, value in saved_state.items():
            if restored_state.get(name) != value:
                problem = f"{name!r} in its state was {value!r}, after restore it is {restored_state.get(name)!r}"
                expfw_bench.fail(problem, "restore every value of state in restore")
