"""Tables in the terminal, as Markdown and as HTML, and the summary of a sweep."""

from __future__ import annotations

import io
import math
from dataclasses import replace

import pytest
from rich.console import Console

from expfw.reports.sweep_summary import make_trials_table, print_trials
from expfw.reports.table import Column, Table
from expfw.tracking import ranking
from expfw.tracking.ledger import Trial


def print_to_lines(renderable, width=80):
    console = Console(file=io.StringIO(), width=width, highlight=False, markup=False)
    console.print(renderable)
    return console.file.getvalue().splitlines()


def test_a_table_is_printed_and_written_as_markdown_and_html():
    columns = [Column("run", "code"), "na/me", Column("trials", "number", "{:,}".format), Column("status", "status")]
    rows = [["k3v9", "a|b", 12345, "FINISHED"], ["m5xq", None, 7, "<b>"], ["z9tt", "x" * 30, float("inf"), ""]]
    table = Table(columns, rows)
    lines = [line.split() for line in print_to_lines(table)]
    assert lines[1:3] == [["na/"], ["run", "me", "trials", "status"]]
    assert lines[4:6] == [["k3v9", "a|b", "12,345", "FINISHED"], ["m5xq", "7", "<b>"]]
    assert table.to_markdown(1000).splitlines()[:3] == [
        "| run | na/me | trials | status |",
        "| --- | --- | --- | --- |",
        "| k3v9 | a\\|b | 12,345 | FINISHED |",
    ]
    assert table.to_markdown(110).endswith(" FINISHED |\n\nand 2 more")
    html = table.to_html("Runs", best_row=1)
    assert '<td class="number" data-value="12345">12,345</td><td class="status FINISHED">FINISHED</td>' in html
    assert '<tr class=best><td class="code">m5xq</td><td class="text"></td><td class="number" data-value="7">' in html
    assert "&lt;b&gt;" in html
    assert f'<td class="long">{"x" * 30}</td><td class="number" data-value="Infinity">inf</td>' in html


def test_a_table_escapes_characters_that_control_the_terminal():
    table = Table(["name"], [["a\x1b[2J\x1b]0;title\x07b\u202e\udcff é 語\nc"]])
    assert list(table.texts) == [[r"a\x1b[2J\x1b]0;title\x07b\u202e\udcff é 語" + "\nc"]]


@pytest.mark.parametrize(("max_length", "longest", "count"), [(None, 500, 40), (100, 100, 12)])
def test_the_summary_limits_the_number_and_the_length_of_failures(max_length, longest, count):
    swept = (f"model.a_long_name_of_an_option_{'x' * 90}=1",)
    trials = [Trial(n, "", (), swept, status="FAILED", error="a long story " * 30) for n in range(40)]
    console = Console(file=io.StringIO(), width=80)
    print_trials(console, trials, "min", "", (), max_length)
    lines = console.file.getvalue().splitlines()
    errors = [line.partition("): ")[2] for line in lines if line.startswith("trial ")]  # one line each
    assert len(errors) == count
    assert all(longest * 0.75 < len(error) <= longest for error in errors)
    assert ("and 28 more failures" in lines) == (max_length is not None)


def test_seeds_that_have_not_started_are_counted():
    trials = [Trial(n, "", (), (f"seed={n}",), status="FINISHED", objective=0.5, configuration=0) for n in range(2)]
    table = make_trials_table(ranking.rank_seed_groups(trials, "min"), seeds=3)
    assert table.rows[0][-1] == "2 of 3"


def test_a_table_that_is_too_wide_drops_its_least_important_columns():
    metrics = {"test/accuracy": 0.9, "val/accuracy": 0.8}
    trial = Trial(0, "", (), ("model.units=64", "model.optimizer.learning_rate=0.01"), "FINISHED", run_id="k3v9k3v9")
    trial = replace(trial, objective=0.25, objective_metric="val/loss", metrics=metrics, seconds=3.5)
    words = {}
    for width in (100, 70, 50):
        lines = print_to_lines(make_trials_table([ranking.SeedGroup([trial])]), width)
        words[width] = " ".join(lines).split()
        assert max(map(len, lines)) <= width
    assert {"0.01", "0.25", "0.9", "0.8", "3.5", "k3v9k3v9"} <= {*words[100]}
    assert {"0.25", "0.9", "3.5"} <= {*words[70]}
    assert "0.8" not in words[70]
    assert {"0.01", "0.25", "FINISHED", "k3v9k3v9"} <= {*words[50]}
    assert not {"0.9", "3.5"} & {*words[50]}


@pytest.mark.parametrize(
    ("positions", "title", "cells"),
    [
        ([(20, 2), (30, 3)], "epoch", [2, 3]),
        ([(20, 2), (25, None)], "step", [20, 25]),
        ([(20, 2), (None, None)], "epoch", [2, None]),  # the second has not started
    ],
)
def test_a_row_has_the_epoch_of_its_metrics_or_the_step_if_one_is_within_an_epoch(positions, title, cells):
    groups = [
        ranking.SeedGroup([Trial(n, "", (), (), "FINISHED", metrics_step=step, metrics_epoch=epoch)])
        for n, (step, epoch) in enumerate(positions)
    ]
    table = make_trials_table(groups)
    assert [column.title for column in table.columns][:2] == ["objective", title]
    assert [row[1] for row in table.rows] == cells


def test_a_seed_group_has_the_range_of_its_epochs_and_test_metrics_of_other_weights_have_their_name():
    values = {"objective": 0.5, "metrics_step": 30, "metrics": {"val/accuracy": 0.5, "test/accuracy (last)": 0.25}}
    trials = [
        Trial(n, "", (), (f"seed={n}",), "FINISHED", configuration=0, metrics_epoch=epoch, **values)
        for n, epoch in enumerate((3, 1))
    ]
    table = make_trials_table(ranking.rank_seed_groups(trials, "min"), seeds=2)
    assert [column.title for column in table.columns][1:4] == ["epoch", "test/accuracy (last)", "val/accuracy"]
    assert table.rows[0][1:4] == ["1-3", 0.25, 0.5]


def test_seed_groups_have_an_interval_only_for_finite_objectives():
    def make_group(*objectives):
        trials = [Trial(n, "", (), (), status="FINISHED", objective=value) for n, value in enumerate(objectives)]
        return ranking.SeedGroup(trials)

    assert make_group(1.0, 3.0).half_interval == pytest.approx(12.706, abs=1e-3)  # t(0.975, 1) s / sqrt(2)
    assert (make_group(1.0, math.inf).half_interval, make_group(1.0).half_interval) == (None, None)
