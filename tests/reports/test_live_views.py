"""Live views of runs and sweeps, on narrow and wide terminals and without a terminal."""

from __future__ import annotations

import io
import re
import signal
import sys
import time
from collections import Counter
from dataclasses import asdict, replace

import pytest
from rich.cells import cell_len
from rich.console import Console
from support.processes import make_expfw_command
from support.pseudo_terminal import run_in_terminal

from expfw.api.run import Run
from expfw.api.run_stages import Stages
from expfw.config.compose import compose
from expfw.reports.live.live_region import format_clock
from expfw.reports.live.run import ProgressMeter, RunLiveView, draw_run
from expfw.reports.live.sweep import SweepLiveView
from expfw.reports.live.sweep_status import RunningTrial, SweepProgress
from expfw.tracking import journal, run_index
from expfw.tracking.ledger import Trial

WIDTHS = [50, 80, 160]
NOISE = ("oneDNN", "cuda", "WARNING", "tensorflow/", "E0000", "W0000", "I0000", "mlflow.")

NOISY = """
import logging, os, sys, time
import expfw

class Noisy(expfw.Callback):
    @expfw.hookimpl
    def expfw_epoch_ended(self, run):
        import tensorflow as tf
        print("printed", end="", flush=True)
        time.sleep(0.5)
        print(" as one line")
        os.write(1, b"native line\\n")
        os.write(2, b"native noise\\n")
        tf.print("from a graph", output_stream=sys.stdout)
        print("to stderr", file=sys.stderr)
        logging.getLogger("tensorflow").warning("of TensorFlow")
        run.warn(f"after epoch {run.epoch}")
        if run.epoch == 3:
            run.request_stop("three are enough")
"""


@pytest.mark.parametrize(
    ("seconds", "expected"), [(0, "0:00"), (59.9, "0:59"), (61, "1:01"), (3600, "1:00:00"), (90061, "25:01:01")]
)
def test_format_clock_shows_minutes_and_hours(seconds, expected):
    assert format_clock(seconds) == expected


def draw(renderable, width=80, height=24):
    """Returns the lines on a terminal of this size."""
    console = Console(width=width, height=height, file=io.StringIO(), highlight=False, markup=False)
    console.print(renderable)
    lines = [line.rstrip() for line in console.file.getvalue().splitlines()]
    assert all(cell_len(line) <= width for line in lines), lines
    return lines


@pytest.fixture
def run_and_meter(tmp_path):
    """A run in its third epoch of 10, with 21 steps per epoch, and its meter."""
    config = compose(["dataset=digits", "tracker=[]"])
    run = Run("abcd", "mlp_keras digits", tmp_path, config, config.objective, lambda kind, **fields: None)
    run.total_steps, run.steps_per_epoch = 210, 21
    meter = ProgressMeter()
    for step in (16, 32, 48):
        run.step, run.epoch = step, step // 21
        with run.stage("training"):
            time.sleep(0.01)
        meter.record_steps(run)
    run.log({"train/epoch_loss": 0.5123456, "val/loss": 0.25, "val/accuracy": 0.93})
    return run, meter


@pytest.mark.parametrize("width", WIDTHS)
def test_a_run_shows_bars_throughput_and_the_best_value_at_any_width(run_and_meter, width):
    run, meter = run_and_meter
    run.log({"val/loss": 0.26})
    lines = draw(draw_run(run, meter), width)
    assert lines[0].startswith("epoch 3/10  ━")
    assert lines[1].startswith("step 6/21   ━")
    assert lines[2].startswith("train/epoch_loss 0.5123")
    if width > 70:
        assert "left" in lines[0]
        assert lines[1].endswith(" samples/s")
        assert lines[2].endswith("  val/loss 0.26 (best 0.25)  val/accuracy 0.93")


def test_throughput_counts_training_time_and_the_remaining_time_counts_all_time(run_and_meter):
    run, meter = run_and_meter
    assert meter.steps_per_second == pytest.approx(32 / 0.02, rel=0.5)
    time.sleep(0.3)  # an evaluation
    with run.stage("evaluating"):
        assert draw(draw_run(run, meter))[1].endswith("  evaluating  0:00")
    assert meter.steps_per_second == pytest.approx(32 / 0.02, rel=0.5)
    assert meter.estimate_seconds_left(run) == 0  # the estimated end is in the past
    run.step = 64
    meter.record_steps(run)
    assert meter.estimate_seconds_left(run) > 0.5


