"""What people see while something runs: on a terminal, narrow and wide ones, and elsewhere."""

from __future__ import annotations

import dataclasses
import io
import re
import signal
import sys
import time
from dataclasses import asdict, replace

import pytest
from rich.cells import cell_len
from rich.console import Console
from support.pseudo_terminal import Screen, make_expfw_command, run_in_terminal

from expfw.api.run import Run
from expfw.api.run_stages import Stages
from expfw.config.compose import compose
from expfw.reports import tables
from expfw.reports.live.lines import (
    ScreenSize,
    fit_parts,
    fold_first_line,
    format_clock,
    make_bar,
    make_bar_line,
    truncate_text,
)
from expfw.reports.live.run import ProgressMeter, RunLiveView, make_run_lines
from expfw.reports.live.sweep import SweepLiveView
from expfw.reports.live.sweep_lines import RunningTrialRow, SweepTotals, make_sweep_lines
from expfw.reports.live.trial_progress import TrialProgress
from expfw.system import atomic_files
from expfw.tracking import journal, ranking, run_index
from expfw.tracking.ledger import Trial

ROOMS = [
    ScreenSize(29, 24),
    ScreenSize(59, 24),
    ScreenSize(79, 24),
    ScreenSize(109, 24),
    ScreenSize(59, 24, has_unicode=False),
]
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
def test_a_clock(seconds, expected):
    assert format_clock(seconds) == expected


@pytest.mark.parametrize(
    ("fraction", "expected"), [(-1, "─" * 8), (0.5, "━" * 4 + "─" * 4), (1, "━" * 8), (7, "━" * 8)]
)
def test_a_bar_is_read_without_colours(fraction, expected):
    assert make_bar(fraction, 8, ScreenSize(80, 24)).plain == expected
    assert make_bar(fraction, 8, ScreenSize(80, 24, has_unicode=False)).plain.isascii()


@pytest.mark.parametrize("room", ROOMS)
def test_what_does_not_fit_is_left_out_or_cut(room):
    words = ["first", "units=" + "9" * 30, "ünits=12345678", "語" * 40, "last"]
    for number in range(1, len(words)):
        assert cell_len(fit_parts(words[:2], room.width, room)) <= room.width
        assert cell_len(truncate_text(words[number] * 5, room.width, room)) <= room.width
        assert make_bar_line("epoch 100/100", 0.3, words[:number], room).cell_len <= room.width
    assert fit_parts(["a", "b", "c"], 4, room) == "a  b"
    assert truncate_text("abcdef", 4, ScreenSize(80, 24)) == "abc…"
    assert truncate_text("abcdef", 4, ScreenSize(80, 24, has_unicode=False)) == "a..."


@pytest.fixture
def begun(tmp_path):
    """A run in its third epoch of ten, 21 steps each."""
    config = compose(["dataset=digits", "tracker=[]"])
    run = Run("abcd", "mlp_keras digits", tmp_path, config, config.objective, lambda kind, **fields: None)
    run.total_steps, run.steps_per_epoch = 210, 21
    pace = ProgressMeter()
    for step in (16, 32, 48):
        run.step, run.epoch = step, step // 21
        with run.stage("training"):
            time.sleep(0.01)
        pace.record_steps(run)
    run.log({"train/epoch_loss": 0.5123456, "val/loss": 0.25, "val/accuracy": 0.93})
    return run, pace


@pytest.mark.parametrize("room", ROOMS)
def test_a_run_shows_its_bars_its_pace_and_the_best_in_any_width(begun, room):
    run, pace = begun
    run.log({"val/loss": 0.26})
    lines = [line.plain for line in make_run_lines(run, pace, room)]
    assert all(len(line) <= room.width for line in lines), lines
    assert lines[0].startswith("epoch 3/10 ")
    assert lines[1].startswith("step 6/21 ")
    assert lines[2].startswith("train/epoch_loss 0.5123")
    if room.width > 70:
        assert "left" in lines[0]
        assert lines[1].endswith(" samples/s")
        assert lines[2].endswith("  val/loss 0.26 (best 0.25)  val/accuracy 0.93")
    if not room.has_unicode:
        assert "".join(lines).isascii()


