"""A sweep of which a process is killed: no trial is trained twice, no record is lost, nothing is left behind."""

from __future__ import annotations

import pytest
from support import kill_sweeps

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """Runs an uninterrupted sweep; returns its entry."""
    return kill_sweeps.run_uninterrupted(tmp_path_factory.mktemp("whole"), *kill_sweeps.GRID)[0]


@pytest.mark.parametrize("parts", ["server", "shipper", "trial", "server trial", "command server", "command shipper"])
def test_a_sweep_whose_processes_are_killed_has_the_same_table(workdir, reference, parts):
    assert kill_sweeps.kill_and_compare(workdir, kill_sweeps.GRID, parts.split(), reference) == []
