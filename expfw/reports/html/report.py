"""The report of a sweep: one HTML file in its folder, which needs no network."""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Callable, Sequence
from pathlib import Path

from expfw.api.run import FINISHED, PRUNED
from expfw.reports.html import charts, page, sections
from expfw.reports.html.charts import Measured
from expfw.reports.html.importance import importance
from expfw.reports.html.page import Facts
from expfw.reports.html.parameters import parameters
from expfw.reports.html.sections import Overview
from expfw.reports.tables import best_command
from expfw.system import atomic_files
from expfw.tracking import journal, run_folders
from expfw.tracking.ledger import Trial
from expfw.tracking.ranking import best, place

log = logging.getLogger("expfw")
NAME = "report.html"


def attempt(sweep_folder: Path, trials: Sequence[Trial], status: str, add_artifact: Callable[[Path], None]) -> None:
    """Writes the report and gives it to `add_artifact`; whatever goes wrong is said, and the sweep goes on."""
    try:
        add_artifact(write(sweep_folder, trials, status))
    except Exception as error:
        log.warning("the sweep's report could not be written (%s: %s)", type(error).__name__, error)


def write(sweep_folder: Path, trials: Sequence[Trial], status: str) -> Path:
    """Writes `report.html` as a whole, in the place of an older one.

    Args:
        trials: by number.

    Raises:
        JournalError: the sweep's own journal cannot be read.
        OSError: the file cannot be written.
    """
    path = sweep_folder / NAME
    atomic_files.write_bytes(path, made(sweep_folder, trials, status).encode("utf-8", "replace"))
    return path


def made(sweep_folder: Path, trials: Sequence[Trial], status: str) -> str:
    """The report's text; trials whose own journals cannot be read are in it without their curves."""
    facts = facts_of(sweep_folder, trials, status)
    overview = _overview(sweep_folder, trials, facts)
    parts = [
        sections.configurations(overview),
        sections.trials(overview),
        sections.parallel(overview),
        sections.against(overview),
        sections.learning(overview),
        sections.importance(overview),
        sections.failures(overview),
    ]
    top = page.header(facts, trials, best_command(trials, facts.mode, facts.files))
    again = f"expfw sweeps report {facts.id}{run_folders.option(sweep_folder.parent.parent)}"
    body = [top, *(part.html for part in parts), page.footer(again)]
    figures = {name: figure for part in parts for name, figure in part.figures.items()}
    return page.page(f"{facts.name} · sweep {facts.id}", body, figures, charts.hover(trials))


def facts_of(sweep_folder: Path, trials: Sequence[Trial], status: str) -> Facts:
    """What the sweep's journal says of it."""
    records, _ = journal.read(sweep_folder / journal.NAME)
    lives = [record for record in records if record["kind"] in ("sweep_started", "sweep_resumed")]
    begun = {id(life) for life in lives[1:]}
    spans = [later["time"] - r["time"] for r, later in itertools.pairwise(records) if id(later) not in begun]
    objective = lives[-1]["objective"]
    return Facts(
        id=str(lives[0]["id"]),
        name=str(lives[0]["name"]) or "sweep",
        status=status,
        overrides=lives[-1]["overrides"],
        files=[*lives[-1]["files"], *lives[-1].get("switched_off", [])],
        metric=next((t.objective_metric for t in trials if t.objective_metric), str(objective["metric"])),
        mode=str(objective["mode"]),
        planned=int(lives[-1]["trials"]),
        started=float(lives[0]["time"]),
        seconds=float(sum(spans)),
    )


def _overview(sweep_folder: Path, trials: Sequence[Trial], facts: Facts) -> Overview:
    first, swept = best(trials, facts.mode), parameters(trials)
    counted = [trial.objective if trial.status in (FINISHED, PRUNED) else None for trial in trials]
    rows = [row for row, value in enumerate(counted) if value is not None and math.isfinite(value)]
    measured = Measured(
        trials=[trials[row] for row in rows],
        rows=rows,
        values=[value for value in counted if value is not None and math.isfinite(value)],
        metric=facts.metric,
        mode=facts.mode,
        best=None if first is None else first.number,
    )
    return Overview(
        folder=sweep_folder,
        metric=facts.metric,
        mode=facts.mode,
        trials=trials,
        best_first=best_first(trials, facts.mode),
        parameters=swept,
        shares=importance(swept, counted, facts.mode),
        measured=measured,
    )


def best_first(trials: Sequence[Trial], mode: str) -> list[int]:
    """The places of the trials, best objective first; those without one last."""
    return sorted(range(len(trials)), key=lambda row: place(trials[row].objective, mode))
