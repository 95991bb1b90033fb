"""The report of a sweep: what its page says, whatever became of the trials and whatever users wrote."""

from __future__ import annotations

import json
import logging
import math
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from support import sweep_folders
from support.sweep_folders import make_trial

from expfw.cli import main
from expfw.reports.html import curves, report
from expfw.reports.html.importance import compute_importance
from expfw.reports.html.parameters import collect_parameters, make_round_ticks, shorten_middle
from expfw.reports.html.tables import render_failures_table
from expfw.system import atomic_files
from expfw.tracking import journal
from expfw.tracking.ledger import Ledger

TAG = '<b onclick="alert(1)">bold</b></script><script>alert(2)</script>&amp;'


class Page(HTMLParser):
    """A report, taken apart."""

    def __init__(self, folder: Path, status: str = "FINISHED") -> None:
        super().__init__()
        self.tags, self.attributes, self.texts, self.scripts, self.sections = [], [], [], [], {}
        self._inside, self._section = None, ""
        self.text = report.write_report(folder, Ledger(folder).read_trials(), status).read_text(encoding="utf-8")
        self.feed(self.text)
        self.figures = json.loads(self.scripts[1])

    def handle_starttag(self, tag, attributes):
        self._inside = tag
        self.tags.append(tag)
        self.attributes += [(tag, *pair) for pair in attributes]
        if tag == "script":
            self.scripts.append("")
        if tag in ("section", "header", "footer"):
            self._section = dict(attributes).get("id", tag)

    def handle_endtag(self, tag):
        self._inside = None

    def handle_data(self, data):
        if self._inside == "script":
            self.scripts[-1] += data
        elif self._inside != "style":
            self.sections[self._section] = self.sections.get(self._section, "") + data + " "

    def rows(self, section="trials"):
        (body,) = re.findall(rf'<section id="{section}">.*?<tbody>(.*?)</tbody>', self.text, re.DOTALL)
        return [
            re.findall(r"<td.*?>(.*?)</td>", row, re.DOTALL)
            for row in re.findall(r"<tr.*?>(.*?)</tr>", body, re.DOTALL)
        ]


def grid(losses, **more):
    """Trials of a grid of units and learning rates, by losses in its order."""
    pairs = [(units, rate) for units in (8, 16) for rate in (0.01, 0.1, 1)]
    return [
        make_trial(n, [f"model.units={units}", f"model.optimizer.learning_rate={rate}"], loss, **more)
        for n, ((units, rate), loss) in enumerate(zip(pairs, losses, strict=True))
    ]


def test_the_trials_are_a_table_best_first_with_all_that_was_swept(tmp_path):
    page = Page(sweep_folders.write_sweep_of_trials(tmp_path / "sweep", grid([0.5, 0.25, 9.0, 0.4, 0.125, None])))
    rows = page.rows()
    assert [row[0] for row in rows] == ["4", "1", "3", "0", "2", "5"]
    assert rows[0][1:4] == ["16", "0.1", "0.125"]
    assert "run00004" in rows[0][6]
    assert "trials/004-run00004" in rows[0][7]
    assert re.findall(r'<tr class=best><td class="number" data-value="(.)">', page.text) == ["4"]
    assert "expfw run model=mlp_keras model.units=16 model.optimizer.learning_rate=0.1 " in page.sections["best"]
    assert "expfw sweep model=mlp_keras model.units=8,16 " in page.sections["sweep"]
    assert "6 of 6" in page.sections["header"]
    assert "val/loss, less is better" in page.sections["header"]


def test_more_is_better_where_the_sweep_says_so(tmp_path):
    page = Page(
        sweep_folders.write_sweep_of_trials(tmp_path / "sweep", grid([0.5, 0.25, 0.9, 0.4, 0.1, 0.2]), mode="max")
    )
    assert page.rows()[0][0] == "2"
    assert "more is better" in page.sections["header"]
    (lines,) = page.figures["figures"]["parallel-plot"]["data"]
    assert lines["line"]["reversescale"] is True


