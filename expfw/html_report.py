"""The report of a sweep: one HTML file in its folder, which needs no network."""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Callable, Sequence
from pathlib import Path

from expfw import durable, html_charts, html_page, journal, learning_curves
from expfw.folders import INTERRUPTED
from expfw.html_charts import MOST_AXES, Figure, Measured
from expfw.html_page import Facts, section
from expfw.importance import FEWEST_TRIALS, importance
from expfw.ledger import Trial
from expfw.parameters import Parameter, parameters
from expfw.report import best, best_command, other_metrics, ranked
from expfw.run_state import FAILED, FINISHED, KILLED, PRUNED

log = logging.getLogger("expfw")
NAME = "report.html"
_MOST_AGAINST = 24
_LEARNING = "train/loss"


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
    durable.write_bytes(path, made(sweep_folder, trials, status).encode("utf-8", "replace"))
    return path


def made(sweep_folder: Path, trials: Sequence[Trial], status: str) -> str:
    """The report's text; trials whose own journals cannot be read are in it without their curves."""
    facts = facts_of(sweep_folder, trials, status)
    swept, first = parameters(trials), best(trials, facts.mode)
    measured = _measured(trials, facts, first)
    shares = importance(swept, [t.objective if t.status in (FINISHED, PRUNED) else None for t in trials], facts.mode)
    figures: dict[str, Figure] = {}
    table = html_page.trials_table(trials, swept, other_metrics(trials), facts, first)
    sections = [
        html_page.header(facts, trials, best_command(trials, facts.mode, facts.files)),
        section("trials", "Trials", table, *_trial_sentences(trials, measured)),
        _parallel([parameter for parameter, _ in shares], swept, measured, figures),
        _against([parameter for parameter, _ in shares], measured, figures),
        _learning(sweep_folder, trials, facts, first, figures),
        _importance(shares, measured),
        _failures(trials),
        html_page.footer(facts),
    ]
    return html_page.page(f"{facts.name} · sweep {facts.id}", sections, figures, html_charts.hover(trials))


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
        files=lives[-1]["files"],
        metric=next((t.objective_metric for t in trials if t.objective_metric), str(objective["metric"])),
        mode=str(objective["mode"]),
        planned=int(lives[-1]["trials"]),
        started=float(lives[0]["time"]),
        seconds=float(sum(spans)),
    )


def _measured(trials: Sequence[Trial], facts: Facts, first: Trial | None) -> Measured:
    found = [
        (row, trial, trial.objective)
        for row, trial in enumerate(trials)
        if trial.status in (FINISHED, PRUNED) and trial.objective is not None and math.isfinite(trial.objective)
    ]
    return Measured(
        trials=[trial for _, trial, _ in found],
        rows=[row for row, _, _ in found],
        values=[value for _, _, value in found],
        metric=facts.metric,
        mode=facts.mode,
        best=None if first is None else first.number,
    )


def _trial_sentences(trials: Sequence[Trial], measured: Measured) -> list[str]:
    infinite = sum(t.objective is not None and not math.isfinite(t.objective) for t in trials)
    said = ["Best first; the best one is marked. A click on a header sorts by it."] if measured.trials else []
    if infinite:
        said.append(f"{_trials(infinite)} came to an objective that is no finite number, and cannot be drawn below.")
    return said


def _trials(count: int) -> str:
    return f"{count} trial{'' if count == 1 else 's'}"


def _parallel(
    by_importance: Sequence[Parameter], swept: Sequence[Parameter], measured: Measured, figures: dict[str, Figure]
) -> str:
    identity, title = "parallel", "Parallel coordinates"
    if not swept or len(measured.trials) < 2:
        return section(identity, title, "", "At least two trials with an objective and a swept parameter are needed.")
    chosen = set(map(id, by_importance[:MOST_AXES]))
    figures["parallel-plot"] = html_charts.parallel([p for p in swept if id(p) in chosen], measured)
    said = ["Each line is a trial; drag along an axis to keep only the lines that pass there."]
    if len(swept) > MOST_AXES:
        said.append(f"The {MOST_AXES} most important of {len(swept)} parameters.")
    return section(identity, title, html_page.plot("parallel-plot", 440), *said)


def _against(by_importance: Sequence[Parameter], measured: Measured, figures: dict[str, Figure]) -> str:
    identity, title = "against", f"{measured.metric} against each parameter"
    if not by_importance or not measured.trials:
        return section(identity, title, "", "No trial with a swept parameter has come to an objective.")
    plots = []
    for index, parameter in enumerate(by_importance[:_MOST_AGAINST]):
        figures[f"against-{index}"] = html_charts.against(parameter, measured)
        plots.append(html_page.plot(f"against-{index}", 280))
    said = ["The most important parameter first. The diamond is the best trial."]
    if any(trial.status == PRUNED for trial in measured.trials):
        said.append("Hollow: trials that were pruned, with what they had come to by then.")
    if len(by_importance) > _MOST_AGAINST:
        said.append(f"The first {_MOST_AGAINST} of {len(by_importance)} parameters.")
    return section(identity, title, f'<div class="grid">{"".join(plots)}</div>', *said)


def _learning(
    sweep_folder: Path, trials: Sequence[Trial], facts: Facts, first: Trial | None, figures: dict[str, Figure]
) -> str:
    curves = learning_curves.read(sweep_folder, ranked(trials, facts.mode), list({facts.metric: 0, _LEARNING: 0}))
    plots: list[str] = []
    for metric, lines in curves.by_metric.items():
        name = f"learning-{len(plots)}"
        figures[name] = html_charts.learning(metric, lines, None if first is None else first.number)
        plots.append(html_page.plot(name, 360))
    said = (
        ["The best trial is the thick line; the darker, or on a dark page the brighter, the better."] if plots else []
    )
    if not plots:
        said.append("No trial has a metric with more than one point.")
    if curves.trials < sum(trial.folder is not None for trial in trials):
        said.append(f"The best {curves.trials} trials.")
    if any(len(line.steps) == learning_curves.MOST_POINTS for lines in curves.by_metric.values() for line in lines):
        said.append(f"Of long curves, {learning_curves.MOST_POINTS} evenly spaced points.")
    if curves.unreadable:
        said.append(f"The journals of {_trials(curves.unreadable)} cannot be read.")
    return section("learning", "Learning curves", "".join(plots), *said)


def _importance(shares: Sequence[tuple[Parameter, float | None]], measured: Measured) -> str:
    identity, title = "importance", "Parameter importance"
    if len(shares) < 2 or len(measured.trials) < 3:
        return section(
            identity, title, "", "At least two swept parameters and three trials with an objective are needed."
        )
    said = [
        "How much of the differences in rank between the trials goes with each parameter alone, beyond chance; what "
        "only a combination of parameters does is in no bar.",
        f"With fewer than about {FEWEST_TRIALS} trials it says little.",
    ]
    return section(identity, title, html_page.importance_table(shares), *said)


def _failures(trials: Sequence[Trial]) -> str:
    failed = [t for t in trials if t.error or t.status in (FAILED, KILLED, INTERRUPTED)]
    said = "" if failed else "None."
    return section("failures", "Failures", html_page.failures_table(failed) if failed else "", said)
