"""The sections of a sweep's report: what each shows, and what it says where there is little to show."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

from expfw.api.run import FAILED, KILLED, PRUNED
from expfw.reports import tables as report
from expfw.reports.html import charts, curves, tables
from expfw.reports.html.charts import MOST_AXES, Figure, Measured
from expfw.reports.html.curves import MOST_POINTS
from expfw.reports.html.importance import FEWEST_TRIALS
from expfw.reports.html.parameters import Parameter
from expfw.system.formatting import many
from expfw.tracking import ranking
from expfw.tracking.ledger import Trial
from expfw.tracking.run_index import INTERRUPTED

_MOST_AGAINST = 24
_ALSO_LEARNING = "train/loss"


@dataclass(frozen=True)
class Overview:
    """A sweep as all sections see it.

    Attributes:
        best_first: the places of the trials.
        shares: the importance of each parameter, the most important one first.
    """

    folder: Path
    metric: str
    mode: str
    trials: Sequence[Trial]
    best_first: Sequence[int]
    parameters: Sequence[Parameter]
    shares: Sequence[tuple[Parameter, float | None]]
    measured: Measured


@dataclass(frozen=True)
class Part:
    """HTML, and the figures that will be drawn in it, by the ids of their places."""

    html: str
    figures: Mapping[str, Figure] = field(default_factory=dict)


def configurations(sweep: Overview) -> Part:
    """Those that were run with several seeds, each as one; nothing where there are none."""
    ranked = ranking.ranked(sweep.trials, sweep.mode)
    if all(len(one.trials) == 1 for one in ranked):
        return Part("")
    said = [
        f"Each with {max(len(one.trials) for one in ranked)} seeds, best mean first: {sweep.metric} is the mean of its "
        "trials and half of the 95 % confidence interval of that mean (Student's t)."
    ]
    return Part(section("configurations", "Configurations", tables.configurations_table(*report.cells(ranked)), said))


def trials(sweep: Overview) -> Part:
    """The table of all trials."""
    table = tables.trials_table(sweep.trials, sweep.parameters, sweep.metric, sweep.best_first, sweep.measured.best)
    said = ["Best first. A click on a header sorts by it."]
    infinite = sum(trial.objective is not None and not math.isfinite(trial.objective) for trial in sweep.trials)
    if infinite:
        said.append(
            f"{many(infinite, 'trial')} came to an objective that is no finite number, and cannot be drawn below."
        )
    return Part(section("trials", "Trials", table, said))


def parallel(sweep: Overview) -> Part:
    """Parallel coordinates; of many parameters the most important ones, in the order of the sweep."""
    identity, title, measured = "parallel", "Parallel coordinates", sweep.measured
    if not sweep.parameters or len(measured.trials) < 2:
        return _lacking(identity, title, "At least two trials with an objective and a swept parameter are needed.")
    chosen = {parameter.key for parameter, _ in sweep.shares[:MOST_AXES]}
    figure = charts.parallel([p for p in sweep.parameters if p.key in chosen], measured)
    said = ["Each line is a trial. Drag along an axis to keep only the lines that pass there."]
    if len(sweep.parameters) > MOST_AXES:
        said.append(f"The {MOST_AXES} most important of {len(sweep.parameters)} parameters.")
    return Part(section(identity, title, card(identity, figure), said), {_place(identity): figure})


def against(sweep: Overview) -> Part:
    """The objective against each parameter, the most important one first."""
    identity, title, measured = "against", f"{sweep.metric} against each parameter", sweep.measured
    if not sweep.parameters or not measured.trials:
        return _lacking(identity, title, "No trial with a swept parameter has come to an objective.")
    drawn = [parameter for parameter, _ in sweep.shares[:_MOST_AGAINST]]
    figures = {f"{identity}-{n}": charts.against(parameter, measured) for n, parameter in enumerate(drawn)}
    said = ["The most important parameter first. The diamond is the best trial."]
    if any(trial.status == PRUNED for trial in measured.trials):
        said.append("Hollow: trials that were pruned, with what they had come to by then.")
    if len(sweep.parameters) > len(drawn):
        said.append(f"The first {len(drawn)} of {len(sweep.parameters)} parameters.")
    cards = "".join(card(name, figure) for name, figure in figures.items())
    html = section(identity, title, f'<div class="grid">{cards}</div>', said)
    return Part(html, {_place(name): figure for name, figure in figures.items()})


def learning(sweep: Overview) -> Part:
    """The objective's metric and the training loss over the steps."""
    ordered = [sweep.trials[row] for row in sweep.best_first]
    wanted = list(dict.fromkeys([sweep.metric, _ALSO_LEARNING]))
    read = curves.read(sweep.folder, ordered, wanted)
    figures = {
        f"learning-{n}": charts.learning(metric, lines, sweep.measured.best)
        for n, (metric, lines) in enumerate(read.by_metric.items())
    }
    said = ["The better a trial, the more its line stands out from the page; the best one is thick."]
    if not figures:
        said = ["No trial has a metric with more than one point."]
    if read.runs < sum(trial.folder is not None for trial in sweep.trials):
        said.append(f"The best {many(read.runs, 'trial')}.")
    if any(len(line.steps) == MOST_POINTS for lines in read.by_metric.values() for line in lines):
        said.append(f"Of long curves, {MOST_POINTS} evenly spaced points.")
    if read.unreadable:
        said.append(f"The journals of {many(read.unreadable, 'trial')} cannot be read.")
    html = section("learning", "Learning curves", "".join(card(*pair) for pair in figures.items()), said)
    return Part(html, {_place(name): figure for name, figure in figures.items()})


def importance(sweep: Overview) -> Part:
    """How much each parameter tells."""
    identity, title = "importance", "Parameter importance"
    if len(sweep.parameters) < 2 or len(sweep.measured.trials) < 3:
        return _lacking(identity, title, "At least two swept parameters and three trials with an objective are needed.")
    meaning = [
        "How much of the differences in rank between the trials goes with each parameter alone, beyond chance; what "
        "only parameters together do is in no bar.",
        f"With fewer than about {FEWEST_TRIALS} trials it says little.",
    ]
    return Part(section(identity, title, tables.importance_table(sweep.shares), meaning))


def failures(sweep: Overview) -> Part:
    """What went wrong, and why."""
    failed = [t for t in sweep.trials if t.error or t.status in (FAILED, KILLED, INTERRUPTED)]
    table = tables.failures_table(failed) if failed else ""
    return Part(section("failures", "Failures", table, [] if failed else ["None."]))


def _lacking(identity: str, title: str, what: str) -> Part:
    return Part(section(identity, title, "", [what]))


def section(identity: str, title: str, content: str, sentences: Sequence[str]) -> str:
    """Content below a title and what is said of it."""
    said = f'<p class="quiet">{" ".join(map(escape, sentences))}</p>' if sentences else ""
    return f'<section id="{identity}"><h2>{escape(title)}</h2>{said}{content}</section>'


def card(name: str, figure: Figure) -> str:
    """The place of a figure, which the page's script finds by `NAME-plot`."""
    height = figure["layout"]["height"]
    return f'<div class="card figure"><div class="plot" id="{_place(name)}" style="height:{height}px"></div></div>'


def _place(name: str) -> str:
    return f"{name}-plot"
