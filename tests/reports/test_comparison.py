"""`expfw runs compare`: what differs, which is best, and that it can be read at 80 columns."""

from __future__ import annotations

import io
import json
import re

import pytest
from rich.console import Console
from support import run_folders
from support.run_folders import run_expfw_in_process, write_run, write_sweep

from expfw.reports.comparison import table
from expfw.reports.comparison.compared_runs import compare_runs
from expfw.tracking.workspace import Workspace


@pytest.fixture
def three(workdir):
    """Two runs on their own and a sweep of three trials."""
    runs = workdir / "runs"
    write_run(runs, "aaaa2222", 0.5, units=16)
    write_run(runs, "bbbb2222", 0.3, units=64, packages={"tensorflow": "2.20.0"}, age=60)
    write_sweep(runs, "cccc2222", [0.9, 0.2, 0.4])
    return runs


def shown(found, width, everything=False):
    screen = Console(width=width, record=True, highlight=False, markup=False, file=io.StringIO())
    table.print_comparison(screen, found, everything)
    return screen.export_text()


def rows(text):
    return {line.split()[0]: line.split()[1:] for line in text.splitlines() if line.strip()}


def test_two_runs_have_what_differs_the_best_and_the_difference(three, capsys):
    assert run_expfw_in_process("runs", "compare", "aaaa", "bbbb") == 0
    said = capsys.readouterr().out
    lines = rows(said)
    assert lines["model.units"] == ["16", "64"]
    assert lines["val/loss"] == ["0.5", "0.3*", "-0.2"]
    assert lines["val/accuracy"] == ["0.5", "0.7*", "+0.2"]
    assert lines["tensorflow"] == ["2.21.0", "2.20.0"]
    assert lines["status"] == ["FINISHED", "FINISHED"]
    assert "seed" not in lines
    assert "6 parameters are the same (--all shows them)" in said
    assert run_expfw_in_process("runs", "compare", "aaaa", "bbbb", "--all") == 0
    assert rows(capsys.readouterr().out)["seed"] == ["0", "0"]


def test_a_sweep_stands_for_its_trials_best_first(three):
    found = compare_runs(["cccc", "aaaa"], Workspace(three))
    order = [run_folders.make_trial_id("cccc2222", number) for number in (1, 2, 0)]
    assert [one.id for one in found.runs] == [*order, "aaaa2222"]
    assert compare_runs(["cccc", order[0]], Workspace(three)).params[0] == {"model.units": [17, 18, 16]}  # none twice


@pytest.mark.parametrize("width", [80, 160])
def test_many_runs_fit_the_screen(workdir, width):
    for number in range(9):
        options = {f"model.option_number_{n}": number * n for n in range(12)}
        write_run(workdir / "runs", f"aaaa222{'abcdefghj'[number]}", 0.9 - number / 10, units=number, **options)
    runs = compare_runs([f"aaaa222{letter}" for letter in "abcdefghj"], Workspace(workdir / "runs"))
    text = shown(runs, width)
    assert max(map(len, text.splitlines())) <= width
    for letter in "abcdefghj":
        assert f"aaaa222{letter}" in text
    assert "0.1*" in text
    assert ("no room for" in text) == (width == 80)
    assert "val/" in text
    if width == 80:
        assert "a wider terminal, fewer runs, --metric NAME, --json or --html show more" in text


def test_of_equal_runs_none_is_best_and_other_directions_count(workdir):
    one, other = (write_run(workdir / "runs", f"{name}2222", 0.5) for name in ("aaaa", "bbbb"))
    assert one != other
    found = compare_runs(["aaaa", "bbbb"], Workspace(workdir / "runs"))
    assert found.mark_best_runs("val/loss") == [False, False]
    assert "all 7 parameters are the same" in shown(found, 80)
    more = {"objective.mode": "max", "objective.metric": "val/loss"}
    for name, value in (("dddd", 0.1), ("eeee", 0.2)):
        write_run(workdir / "runs", f"{name}2222", value, **more)
    assert compare_runs(["dddd", "eeee"], Workspace(workdir / "runs")).mark_best_runs("val/loss") == [False, True]


def test_json_has_all(three, capsys):
    assert run_expfw_in_process("runs", "compare", "aaaa", "bbbb", "--json", "--metric", "val/loss") == 0
    said = json.loads(capsys.readouterr().out)
    assert [one["id"] for one in said["runs"]] == ["aaaa2222", "bbbb2222"]
    assert [one["metrics"] for one in said["runs"]] == [{"val/loss": 0.5}, {"val/loss": 0.3}]
    assert said["best"] == {"val/loss": ["bbbb2222"]}
    assert said["parameters"]["differ"] == {"model.units": [16, 64]}
    assert said["surroundings"] == {"tensorflow": ["2.21.0", "2.20.0"]}


def test_the_page_needs_no_network_and_has_the_curves_of_all(three, capsys):
    assert run_expfw_in_process("runs", "compare", "--html", "aaaa", "bbbb", "cccc") == 0  # the id is no file
    path = three / "compare-aaaa2222-bbbb2222-btcccc22-and-2-more.html"
    assert capsys.readouterr().out == f"{path}\n"
    page = path.read_text()
    (figures,) = re.findall(r'<script id="figures" type="application/json">(.*?)</script>', page)
    drawn = json.loads(figures)["figures"]
    losses = [figure for figure in drawn.values() if figure["layout"]["yaxis"]["title"]["text"] == "val/loss"]
    assert len(losses[0]["data"]) == 5
    assert losses[0]["data"][-1]["line"]["width"] == 3  # the best, above the others
    assert losses[0]["data"][-1]["name"].startswith("btcccc22")
    own = re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)
    assert "://" not in own
    assert "default-src 'none'" in own
    assert run_expfw_in_process("runs", "compare", "aaaa", "bbbb", "--html", "two.html") == 0
    assert (three.parent / "two.html").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["aaaa"], "two runs at least are compared, aaaa2222 is one"),
        ([], "two runs at least are compared, none was given"),
        (["aaaa", "zzzz"], "no sweep or run 'zzzz' in runs"),
        (["aaaa", "bbbb", "--metric", "val/los"], "no metric 'val/los' in these runs. Did you mean 'val/loss'?"),
        (["aaaa", "bbbb", "--html", "absent/x.html"], "absent/x.html cannot be written"),
    ],
)
def test_what_cannot_be_compared_is_one_line(three, capsys, words, said):
    assert run_expfw_in_process("runs", "compare", *words) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1


def test_a_damaged_journal_is_one_line(three, capsys):
    path = next(three.glob("*/*-aaaa2222/journal.jsonl"))
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], "{damaged", *lines[2:]]) + "\n")
    assert run_expfw_in_process("runs", "compare", "aaaa", "bbbb") == 2
    err = capsys.readouterr().err
    assert "journal.jsonl" in err
    assert err.count("\n") == 1