def test_a_run_of_single_steps_or_of_unknown_length_has_fewer_bars(run_and_meter):
    run, meter = run_and_meter
    run.interrupt_requested = True
    assert draw(draw_run(run, meter))[1].endswith("  stopping after a checkpoint")
    run.steps_per_epoch = 1
    assert draw(draw_run(run, meter))[0].startswith("step 48/210  ━")
    run.steps_per_epoch = 16
    assert draw(draw_run(run, meter))[0].startswith("epoch 3/14  ━")
    assert len(draw(draw_run(run, meter))) == 2  # each call is an epoch
    run.total_steps = None
    assert draw(draw_run(run, meter))[0].startswith("step 48  ")


def test_stages_nest_without_counting_time_twice():
    stages = Stages()
    with stages.measure_stage("outer"):
        time.sleep(0.02)
        with stages.measure_stage("inner"):
            time.sleep(0.03)
            assert stages.current_stage == "inner"
            assert stages.get_seconds_by_stage()["inner"] >= 0.03
        assert stages.current_stage == "outer"
    seconds = stages.get_seconds_by_stage()
    assert 0.02 <= seconds["outer"] < 0.03 + seconds["outer"] / 2
    assert 0.03 <= seconds["inner"] < 0.06
    assert list(seconds) == ["other work", "outer", "inner"]


def make_progress(running_count, trial_count, name="", **fields):
    """Returns the progress of a sweep whose trial `n` has been running for `n` minutes."""
    swept, now = [name] if name else [], time.time()
    trials = {n: RunningTrial(Trial(n, "", [], swept), now - 60 * n) for n in range(running_count)}
    return SweepProgress("sweep y9z7d7zk", trial_count, now - 100, trials, **fields)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", ["seed=1", "tags.long=" + "a" * 200, "語" * 80])
def test_a_sweep_fits_any_width_with_any_swept_values(width, name):
    best = Trial(3, "", [], [f"model.units={'9' * 90}"], objective=0.1, objective_metric="val/loss")
    counts = Counter({"FINISHED": 13, "FAILED": 2, "PRUNED": 1})
    progress = make_progress(3, 1000, name, status_counts=counts, ended_seconds=[61.0], best_trial=best)
    lines = draw(progress, width)
    assert lines[1].startswith("16/1,000 ended  3 running")
    assert all("starting" in line and line.endswith(f"{n}:00") for n, line in enumerate(lines[2:5]))
    assert lines[-1].startswith("best so far: val/loss 0.1")
    if width > 70:
        assert re.match(r"sweep y9z7d7zk  ╸ +1:40  about 5:32:4\d left", lines[0])
        assert lines[1].endswith("3 running  981 waiting  2 failed  1 pruned")


def test_running_trials_that_do_not_fit_are_counted():
    lines = draw(make_progress(32, 64))
    assert len(lines) <= 22
    assert lines[-1] == f"      and {32 - (len(lines) - 3)} more running"
    assert draw(make_progress(32, 64), height=3)[-1] == "      and 31 more running"


def test_the_remaining_time_is_estimated_from_ended_trials_or_from_running_ones():
    assert make_progress(2, 10).seconds_left is None
    # 8 waiting trials of 100 seconds and two running ones with 100 and 40 seconds left, two at a time
    assert make_progress(2, 10, ended_seconds=[90.0, 110.0]).seconds_left == pytest.approx(470, abs=1)
    progress = make_progress(2, 10)
    progress.running_trials[1]._step, progress.running_trials[1]._total_steps = 6, 10
    assert progress.seconds_left == pytest.approx(470, abs=1)


def start_view(folder, trial_count, quiet=(False,), print_failures=True):
    """Returns the live view of a sweep without a terminal; `quiet` is its option at the start and at each resume."""
    with journal.Journal(folder / journal.NAME) as record:
        for kind, is_quiet in zip(("sweep_started", "sweep_resumed"), quiet, strict=False):
            record.write(kind, id="y9z7y9z7", objective={"mode": "min"}, params={"quiet": is_quiet, "notice": None})
    view = SweepLiveView(print_failures)
    view.expfw_sweep_started("y9z7y9z7", folder, trial_count)
    return view