def test_the_pace_is_that_of_training_and_the_end_counts_everything(begun):
    run, pace = begun
    assert pace.measure_steps_per_second() == pytest.approx(32 / 0.02, rel=0.5)
    time.sleep(0.3)  # an evaluation
    with run.stage("evaluating"):
        lines = [line.plain for line in make_run_lines(run, pace, ScreenSize(79, 24))]
    assert lines[1].endswith("  evaluating")
    assert pace.measure_steps_per_second() == pytest.approx(32 / 0.02, rel=0.5)
    assert pace.estimate_seconds_left(run) == 0  # it was to be over by now
    run.step = 64
    pace.record_steps(run)
    assert pace.estimate_seconds_left(run) > 0.5


def test_a_run_of_single_steps_or_of_no_known_length_has_fewer_bars(begun):
    run, pace = begun
    run.steps_per_epoch = 1
    assert make_run_lines(run, pace, ScreenSize(79, 24))[0].plain.startswith("step 48/210  ━")
    run.steps_per_epoch = 16
    assert make_run_lines(run, pace, ScreenSize(79, 24))[0].plain.startswith("epoch 3/14  ━")
    assert len(make_run_lines(run, pace, ScreenSize(79, 24))) == 2  # each call is an epoch
    run.total_steps = None
    assert make_run_lines(run, pace, ScreenSize(79, 24))[0].plain.startswith("step 48  ")


def test_a_run_that_was_asked_to_leave_says_so(begun):
    run, pace = begun
    run.leave_requested = True
    assert make_run_lines(run, pace, ScreenSize(79, 24))[1].plain.endswith("  ending, after a checkpoint")


def test_stages_nest_and_no_time_counts_twice():
    stages = Stages()
    with stages.measure_stage("outer"):
        time.sleep(0.02)
        with stages.measure_stage("inner"):
            time.sleep(0.03)
            assert stages.current_stage == "inner"
            assert stages.get_seconds("inner") >= 0.03
        assert stages.current_stage == "outer"
    spent = stages.get_seconds_by_stage()
    assert 0.02 <= spent["outer"] < 0.03 + spent["outer"] / 2
    assert 0.03 <= spent["inner"] < 0.06
    assert list(spent) == ["other work", "outer", "inner"]


def rows(count, name="learning_rate=0.01 units=50"):
    return [
        RunningTrialRow(number, name, f"epoch {number}/40", "val/loss 0.1234", number * 60.0) for number in range(count)
    ]


@pytest.mark.parametrize("room", ROOMS)
@pytest.mark.parametrize("name", ["seed=1", "tags.long=" + "a" * 200, "語" * 80])
def test_a_sweep_fits_any_width_and_any_swept_values(room, name):
    best = Trial(3, "", [], [f"model.units={'9' * 90}"], objective=0.1, objective_metric="val/loss")
    lines = [
        line.plain
        for line in make_sweep_lines(
            "sweep y9z7d7zk", SweepTotals(1000, 16, 2, 1, 3, 100.0, 61.0), rows(3, name), best, room
        )
    ]
    assert all(cell_len(line) <= room.width for line in lines), lines
    assert lines[1].startswith("16/1,000 ended  3 running")
    assert all("epoch" in line for line in lines[2:5])
    assert lines[-1].startswith("best so far: val/loss 0.1")


def test_more_trials_than_lines_are_counted():
    totals = SweepTotals(64, 0, 0, 0, 32, 1.0, None)
    lines = [line.plain for line in make_sweep_lines("sweep y9z7", totals, rows(32), None, ScreenSize(79, 24))]
    assert len(lines) <= 22
    assert lines[-1] == f"      and {32 - (len(lines) - 3)} more that run"
    few = [line.plain for line in make_sweep_lines("sweep y9z7", totals, rows(32), None, ScreenSize(79, 3))]
    assert few[-1] == "      and 31 more that run"


@pytest.fixture
def of_1000(tmp_path):
    """The display of a sweep of 1,000 trials that has begun, where there is no terminal."""
    atomic_files.write_text(
        tmp_path / journal.NAME,
        '{"kind": "sweep_started", "time": 1.0, "objective": {"metric": "val/loss", "mode": "min", "take": "best"}, '
        '"params": {"quiet": false, "notice": null}}\n',
    )
    display = SweepLiveView()
    display.expfw_sweep_started("y9z7", tmp_path, 1000)
    return display


