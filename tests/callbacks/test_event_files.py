"""Event files of resumed runs and on a disk that cannot be written."""

from __future__ import annotations

import shutil

import pytest
from support.interruptions import Interrupt, interrupt_run, resume_run
from support.tensorboard_events import read_events, read_folder, read_hparams_data

import expfw
from expfw.config.compose import compose
from expfw.runs import exact_comparison
from expfw.runs.one_run import execute
from expfw.runs.request import prepare_run

pytestmark = pytest.mark.slow

DIGITS = ("dataset=digits", "model=mlp_keras", "train.epochs=4", "train.log_every=1", "seed=3")
EVERYTHING = (
    *DIGITS, "callback=[checkpoint,gradients,tensorboard]", "callback.checkpoint.every.steps=13",
    "callback.checkpoint.keep=1", "callback.gradients.every=7",
    "callback.tensorboard={histograms: 10, gradients: true, images: true, misclassified: 4, graph: true}",
)  # fmt: skip
SWEPT = {"model.units": 16, "model.activation": "relu"}


def test_a_run_resumed_twice_has_the_events_of_an_uninterrupted_run(train, workdir):
    whole = train(*EVERYTHING)
    folder = interrupt_run(train, 60, *EVERYTHING)  # the latest checkpoint is of step 52
    for step in (63, 70):  # before and after the next checkpoint
        with pytest.raises(KeyboardInterrupt):
            resume_run(folder, observers=[Interrupt(step)])
    result = resume_run(folder)
    assert result.warnings == ()
    expected, actual = (read_events(f / "tensorboard") for f in (whole.folder, folder))
    assert actual == expected
    assert {place for place, *_ in actual} == {"train", "val", "test", "other", "gradients"}
    train_events = read_folder(folder / "tensorboard" / "train")
    assert sorted({event.step for event in train_events.Tensors("loss")}) == list(range(84))
    assert train_events.Tags()["graph"]


def trial(*overrides, observers=()):
    """Runs a trial as a sweep does, without a tracker."""
    config = compose(["tracker=[]", *DIGITS, "callback=[checkpoint,tensorboard]", *overrides])
    return execute(prepare_run(config, overrides=overrides, swept=SWEPT), observers)


def test_a_trial_extended_by_resume_has_the_events_of_one_long_trial(workdir, processors):
    options = ("callback.tensorboard={misclassified: 3, images: true}",)
    longer, short = trial(*options, "train.epochs=6"), trial(*options)
    resume_run(short.folder, "train.epochs=6")
    expected, actual = (read_events(f / "tensorboard") for f in (longer.folder, short.folder))
    assert {key: actual[key] for key in expected} == expected
    assert {step for _, _, step in actual.keys() - expected.keys()} == {84}  # the end of the short trial
    start, end = read_hparams_data(short.folder / "tensorboard")
    assert start.session_start_info.group_name == short.run_id
    assert end.session_end_info.status == 1  # success


def test_resume_without_a_checkpoint_has_no_duplicates_and_keeps_the_swept_parameters(workdir, processors):
    whole = trial()
    with pytest.raises(KeyboardInterrupt):
        trial(observers=[Interrupt(35)])
    (folder,) = {path.parent for path in workdir.glob("runs/*/*/journal.jsonl")} - {whole.folder}
    assert [s.session_end_info.status for s in read_hparams_data(folder / "tensorboard")][1:] == [2]  # failure
    shutil.rmtree(folder / "checkpoints")
    resume_run(folder)
    assert read_events(folder / "tensorboard") == read_events(whole.folder / "tensorboard")
    start, end = read_hparams_data(folder / "tensorboard")
    assert start.session_start_info.hparams["model.units"].number_value == 16
    assert end.session_end_info.status == 1


def test_verify_resume_is_exact_with_event_files(train, workdir):
    folder = train(*EVERYTHING, "callback.checkpoint.keep=3").folder
    report = exact_comparison.verify_resume(expfw.load(folder))
    assert report.is_exact, report.text


class InTheWay(expfw.Callback):
    """Creates a file in place of the folder of event files."""

    @expfw.hookimpl
    def expfw_run_started(self, run):
        (run.folder / "tensorboard").touch()


def test_event_files_that_cannot_be_written_cause_only_warnings(train):
    result = train(*DIGITS, "+callback=tensorboard", observers=[InTheWay(None, "in_the_way")])
    assert result.status == "FINISHED"
    first, last = result.warnings
    assert f"cannot write TensorBoard files to {result.folder}/tensorboard: Not a directory" in first
    assert "events are missing in the TensorBoard files" in last
    assert expfw.checkpoint_steps(result.folder)[-1] == 84