def test_a_sweep_of_1000_quick_trials_prints_few_lines_but_every_failure(capsys, tmp_path):
    view = start_view(tmp_path, 1000)
    capsys.readouterr()
    start_time = time.process_time()
    for number in range(1000):
        trial = Trial(number, "", [], [f"seed={number}"], folder=str(tmp_path), status="RUNNING")
        view.expfw_trial_started(asdict(trial))
        result = {"status": "FINISHED", "objective": -1.0 * number, "objective_metric": "val/loss"}
        if number % 500 == 7:
            result = {"status": "FAILED", "error": "bad luck"}
        view.expfw_trial_ended({**asdict(trial), **result})
    seconds = time.process_time() - start_time
    view.expfw_sweep_ended()
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) < 60
    assert sum("bad luck" in line for line in lines) == 2
    assert sum("log: " in line for line in lines) == 2
    assert lines[-1].strip().startswith("and ")
    assert seconds < 0.5, "more than 0.5 ms per trial"
    assert view._progress.best_trial.number == 999


@pytest.mark.parametrize(
    ("print_failures", "quiet", "line_count"), [(True, [True], 1), (False, [True], 0), (True, [True, False], 2)]
)
def test_a_quiet_sweep_prints_failures_if_configured(print_failures, quiet, line_count, tmp_path, capsys):
    view = start_view(tmp_path, 2, quiet, print_failures)
    view.expfw_trial_ended(asdict(Trial(0, "", [], ["seed=0"], status="FAILED", error="bad luck")))
    assert len(capsys.readouterr().err.splitlines()) == line_count


@pytest.mark.parametrize(
    ("swept", "title", "expected"),
    [
        ((), "trial 0", "FINISHED   trial 0  1.0 s"),
        (("model.units=8",), "trial 0 (units=8)", "FINISHED   trial 0  units=8  1.0 s"),  # a search of one trial
    ],
)
def test_a_sweep_without_swept_parameters_prints_a_hint(tmp_path, capsys, swept, title, expected):
    view, trial = start_view(tmp_path, 1), Trial(0, "", (), swept)
    view.expfw_trial_started(asdict(trial))
    view.expfw_trial_ended(asdict(replace(trial, status="FINISHED", seconds=1.0)))
    first, *hints, last = capsys.readouterr().err.splitlines()
    assert first.startswith("sweep y9z7y9z7, 1 trial, in ")
    assert [hint.partition(":")[0] for hint in hints] == ([] if swept else ["no swept parameters"])
    assert (last, trial.title) == (expected, title)


def test_trial_progress_is_read_from_the_journal(train, capfd):
    result = train("dataset=digits", "train.epochs=3")
    trial = RunningTrial(Trial(0, "", (), (), folder=str(result.folder)), start_time=0.0)
    assert (trial.position, trial.metric_text, trial.estimated_seconds) == ("starting", "", None)
    trial.read_new_records()
    assert trial.position == "epoch 3/3"
    assert trial.metric_text == f"val/loss {result.metrics['val/loss']:.4g}"
    assert trial.estimated_seconds == pytest.approx(trial.seconds)
    RunningTrial(Trial(0, "", (), (), folder=str(result.folder / "nothing")), 0.0).read_new_records()  # no journal yet


def test_without_a_terminal_few_lines_are_printed(train, capfd):
    train("model=ols", "dataset=line", "train.epochs=300", observers=[RunLiveView()])
    lines = capfd.readouterr().err.splitlines()
    assert 1 <= len(lines) <= 4, lines
    assert lines[-1].startswith("epoch 300/300  step 300/300  train/epoch_loss ")


