"""What is in the event files below a folder, every value as often as it is there."""

from __future__ import annotations

from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from tensorboard.util.tensor_util import make_ndarray

GRAPH = "__run_graph__"


def written(root):
    """(folder, tag, step, bytes of the value), sorted; of a graph, whose names Keras numbers, no bytes."""
    found = []
    for path in root.rglob("events.out.*"):
        folder = path.parent.relative_to(root).as_posix()
        for event in EventFileLoader(str(path)).Load():
            for value in event.summary.value:
                content = b"" if value.tag == GRAPH else value.tensor.SerializeToString()
                found.append((folder, value.tag, event.step, content))
    return sorted(found)


def assert_each_once(values):
    places = [value[:3] for value in values]
    assert [place for place in places if places.count(place) > 1] == []


def numbers(root, folder):
    """Tag to {step: value} of the scalars in one folder."""
    found = {}
    for path in (root / folder).glob("events.out.*"):
        for event in EventFileLoader(str(path)).Load():
            for value in event.summary.value:
                if value.metadata.plugin_data.plugin_name == "scalars":
                    found.setdefault(value.tag, {})[event.step] = float(make_ndarray(value.tensor))
    return found


def sessions(root):
    """What the table of hyperparameters has of a run: the data of each summary, in order."""
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    found = []
    for path in sorted(root.glob("events.out.*")):
        for event in EventFileLoader(str(path)).Load():
            found += [HParamsPluginData.FromString(v.metadata.plugin_data.content) for v in event.summary.value]
    return found
