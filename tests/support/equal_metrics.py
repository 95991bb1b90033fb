"""Metrics of a run, their comparison, and free addresses for workers."""

from __future__ import annotations

import socket
from contextlib import ExitStack, suppress
from pathlib import Path

import numpy as np

from expfw.tracking.recorded_run import read_run

ENGINE_PLUGINS = str(Path(__file__).parent / "plugins" / "engine_plugins.py")
DEVICE_OVERRIDES = {
    "mirrored-2": ("backend=mirrored", "backend.cpus=2"),
    "mirrored-4": ("backend=mirrored", "backend.cpus=4"),
    "streamed": ("backend.resident_limit=0",),
    "mirrored-2-streamed": ("backend=mirrored", "backend.cpus=2", "backend.resident_limit=0"),
    "in-parts": ("train.accumulate=3",),
    "mirrored-2-in-parts": ("backend=mirrored", "backend.cpus=2", "train.accumulate=2"),
}


def read_metrics(folder):
    """Returns the values of each metric by step."""
    values_by_metric = {}
    for point in read_run(folder).points:
        for name, value in point.values.items():
            values_by_metric.setdefault(name, {})[point.step] = value
    return values_by_metric


def assert_equal_metrics(folder, expected, tolerance=1e-5):
    actual = read_metrics(folder)
    assert actual.keys() == expected.keys()
    for name, values in expected.items():
        assert actual[name].keys() == values.keys()
        np.testing.assert_allclose(
            list(actual[name].values()), list(values.values()), rtol=tolerance, atol=tolerance, err_msg=name
        )


def find_free_addresses(count):
    """Returns free addresses `host:port` of this machine; the next port is also free."""
    addresses = []
    with ExitStack() as sockets:
        while len(addresses) < count:
            first, second = (sockets.enter_context(socket.socket()) for _ in range(2))
            first.bind(("127.0.0.1", 0))
            port = first.getsockname()[1]
            with suppress(OSError):  # the next port is used
                second.bind(("127.0.0.1", port + 1))
                addresses.append(f"127.0.0.1:{port}")
    return addresses