@pytest.mark.slow
def test_a_run_in_a_terminal_prints_other_output_above_its_live_view(workdir):
    (workdir / "noisy.py").write_text(NOISY)
    overrides = ("dataset=digits", "train.epochs=9", "callback=[noisy]", "tracker=[]")
    shown = run_in_terminal(make_expfw_command("-p", "noisy.py", "run", *overrides), workdir)
    assert shown.exit_code == 0, shown.raw_output
    native_output = ("native line", "native noise", "from a graph", "of TensorFlow")
    for noise in (*NOISE, *native_output):
        assert noise not in shown.raw_output
    (entry,) = run_index.list_runs(workdir / "runs")
    assert all(words in (entry.folder / "log.txt").read_text() for words in native_output)

    assert any(screen.startswith("importing tensorflow  0:0") for screen in shown.screens)
    last_view = next(screen for screen in reversed(shown.screens) if "val/loss" in screen and "━━━" in screen)
    bar, metrics = last_view.splitlines()[-2:]
    assert re.match(r"epoch 3/9  ━+╺━+  0:\d\d", bar)
    assert re.match(r"train/epoch_loss \S+  val/loss \S+ \(best \S+\)  val/accuracy", metrics)

    lines = shown.screen.text.splitlines()
    for line in ("printed as one line", "to stderr"):
        assert lines.count(line) == 3, shown.screen.text
    assert [line for line in lines if line.startswith("expfw: ")] == [f"expfw: after epoch {n}" for n in (1, 2, 3)]
    end = next(number for number, line in enumerate(lines) if line.startswith("FINISHED  mlp_keras digits  63 steps"))
    assert len(lines[:end]) == 9, shown.screen.text  # the bars are erased
    assert "ended before its last step: three are enough" in lines[end:]
    assert lines[-1].startswith(f"next: expfw runs show {entry.id}")
    assert "\x1b[?25l" not in shown.raw_output.rpartition("\x1b[?25h")[2]


@pytest.mark.slow
def test_a_sweep_in_a_terminal_prints_failures_at_once_and_ctrl_c_erases_the_live_view(workdir):
    (workdir / "sleepy.py").write_text(
        "import time\nimport expfw\nclass Sleepy(expfw.Callback):\n    @expfw.hookimpl(wrapper=True)\n"
        "    def expfw_load_data(self, config):\n"
        "        if config.seed == 0:\n            raise expfw.DataError('no such luck')\n"
        "        time.sleep(60)\n        return (yield)\n"
    )
    options = ("model=ols", "dataset=line", "callback=[sleepy]", "seed=0,1,2", "sweep.slots=1", "tracker=[]")
    command = make_expfw_command("-p", "sleepy.py", "sweep", *options)

    interrupted = []

    def interrupt(screen, process):
        has_failure = "no such luck" in screen and "1 failed" in screen
        if not interrupted and has_failure and re.search(r"seed=1 .* 0:01", screen):
            interrupted.append(screen)
            process.send_signal(signal.SIGINT)

    shown = run_in_terminal(command, workdir, columns=60, on_change=interrupt)
    assert shown.exit_code == 130, shown.raw_output
    (entry,) = run_index.list_sweeps(workdir / "runs")
    (screen,) = interrupted
    joined = screen.replace("\n", "")
    assert "FAILED     trial 0  seed=0" in joined
    assert "log: runs/" in joined
    assert re.search(rf"sweep {entry.id}  [━─]", screen)
    assert "1/3 ended  1 running  1 waiting  1 failed" in screen
    assert re.search(r"\n  1  seed=1  +starting  +0:01", screen)
    assert all(noise not in shown.raw_output for noise in NOISE)
    end = shown.screen.text
    assert "expfw: stopping; running trials may need some seconds" in end
    assert "1/3 ended" not in end
    assert end.replace("\n", "").endswith(f"to resume: expfw -p {workdir}/sleepy.py sweeps resume {entry.id}")
    assert shown.screen.is_cursor_visible


@pytest.mark.parametrize("environment", [{"TERM": "dumb"}, {"PYTHONIOENCODING": "ascii", "NO_COLOR": "1"}])
def test_dumb_and_ascii_terminals_are_supported(workdir, environment):
    script = (
        "import time\nfrom expfw.reports.live.live_region import live_view, make_bars\n"
        "with live_view(lambda: make_bars(('drawn', 1, 2, 'half'))) as is_live:\n"
        "    if is_live:\n        print('above')\n        time.sleep(0.3)\nprint('plain')\n"
    )
    shown = run_in_terminal([sys.executable, "-c", script], workdir, **environment)
    assert shown.exit_code == 0, shown.raw_output
    if environment.get("TERM") == "dumb":
        assert shown.raw_output == "plain\r\n"
    else:
        assert f"above\ndrawn  {'-' * 20}{' ' * 20}  half" in shown.screens
        assert shown.screen.text == "above\nplain"
        assert "\x1b[3" not in shown.raw_output  # no colour
