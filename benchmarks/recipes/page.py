"""The page docs/guide/recipes.md, from what the recipes showed."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from session import Done

TEMPLATE = Path(__file__).with_name("template.md")


def page(recipes: Sequence[Done]) -> str:
    """The template, filled in."""
    filled = {
        "outcome": _outcome(recipes),
        "overview": _overview(recipes),
        "sections": "\n\n".join(_section(done) for done in recipes),
    }
    text = TEMPLATE.read_text()
    for name, content in filled.items():
        text = text.replace(f"{{{name}}}", content)
    return text


def _outcome(recipes: Sequence[Done]) -> str:
    """How many there are, on what machine, and all that missed."""
    cores = len(os.sched_getaffinity(0))
    gpu = "with" if Path("/dev/nvidia0").exists() else "without"
    machine = f"{cores} cores of a {platform.machine()} machine {gpu} a GPU, TensorFlow {version('tensorflow')}"
    values = sum(len(done.rows) for done in recipes)
    minutes = sum(done.seconds for done in recipes) / 60
    missed = [
        f"- missed: `{done.name}`, {row.what}: {row.got}, not {row.expected}"
        for done in recipes
        for row in done.rows
        if not row.met
    ]
    said = f"On {machine}: {len(recipes)} experiments, {values} values, {minutes:.0f} minutes."
    return "\n".join([said, "", *(missed or ["Every value was met."])])


def _overview(recipes: Sequence[Done]) -> str:
    rows = [
        f"| [`{done.name}`](#{done.name}) | {done.source} | {sum(row.met for row in done.rows)} of {len(done.rows)} "
        f"| {done.seconds:.0f} s |"
        for done in recipes
    ]
    return "\n".join(["| experiment | source | values met | time |", "| --- | --- | --- | --- |", *rows])


def _section(done: Done) -> str:
    rows = [
        f"| {row.what} | {row.expected} | {row.got} | {row.difference} | {'yes' if row.met else '**no**'} |"
        for row in done.rows
    ]
    lines = [
        f"## {done.name}",
        "",
        f"`{done.command}`",
        "",
        f"{done.source}; {done.seconds:.0f} s, with all that is compared.",
        "",
        "| what | expected | got | difference | met |",
        "| --- | --- | --- | --- | --- |",
        *rows,
    ]
    return "\n".join(lines)
