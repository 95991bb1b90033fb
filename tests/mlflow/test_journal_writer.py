"""Records of a journal in MLflow."""

from __future__ import annotations

from unittest.mock import Mock

import pytest

from expfw_mlflow.records.journal_writer import JournalWriter


@pytest.fixture
def writer(tmp_path):
    state = {"run_id": "r1", "objective": {"metric": "val/loss", "mode": "max"}}
    return JournalWriter(Mock(), "1", Mock(), Mock(), tmp_path, state)


@pytest.mark.parametrize(("used", "linked"), [("train/epoch_loss", "train/epoch_loss"), (None, "val/loss")])
def test_the_link_in_a_note_sorts_the_trials_by_the_metric_that_ranks_them(writer, used, linked):
    writer.write([{"kind": "note", "time": 1.0, "text": "Best: 3", "metric": used}])
    ((_, name, text),) = [call.args for call in writer.client.set_tag.mock_calls]
    assert name == "mlflow.note.content"
    assert f"metrics.%60{linked.replace('/', '%2F')}%60&orderByAsc=false" in text


def test_a_resumed_run_has_no_error_and_no_epoch_of_its_earlier_end(writer):
    tags = {"expfw.error": "x", "expfw.metrics_step": "9", "expfw.metrics_epoch": "3", "expfw.run_id": "aaaa2222"}
    writer.client.get_run.return_value.data.tags = tags
    writer.write([{"kind": "run_resumed", "time": 1.0, "step": 9, "overrides": []}])
    deleted = {call.args[1] for call in writer.client.delete_tag.mock_calls}
    assert deleted == tags.keys() - {"expfw.run_id"}
