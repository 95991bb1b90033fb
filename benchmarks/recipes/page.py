"""The page docs/guide/recipes.md, from what the recipes showed."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from session import RecipeResult

TEMPLATE = Path(__file__).with_name("template.md")


def render_page(results: Sequence[RecipeResult]) -> str:
    """The template, filled in."""
    contents = {
        "outcome": _render_summary(results),
        "overview": _render_overview(results),
        "sections": "\n\n".join(_render_section(result) for result in results),
    }
    text = TEMPLATE.read_text()
    for name, content in contents.items():
        text = text.replace(f"{{{name}}}", content)
    return text


def _render_summary(results: Sequence[RecipeResult]) -> str:
    """How many there are, on what machine, and all that missed."""
    cores = len(os.sched_getaffinity(0))
    gpu = "with" if Path("/dev/nvidia0").exists() else "without"
    machine = f"{cores} cores of a {platform.machine()} machine {gpu} a GPU, TensorFlow {version('tensorflow')}"
    values = sum(len(result.rows) for result in results)
    minutes = sum(result.seconds for result in results) / 60
    missed_lines = [
        f"- missed: `{result.name}`, {row.label}: {row.actual}, not {row.expected}"
        for result in results
        for row in result.rows
        if not row.is_met
    ]
    summary = f"On {machine}: {len(results)} experiments, {values} values, {minutes:.0f} minutes."
    return "\n".join([summary, "", *(missed_lines or ["Every value was met."])])


def _render_overview(results: Sequence[RecipeResult]) -> str:
    rows = [
        f"| [`{result.name}`](#{result.name}) | {result.source} | {sum(row.is_met for row in result.rows)} of "
        f"{len(result.rows)} "
        f"| {result.seconds:.0f} s |"
        for result in results
    ]
    return "\n".join(["| experiment | source | values met | time |", "| --- | --- | --- | --- |", *rows])


def _render_section(result: RecipeResult) -> str:
    rows = [
        f"| {row.label} | {row.expected} | {row.actual} | {row.difference} | {'yes' if row.is_met else '**no**'} |"
        for row in result.rows
    ]
    lines = [
        f"## {result.name}",
        "",
        f"`{result.command}`",
        "",
        f"{result.source}; {result.seconds:.0f} s, with all that is compared.",
        "",
        "| what | expected | got | difference | met |",
        "| --- | --- | --- | --- | --- |",
        *rows,
    ]
    return "\n".join(lines)
