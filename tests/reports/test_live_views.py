"""Live views of runs and sweeps, on narrow and wide terminals and without a terminal."""

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

SCREEN_SIZES = [
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
def test_format_clock_shows_minutes_and_hours(seconds, expected):
    assert format_clock(seconds) == expected


@pytest.mark.parametrize(
    ("fraction", "expected"), [(-1, "─" * 8), (0.5, "━" * 4 + "─" * 4), (1, "━" * 8), (7, "━" * 8)]
)
def test_a_bar_is_readable_without_colours(fraction, expected):
    assert make_bar(fraction, 8, ScreenSize(80, 24)).plain == expected
    assert make_bar(fraction, 8, ScreenSize(80, 24, has_unicode=False)).plain.isascii()


@pytest.mark.parametrize("size", SCREEN_SIZES)
def test_text_that_does_not_fit_is_omitted_or_truncated(size):
    parts = ["first", "units=" + "9" * 30, "ünits=12345678", "語" * 40, "last"]
    for number in range(1, len(parts)):
        assert cell_len(fit_parts(parts[:2], size.width, size)) <= size.width
        assert cell_len(truncate_text(parts[number] * 5, size.width, size)) <= size.width
        assert make_bar_line("epoch 100/100", 0.3, parts[:number], size).cell_len <= size.width
    assert fit_parts(["a", "b", "c"], 4, size) == "a  b"
    assert truncate_text("abcdef", 4, ScreenSize(80, 24)) == "abc…"
    assert truncate_text("abcdef", 4, ScreenSize(80, 24, has_unicode=False)) == "a..."


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


@pytest.mark.parametrize("size", SCREEN_SIZES)
def test_a_run_shows_bars_throughput_and_the_best_value_at_any_width(run_and_meter, size):
    run, meter = run_and_meter
    run.log({"val/loss": 0.26})
    lines = [line.plain for line in make_run_lines(run, meter, size)]
    assert all(len(line) <= size.width for line in lines), lines
    assert lines[0].startswith("epoch 3/10 ")
    assert lines[1].startswith("step 6/21 ")
    assert lines[2].startswith("train/epoch_loss 0.5123")
    if size.width > 70:
        assert "left" in lines[0]
        assert lines[1].endswith(" samples/s")
        assert lines[2].endswith("  val/loss 0.26 (best 0.25)  val/accuracy 0.93")
    if not size.has_unicode:
        assert "".join(lines).isascii()


def test_throughput_counts_training_time_and_the_remaining_time_counts_all_time(run_and_meter):
    run, meter = run_and_meter
    assert meter.measure_steps_per_second() == pytest.approx(32 / 0.02, rel=0.5)
    time.sleep(0.3)  # an evaluation
    with run.stage("evaluating"):
        lines = [line.plain for line in make_run_lines(run, meter, ScreenSize(79, 24))]
    assert lines[1].endswith("  evaluating")
    assert meter.measure_steps_per_second() == pytest.approx(32 / 0.02, rel=0.5)
    assert meter.estimate_seconds_left(run) == 0  # the estimated end is in the past
    run.step = 64
    meter.record_steps(run)
    assert meter.estimate_seconds_left(run) > 0.5


def test_a_run_of_single_steps_or_of_unknown_length_has_fewer_bars(run_and_meter):
    run, meter = run_and_meter
    run.steps_per_epoch = 1
    assert make_run_lines(run, meter, ScreenSize(79, 24))[0].plain.startswith("step 48/210  ━")
    run.steps_per_epoch = 16
    assert make_run_lines(run, meter, ScreenSize(79, 24))[0].plain.startswith("epoch 3/14  ━")
    assert len(make_run_lines(run, meter, ScreenSize(79, 24))) == 2  # each call is an epoch
    run.total_steps = None
    assert make_run_lines(run, meter, ScreenSize(79, 24))[0].plain.startswith("step 48  ")


def test_an_interrupted_run_shows_that_it_is_stopping(run_and_meter):
    run, meter = run_and_meter
    run.interrupt_requested = True
    assert make_run_lines(run, meter, ScreenSize(79, 24))[1].plain.endswith("  stopping after a checkpoint")


def test_stages_nest_without_counting_time_twice():
    stages = Stages()
    with stages.measure_stage("outer"):
        time.sleep(0.02)
        with stages.measure_stage("inner"):
            time.sleep(0.03)
            assert stages.current_stage == "inner"
            assert stages.get_seconds("inner") >= 0.03
        assert stages.current_stage == "outer"
    seconds = stages.get_seconds_by_stage()
    assert 0.02 <= seconds["outer"] < 0.03 + seconds["outer"] / 2
    assert 0.03 <= seconds["inner"] < 0.06
    assert list(seconds) == ["other work", "outer", "inner"]


def make_rows(count, name="learning_rate=0.01 units=50"):
    return [
        RunningTrialRow(number, name, f"epoch {number}/40", "val/loss 0.1234", number * 60.0) for number in range(count)
    ]


@pytest.mark.parametrize("size", SCREEN_SIZES)
@pytest.mark.parametrize("name", ["seed=1", "tags.long=" + "a" * 200, "語" * 80])
def test_a_sweep_fits_any_width_with_any_swept_values(size, name):
    best = Trial(3, "", [], [f"model.units={'9' * 90}"], objective=0.1, objective_metric="val/loss")
    lines = [
        line.plain
        for line in make_sweep_lines(
            "sweep y9z7d7zk", SweepTotals(1000, 16, 2, 1, 3, 100.0, 61.0), make_rows(3, name), best, size
        )
    ]
    assert all(cell_len(line) <= size.width for line in lines), lines
    assert lines[1].startswith("16/1,000 ended  3 running")
    assert all("epoch" in line for line in lines[2:5])
    assert lines[-1].startswith("best so far: val/loss 0.1")


def test_running_trials_that_do_not_fit_are_counted():
    totals = SweepTotals(64, 0, 0, 0, 32, 1.0, None)
    lines = [line.plain for line in make_sweep_lines("sweep y9z7", totals, make_rows(32), None, ScreenSize(79, 24))]
    assert len(lines) <= 22
    assert lines[-1] == f"      and {32 - (len(lines) - 3)} more running"
    few = [line.plain for line in make_sweep_lines("sweep y9z7", totals, make_rows(32), None, ScreenSize(79, 3))]
    assert few[-1] == "      and 31 more running"


@pytest.fixture
def view_of_1000_trials(tmp_path):
    """The live view of a started sweep of 1,000 trials, without a terminal."""
    atomic_files.write_text(
        tmp_path / journal.NAME,
        '{"kind": "sweep_started", "time": 1.0, "objective": {"metric": "val/loss", "mode": "min", "take": "best"}, '
        '"params": {"quiet": false, "notice": null}}\n',
    )
    view = SweepLiveView()
    view.expfw_sweep_started("y9z7", tmp_path, 1000)
    return view


def test_a_sweep_of_1000_quick_trials_prints_few_lines_but_every_failure(view_of_1000_trials, capsys, tmp_path):
    view = view_of_1000_trials
    capsys.readouterr()
    start_time = time.process_time()
    for number in range(1000):
        trial = Trial(number, "", [], [f"seed={number}"], folder=str(tmp_path), status="RUNNING")
        view.expfw_trial_started(asdict(trial))
        failed = number % 500 == 7
        result = (
            {"status": "FAILED", "error": "bad luck"} if failed else {"status": "FINISHED", "objective": -1.0 * number}
        )
        view.expfw_trial_ended({**asdict(trial), **result, "objective_metric": "val/loss"})
    seconds = time.process_time() - start_time
    view.expfw_sweep_ended()
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) < 60
    assert sum("bad luck" in line for line in lines) == 2
    assert sum("log: " in line for line in lines) == 2
    assert lines[-1].strip().startswith("and ")
    assert seconds < 0.5, "more than 0.5 ms per trial"
    assert view._best_trial.number == 999


