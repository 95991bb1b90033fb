"""A real run, killed by SIGKILL at bad moments, that goes on; the long campaign is benchmarks/engine/kills.py."""

from __future__ import annotations

import pytest
from support import kill_runs, tensorboard_events


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    return kill_runs.run_uninterrupted(tmp_path_factory.mktemp("reference"))


@pytest.mark.slow
def test_the_run_is_one_that_early_stopping_ends(reference):
    assert 3 < reference.last["epochs"] < 12


@pytest.mark.slow
def test_killed_in_the_middle_of_a_checkpoint_and_of_a_line_of_the_journal(reference, tmp_path):
    entry, died = kill_runs.run_with_kills(tmp_path, ["checkpoint:15", "journal:4"])
    assert died == 2
    assert kill_runs.find_differences(reference, entry) == []


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["training:1200", "evaluation:4", "arrays:4", "epoch:3"])
def test_killed_at_other_moments(reference, tmp_path, moment):
    entry, died = kill_runs.run_with_kills(tmp_path, [moment])
    assert died == 1
    assert kill_runs.find_differences(reference, entry) == []


@pytest.mark.slow
def test_killed_outright_its_event_files_are_those_of_a_run_that_was_left_alone(tmp_path, monkeypatch):
    watched = "callback=[checkpoint,early_stopping,augmentation,killer,gradients,tensorboard]"
    options = "callback.tensorboard={histograms: 10, gradients: true, misclassified: 3}"
    run = [watched if word.startswith("callback=") else word for word in kill_runs.RUN_OVERRIDES]
    monkeypatch.setattr(kill_runs, "RUN_OVERRIDES", (*run, "callback.gradients.every=5", options))
    entries = []
    for name, moments in (("whole", []), ("killed", ["training:700", "evaluation:5", "journal:4"])):
        (tmp_path / name).mkdir()
        entry, died = kill_runs.run_with_kills(tmp_path / name, moments or [""])
        assert died == len(moments)
        entries.append(entry)
    expected, found = (tensorboard_events.read_events(entry.folder / "tensorboard") for entry in entries)
    tensorboard_events.assert_unique_events(found)
    assert found == expected