def test_of_a_thousand_quick_trials_few_lines_are_printed_and_each_failure_reason_is(of_1000, capsys, tmp_path):
    capsys.readouterr()
    began = time.process_time()
    for number in range(1000):
        trial = Trial(number, "", [], [f"seed={number}"], folder=str(tmp_path), status="RUNNING")
        of_1000.expfw_trial_started(asdict(trial))
        failed = number % 500 == 7
        how = (
            {"status": "FAILED", "error": "bad luck"} if failed else {"status": "FINISHED", "objective": -1.0 * number}
        )
        of_1000.expfw_trial_ended({**asdict(trial), **how, "objective_metric": "val/loss"})
    spent = time.process_time() - began
    of_1000.expfw_sweep_ended()
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) < 60
    assert sum("bad luck" in line for line in lines) == 2
    assert sum("log: " in line for line in lines) == 2
    assert lines[-1].strip().startswith("and ")
    assert spent < 0.5, "0.2 ms for each trial would be much"
    assert of_1000._best_trial.number == 999


@pytest.mark.parametrize(
    ("failures", "was_quiet", "is_quiet", "told"),
    [(True, True, True, 1), (False, True, True, 0), (True, True, False, 2)],
)
def test_who_is_quiet_leaves_failures_to_the_result_or_not(failures, was_quiet, is_quiet, told, tmp_path, capsys):
    about = '"objective": {"metric": "val/loss", "mode": "min", "take": "best"}, "time": 1.0'
    lines = [f'{{"kind": "sweep_started", {about}, "params": {{"quiet": {str(was_quiet).lower()}, "notice": null}}}}\n']
    lines += [f'{{"kind": "sweep_resumed", {about}, "params": {{"quiet": {str(is_quiet).lower()}, "notice": null}}}}\n']
    atomic_files.write_text(tmp_path / journal.NAME, "".join(lines))
    display = SweepLiveView(failures)
    display.expfw_sweep_started("y9z7", tmp_path, 2)
    display.expfw_trial_ended(asdict(Trial(0, "", [], ["seed=0"], status="FAILED", error="bad luck")))
    assert len(capsys.readouterr().err.splitlines()) == told


def test_a_trial_is_followed_by_its_journal(train, capfd):
    result = train("dataset=digits", "train.epochs=3")
    reading = TrialProgress(result.folder)
    assert (reading.position, reading.metric_text, reading.fraction) == ("starting", "", None)
    reading.read_new_records()
    assert reading.position == "epoch 3/3"
    assert reading.metric_text == f"val/loss {result.metrics['val/loss']:.4g}"
    assert reading.fraction == 1.0
    TrialProgress(result.folder / "nothing").read_new_records()  # it has not begun


def test_plain_lines_are_sparse(train, capfd):
    train("model=ols", "dataset=line", "train.epochs=300", observers=[RunLiveView()])
    lines = capfd.readouterr().err.splitlines()
    assert 1 <= len(lines) <= 4, lines
    assert lines[-1].startswith("epoch 300/300  step 300/300  train/epoch_loss ")


@pytest.mark.slow
def test_a_run_in_a_terminal_is_clean_and_whatever_prints_comes_above_it(workdir):
    (workdir / "noisy.py").write_text(NOISY)
    command = make_expfw_command(
        *("-p", "noisy.py", "run", "dataset=digits", "train.epochs=9", "callback=[noisy]", "tracker=[]")
    )
    shown = run_in_terminal(command, workdir)
    assert shown.exit_code == 0, shown.raw_output
    for noise in (*NOISE, "native noise", "of TensorFlow"):
        assert noise not in shown.raw_output
    (entry,) = run_index.list_runs(workdir / "runs")
    assert all(words in (entry.folder / "log.txt").read_text() for words in ("native noise", "of TensorFlow"))

    assert any(screen.startswith("importing tensorflow  0:0") for screen in shown.screens)
    drawn = next(screen for screen in reversed(shown.screens) if "val/loss" in screen and "━━━" in screen)
    bar, metrics = drawn.splitlines()[-2:]
    assert re.match(r"epoch 3/9  ━+─+  0:\d\d", bar)
    assert re.match(r"train/epoch_loss \S+  val/loss \S+ \(best \S+\)  val/accuracy", metrics)

    lines = shown.screen.text.splitlines()
    above = ["printed as one line", "native line", "from a graph", "to stderr"]
    for line in above:
        assert lines.count(line) == 3, shown.screen.text
    assert [line for line in lines if line.startswith("expfw: ")] == [f"expfw: after epoch {n}" for n in (1, 2, 3)]
    end = next(number for number, line in enumerate(lines) if line.startswith("FINISHED  mlp_keras digits  63 steps"))
    assert len(lines[:end]) == 15, shown.screen.text  # nothing of the bars is left
    assert "ended before its last step: three are enough" in lines[end:]
    assert lines[-1].startswith(f"next: expfw runs show {entry.id}")
    assert "\x1b[?25l" not in shown.raw_output.rpartition("\x1b[?25h")[2]


