"""Contract of a callback."""

from __future__ import annotations

from typing import ClassVar

from expfw.api.contracts import Callback, Plugin
from expfw.testing.bench import Bench
from expfw.testing.failure import fail
from expfw.testing.run_contract import INTERRUPT_STEP, RunContract


class CallbackContract(RunContract):
    """The checks of a callback, in runs of a small network.

    Attributes:
        model: name of the model to train.
    """

    base: ClassVar[type[Plugin]] = Callback
    model: ClassVar[str] = "mlp_keras"

    def select_plugins(self, bench: Bench) -> list[str]:
        name = bench.entry.name
        callbacks = "checkpoint" if name == "checkpoint" else f"checkpoint,{name}"
        return [f"model={self.model}", "backend=tf-cpu", f"callback=[{callbacks}]"]

    def test_state_is_restored(self, expfw_bench: Bench) -> None:
        """state() returns plain JSON values, and restore() restores all of them."""
        bench = expfw_bench
        folder, _ = bench.interrupt_run(INTERRUPT_STEP)
        _, recorder = bench.resume_run(folder)
        key = f"callback:{bench.entry.name}"
        saved_state, restored_state = recorder.checkpoint_states.get(key, {}), recorder.restored_states.get(key, {})
        lost_names = [name for name in saved_state if restored_state.get(name) != saved_state[name]]
        if lost_names:
            saved_value, restored_value = saved_state[lost_names[0]], restored_state.get(lost_names[0])
            fail(
                f"{bench.plugin_label}: {lost_names[0]!r} in its state was {saved_value!r}, after restore it is "
                f"{restored_value!r}",
                "restore every value of state in restore",
            )

    def get_resume_remedy(self) -> str:
        return (
            "return the complete state of the callback from state, as JSON values, and restore it in restore; "
            "draw random numbers from NumPy's or Python's global generators, whose state is part of checkpoints"
        )