def test_nothing_in_it_is_anywhere_else(tmp_path):
    page = Page(sweep_folders.write_mixed_sweep(tmp_path / "sweep", count=40))
    assert {name for _, name, _ in page.attributes}.isdisjoint(
        {"src", "href", "srcset", "action", "data", "background"}
    )
    assert not {"link", "iframe", "img", "object", "embed", "base"} & set(page.tags)
    (style,) = re.findall(r"<style>(.*?)</style>", page.text, re.DOTALL)
    assert "@import" not in style
    assert "url(" not in style
    policy = dict(pair[1:] for pair in page.attributes if pair[0] == "meta")["content"]
    assert policy.startswith("default-src 'none';")  # a browser would refuse to fetch anything
    assert "http" not in policy
    assert page.scripts[0].startswith("/**\n* plotly.js")
    outside = page.text.replace(page.scripts[0], "")
    assert "://" not in outside


def test_what_users_write_is_text(tmp_path):
    swept = [f"model.activation={TAG}", f"model.{TAG}=1"]
    trials = [make_trial(n, [*swept, f"seed={n}"], n + 1.0) for n in range(3)]
    trials.append(make_trial(3, [*swept, "seed=3"], status="FAILED", error=TAG, objective_metric=TAG, run_id=TAG))
    folder = sweep_folders.write_sweep_of_trials(tmp_path / "sweep", trials, name=TAG, overrides=[TAG], files=[TAG])
    page = Page(folder)
    assert page.tags.count("b") == 0
    assert page.tags.count("script") == 3
    assert TAG in page.sections["header"]
    assert TAG in page.sections["failures"]
    assert page.sections["trials"].count(TAG) >= 4
    drawn = json.dumps([page.figures["figures"]["against-1-plot"], page.figures["hover"]])
    assert "<b" not in drawn.replace("<br>", "")  # Plotly knows some tags


def test_the_figures_are_of_the_trials_that_have_an_objective(tmp_path):
    losses = [0.5, 0.25, math.nan, 0.4, math.inf, None]
    page = Page(sweep_folders.write_sweep_of_trials(tmp_path / "sweep", grid(losses)))
    (lines,) = page.figures["figures"]["parallel-plot"]["data"]
    assert [d["label"] for d in lines["dimensions"]] == ["units", "learning_rate", "val/loss"]
    assert lines["dimensions"][0]["values"] == [8, 8, 16]
    assert lines["dimensions"][1]["values"] == pytest.approx([-2, -1, -2])
    assert lines["dimensions"][1]["ticktext"] == ["0.01", "0.1"]  # no tick where no line passes
    assert lines["dimensions"][2]["values"] == [0.5, 0.25, 0.4]
    against = [figure for name, figure in page.figures["figures"].items() if name.startswith("against")]
    assert [sum(len(trace["x"]) for trace in figure["data"]) for figure in against] == [3, 3]
    assert "2 trials came to an objective that is no finite number" in page.sections["trials"]
    assert [row[0] for row in page.rows()][-3:] == ["4", "2", "5"]


def test_what_only_some_trials_have_is_drawn_as_not_set_and_against_nothing(tmp_path):
    trials = [
        make_trial(n, ["model=cnn"] if n % 2 else ["model=mlp", f"model.units={n + 8}"], n + 1.0) for n in range(6)
    ]
    page = Page(sweep_folders.write_sweep_of_trials(tmp_path / "sweep", trials))
    (lines,) = page.figures["figures"]["parallel-plot"]["data"]
    units = lines["dimensions"][1]
    assert units["ticktext"] == ["not set", "8", "10", "12"]
    assert len(set(units["values"])) == 4
    assert min(units["values"]) == units["range"][0] < 8
    by_title = {f["layout"]["xaxis"]["title"]["text"]: f for n, f in page.figures["figures"].items() if "against" in n}
    assert sorted(x for trace in by_title["units"]["data"] for x in trace["x"]) == [8, 10, 12]
    assert by_title["model"]["layout"]["xaxis"]["ticktext"] == ["mlp", "cnn"]


