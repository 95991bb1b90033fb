"""`expfw runs compare`: differences, best values, and a width of 80 columns."""

from __future__ import annotations

import io
import json
import re

import pytest
from rich.console import Console
from support import run_folders
from support.run_folders import write_run, write_sweep

from expfw.cli.main import run_command
from expfw.reports.comparison import table
from expfw.reports.comparison.compared_runs import compare_runs
from expfw.tracking import journal
from expfw.tracking.run_index import Workspace


@pytest.fixture
def runs_dir(workdir):
    """A runs folder with two single runs and a sweep of three trials."""
    runs = workdir / "runs"
    write_run(runs, "aaaa2222", 0.5, units=16)
    write_run(runs, "bbbb2222", 0.3, units=64, packages={"tensorflow": "2.20.0"}, age=60)
    write_sweep(runs, "cccc2222", [0.9, 0.2, 0.4])
    return runs


def print_to_text(comparison, width, show_all=False):
    console = Console(width=width, record=True, highlight=False, markup=False, file=io.StringIO())
    table.print_comparison(console, comparison, show_all)
    return console.export_text()


def parse_rows(text):
    return {line.split()[0]: line.split()[1:] for line in text.splitlines() if line.strip()}


def test_two_runs_show_differing_parameters_the_best_values_and_the_difference(runs_dir, capsys):
    assert run_command(["runs", "compare", "aaaa", "bbbb"]) == 0
    output = capsys.readouterr().out
    lines = parse_rows(output)
    assert lines["model.units"] == ["16", "64"]
    assert lines["val/loss"] == ["0.5", "0.3*", "-0.2"]
    assert lines["val/accuracy"] == ["0.5", "0.7*", "+0.2"]
    assert lines["tensorflow"] == ["2.21.0", "2.20.0"]
    assert lines["status"] == ["FINISHED", "FINISHED"]
    assert "seed" not in lines
    assert "6 parameters are the same (--all shows them)" in output
    assert run_command(["runs", "compare", "aaaa", "bbbb", "--all"]) == 0
    assert parse_rows(capsys.readouterr().out)["seed"] == ["0", "0"]


def test_a_sweep_is_replaced_by_its_trials_best_first(runs_dir):
    comparison = compare_runs(["cccc", "aaaa"], Workspace(runs_dir))
    order = [run_folders.make_trial_id("cccc2222", number) for number in (1, 2, 0)]
    assert [run.id for run in comparison.runs] == [*order, "aaaa2222"]
    without_duplicates = compare_runs(["cccc", order[0]], Workspace(runs_dir))
    assert without_duplicates.params[0] == {"model.units": [17, 18, 16]}


@pytest.mark.parametrize("width", [80, 160])
def test_many_runs_fit_the_screen(workdir, width):
    ids = [f"aaaa222{letter}" for letter in "abcdefghj"]
    for number, run_id in enumerate(ids):
        options = {f"model.option_number_{n}": number * n for n in range(12)}
        write_run(workdir / "runs", run_id, 0.9 - number / 10, units=number, **options)
    text = print_to_text(compare_runs(ids, Workspace(workdir / "runs")), width)
    assert max(map(len, text.splitlines())) <= width
    assert all(run_id in text for run_id in ids)
    assert "0.1*" in text
    assert ("omitted columns:" in text) == (width == 80)
    assert "val/" in text
    assert ("to see more: a wider terminal, fewer runs, --metric NAME, --json or --html" in text) == (width == 80)


def test_equal_runs_have_no_best_value_and_mode_max_marks_the_highest(workdir):
    for name, loss, mode in (("aaaa", 0.5, "min"), ("bbbb", 0.5, "min"), ("dddd", 0.1, "max"), ("eeee", 0.2, "max")):
        write_run(workdir / "runs", f"{name}2222", loss, **{"objective.mode": mode})
    comparison = compare_runs(["aaaa", "bbbb"], Workspace(workdir / "runs"))
    assert comparison.find_best_values("val/loss") == set()
    assert "all 7 parameters are the same" in print_to_text(comparison, 80)
    assert compare_runs(["dddd", "eeee"], Workspace(workdir / "runs")).find_best_values("val/loss") == {0.2}


