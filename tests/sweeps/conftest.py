"""A sweep of small trials, and a model that fails as configured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from expfw.tracking import journal, run_index
from expfw.tracking.ledger import Ledger, Trial
from expfw.tracking.recorded_run import RecordedRun

FRAGILE = """
import os, time
from dataclasses import dataclass
from pathlib import Path
import expfw
from expfw_models.ols import Ols

class Fragile(Ols):
    @dataclass
    class Config(Ols.Config):
        how: str = "well"

    def build(self, data):
        how = self.config.how
        if how == "gpus":
            Path(f"gpus-{os.getpid()}").write_text(os.environ["CUDA_VISIBLE_DEVICES"])
        if how == "eat":
            eaten = [bytes([1]) * (1 << 28) for _ in range(12)]
        if how in ("eat", "sleep"):
            time.sleep(60)
        if how == "fail":
            raise RuntimeError("as configured")
        if how == "long":
            raise expfw.ConfigError(f"the value is {'x ' * 10_000}; choose another")
        if how == "unfit":
            raise expfw.ConfigError("how=unfit does not fit")
        if how == "exit":
            raise SystemExit(3)
        if how == "die":
            os.kill(os.getpid(), 11)
        if how == "flaky" and not Path("was").exists():
            Path("was").touch()
            raise RuntimeError("the first time")
        model = super().build(data)
        if how == "step":
            model.test_step = lambda batch: os.kill(os.getpid(), 9)
        return model
"""


@pytest.fixture
def fragile_file(workdir) -> Path:
    """Plugin file of a model that fails as its option `how` says."""
    (workdir / "fragile.py").write_text(FRAGILE)
    return workdir / "fragile.py"


@dataclass(frozen=True)
class FinishedSweep:
    """A sweep and the output of its command."""

    code: int
    out: str
    err: str
    workdir: Path

    @property
    def entry(self) -> RecordedRun:
        (entry,) = run_index.list_sweeps(self.workdir / "runs")
        return entry

    @property
    def trials(self) -> list[Trial]:
        return Ledger(self.entry.folder).read_trials()

    def pretend_interruption(self, *changed_trials: Trial) -> None:
        """Changes the records as if the sweep had been interrupted."""
        for trial in changed_trials:
            Ledger(self.entry.folder).write(trial)
        with journal.Journal(self.entry.folder / journal.NAME) as record:
            record.write("sweep_ended", status="KILLED")


@pytest.fixture
def sweep_here(expfw_here, workdir) -> Callable[..., FinishedSweep]:
    """Runs a sweep of the dataset `line` with one epoch and without a tracker, in the working directory."""

    def run_sweep(*overrides: str, files: tuple[str, ...] = ()) -> FinishedSweep:
        arguments = {"dataset": "line", "model": "ols", "seed": "1,2", "tracker": "[]", "train.epochs": "1"}
        given = {override.lstrip("+").partition("=")[0] for override in overrides}
        defaults = [f"{key}={value}" for key, value in arguments.items() if key not in given]
        flags = [word for file in files for word in ("-p", file)]
        done = expfw_here(*flags, "sweep", *defaults, *overrides)
        return FinishedSweep(done.code, done.out, done.err, workdir)

    return run_sweep