@pytest.mark.slow
def test_a_sweep_in_a_terminal_tells_of_a_failure_at_once_and_ctrl_c_leaves_it_clean(workdir):
    (workdir / "sleepy.py").write_text(
        "import time\nimport expfw\nclass Sleepy(expfw.Callback):\n    @expfw.hookimpl(wrapper=True)\n"
        "    def expfw_load_data(self, config):\n"
        "        if config.seed == 0:\n            raise expfw.DataError('no such luck')\n"
        "        time.sleep(60)\n        return (yield)\n"
    )
    options = ("model=ols", "dataset=line", "callback=[sleepy]", "seed=0,1,2", "sweep.slots=1", "tracker=[]")
    command = make_expfw_command("-p", "sleepy.py", "sweep", *options)

    def trial_1_runs_beside_the_failure(screen):
        return "no such luck" in screen and "1 failed" in screen and re.search(r"seed=1 .* 0:01", screen)

    interrupted = []

    def interrupt(screen, process):
        if not interrupted and trial_1_runs_beside_the_failure(screen):
            interrupted.append(screen)
            process.send_signal(signal.SIGINT)

    shown = run_in_terminal(command, workdir, columns=60, on_change=interrupt)
    assert shown.exit_code == 130, shown.raw_output
    (entry,) = run_index.list_sweeps(workdir / "runs")
    (seen,) = interrupted
    flat = seen.replace("\n", "")
    assert "FAILED     trial 0  seed=0" in flat
    assert "log: runs/" in flat
    assert re.search(rf"sweep {entry.id}  [━─]", seen)
    assert "1/3 ended  1 running  1 waiting  1 failed" in seen
    assert re.search(r"\n  1  seed=1  +starting  +0:01", seen)
    assert all(noise not in shown.raw_output for noise in NOISE)
    end = shown.screen.text
    assert "expfw: ending; the trials that run may take some seconds" in end
    assert "1/3 ended" not in end
    assert end.replace("\n", "").endswith(f"to go on with it: expfw sweeps resume {entry.id}")
    assert shown.screen.is_cursor_visible


def _told(trial, total, tmp_path, capsys):
    """What is said of a sweep that has this trial first."""
    with journal.Journal(tmp_path / journal.NAME) as record:
        record.write("sweep_started", objective={}, params={"quiet": False, "notice": None})
    display = SweepLiveView()
    display.expfw_sweep_started("y9z7y9z7", tmp_path, total)
    display.expfw_trial_started(asdict(trial))
    display.expfw_trial_ended(asdict(dataclasses.replace(trial, status="FINISHED", seconds=1.0)))
    return capsys.readouterr().err.splitlines()


def test_a_sweep_over_nothing_says_so(tmp_path, capsys):
    first, hint, ended = _told(Trial(0, "", (), ()), 1, tmp_path, capsys)
    assert first.startswith("sweep y9z7y9z7, 1 trial, in ")
    assert hint.startswith("nothing is swept over: this is one training, as `expfw run` makes it;")
    assert ended == "FINISHED   trial 0  1.0 s"
    assert Trial(0, "", (), ()).title == "trial 0"


def test_a_search_of_one_trial_sweeps_over_something(tmp_path, capsys):
    trial = Trial(0, "", (), ("model.units=8",))
    first, ended = _told(trial, 1, tmp_path, capsys)
    assert (first[:23], ended) == ("sweep y9z7y9z7, 1 trial", "FINISHED   trial 0  units=8  1.0 s")
    assert trial.title == "trial 0 (units=8)"


def test_what_was_told_of_a_failure_is_told_shorter_at_the_end():
    trial = Trial(0, "", (), ("seed=1",), status="FAILED", error="a long story " * 30)
    shown = []
    for longest in (None, 100):
        screen = Console(file=io.StringIO(), width=80)
        tables.print_trials(screen, [trial], "min", "", (), longest)
        (line,) = (line for line in screen.file.getvalue().splitlines() if line.startswith("trial 0 (seed=1): a"))
        shown.append(len(line))
    assert shown[0] > 400  # as one line, which the terminal breaks
    assert 80 < shown[1] - len("trial 0 (seed=1): ") <= 100


