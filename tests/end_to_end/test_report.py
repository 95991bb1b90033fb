"""The report of a sweep in a real browser, in both colour schemes."""

from __future__ import annotations

import json

import pytest
from support.browser import Page, needs_browser, open_browser
from support.run_folders import make_trial, write_learning_curve, write_mixed_sweep, write_sweep_of_trials

from expfw.reports.html import report as html_report
from expfw.tracking.ledger import Ledger

pytestmark = [pytest.mark.slow, needs_browser]

TAG = "<b onclick=alert(1)>bold</b> & <script>alert(2)</script> %{x} ${y}"


class Report(Page):
    """An open report."""

    def __init__(self, driver, screenshots, path, width):
        super().__init__(driver, screenshots)
        self.path, self.width = path, width
        driver.get_log("performance")  # discards earlier entries
        self.scheme("light")
        driver.set_window_size(width, 1000)
        driver.get(path.as_uri())
        self.wait(lambda: not self.all(".plot:not(.js-plotly-plot)"))

    def scheme(self, name):
        features = [{"name": "prefers-color-scheme", "value": name}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    def texts(self, selector):
        return self.run("return [...document.querySelectorAll(arguments[0])].map(e => e.textContent)", selector)

    def requests(self):
        messages = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        sent = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
        return [url for url in sent if not url.startswith(("data:", "blob:"))]

    def errors(self):
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] == "SEVERE"]

    def shoot_all(self, name):
        """Saves a screenshot of the whole page."""
        self.shoot(name, self.run("return document.documentElement.scrollHeight"))


@pytest.fixture
def open_report(tmp_path):
    """Writes the report of a sweep and opens it."""
    with open_browser(tmp_path / "profile") as driver:

        def open_in_browser(folder, width=1280):
            path = html_report.write_report(folder, Ledger(folder).read_trials(), "FINISHED")
            return Report(driver, tmp_path, path, width)

        yield open_in_browser


def test_all_figures_are_drawn_in_both_schemes_without_downloads(open_report, tmp_path):
    report = open_report(write_mixed_sweep(tmp_path / "sweep"))
    titles = report.wait(lambda: report.texts(".parcoords .axis-title"))
    assert sorted(titles[:-1]) == ["batch_size", "dropout", "learning_rate", "model", "name", "seed", "units"]
    assert (titles[0], titles[-1]) == ("learning_rate", "val/loss")  # most important parameter first
    assert len(report.all("#against .plot .main-svg")) >= 7
    points = report.run(
        "return [...document.querySelectorAll('#against .plot')].map(p => p.querySelectorAll('path.point').length)"
    )
    assert points[0] == 192  # 200 without 7 failed trials and one with an objective that is not finite
    assert 0 < min(points) < 192  # a parameter that only some trials have
    assert len(report.all("#learning path.js-line")) == 2 * 50
    light = drawn_colors(report)
    report.shoot_all("report_light")
    report.scheme("dark")
    report.wait(lambda: all(a != b for a, b in zip(light, drawn_colors(report), strict=True)))
    report.shoot_all("report_dark")
    assert report.errors() == []
    assert report.requests() == [report.path.as_uri()]


def drawn_colors(report):
    """Returns the colours of the page, its text, the text in a figure, a line and a point."""
    return report.run(
        """
        const of = (selector, name) => getComputedStyle(document.querySelector(selector))[name];
        return [of('body', 'backgroundColor'), of('body', 'color'), of('#learning .xtick text', 'fill'),
                of('#learning path.js-line', 'stroke'), of('#against .trace:last-child path.point', 'fill')];
        """
    )


@pytest.mark.parametrize("width", [800, 1600])
def test_the_page_is_never_wider_than_the_window(open_report, tmp_path, width):
    report = open_report(write_mixed_sweep(tmp_path / "sweep", count=30), width)
    assert report.run("return document.documentElement.scrollWidth <= window.innerWidth")
    assert report.run(
        "return [...document.querySelectorAll('.plot')].every(p => "
        "p.querySelector('.main-svg').getBoundingClientRect().width <= p.getBoundingClientRect().width + 1)"
    )


def test_a_click_on_a_header_sorts_and_a_second_click_reverses(open_report, tmp_path):
    losses = [0.5, 30.0, None, 4.0, 1e-7]
    trials = [make_trial(n, [f"model.units={n + 8}", f"name=n{n}"], loss) for n, loss in enumerate(losses)]
    report = open_report(write_sweep_of_trials(tmp_path / "sweep", trials))

    def click(title):
        buttons = report.all("#trials th button")
        next(button for button in buttons if button.text.startswith(title)).click()
        return "".join(report.texts("#trials tbody tr td:first-child"))

    assert "".join(report.texts("#trials tbody tr td:first-child")) == "40312"
    assert [click(title) for title in ("val/loss", "val/loss", "units")] == [
        "40312",
        "13042",  # a trial without a value stays last
        "01234",
    ]


def test_the_best_command_can_be_copied(open_report, tmp_path):
    trials = [make_trial(n, [f"model.units={n + 8}"], n + 1.0) for n in range(2)]
    report = open_report(write_sweep_of_trials(tmp_path / "sweep", trials))
    report.run(
        "navigator.clipboard.writeText = text => { throw new Error('closed') }; window.copied = null;"
        "document.addEventListener('copy', () => { window.copied = String(getSelection()) });"
    )
    report.click("css selector", "#best button")
    assert report.wait(lambda: report.run("return window.copied")) == "expfw run model=mlp_keras model.units=8"


def test_texts_of_users_are_never_markup(open_report, tmp_path):
    values = [TAG, "x" * 3000, *(f"word{n}" for n in range(300))]
    trials = [
        make_trial(n, [f"model.activation={value}", f"model.{TAG}=1", "seed=1"], 1 + n / 7)
        for n, value in enumerate(values)
    ]
    trials.append(make_trial(len(values), [f"model.activation={TAG}"], None, status="FAILED", error=TAG))
    folder = write_sweep_of_trials(tmp_path / "sweep", trials, name=TAG, overrides=[TAG])
    for trial in Ledger(folder).read_trials()[:5]:
        write_learning_curve(folder, trial, 0.1)
    report = open_report(folder)
    report.wait(lambda: report.texts(".parcoords .axis-title"))
    assert report.errors() == []
    assert report.all("main b, main [onclick], main script") == []
    assert report.texts("h1") == [TAG]
    assert TAG in report.texts("#failures td")
    drawn = " ".join(report.texts(".parcoords text, #against text, #learning text"))
    assert "<b onclick=" in drawn
    assert "&lt;" not in drawn
    report.shoot_all("report_strange")
