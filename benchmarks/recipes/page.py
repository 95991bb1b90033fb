"""The page docs/guide/recipes.md, from the results of the recipes."""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from session import RecipeResult

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "guide" / "recipes.md"
TEMPLATE = Path(__file__).with_name("template.md")
_ENGINE = ROOT / "plugins" / "expfw_backends" / "engine"


def describe_engine() -> str:
    """Returns a text with a digest of the engine's files; it changes if the engine changes."""
    digest = hashlib.sha256()
    for file in sorted(_ENGINE.glob("*.py")):
        digest.update(file.name.encode() + file.read_bytes())
    return f"the engine with SHA-256 `{digest.hexdigest()[:12]}`"


def is_page_current() -> bool:
    """Whether the page was measured with the current engine."""
    return describe_engine() in PAGE.read_text()


def render_page(results: Sequence[RecipeResult]) -> str:
    """Fills in the template."""
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
    """Describes the machine, counts the values and lists those that were not met."""
    cores = len(os.sched_getaffinity(0))
    gpu = "with" if Path("/dev/nvidia0").exists() else "without"
    machine = f"{cores} CPU cores ({platform.machine()}) {gpu} a GPU, with TensorFlow {version('tensorflow')}"
    values = sum(len(result.rows) for result in results)
    minutes = sum(result.seconds for result in results) / 60
    missed_lines = [
        f"- not met: `{result.name}`, {row.label}: {row.actual}, expected {row.expected}"
        for result in results
        for row in result.rows
        if not row.is_met
    ]
    summary = f"Measured on {machine}: {len(results)} experiments, {values} values, {minutes:.0f} minutes."
    engine = f"Measured with {describe_engine()}."
    return "\n".join([summary, engine, "", *(missed_lines or ["All checks passed."])])


def _render_overview(results: Sequence[RecipeResult]) -> str:
    rows = [
        f"| [`{result.name}`](#{result.name}) | {result.source} | {sum(row.is_met for row in result.rows)} of "
        f"{len(result.rows)} "
        f"| {result.seconds:.0f} s |"
        for result in results
    ]
    return "\n".join(["| experiment | source | checks passed | time |", "| --- | --- | --- | --- |", *rows])


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
        f"Source: {result.source}. Time: {result.seconds:.0f} s, including all checks.",
        "",
        "| value | expected | actual | difference | met |",
        "| --- | --- | --- | --- | --- |",
        *rows,
    ]
    return "\n".join(lines)