def test_of_many_failures_the_first_ones_are_told_with_their_reasons():
    trials = [
        Trial(n, "", (), (f"model.a_long_name_of_an_option_{'x' * 90}={n}",), status="FAILED", error="no luck")
        for n in range(40)
    ]
    screen = Console(file=io.StringIO(), width=80)
    tables.print_trials(screen, trials, "min", "", (), max_length=100)
    told = [line for line in screen.file.getvalue().splitlines() if line.startswith("trial ")]
    assert len(told) == 12
    assert all(line.endswith(": no luck") for line in told)
    assert "and 28 more failures" in screen.file.getvalue()


def test_seeds_that_have_not_begun_are_counted():
    trials = [Trial(n, "", (), (f"seed={n}",), status="FINISHED", objective=0.5, configuration=0) for n in range(2)]
    _, rows = tables.tabulate_groups(ranking.rank_seed_groups(trials, "min"), seeds=3)
    assert rows[0][-1] == "2 of 3"


def test_a_table_that_is_too_wide_goes_without_what_tells_least():
    metrics = {"test/accuracy": 0.9, "val/accuracy": 0.8}
    trial = Trial(0, "", (), ("model.units=64", "model.optimizer.learning_rate=0.01"), "FINISHED", run_id="k3v9k3v9")
    trial = replace(trial, objective=0.25, objective_metric="val/loss", metrics=metrics, seconds=3.5)
    shown = {}
    for width in (100, 70, 50):
        screen = Console(file=io.StringIO(), width=width)
        screen.print(tables.make_trials_table([trial], "min", width))
        shown[width] = screen.file.getvalue().split()
        assert max(map(len, screen.file.getvalue().splitlines())) <= width
    assert {"0.01", "0.25", "0.9", "0.8", "3.5", "k3v9k3v9"} <= {*shown[100]}
    assert {"0.25", "0.9", "3.5"} <= {*shown[70]}
    assert "0.8" not in shown[70]
    assert {"0.01", "0.25", "FINISHED", "k3v9k3v9"} <= {*shown[50]}
    assert not {"0.9", "3.5"} & {*shown[50]}


def test_a_long_failure_is_broken_between_words_and_its_path_is_not():
    text = "FAILED     trial 3  seed=1  6.0 s  took longer than sweep.timeout=6 seconds\n           log: runs/a-path"
    assert fold_first_line(text, 45).splitlines() == [
        "FAILED     trial 3  seed=1  6.0 s  took",
        "           longer than sweep.timeout=6",
        "           seconds",
        "           log: runs/a-path",
    ]
    assert fold_first_line(text, 100) == text


@pytest.mark.parametrize("environment", [{"TERM": "dumb"}, {"PYTHONIOENCODING": "ascii", "NO_COLOR": "1"}])
def test_other_terminals(workdir, environment):
    script = (
        "import time\nfrom rich.text import Text\nfrom expfw.reports.live.lines import make_bar\n"
        "from expfw.reports.live.live_region import can_show_live_view, live_view\n"
        "if can_show_live_view():\n"
        "    with live_view(lambda size: [Text.assemble('drawn ', make_bar(0.5, 10, size))]):\n"
        "        print('above')\n        time.sleep(0.3)\nprint('plain')\n"
    )
    shown = run_in_terminal([sys.executable, "-c", script], workdir, **environment)
    assert shown.exit_code == 0, shown.raw_output
    if environment.get("TERM") == "dumb":
        assert shown.raw_output == "plain\r\n"
    else:
        assert "above\ndrawn =====-----" in shown.screens
        assert shown.screen.text == "above\nplain"
        assert "\x1b[3" not in shown.raw_output  # no colour


def test_the_small_terminal_knows_lines_that_are_drawn_anew():
    screen = Screen(10)
    screen.write("one\r\nbar ==\r\nend\r\x1b[2K\x1b[1A\x1b[2Ktwo\r\nbar ===12345\x1b[?25l")
    assert screen.text == "one\ntwo\nbar ===123\n45"
    assert not screen.is_cursor_visible
