"""Event files of resumed runs and on a disk that cannot be written."""

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
    """Event files of a fake run, and its warnings."""

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


def test_state_counts_only_events_that_are_on_disk(files):
    first = files.begin()
    log(first, range(3))
    assert first.state() == {"events": {"train": 3}}
    assert steps(files) == [0, 1, 2]


def test_restore_removes_later_events_and_later_files(files):
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
    log(second, range(7, 9))  # as if the process is killed: the file is not closed
    third = files.begin(resumed_at=7)
    third.restore(later)
    assert steps(files) == [0, 1, 2, 3, 4, 5, 6]
    log(third, [7])
    third.close()
    fourth = files.begin(resumed_at=5)  # from the older of two checkpoints: the cut is in the first file
    fourth.restore(state)
    assert steps(files) == [0, 1, 2, 3, 4]
    assert files.warnings == []


def test_restore_of_a_state_without_events_removes_all_events(files):
    first = files.begin()
    state = first.state()
    log(first, range(3))
    first.close()
    files.begin(resumed_at=1).restore(state)
    assert read_events(files.folder) == []


def test_a_restarted_run_removes_only_its_own_events(files):
    for owner in ("mine", "yours"):
        event_files = files.begin(owner=owner)
        log(event_files, range(3), folder=owner)
        event_files.close()
    files.begin()
    assert (steps(files, "mine"), steps(files, "yours")) == ([], [0, 1, 2])


@pytest.mark.parametrize("damage", ["removed", "torn"])
def test_missing_events_cause_a_warning_and_later_cuts_are_correct(files, damage):
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
    remaining = [] if damage == "removed" else [0, 1, 2, 3]
    (line,) = files.warnings
    gap = f"{5 - len(remaining)} of 5 in train"
    assert f"TensorBoard events before step 5 are missing in {files.folder}/tensorboard ({gap})" in line
    log(second, [5, 6])
    later = second.state()
    log(second, [7])
    second.close()
    files.begin(resumed_at=7).restore(later)
    assert steps(files) == [*remaining, 5, 6]


def test_a_run_resumed_twice_has_the_events_of_an_uninterrupted_run(train, workdir):
    whole = train(*EVERYTHING)
    folder = interrupt_run(train, workdir, 60, *EVERYTHING)  # the latest checkpoint is of step 52
    for step in (63, 70):  # before and after the next checkpoint
        with pytest.raises(KeyboardInterrupt):
            resume_run(workdir, folder, observers=[Interrupt(step)])
    result = resume_run(workdir, folder)
    assert result.warnings == ()
    expected, actual = (read_events(f / "tensorboard") for f in (whole.folder, folder))
    assert_unique_events(actual)
    assert actual == expected
    assert {place for place, *_ in actual} == {"train", "val", "test", "other", "gradients"}
    assert [step for _, tag, step, _ in actual if tag == GRAPH_TAG] == [0]
    losses = read_scalars(folder / "tensorboard", "train")["loss"]
    assert sorted(losses) == list(range(84))


def trial(*overrides, observers=()):
    """Runs a trial as a sweep does, without a tracker."""
    config = compose(["tracker=[]", *DIGITS, "callback=[checkpoint,tensorboard]", *overrides])
    return execute(prepare_run(config, overrides=overrides, swept=SWEPT), observers)


def test_a_trial_extended_by_resume_has_the_events_of_one_long_trial(workdir, processors):
    options = ("callback.tensorboard={misclassified: 3, images: true}",)
    longer, short = trial(*options, "train.epochs=6"), trial(*options)
    resume_run(workdir, short.folder, "train.epochs=6")
    expected, actual = (read_events(f / "tensorboard") for f in (longer.folder, short.folder))
    assert_unique_events(actual)
    assert actual == expected
    start, end = read_hparams_data(short.folder / "tensorboard")
    assert start.session_start_info.group_name == short.run_id
    assert end.session_end_info.status == 1  # success


def test_resume_without_a_checkpoint_has_no_duplicates_and_keeps_the_swept_parameters(workdir, processors):
    import shutil

    whole = trial()
    with pytest.raises(KeyboardInterrupt):
        trial(observers=[Interrupt(35)])
    (folder,) = {path.parent for path in workdir.glob("runs/*/*/journal.jsonl")} - {whole.folder}
    assert [s.session_end_info.status for s in read_hparams_data(folder / "tensorboard")][1:] == [2]  # failure
    shutil.rmtree(folder / "checkpoints")
    resume_run(workdir, folder)
    actual = read_events(folder / "tensorboard")
    assert_unique_events(actual)
    assert actual == read_events(whole.folder / "tensorboard")
    start, end = read_hparams_data(folder / "tensorboard")
    assert start.session_start_info.hparams["model.units"].number_value == 16
    assert end.session_end_info.status == 1


def test_verify_resume_is_exact_with_event_files(train, workdir):
    folder = train(*EVERYTHING, "callback.checkpoint.keep=3").folder
    report = verification.verify_resume(read_recorded_setup(find_entry(workdir, folder)))
    assert report.is_exact, report.text


class InTheWay(expfw.Callback):
    """Creates a file in place of the folder of event files."""

    kind = "observer"

    @expfw.hookimpl
    def expfw_run_started(self, run):
        (run.folder / "tensorboard").touch()


def test_event_files_that_cannot_be_written_cause_only_a_warning(train):
    result = train(*DIGITS, "+callback=tensorboard", observers=[InTheWay(None, "in_the_way")])
    assert result.status == "FINISHED"
    (line,) = result.warnings
    assert f"cannot write TensorBoard files to {result.folder}/tensorboard" in line
    assert expfw.checkpoint_steps(result.folder)[-1] == 84