def test_json_output_is_complete(runs_dir, capsys):
    assert run_command(["runs", "compare", "aaaa", "bbbb", "--json", "--metric", "val/loss"]) == 0
    comparison = json.loads(capsys.readouterr().out)
    assert [run["id"] for run in comparison["runs"]] == ["aaaa2222", "bbbb2222"]
    assert [run["metrics"] for run in comparison["runs"]] == [{"val/loss": 0.5}, {"val/loss": 0.3}]
    assert comparison["best"] == {"val/loss": ["bbbb2222"]}
    assert comparison["parameters"]["differ"] == {"model.units": [16, 64]}
    assert comparison["environment"] == {"tensorflow": ["2.21.0", "2.20.0"]}


def test_packages_that_do_not_affect_results_are_counted_and_listed_apart(workdir, capsys):
    for name, versions in {"aaaa": {"rich": "13", "numpy": "2.0"}, "bbbb": {"rich": "14", "pip": "1"}}.items():
        folder = write_run(
            workdir / "runs", f"{name}2222", packages={"tensorflow": "2.21.0", "numpy": "1.0", **versions}
        )
        environment = json.loads((folder / "environment.json").read_text())
        environment |= {"relevant_packages": ["numpy", "tensorflow"], "memory_gib": 3.0, "gpus": [name]}
        (folder / "environment.json").write_text(json.dumps(environment))
    assert run_command(["runs", "compare", "aaaa", "bbbb", "--json"]) == 0
    comparison = json.loads(capsys.readouterr().out)
    assert comparison["environment"] == {"numpy": ["2.0", "1.0"], "GPUs": ["aaaa", "bbbb"]}
    assert comparison["packages"] == {"rich": ["13", "14"]}
    text = print_to_text(compare_runs(["aaaa", "bbbb"], Workspace(workdir / "runs")), 80)
    assert "environment differences: numpy, GPUs" in text
    assert "1 other package has different versions, which do not affect results" in text
    assert run_command(["runs", "compare", "aaaa", "bbbb", "--html", "two.html"]) == 0
    assert "Other packages with different versions" in (workdir / "two.html").read_text()


def test_different_code_of_the_same_plugin_package_is_a_difference(workdir):
    for name, code in {"aaaa": {"mine": "1", "other": "2"}, "bbbb": {"mine": "3"}}.items():
        path = write_run(workdir / "runs", f"{name}2222") / journal.NAME
        start, _, rest = path.read_text().partition("\n")
        path.write_text(f"{json.dumps(json.loads(start) | {'code': code})}\n{rest}")
    comparison = compare_runs(["aaaa", "bbbb"], Workspace(workdir / "runs"))
    assert comparison.environment == {"code of mine": ["1", "3"]}


def test_the_page_needs_no_network_and_draws_the_curves_of_all_runs(runs_dir, capsys):
    assert run_command(["runs", "compare", "--html", "aaaa", "bbbb", "cccc"]) == 0  # aaaa is an ID, not a file
    path = runs_dir / "compare-aaaa2222-bbbb2222-btcccc22-and-2-more.html"
    assert capsys.readouterr().out == f"{path}\n"
    page = path.read_text()
    (data,) = re.findall(r'<script id="figures" type="application/json">(.*?)</script>', page)
    loss_curves = json.loads(data)["figures"]["learning-0"]
    assert loss_curves["layout"]["yaxis"]["title"]["text"] == "val/loss"
    assert len(loss_curves["data"]) == 5
    assert loss_curves["data"][-1]["line"]["width"] == 3  # the best run, on top of the others
    assert loss_curves["data"][-1]["name"].startswith("btcccc22")
    assert "://" not in re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)
    assert "default-src 'none'" in page.partition("<script")[0]
    assert run_command(["runs", "compare", "aaaa", "bbbb", "--html", "two.html"]) == 0
    assert (runs_dir.parent / "two.html").exists()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["aaaa"], "expected at least two runs to compare, got only aaaa2222"),
        ([], "expected at least two runs to compare, got none"),
        (["aaaa", "zzzz"], "unknown sweep or run 'zzzz' in folder runs"),
        (["aaaa", "bbbb", "--metric", "val/los"], "unknown metric 'val/los' in these runs. Did you mean 'val/loss'?"),
        (["aaaa", "bbbb", "--html", "absent/x.html"], "cannot write absent/x.html"),
        (["aaaa", "dddd"], "journal.jsonl is damaged at byte "),
    ],
)
def test_an_invalid_comparison_is_a_one_line_error(runs_dir, capsys, arguments, expected):
    path = write_run(runs_dir, "dddd2222") / journal.NAME
    path.write_text(path.read_text().replace('{"kind": "metrics"', "{damaged", 1))
    assert run_command(["runs", "compare", *arguments]) == 2
    err = capsys.readouterr().err
    assert expected in err
    assert err.count("\n") == 1
