"""Fills in what the documentation takes from the code: tables of options, and the reference for plugin authors.

    python docs/_generate/generate.py          # writes them
    python docs/_generate/generate.py --check  # exits with 1 where a table is out of date

A table stands between `<!-- options KIND NAME [OPTION ...] -->` and `<!-- end -->`; without options named, it has all
that are not in a table above it in the same page. Between `<!-- api SECTION -->` and `<!-- end -->` stands what
the other modules here return.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import api_reference
import architecture
import command_reference

from expfw.api import schema
from expfw.plugins import disabled
from expfw.plugins.catalogue import catalogue
from expfw.plugins.kinds import SEVERAL

SECTIONS = {**api_reference.SECTIONS, **architecture.SECTIONS, **command_reference.SECTIONS}
TABLE = re.compile(r"(<!-- options (\w+) ([\w-]+)((?: \w+)*) -->\n)(.*?)(<!-- end -->)", re.DOTALL)
REFERENCE = re.compile(r"(<!-- api (\w+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)


def filled(text: str) -> str:
    """A page with its tables and references made anew; of the plugins that are installed, with those of expfw alone."""
    with disabled.set_as({disabled.ALLOW: "expfw"}):
        return _filled(text)


def _filled(text: str) -> str:
    shown: set[str] = set()

    def table(match: re.Match[str]) -> str:
        kind, name, wanted = match[2], match[3], match[4].split()
        options = schema.options(catalogue().get(kind, name).load().Config)
        chosen = [o for o in options if (o.name in wanted if wanted else o.name not in shown)]
        shown.update(wanted)
        prefix = f"{kind}.{name}" if kind in SEVERAL else kind
        rows = [
            [f"`{prefix}.{o.name}`", o.type, "required" if o.required else _value(o.default), o.help] for o in chosen
        ]
        lines = [["option", "type", "default", ""], ["---"] * 4, *rows]
        return match[1] + "".join(f"| {' | '.join(map(_cell, line))} |\n" for line in lines) + match[6]

    def section(match: re.Match[str]) -> str:
        return f"{match[1]}\n{SECTIONS[match[2]]()}\n{match[4]}"

    return REFERENCE.sub(section, TABLE.sub(table, text))


def _value(default: object) -> str:
    if default in ((), [], {}, ""):
        return "none"
    return "null" if default is None else str(default)


def _cell(text: str) -> str:
    return text.replace("|", "or")


def main() -> int:
    """Writes, or checks, every page."""
    outdated = []
    docs = Path(__file__).parents[1]
    for page in [docs.parent / "CONTRIBUTING.md", *sorted(docs.rglob("*.md"))]:
        before = page.read_text()
        if (after := filled(before)) != before:
            outdated.append(page.name)
            if "--check" not in sys.argv:
                page.write_text(after)
    if "--check" in sys.argv and outdated:
        print(f"out of date: {', '.join(outdated)}; python docs/_generate/generate.py makes them anew")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
