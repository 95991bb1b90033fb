"""Event files of runs that go on: to the event as if nothing had happened; and of a disk that does not let us write."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from support.interruptions import Interrupt, find_entry, interrupt_run, resume_run
from support.tensorboard_events import GRAPH_TAG, assert_unique_events, read_events, read_hparams_data, read_scalars

import expfw
from expfw.config.compose import compose
from expfw.runs import verification
from expfw.runs.one_run import execute
from expfw.runs.recorded_setup import read_recorded_setup
from expfw.runs.request import prepare_run
from expfw_callbacks.events.event_files import EventFiles

pytestmark = pytest.mark.slow

DIGITS = ("dataset=digits", "model=mlp_keras", "train.epochs=4", "train.log_every=1", "seed=3")
EVERYTHING = (
    *DIGITS,
    "callback=[checkpoint,gradients,tensorboard]",
    "callback.checkpoint.every.steps=13",
    "callback.checkpoint.keep=1",
    "callback.gradients.every=7",
    "callback.tensorboard={histograms: 10, gradients: true, images: true, misclassified: 4, graph: true}",
)
SWEPT = {"model.units": 16, "model.activation": "relu"}


class Files:
    """Event files of a run that is none, and what it was warned of."""

    def __init__(self, folder):
        self.folder, self.warnings = folder, []

    def begin(self, resumed_at=None, owner="mine"):
        run = SimpleNamespace(
            folder=self.folder, resumed_at=resumed_at, step=resumed_at or 0, warn=self.warnings.append
        )
        return EventFiles(run, owner)

    def of(self, folder):
        return read_scalars(self.folder / "tensorboard", folder)


@pytest.fixture
def files(tmp_path, processors):
    return Files(tmp_path)


def log(files, steps, folder="train"):
    for step in steps:
        files.write_scalars(folder, step, {"loss": float(step)})


def steps(files, folder="train"):
    return sorted(files.of(folder).get("loss", {}))


def test_what_a_state_counts_is_on_the_disk_before_the_file_is_closed(files):
    first = files.begin()
    log(first, range(3))
    assert first.state() == {"events": {"train": 3}}
    assert steps(files) == [0, 1, 2]


def test_what_came_later_is_cut_off_in_each_file_and_a_file_that_was_not_there_is_removed(files):
    first = files.begin()
    log(first, range(5))
    state = first.state()
    log(first, range(5, 9))
    log(first, [8], folder="val")
    first.close()
    second = files.begin(resumed_at=5)
    second.restore(state)
    assert (steps(files), steps(files, "val")) == ([0, 1, 2, 3, 4], [])
    log(second, range(5, 7))
    later = second.state()
    log(second, range(7, 9))  # of a process that is killed now: nothing is closed
    third = files.begin(resumed_at=7)
    third.restore(later)
    assert steps(files) == [0, 1, 2, 3, 4, 5, 6]
    log(third, [7])
    third.close()
    fourth = files.begin(resumed_at=5)  # from the older one of two checkpoints: cut within the first file again
    fourth.restore(state)
    assert steps(files) == [0, 1, 2, 3, 4]
    assert files.warnings == []


def test_a_checkpoint_from_before_anything_was_written(files):
    first = files.begin()
    state = first.state()
    log(first, range(3))
    first.close()
    files.begin(resumed_at=1).restore(state)
    assert read_events(files.folder) == []


def test_a_run_that_begins_anew_leaves_nothing_of_its_own_and_all_of_others(files):
    for owner in ("mine", "yours"):
        one = files.begin(owner=owner)
        log(one, range(3), folder=owner)
        one.close()
    files.begin()
    assert (steps(files, "mine"), steps(files, "yours")) == ([], [0, 1, 2])


@pytest.mark.parametrize("damage", ["removed", "torn"])
def test_events_that_are_gone_are_said_and_no_later_cut_is_wrong(files, damage):
    first = files.begin()
    log(first, range(5))
    log(first, [4], folder="val")
    state = first.state()
    first.close()
    (path,) = (files.folder / "tensorboard" / "train").iterdir()
    if damage == "removed":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-3])
    second = files.begin(resumed_at=5)
    second.restore(state)
    left = [] if damage == "removed" else [0, 1, 2, 3]
    (line,) = files.warnings
    assert (
        f"events from before step 5 are missing in {files.folder}/tensorboard ({5 - len(left)} of 5 in train)" in line
    )
    log(second, [5, 6])
    later = second.state()
    log(second, [7])
    second.close()
    files.begin(resumed_at=7).restore(later)
    assert steps(files) == [*left, 5, 6]


def test_a_run_that_goes_on_twice_has_the_events_of_one_that_was_never_interrupted(train, workdir):
    whole = train(*EVERYTHING)
    folder = interrupt_run(train, workdir, 60, *EVERYTHING)  # the newest checkpoint is of step 52
    for step in (63, 70):  # before, and behind the next checkpoint
        with pytest.raises(KeyboardInterrupt):
            resume_run(workdir, folder, observers=[Interrupt(step)])
    result = resume_run(workdir, folder)
    assert result.warnings == ()
    expected, found = (read_events(f / "tensorboard") for f in (whole.folder, folder))
    assert_unique_events(found)
    assert found == expected
    assert {place for place, *_ in found} == {"train", "val", "test", "other", "gradients"}
    assert [step for _, tag, step, _ in found if tag == GRAPH_TAG] == [0]
    losses = read_scalars(folder / "tensorboard", "train")["loss"]
    assert sorted(losses) == list(range(84))


def trial(*overrides, observers=()):
    """A run as a sweep makes it; without a tracker."""
    config = compose(["tracker=[]", *DIGITS, "callback=[checkpoint,tensorboard]", *overrides])
    return execute(prepare_run(config, overrides=overrides, swept=SWEPT), observers)


def test_a_trial_that_is_trained_longer_has_the_events_of_one_that_was_asked_for_at_once(workdir, processors):
    options = ("callback.tensorboard={misclassified: 3, images: true}",)
    longer, short = trial(*options, "train.epochs=6"), trial(*options)
    resume_run(workdir, short.folder, "train.epochs=6")
    expected, found = (read_events(f / "tensorboard") for f in (longer.folder, short.folder))
    assert_unique_events(found)
    assert found == expected
    start, end = read_hparams_data(short.folder / "tensorboard")
    assert start.session_start_info.group_name == short.run_id
    assert end.session_end_info.status == 1  # success


def test_without_any_checkpoint_nothing_is_there_twice_and_the_session_knows_what_was_swept(workdir, processors):
    import shutil

    whole = trial()
    with pytest.raises(KeyboardInterrupt):
        trial(observers=[Interrupt(35)])
    (folder,) = {path.parent for path in workdir.glob("runs/*/*/journal.jsonl")} - {whole.folder}
    assert [s.session_end_info.status for s in read_hparams_data(folder / "tensorboard")][1:] == [2]  # failure
    shutil.rmtree(folder / "checkpoints")
    resume_run(workdir, folder)
    found = read_events(folder / "tensorboard")
    assert_unique_events(found)
    assert found == read_events(whole.folder / "tensorboard")
    start, end = read_hparams_data(folder / "tensorboard")
    assert start.session_start_info.hparams["model.units"].number_value == 16
    assert end.session_end_info.status == 1


def test_the_proof_of_going_on_holds_with_event_files(train, workdir):
    folder = train(*EVERYTHING, "callback.checkpoint.keep=3").folder
    report = verification.verify_resume(read_recorded_setup(find_entry(workdir, folder)))
    assert report.is_exact, report.text


class InTheWay(expfw.Callback):
    """Puts a file where the folder of event files would be."""

    kind = "display"

    @expfw.hookimpl
    def expfw_run_started(self, run):
        (run.folder / "tensorboard").touch()


def test_where_they_cannot_be_written_that_is_said_and_costs_nothing_else(train):
    result = train(*DIGITS, "+callback=tensorboard", observers=[InTheWay(None, "in_the_way")])
    assert result.status == "FINISHED"
    (line,) = result.warnings
    assert f"files for TensorBoard cannot be written in {result.folder}/tensorboard" in line
    assert expfw.checkpoint_steps(result.folder)[-1] == 84