@pytest.mark.parametrize(
    ("trials", "section", "said"),
    [
        ([], "best", "No trial has come to a good end."),
        ([make_trial(0, ["seed=1"], None, status="FAILED", error="as told")], "failures", "as told"),
        ([make_trial(0, ["seed=1"], None, status="KILLED")], "failures", "it was interrupted"),
        ([make_trial(0, ["seed=1"], None, status="RUNNING")], "header", "0 of 1 (1 running)"),
        ([make_trial(0, ["seed=1"], 0.5)], "parallel", "At least two trials"),
        (
            [make_trial(0, ["seed=1"], 0.5), make_trial(1, ["seed=2"], 0.4)],
            "importance",
            "At least two swept parameters",
        ),
        ([make_trial(0, [], 0.5), make_trial(1, [], 0.4)], "against", "No trial with a swept parameter"),
        (
            [make_trial(n, [f"seed={n}", "a=b"], math.nan) for n in range(9)],
            "against",
            "No trial with a swept parameter",
        ),
        ([make_trial(n, [f"seed={n}"], 0.5) for n in range(3)], "failures", "None."),
        (
            [make_trial(n, [f"seed={10**400 + n}", f"x={-(10.0**n)}"], -(1e308**n)) for n in range(2)],
            "trials",
            "1e+308",
        ),
        ([make_trial(n, [f"x={x}"], 0.5) for n, x in enumerate(("nan", "1", "null", "", "-inf"))], "trials", "nan"),
        (
            [make_trial(0, ["seed=1"], 0.5, run_id=None, seconds=None)],
            "learning",
            "No trial has a metric with more than",
        ),
        (
            [make_trial(n, [f"m.k{k}={k * n}" for k in range(40)], n / 3) for n in range(5)],
            "against",
            "The first 24 of 40",
        ),
    ],
)
def test_whatever_became_of_a_sweep_there_is_a_page(tmp_path, trials, section, said):
    page = Page(sweep_folders.write_sweep_of_trials(tmp_path / "sweep", trials))
    assert said in page.sections[section]
    places = {value for tag, name, value in page.attributes if (tag, name) == ("div", "id")}
    assert places == page.figures["figures"].keys()


def test_learning_curves_are_of_the_best_trials_and_thin(tmp_path):
    trials = [make_trial(n, [f"seed={n}"], 1 + n / 100) for n in range(60)]
    folder = sweep_folders.write_sweep_of_trials(tmp_path / "sweep", trials)
    written = Ledger(folder).read_trials()
    for one in written[:59]:
        if one.number != 7:
            sweep_folders.write_learning_curve(folder, one, one.objective, point_count=3000 if one.number == 0 else 3)
    (Path(written[8].folder) / journal.NAME).write_text('"val/loss"\n')
    moved = folder.rename(tmp_path / "moved")  # journals are found beside the report
    page = Page(moved)
    assert "The best 50 trials." in page.sections["learning"]
    assert "Of long curves, 200 evenly spaced points." in page.sections["learning"]
    assert "The journals of 2 trials cannot be read." in page.sections["learning"]
    loss = page.figures["figures"]["learning-0-plot"]
    assert loss["layout"]["yaxis"]["title"]["text"] == "val/loss"
    assert [len(line["x"]) for line in loss["data"]] == [3] * 47 + [200]
    assert {line["customdata"][0] for line in loss["data"]} == set(range(50)) - {7, 8}
    assert (loss["data"][-1]["x"][0], loss["data"][-1]["x"][-1]) == (0, 29990)
    assert loss["data"][-1]["line"] == {"color": "scale(0.000)", "width": 3}
    assert page.figures["figures"]["learning-1-plot"]["layout"]["yaxis"]["title"]["text"] == "train/loss"


def test_thinned_curves_keep_both_ends():
    assert curves.select_evenly(3, max_count=5) == [0, 1, 2]
    kept = curves.select_evenly(1001, max_count=5)
    assert kept == [0, 250, 500, 750, 1000]


def shares(trials, mode="min"):
    return {
        p.key: share for p, share in compute_importance(collect_parameters(trials), [t.objective for t in trials], mode)
    }