@pytest.mark.parametrize(
    ("print_failures", "was_quiet", "is_quiet", "line_count"),
    [(True, True, True, 1), (False, True, True, 0), (True, True, False, 2)],
)
def test_a_quiet_sweep_prints_failures_if_configured(print_failures, was_quiet, is_quiet, line_count, tmp_path, capsys):
    common = '"objective": {"metric": "val/loss", "mode": "min", "take": "best"}, "time": 1.0'
    lines = [
        f'{{"kind": "{kind}", {common}, "params": {{"quiet": {str(quiet).lower()}, "notice": null}}}}\n'
        for kind, quiet in (("sweep_started", was_quiet), ("sweep_resumed", is_quiet))
    ]
    atomic_files.write_text(tmp_path / journal.NAME, "".join(lines))
    view = SweepLiveView(print_failures)
    view.expfw_sweep_started("y9z7", tmp_path, 2)
    view.expfw_trial_ended(asdict(Trial(0, "", [], ["seed=0"], status="FAILED", error="bad luck")))
    assert len(capsys.readouterr().err.splitlines()) == line_count


def test_trial_progress_is_read_from_the_journal(train, capfd):
    result = train("dataset=digits", "train.epochs=3")
    progress = TrialProgress(result.folder)
    assert (progress.position, progress.metric_text, progress.fraction) == ("starting", "", None)
    progress.read_new_records()
    assert progress.position == "epoch 3/3"
    assert progress.metric_text == f"val/loss {result.metrics['val/loss']:.4g}"
    assert progress.fraction == 1.0
    TrialProgress(result.folder / "nothing").read_new_records()  # no journal yet


