"""MLflow's user interface for a finished sweep, in a real browser."""

from __future__ import annotations

import re
from dataclasses import dataclass

import pytest
from support.browser import Page, needs_browser, open_browser
from support.processes import HOST, find_free_port, run_expfw, start_expfw

from expfw.tracking import ranking, run_index
from expfw.tracking.ledger import Ledger
from expfw.tracking.recorded_run import RecordedRun

pytestmark = [pytest.mark.slow, needs_browser]

OVERRIDES = ["model.units=16,32,64", "model.optimizer.learning_rate=0.01,0.1", "train.epochs=5"]


@dataclass(frozen=True)
class Served:
    """A finished sweep, and the addresses that `expfw ui SWEEP` prints."""

    entry: RecordedRun
    server: str
    compare: str
    curves: str
    parent: str

    @property
    def trials(self):
        """Trials, best first."""
        groups = ranking.rank_seed_groups(Ledger(self.entry.folder).read_trials(), "min")
        return [trial for group in groups for trial in group.trials]


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A sweep of six trials, run by the real command, and the real server."""
    folder = tmp_path_factory.mktemp("sweep")
    run_expfw(folder, "sweep", *OVERRIDES, check=True)
    (entry,) = run_index.list_sweeps(folder / "runs")
    port = find_free_port()
    with start_expfw(folder, "ui", entry.id[:5], "--port", str(port), "--no-browser") as process:
        try:
            lines = []
            while not lines or not lines[-1].startswith("(Ctrl-C"):
                lines.append(process.stdout.readline())
                assert lines[-1], lines
            compare, curves, parent = (line.strip().rpartition(": ")[2] for line in lines[:3])
            yield Served(entry, f"http://{HOST}:{port}/", compare, curves, parent)
        finally:
            process.terminate()
            process.wait(30)


@pytest.fixture
def page(tmp_path):
    """A browser with an empty profile."""
    with open_browser(tmp_path / "profile") as driver:
        yield Page(driver, tmp_path)


def test_links_lead_from_the_home_page_to_the_sweep_and_its_trials(served, page):
    page.open(served.server)
    page.click("link text", "Experiments")
    page.click("link text", "expfw")
    page.wait_for_text(served.entry.name[:10], "matching runs")
    assert "workflowType=machine_learning" in page.driver.current_url
    assert "Sessions" not in page.text()  # an entry for language models
    page.click("css selector", ".ag-row button.du-bois-light-btn-link")  # expands the parent
    page.wait_for_text(*(trial.name for trial in served.trials))
    assert f"expfw sweep {' '.join(OVERRIDES)}" in page.text()
    page.shoot("runs")


def test_the_selected_view_is_kept(served, page):
    page.open(served.server)
    page.click("xpath", "//*[@role='button'][.='GenAI']")
    page.open(f"{served.server}#/experiments/1")
    page.wait_for_text("Sessions")


def test_the_parents_page_is_the_summary_of_the_sweep(served, page):
    page.open(served.parent)
    page.wait_for_text(served.entry.name, "Description", "Show more", *(trial.name for trial in served.trials))
    best = served.trials[0]
    assert f"Best: expfw run {' '.join(best.overrides)}" in page.text()
    page.shoot("parent")
    page.click("xpath", "//*[text()='Show more']")
    ids = {trial.run_id for trial in served.trials}
    rows = [row.text.split()[:2] for row in page.all("table tbody tr") if row.text.split()[-1:][0] in ids]
    assert rows == [[word.partition("=")[2] for word in trial.swept] for trial in served.trials]
    page.shoot("parent_unfolded")
    page.click("link text", "All trials and their curves")
    page.driver.switch_to.window(page.driver.window_handles[-1])
    page.wait_for_text("6 matching runs")
    assert page.driver.current_url == served.curves


def test_the_compare_page_has_all_trials_and_swept_parameters(served, page):
    page.open(served.compare)
    page.wait_for_text("Comparing 6 Runs from 1 Experiment", "Run details", *(t.name for t in served.trials))
    axes = page.wait(lambda: [title.text for title in page.all(".parcoords .axis-title")])
    assert axes[:2] == ["model.optimizer.learning_rate", "model.units"]
    assert len(axes) == 3  # and a metric
    assert "Model training" in page.text()
    page.driver.set_window_size(1600, 1900)
    page.click("css selector", "button[aria-label='Parameters - Show diff only']")
    parameters = "(//table[contains(@class, 'mlflow-compare-table')])[2]//th[@scope='row']"
    page.wait(lambda: len(page.driver.find_elements("xpath", parameters)) < 10)
    assert [name.text for name in page.driver.find_elements("xpath", parameters)] == axes[:2]
    page.shoot("compare", height=1900)
    (chart,) = page.driver.find_elements("xpath", "//a[@title='Plot chart'][.='val/loss']")
    page.open(chart.get_attribute("href"))  # a floating button covers the link
    page.wait(lambda: curves(page, "val/loss") == 6)
    page.shoot("metric")


def test_the_curves_of_all_trials_are_sorted_best_first(served, page):
    page.open(served.curves)
    page.wait_for_text("6 matching runs", *(trial.name for trial in served.trials))
    names = [cell.text for cell in page.all(".ag-row a")]
    assert names == [trial.name for trial in served.trials]
    page.driver.set_window_size(1600, 2300)
    for metric in ("train/loss", "val/loss", "val/accuracy"):
        page.wait(lambda metric=metric: curves(page, metric) == 6)
    page.shoot("curves", height=2300)


def curves(page, metric):
    """Returns the number of lines with 3 or more points in a chart; MLflow draws each line twice, for hovering."""
    script = """
        return [...document.querySelectorAll('[data-testid=experiment-view-compare-runs-card]')].map(card => [
          card.innerText.split('\\n')[0],
          [...card.querySelectorAll('.scatterlayer path.js-line')].map(line => line.getAttribute('d'))])
    """
    charts = dict(page.driver.execute_script(script))
    return len({line for line in charts.get(metric, ()) if len(re.findall("[ML]", line)) >= 3})