def test_importance_of_a_grid_is_the_share_of_its_main_effect():
    found = shares([make_trial(n, [f"a={n // 3}", f"b={n % 3}"], 10.0 * (n // 3) + n % 3) for n in range(9)])
    # Ranks are 1 to 9: their sum of squares is 60, 54 of it between the values of a, 6 between those of b.
    assert found == pytest.approx({"a": 0.9, "b": 0.1})


def test_importance_of_what_does_nothing_is_near_zero_whatever_its_values():
    draw = np.random.default_rng(3)
    trials = [
        make_trial(n, [f"rate={draw.uniform():.6f}", f"word={draw.integers(10)}x", f"seed={n}", f"good={n % 2}"], 0.0)
        for n in range(120)
    ]
    objective = [float(trial.swept[3] == "good=1") * 3 + draw.uniform() for trial in trials]
    found = {p.key: share for p, share in compute_importance(collect_parameters(trials), objective, "min")}
    assert found["good"] > 0.65  # 0.75 but for chance
    assert max(found["rate"], found["word"], found["seed"]) < 0.03


def test_importance_does_not_hang_on_one_diverged_trial_or_on_the_direction():
    losses = [1.0, 2.0, 3.0, 1.1, 2.1, 3.1]
    calm, wild = grid(losses), grid([*losses[:5], math.inf])
    assert shares(wild) == pytest.approx(shares(calm))
    assert shares(grid([*losses[:5], math.nan])) == pytest.approx(shares(calm))
    assert shares(grid([-loss for loss in losses]), "max") == pytest.approx(shares(calm))


def test_importance_counts_a_conditional_parameter_among_those_that_have_it():
    trials = [
        make_trial(n, ["model=a", f"a.x={n % 2}"] if n < 8 else ["model=b"], float(n % 2) if n < 8 else 100.0 + n)
        for n in range(16)
    ]
    found = shares(trials)
    assert found["model"] > 0.6
    assert 0.01 < found["a.x"] < 0.2  # much among eight, little among all


def test_importance_says_nothing_where_nothing_can_be_said():
    assert shares([make_trial(n, ["a=1", f"b=w{n}"], float(n)) for n in range(8)]) == {"a": None, "b": None}
    together = [make_trial(n, [f"a={n % 2}", f"b={n % 2}", f"c={n // 4}"], n % 2 + 0.1 * n) for n in range(8)]
    assert {key: share is None for key, share in shares(together).items()} == {"a": True, "b": True, "c": False}
    assert set(shares([make_trial(n, [f"a={n % 2}", f"b={n // 2}"], float(n)) for n in range(3)]).values()) == {None}
    assert shares([make_trial(n, [f"a={n % 2}"], 1.0) for n in range(8)]) == {"a": None}
    mostly_largest = [make_trial(n, [f"a={min(n, 14)}", f"b={n % 2}"], float(n)) for n in range(400)]
    assert shares(mostly_largest)["a"] is None  # in ranges, all are the same
    assert shares([]) == {}


@pytest.mark.parametrize(
    ("values", "log"),
    [
        (["0.01", "0.1", "0.3"], True),
        (["1e-5", "0.5"], True),
        (["8", "16", "32", "64"], True),
        (["1", "2", "3", "4", "5", "6", "7", "8", "9", "10"], False),
        ([f"{n / 100}" for n in range(1, 60)], False),
        (["0", "100", "10000"], False),
        (["0.1", "none"], False),
        (["5"], False),
    ],
)
def test_an_axis_is_logarithmic_where_orders_of_magnitude_count(values, log):
    (found,) = collect_parameters([make_trial(n, [f"x={value}"]) for n, value in enumerate(values)])
    assert found.is_log_scale is log


def test_ticks_are_at_the_values_where_these_are_few_and_round_where_they_are_many():
    (few,) = collect_parameters([make_trial(n, [f"x={value}"]) for n, value in enumerate(("0.10", "0.01", "1e0"))])
    assert few.make_ticks().texts == ["0.01", "0.10", "1e0"]  # as they were written
    assert few.make_ticks().values == pytest.approx([-2, -1, 0])
    (mixed,) = collect_parameters(
        [make_trial(n, [f"x={value}"]) for n, value in enumerate(("null", "10", "9", "auto"))]
    )
    assert mixed.make_ticks().texts == ["9", "10", "null", "auto"]
    assert make_round_ticks(0.0, 1.0, False).texts == ["0", "0.2", "0.4", "0.6", "0.8", "1"]
    assert make_round_ticks(0.03, 20.0, True).texts == ["0.1", "1", "10"]
    assert make_round_ticks(1.5, 30.0, True).texts == ["2", "5", "10", "20"]
    assert shorten_middle("a" * 30 + "end", 12) == "aaaaaaa…aend"


def test_failures_say_why(tmp_path):
    trials = [
        *grid([0.5] * 6)[:5],
        make_trial(5, ["model.units=1"], None, status="FAILED", error="loss is nan\n  at step 3"),
    ]
    page = Page(sweep_folders.write_sweep_of_trials(tmp_path / "sweep", trials))
    (row,) = page.rows("failures")
    assert row[0] == "5"
    assert "FAILED" in row[2]
    assert row[3] == "loss is nan\n  at step 3"
    assert render_failures_table([]).count("<tr>") == 1


def test_pruned_trials_are_marked_and_never_the_best(tmp_path):
    trials = [*grid([0.5] * 6)[:5], make_trial(5, ["model.units=1"], 0.1, status="PRUNED")]
    page = Page(sweep_folders.write_sweep_of_trials(tmp_path / "sweep", trials))
    assert "(1 pruned)" in page.sections["header"]
    assert "Hollow: trials that were pruned" in page.sections["against"]
    assert "model.units=1 " not in page.sections["best"]


def test_the_time_between_two_lives_does_not_count(tmp_path):
    folder = sweep_folders.write_sweep_of_trials(tmp_path / "sweep", grid([0.5] * 6))
    lines = [json.loads(line) for line in (folder / journal.NAME).read_text().splitlines()]
    first, last = lines[0], lines[-1]
    times = [(first, 1000), (last, 1010), ({**first, "kind": "sweep_resumed", "trials": 7}, 5000), (last, 5002.5)]
    (folder / journal.NAME).write_text("".join(json.dumps({**record, "time": at}) + "\n" for record, at in times))
    facts = report.read_sweep_summary(folder, [], "FINISHED")
    assert (facts.seconds, facts.start_time, facts.planned_trials) == (12.5, 1000.0, 7)


def test_a_report_that_cannot_be_written_is_a_line_and_the_old_one_stays(tmp_path, caplog, monkeypatch):
    folder = sweep_folders.write_sweep_of_trials(tmp_path / "sweep", grid([0.5] * 6))
    path = report.write_report(folder, Ledger(folder).read_trials(), "FINISHED")
    before = path.read_bytes()
    assert [p.name for p in folder.iterdir() if "report" in p.name] == ["report.html"]

    def full(path):
        raise OSError(28, "No space left on device")

    given = []
    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING):
        patch.setattr(atomic_files, "sync_to_disk", full)
        report.try_write_report(folder, [], "FAILED", given.append)
    assert caplog.messages == ["the sweep's report could not be written (OSError: [Errno 28] No space left on device)"]
    assert (given, path.read_bytes()) == ([], before)
    report.try_write_report(folder, [], "FAILED", given.append)
    assert given == [path]
    assert path.read_bytes() != before


def test_sweeps_report_writes_it_anew_from_what_is_on_disk(tmp_path, capsys):
    folder = sweep_folders.write_sweep_of_trials(tmp_path / "2026-01-02" / "10-11-12-abcd2345", grid([0.5] * 6))
    arguments = ["sweeps", "report", "abcd", "--runs-dir", str(tmp_path)]
    assert main.run_command(lambda: main.main.main(arguments, standalone_mode=False)) == 0
    assert capsys.readouterr().out == f"{folder}/report.html\n"
    text = (folder / "report.html").read_text(encoding="utf-8")
    assert f"<code>expfw sweeps report abcd2345 --runs-dir {tmp_path}</code>" in text
    assert "<title>mlp_keras digits · sweep abcd2345</title>" in text


def test_a_large_sweep_is_a_file_of_bounded_size(tmp_path):
    folder = sweep_folders.write_mixed_sweep(tmp_path / "sweep", count=300)
    path = report.write_report(folder, Ledger(folder).read_trials(), "FINISHED")
    assert path.stat().st_size < 7e6


def test_configurations_with_several_seeds_are_a_table_of_their_own(tmp_path):
    one = [
        make_trial(n, [f"units={8 * (1 + n // 3)}", f"seed={n % 3}"], 0.1 * n, configuration=n // 3) for n in range(6)
    ]
    folder = sweep_folders.write_sweep_of_trials(tmp_path / "sweep", one)
    page = report.write_report(folder, Ledger(folder).read_trials(), "FINISHED").read_text()
    assert "Each with 3 seeds, best mean first" in page
    assert "0.1 ± 0.2484" in page  # t(0.975, 2) = 4.3027, s = 0.1
    assert "3 of 3" in page
