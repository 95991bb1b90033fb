"""HTML report of a sweep, with trials of every status and any text of users."""

from __future__ import annotations

import json
import logging
import math
import re
from collections import defaultdict
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import optuna
import pytest
from support import run_folders
from support.run_folders import make_trial

from expfw.cli import main
from expfw.reports.html import report
from expfw.reports.html.figures import draw_parallel_coordinates
from expfw.reports.html.importance import compute_importance
from expfw.reports.html.parameters import collect_parameters, shorten_middle
from expfw.system import atomic_files
from expfw.tracking import journal
from expfw.tracking.ledger import Ledger

TAG = '<b onclick="alert(1)">bold</b></script><script>alert(2)</script>&amp;'


class Page(HTMLParser):
    """Parsed HTML report of a sweep."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.tags, self.attributes, self.scripts, self.sections, self._section = [], [], [], defaultdict(str), ""
        self.text = report.write_report(folder, Ledger(folder).read_trials(), "FINISHED").read_text("utf-8")
        self.feed(self.text)
        self.figures, self.hover_texts = json.loads(self.scripts[1]).values()

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += [(tag, *pair) for pair in attributes]
        if tag == "script":
            self.scripts.append("")
        if tag in ("section", "header", "footer"):
            self._section = dict(attributes).get("id", tag)

    def handle_data(self, data):
        if self.cdata_elem == "script":
            self.scripts[-1] += data
        elif self.cdata_elem != "style":
            self.sections[self._section] += data + " "

    def rows(self, section="trials"):
        (body,) = re.findall(rf'<section id="{section}">.*?<tbody>(.*?)</tbody>', self.text, re.DOTALL)
        return [re.findall(r"<td.*?>(.*?)</td>", row, re.DOTALL) for row in body.split("<tr")[1:]]


def make_grid(losses):
    """Returns the trials of a grid of units and learning rates, with these losses."""
    grid = [[f"model.units={u}", f"model.optimizer.learning_rate={rate}"] for u in (8, 16) for rate in (0.01, 0.1, 1)]
    return [make_trial(n, swept, loss) for n, (swept, loss) in enumerate(zip(grid, losses, strict=True))]


def make_seeds(*losses, **fields):
    """Returns a trial for each loss, with the seeds 0, 1 and so on."""
    return [make_trial(n, [f"seed={n}"], loss, **fields) for n, loss in enumerate(losses)]


@pytest.fixture
def make_page(tmp_path):
    return lambda trials, **fields: Page(run_folders.write_sweep_of_trials(tmp_path / "sweep", trials, **fields))


def test_the_table_of_trials_is_sorted_best_first_and_has_all_swept_parameters(make_page):
    page = make_page(make_grid([0.5, 0.25, 9.0, 0.4, 0.125, None]))
    rows = page.rows()
    assert [row[0] for row in rows] == ["4", "1", "3", "0", "2", "5"]
    assert rows[0] == ["4", "16", "0.1", "0.125", "FINISHED", "1.5", "run00004", "trials/004-run00004"]
    assert re.findall(r'<tr class=best><td class="number" data-value="(.)">', page.text) == ["4"]
    assert "expfw run model=mlp_keras model.units=16 model.optimizer.learning_rate=0.1 " in page.sections["best"]
    assert "expfw sweep model=mlp_keras model.units=8,16 " in page.sections["sweep"]
    assert "6 of 6" in page.sections["header"]
    assert "val/loss, lower is better" in page.sections["header"]


def test_mode_max_sorts_the_highest_objective_first(make_page):
    page = make_page(make_grid([0.5, 0.25, 0.9, 0.4, 0.1, 0.2]), mode="max")
    assert page.rows()[0][0] == "2"
    assert "higher is better" in page.sections["header"]
    assert page.figures["parallel-0"]["data"][0]["line"]["reversescale"] is True


def test_the_report_loads_no_other_files_and_has_a_limited_size(tmp_path):
    page = Page(run_folders.write_mixed_sweep(tmp_path / "sweep", count=300))
    assert len(page.text) < 7e6
    links = {"src", "href", "srcset", "action", "data", "background"}
    assert links.isdisjoint(name for _, name, _ in page.attributes)
    assert not {"link", "iframe", "img", "object", "embed", "base"} & set(page.tags)
    (style,) = re.findall(r"<style>(.*?)</style>", page.text, re.DOTALL)
    assert not re.search(r"@import|url\(", style)
    policy = dict(pair[1:] for pair in page.attributes if pair[0] == "meta")["content"]
    assert policy.startswith("default-src 'none';")  # the browser blocks all requests
    assert "http" not in policy
    assert page.scripts[0].startswith("/**\n* plotly.js")
    assert "://" not in page.text.replace(page.scripts[0], "")


def test_text_of_users_is_escaped(make_page):
    swept = [f"model.activation={TAG}", f"model.{TAG}=1"]
    trials = [make_trial(n, [*swept, f"seed={n}"], n + 1.0) for n in range(3)]
    trials.append(make_trial(3, [*swept, "seed=3"], status="FAILED", error=TAG, objective_metric=TAG))
    page = make_page(trials, name=TAG, overrides=[TAG], files={TAG: "0" * 16})
    assert (page.tags.count("b"), page.tags.count("script")) == (0, 3)
    assert TAG in page.sections["header"]
    assert TAG in page.sections["failures"]
    assert page.sections["trials"].count(TAG) >= 4
    figures = json.dumps([page.figures["against-1"], page.hover_texts])
    assert "<b" not in figures.replace("<br>", "")  # Plotly interprets some tags


def test_figures_show_only_trials_with_a_finite_objective(make_page):
    page = make_page(make_grid([0.5, 0.25, math.nan, 0.4, math.inf, None]))
    (lines,) = page.figures["parallel-0"]["data"]
    assert [d["label"] for d in lines["dimensions"]] == ["units", "learning_rate", "val/loss"]
    assert lines["dimensions"][0]["values"] == [8, 8, 16]
    assert lines["dimensions"][1]["values"] == pytest.approx([-2, -1, -2])
    assert lines["dimensions"][1]["ticktext"] == ["0.01", "0.1"]  # no tick without a line
    assert lines["dimensions"][2]["values"] == [0.5, 0.25, 0.4]
    against = [figure for name, figure in page.figures.items() if name.startswith("against")]
    assert [sum(len(trace["x"]) for trace in figure["data"]) for figure in against] == [3, 3]
    assert "The objective of 2 trials is not finite" in page.sections["trials"]
    assert [row[0] for row in page.rows()][-3:] == ["4", "2", "5"]


def test_a_parameter_that_some_trials_lack_is_not_set_in_parallel_coordinates_only(make_page):
    trials = [
        make_trial(n, ["model=cnn"] if n % 2 else ["model=mlp", f"model.units={n + 8}"], n + 1.0) for n in range(6)
    ]
    page = make_page(trials)
    (lines,) = page.figures["parallel-0"]["data"]
    units = lines["dimensions"][1]
    assert units["ticktext"] == ["not set", "8", "10", "12"]
    assert len(set(units["values"])) == 4
    assert min(units["values"]) == units["range"][0] < 8
    by_title = {f["layout"]["xaxis"]["title"]["text"]: f for n, f in page.figures.items() if "against" in n}
    assert sorted(x for trace in by_title["units"]["data"] for x in trace["x"]) == [8, 10, 12]
    assert by_title["model"]["layout"]["xaxis"]["ticktext"] == ["mlp", "cnn"]


@pytest.mark.parametrize(
    ("trials", "section", "expected"),
    [
        ([], "best", "No trial has finished."),
        (make_seeds(None, status="FAILED", error="loss is nan"), "failures", "loss is nan"),
        (make_seeds(None, status="KILLED"), "failures", "interrupted"),
        (make_seeds(None, status="RUNNING"), "header", "0 of 1 (1 running)"),
        (make_seeds(0.5), "parallel", "Needs at least two trials"),
        (make_seeds(0.5, 0.4), "importance", "Needs at least two swept parameters"),
        ([make_trial(0, [], 0.5), make_trial(1, [], 0.4)], "against", "No trial with a swept parameter"),
        (make_seeds(*[math.nan] * 9), "against", "No trial with a swept parameter"),
        (make_seeds(0.5, 0.5, 0.5), "failures", "No failures."),
        (make_seeds(0.5, run_id=None, seconds=None), "learning", "No trial has a metric with more than"),
        (
            [make_trial(n, [f"seed={10**400 + n}", f"x={-(10.0**n)}"], -(1e308**n)) for n in range(2)],
            "trials",
            "1e+308",
        ),
        ([make_trial(n, [f"x={x}"], 0.5) for n, x in enumerate(("nan", "1", "null", "", "-inf"))], "trials", "nan"),
        ([make_trial(n, [f"k{k}={k * n}" for k in range(40)], n / 3) for n in range(5)], "against", "first 24 of 40"),
    ],
)
def test_every_sweep_has_a_report(make_page, trials, section, expected):
    page = make_page(trials)
    assert expected in page.sections[section]
    assert {value for *pair, value in page.attributes if pair == ["div", "id"]} == page.figures.keys()


def test_learning_curves_show_the_best_trials_with_a_limited_number_of_points(tmp_path):
    folder = run_folders.write_sweep_of_trials(tmp_path / "sweep", make_seeds(*[1 + n / 100 for n in range(60)]))
    recorded_trials = Ledger(folder).read_trials()
    for trial in recorded_trials[:59]:
        if trial.number != 7:
            run_folders.write_learning_curve(folder, trial, trial.objective, 3 if trial.number else 3000)
    (Path(recorded_trials[8].folder) / journal.NAME).write_text('"val/loss"\n')
    moved_folder = folder.rename(tmp_path / "moved")  # the report reads the journals in its own folder
    page = Page(moved_folder)
    assert "Shows the best 50 trials." in page.sections["learning"]
    assert "Long curves show 200 evenly spaced points." in page.sections["learning"]
    assert "The journals of 2 trials cannot be read." in page.sections["learning"]
    loss = page.figures["learning-0"]
    assert loss["layout"]["yaxis"]["title"]["text"] == "val/loss"
    assert [len(line["x"]) for line in loss["data"]] == [3] * 47 + [200]
    assert {line["customdata"][0] for line in loss["data"]} == set(range(50)) - {7, 8}
    assert (loss["data"][-1]["x"][0], loss["data"][-1]["x"][-1]) == (0, 29990)
    assert loss["data"][-1]["line"] == {"color": "scale(0.000)", "width": 3}
    assert page.figures["learning-1"]["layout"]["yaxis"]["title"]["text"] == "train/loss"


def compute_shares(trials):
    objectives = [trial.objective for trial in trials]
    return {parameter.key: share for parameter, share in compute_importance(collect_parameters(trials), objectives)}


def test_importance_of_a_grid_is_the_share_of_its_main_effect():
    shares = compute_shares([make_trial(n, [f"a={n // 3}", f"b={n % 3}"], 10.0 * (n // 3) + n % 3) for n in range(9)])
    # The ranks 1 to 9 have a sum of squares of 60: 54 between the values of a, 6 between the values of b.
    assert shares == pytest.approx({"a": 0.9, "b": 0.1})


def test_importance_of_a_parameter_without_effect_is_near_zero_for_all_types_of_values():
    draw = np.random.default_rng(3)
    trials = [
        make_trial(n, [f"rate={draw.uniform():.6f}", f"word={draw.integers(10)}x", f"seed={n}", f"good={n % 2}"], 0.0)
        for n in range(120)
    ]
    objective = [float(trial.swept[3] == "good=1") * 3 + draw.uniform() for trial in trials]
    shares = compute_shares([replace(t, objective=value) for t, value in zip(trials, objective, strict=True)])
    assert shares["good"] > 0.65  # 0.75 without chance
    assert max(shares["rate"], shares["word"], shares["seed"]) < 0.03


def test_importance_does_not_depend_on_one_diverged_trial_or_on_the_direction():
    losses = [1.0, 2.0, 3.0, 1.1, 2.1, 3.1]
    expected = pytest.approx(compute_shares(make_grid(losses)))
    assert compute_shares(make_grid([*losses[:5], math.inf])) == expected
    assert compute_shares(make_grid([-loss for loss in losses])) == expected


def test_importance_agrees_with_the_random_forest_of_optuna():
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))

    def compute_loss(trial):
        rate, name = trial.suggest_float("rate", 1e-5, 1, log=True), trial.suggest_categorical("name", ["a", "b", "c"])
        trial.suggest_float("nothing", 0, 1)
        return (np.log10(rate) + 2.5) ** 2 + "abc".index(name)

    study.optimize(compute_loss, n_trials=100)
    shares = compute_shares(
        [make_trial(t.number, [f"{key}={value}" for key, value in t.params.items()], t.value) for t in study.trials]
    )
    expected = optuna.importance.get_param_importances(study)
    assert shares == {key: pytest.approx(share, abs=0.1) for key, share in expected.items()}
    assert list(shares) == ["rate", "name", "nothing"]


def test_importance_compares_a_conditional_parameter_among_trials_that_have_it():
    trials = [
        make_trial(n, ["model=a", f"a.x={n % 2}"] if n < 8 else ["model=b"], float(n % 2) if n < 8 else 100.0 + n)
        for n in range(16)
    ]
    shares = compute_shares(trials)
    assert shares["model"] > 0.6
    assert 0.01 < shares["a.x"] < 0.2  # large among its 8 trials, small among all trials


@pytest.mark.parametrize(
    ("trials", "keys"),
    [
        ([make_trial(n, ["a=1", f"b=w{n}"], float(n)) for n in range(8)], {"a", "b"}),  # texts are not repeated
        ([make_trial(n, [f"a={n % 2}", f"b={n % 2}", f"c={n // 4}"], n * 1.1) for n in range(8)], {"a", "b"}),
        ([make_trial(n, [f"a={n % 2}", f"b={n // 2}"], float(n)) for n in range(3)], {"a", "b"}),  # too few trials
        ([make_trial(n, [f"a={n % 2}"], 1.0) for n in range(8)], {"a"}),
        ([make_trial(n, [f"a={min(n, 14)}", f"b={n % 2}"], float(n)) for n in range(400)], {"a"}),  # equal ranges
        ([], set()),
    ],
)
def test_importance_is_none_if_it_cannot_be_computed(trials, keys):
    assert {key for key, share in compute_shares(trials).items() if share is None} == keys


@pytest.mark.parametrize(
    ("values", "is_log_scale"),
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
def test_an_axis_is_logarithmic_if_the_values_span_orders_of_magnitude(values, is_log_scale):
    (parameter,) = collect_parameters([make_trial(n, [f"x={value}"]) for n, value in enumerate(values)])
    assert parameter.is_log_scale is is_log_scale


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        (["0.10", "0.01", "1e0"], ["0.01", "0.10", "1e0"]),  # as typed
        (["null", "10", "9", "auto"], ["9", "10", "null", "auto"]),
        ([f"{10 ** (n / 8)}" for n in range(-10, 10)], ["0.1", "0.2", "0.5", "1", "2", "5", "10"]),
        ([f"{10 ** (n / 4)}" for n in range(-10, 10)], ["0.01", "0.1", "1", "10", "100"]),
    ],
)
def test_ticks_are_at_the_values_if_these_are_few_and_at_powers_of_10_otherwise(values, texts):
    (parameter,) = collect_parameters([make_trial(n, [f"x={value}"]) for n, value in enumerate(values)])
    figure = draw_parallel_coordinates([parameter], parameter, "min")
    assert figure["data"][0]["dimensions"][0]["ticktext"] == texts
    assert shorten_middle("a" * 30 + "end", 12) == "aaaaaaa…aend"


def test_failed_and_pruned_trials_are_marked_and_are_never_the_best(make_page):
    trials = [
        *make_grid([0.5] * 6)[:4],
        make_trial(4, ["model.units=1"], 0.1, status="PRUNED"),
        make_trial(5, ["model.units=1"], None, status="FAILED", error="loss is nan\n  at step 3"),
    ]
    page = make_page(trials)
    assert page.rows("failures") == [["5", "units=1", "FAILED", "loss is nan\n  at step 3"]]
    assert "(1 failed, 1 pruned)" in page.sections["header"]
    assert "Hollow points are pruned trials" in page.sections["against"]
    assert "model.units=1 " not in page.sections["best"]


def test_the_time_of_an_interruption_does_not_count(tmp_path):
    folder = run_folders.write_sweep_of_trials(tmp_path / "sweep", make_grid([0.5] * 6))
    first, last = map(json.loads, (folder / journal.NAME).read_text().splitlines())
    times = [(first, 1000), (last, 1010), ({**first, "kind": "sweep_resumed", "trials": 7}, 5000), (last, 5002.5)]
    (folder / journal.NAME).write_text("".join(json.dumps({**record, "time": at}) + "\n" for record, at in times))
    assert "Duration 12 s" in " ".join(Page(folder).sections["header"].split())
    assert "6 of 7" in Page(folder).sections["header"]


def test_a_failed_write_is_a_one_line_warning_and_keeps_the_old_report(tmp_path, caplog, monkeypatch):
    folder = run_folders.write_sweep_of_trials(tmp_path / "sweep", make_grid([0.5] * 6))
    path = report.write_report(folder, Ledger(folder).read_trials(), "FINISHED")
    old_bytes = path.read_bytes()
    assert [p.name for p in folder.iterdir() if "report" in p.name] == ["report.html"]

    disk_full, artifacts = Mock(side_effect=OSError(28, "No space left on device")), []
    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING):
        patch.setattr(atomic_files, "sync_to_disk", disk_full)
        report.try_write_report(folder, [], "FAILED", artifacts.append)
    assert caplog.messages == ["cannot write the report of the sweep: OSError: [Errno 28] No space left on device"]
    assert (artifacts, path.read_bytes()) == ([], old_bytes)
    report.try_write_report(folder, [], "FAILED", artifacts.append)
    assert artifacts == [path]
    assert path.read_bytes() != old_bytes


def test_sweeps_report_writes_the_report_from_the_records_on_disk(tmp_path, capsys):
    folder = run_folders.write_sweep_of_trials(tmp_path / "2026-01-02" / "10-11-12-abcd2345", make_grid([0.5] * 6))
    arguments = ["sweeps", "report", "abcd", "--runs-dir", str(tmp_path)]
    assert main.run_command(arguments) == 0
    assert capsys.readouterr().out == f"{folder}/report.html\n"
    text = (folder / "report.html").read_text(encoding="utf-8")
    assert f"<code>expfw sweeps report abcd2345 --runs-dir {tmp_path}</code>" in text
    assert "<title>mlp_keras digits · sweep abcd2345</title>" in text


def test_configurations_with_several_seeds_have_a_separate_table(make_page):
    swept = [[f"units={8 * (1 + n // 3)}", f"seed={n % 3}"] for n in range(6)]
    page = make_page([make_trial(n, swept[n], 0.1 * n, configuration=n // 3) for n in range(6)])
    assert "Each with 3 seeds, best mean first" in page.text
    assert "0.1 ± 0.2484" in page.text  # t(0.975, 2) = 4.3027, s = 0.1
    assert "3 of 3" in page.text
