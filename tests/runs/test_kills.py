"""A real run that is killed with SIGKILL at bad moments and resumed; benchmarks/engine/kills.py has more kills."""

from __future__ import annotations

import pytest
from support import kill_runs, tensorboard_events

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    run = kill_runs.run_uninterrupted(tmp_path_factory.mktemp("reference"))
    assert 3 < run.result.epochs < 12  # early stopping ends it
    return run


def test_a_run_killed_during_a_checkpoint_and_a_journal_line_is_resumed_exactly(reference, tmp_path):
    entry, died = kill_runs.run_with_kills(tmp_path, ["checkpoint:15", "journal:4"])
    assert died == 2
    assert kill_runs.find_differences(reference, entry) == []


@pytest.mark.parametrize("moment", ["training:1200", "evaluation:4", "arrays:4", "epoch:3"])
def test_a_run_killed_at_other_moments_is_resumed_exactly(reference, tmp_path, moment):
    entry, died = kill_runs.run_with_kills(tmp_path, [moment])
    assert died == 1
    assert kill_runs.find_differences(reference, entry) == []


def test_a_killed_run_has_the_event_files_of_an_uninterrupted_run(tmp_path, monkeypatch):
    callbacks = "callback=[checkpoint,early_stopping,augmentation,killer,gradients,tensorboard]"
    options = "callback.tensorboard={histograms: 10, gradients: true, misclassified: 3}"
    run = [callbacks if override.startswith("callback=") else override for override in kill_runs.RUN_OVERRIDES]
    monkeypatch.setattr(kill_runs, "RUN_OVERRIDES", (*run, "callback.gradients.every=5", options))
    entries = []
    for name, moments in (("whole", []), ("killed", ["training:700", "evaluation:5", "journal:4"])):
        (tmp_path / name).mkdir()
        entry, died = kill_runs.run_with_kills(tmp_path / name, moments or [""])
        assert died == len(moments)
        entries.append(entry)
    expected, events = (tensorboard_events.read_events(entry.folder / "tensorboard") for entry in entries)
    assert events == expected