def test_without_a_terminal_few_lines_are_printed(train, capfd):
    train("model=ols", "dataset=line", "train.epochs=300", observers=[RunLiveView()])
    lines = capfd.readouterr().err.splitlines()
    assert 1 <= len(lines) <= 4, lines
    assert lines[-1].startswith("epoch 300/300  step 300/300  train/epoch_loss ")


@pytest.mark.slow
def test_a_run_in_a_terminal_prints_other_output_above_its_live_view(workdir):
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
    last_view = next(screen for screen in reversed(shown.screens) if "val/loss" in screen and "━━━" in screen)
    bar, metrics = last_view.splitlines()[-2:]
    assert re.match(r"epoch 3/9  ━+─+  0:\d\d", bar)
    assert re.match(r"train/epoch_loss \S+  val/loss \S+ \(best \S+\)  val/accuracy", metrics)

    lines = shown.screen.text.splitlines()
    above = ["printed as one line", "native line", "from a graph", "to stderr"]
    for line in above:
        assert lines.count(line) == 3, shown.screen.text
    assert [line for line in lines if line.startswith("expfw: ")] == [f"expfw: after epoch {n}" for n in (1, 2, 3)]
    end = next(number for number, line in enumerate(lines) if line.startswith("FINISHED  mlp_keras digits  63 steps"))
    assert len(lines[:end]) == 15, shown.screen.text  # the bars are erased
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

    def shows_failure_and_running_trial(screen):
        return "no such luck" in screen and "1 failed" in screen and re.search(r"seed=1 .* 0:01", screen)

    interrupted = []

    def interrupt(screen, process):
        if not interrupted and shows_failure_and_running_trial(screen):
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
    assert end.replace("\n", "").endswith(f"to resume: expfw sweeps resume {entry.id}")
    assert shown.screen.is_cursor_visible


def _run_first_trial(trial, total, tmp_path, capsys):
    """Returns the lines that the live view of a sweep prints for its first trial."""
    with journal.Journal(tmp_path / journal.NAME) as record:
        record.write("sweep_started", objective={}, params={"quiet": False, "notice": None})
    view = SweepLiveView()
    view.expfw_sweep_started("y9z7y9z7", tmp_path, total)
    view.expfw_trial_started(asdict(trial))
    view.expfw_trial_ended(asdict(dataclasses.replace(trial, status="FINISHED", seconds=1.0)))
    return capsys.readouterr().err.splitlines()


def test_a_sweep_without_swept_parameters_prints_a_hint(tmp_path, capsys):
    first, hint, ended = _run_first_trial(Trial(0, "", (), ()), 1, tmp_path, capsys)
    assert first.startswith("sweep y9z7y9z7, 1 trial, in ")
    assert hint.startswith("no swept parameters: this sweep trains once, as `expfw run` does;")
    assert ended == "FINISHED   trial 0  1.0 s"
    assert Trial(0, "", (), ()).title == "trial 0"


