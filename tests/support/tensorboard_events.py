"""Contents of event files as TensorBoard shows them."""

from __future__ import annotations

from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator
from tensorboard.util.tensor_util import make_ndarray


def read_folder(folder):
    """Returns an accumulator of all events in a folder; it hides the events that a resumed run has replaced."""
    events = EventAccumulator(str(folder), size_guidance={"tensors": 0})
    events.Reload()
    return events


def read_events(root):
    """Returns {(folder, tag, step): bytes of the value}; a value that is written twice is the same both times."""
    values = {}
    for folder in sorted({path.parent for path in root.rglob("events.out.*")} - {root}):
        events, name = read_folder(folder), folder.relative_to(root).as_posix()
        for tag in events.Tags()["tensors"]:
            for event in events.Tensors(tag):
                # the names in a graph differ
                value = b"" if tag == "__run_graph__" else event.tensor_proto.SerializeToString()
                assert values.setdefault((name, tag, event.step), value) == value
    return values


def read_scalars(root, folder):
    """Returns {step: value} by tag for the scalars in a folder."""
    events = read_folder(root / folder)
    return {
        tag: {event.step: float(make_ndarray(event.tensor_proto)) for event in events.Tensors(tag)}
        for tag in events.PluginTagToContent("scalars")
    }


def read_hparams_data(root):
    """Returns the data for the table of hyperparameters: one for each summary, in order."""
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    summaries = []
    for path in sorted(root.glob("events.out.*")):
        for event in EventFileLoader(str(path)).Load():
            summaries += [HParamsPluginData.FromString(v.metadata.plugin_data.content) for v in event.summary.value]
    return summaries
