"""The contract of each kind of plugin."""

from __future__ import annotations

from expfw.testing import BackendContract, CallbackContract, DatasetContract, ModelContract, TrackerContract

CONTRACTS = {
    "backend": BackendContract,
    "callback": CallbackContract,
    "dataset": DatasetContract,
    "model": ModelContract,
    "tracker": TrackerContract,
}