def test_a_search_of_one_trial_prints_no_hint(tmp_path, capsys):
    trial = Trial(0, "", (), ("model.units=8",))
    first, ended = _run_first_trial(trial, 1, tmp_path, capsys)
    assert (first[:23], ended) == ("sweep y9z7y9z7, 1 trial", "FINISHED   trial 0  units=8  1.0 s")
    assert trial.title == "trial 0 (units=8)"


def test_a_long_error_is_truncated_in_the_summary():
    trial = Trial(0, "", (), ("seed=1",), status="FAILED", error="a long story " * 30)
    lengths = []
    for max_length in (None, 100):
        console = Console(file=io.StringIO(), width=80)
        tables.print_trials(console, [trial], "min", "", (), max_length)
        (line,) = (line for line in console.file.getvalue().splitlines() if line.startswith("trial 0 (seed=1): a"))
        lengths.append(len(line))
    assert lengths[0] > 400  # one line, which the terminal wraps
    assert 80 < lengths[1] - len("trial 0 (seed=1): ") <= 100


def test_the_summary_prints_the_first_of_many_failures_with_their_reasons():
    trials = [
        Trial(n, "", (), (f"model.a_long_name_of_an_option_{'x' * 90}={n}",), status="FAILED", error="no luck")
        for n in range(40)
    ]
    console = Console(file=io.StringIO(), width=80)
    tables.print_trials(console, trials, "min", "", (), max_length=100)
    lines = [line for line in console.file.getvalue().splitlines() if line.startswith("trial ")]
    assert len(lines) == 12
    assert all(line.endswith(": no luck") for line in lines)
    assert "and 28 more failures" in console.file.getvalue()


def test_seeds_that_have_not_started_are_counted():
    trials = [Trial(n, "", (), (f"seed={n}",), status="FINISHED", objective=0.5, configuration=0) for n in range(2)]
    _, rows = tables.tabulate_groups(ranking.rank_seed_groups(trials, "min"), seeds=3)
    assert rows[0][-1] == "2 of 3"


def test_a_table_that_is_too_wide_drops_its_least_important_columns():
    metrics = {"test/accuracy": 0.9, "val/accuracy": 0.8}
    trial = Trial(0, "", (), ("model.units=64", "model.optimizer.learning_rate=0.01"), "FINISHED", run_id="k3v9k3v9")
    trial = replace(trial, objective=0.25, objective_metric="val/loss", metrics=metrics, seconds=3.5)
    words = {}
    for width in (100, 70, 50):
        console = Console(file=io.StringIO(), width=width)
        console.print(tables.make_trials_table([trial], "min", width))
        words[width] = console.file.getvalue().split()
        assert max(map(len, console.file.getvalue().splitlines())) <= width
    assert {"0.01", "0.25", "0.9", "0.8", "3.5", "k3v9k3v9"} <= {*words[100]}
    assert {"0.25", "0.9", "3.5"} <= {*words[70]}
    assert "0.8" not in words[70]
    assert {"0.01", "0.25", "FINISHED", "k3v9k3v9"} <= {*words[50]}
    assert not {"0.9", "3.5"} & {*words[50]}


def test_a_long_error_is_wrapped_between_words_but_its_path_is_not():
    text = "FAILED     trial 3  seed=1  6.0 s  took longer than sweep.timeout=6 seconds\n           log: runs/a-path"
    assert fold_first_line(text, 45).splitlines() == [
        "FAILED     trial 3  seed=1  6.0 s  took",
        "           longer than sweep.timeout=6",
        "           seconds",
        "           log: runs/a-path",
    ]
    assert fold_first_line(text, 100) == text


@pytest.mark.parametrize("environment", [{"TERM": "dumb"}, {"PYTHONIOENCODING": "ascii", "NO_COLOR": "1"}])
def test_dumb_and_ascii_terminals_are_supported(workdir, environment):
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


def test_the_emulated_terminal_supports_redrawn_lines():
    screen = Screen(10)
    screen.write("one\r\nbar ==\r\nend\r\x1b[2K\x1b[1A\x1b[2Ktwo\r\nbar ===12345\x1b[?25l")
    assert screen.text == "one\ntwo\nbar ===123\n45"
    assert not screen.is_cursor_visible
