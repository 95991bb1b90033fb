"""Network and dataset of the benchmarks as plugins, for `expfw -p`."""

from __future__ import annotations

import dataclasses
import sys
from dataclasses import dataclass
from pathlib import Path

import expfw

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))


class BenchmarkMnist(expfw.Dataset):
    """MNIST, loaded and scaled as in the peers."""

    @dataclass
    class Config:
        folder: str = dataclasses.field(metadata={"help": "folder of the four MNIST files"})

    def load(self, seed: int) -> expfw.Splits:
        import networks

        data = networks.load_mnist(Path(self.config.folder))
        return expfw.Splits(
            expfw.DataSpec((784,), 10),
            expfw.Split(data["x"], data["y"]),
            expfw.Split(data["x_validation"], data["y_validation"]),
        )


class BenchmarkMlp(expfw.Model):
    """The network that the peers train."""

    def build(self, data: expfw.DataSpec) -> object:
        import networks

        return networks.build_mlp(("accuracy",))
