"""Contents of event files, including duplicates."""

from __future__ import annotations

from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from tensorboard.util.tensor_util import make_ndarray

GRAPH_TAG = "__run_graph__"


def read_events(root):
    """Returns sorted tuples (folder, tag, step, bytes of the value); no bytes for graphs, their names differ."""
    events = []
    for path in root.rglob("events.out.*"):
        folder = path.parent.relative_to(root).as_posix()
        for event in EventFileLoader(str(path)).Load():
            for value in event.summary.value:
                content = b"" if value.tag == GRAPH_TAG else value.tensor.SerializeToString()
                events.append((folder, value.tag, event.step, content))
    return sorted(events)


def assert_unique_events(events):
    keys = [value[:3] for value in events]
    assert [place for place in keys if keys.count(place) > 1] == []


def read_scalars(root, folder):
    """Returns {step: value} by tag for the scalars in a folder."""
    scalars = {}
    for path in (root / folder).glob("events.out.*"):
        for event in EventFileLoader(str(path)).Load():
            for value in event.summary.value:
                if value.metadata.plugin_data.plugin_name == "scalars":
                    scalars.setdefault(value.tag, {})[event.step] = float(make_ndarray(value.tensor))
    return scalars


def read_hparams_data(root):
    """Returns the data for the table of hyperparameters: one for each summary, in order."""
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    summaries = []
    for path in sorted(root.glob("events.out.*")):
        for event in EventFileLoader(str(path)).Load():
            summaries += [HParamsPluginData.FromString(v.metadata.plugin_data.content) for v in event.summary.value]
    return summaries
