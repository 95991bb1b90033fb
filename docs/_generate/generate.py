"""Fills in the generated parts of the documentation: tables of options and the references.

    python docs/_generate/generate.py          # writes the pages
    python docs/_generate/generate.py --check  # exits with code 1 if a page is out of date

A table is between `<!-- options KIND NAME [OPTION ...] -->` and `<!-- end -->`. Without option names, it contains all
options that are not in an earlier table on the same page. Text from the other modules in this folder is between
`<!-- api SECTION -->` and `<!-- end -->`.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import api_reference
import architecture
import command_reference

from expfw.api import option_schema
from expfw.plugins import disabling
from expfw.plugins.catalogue import get_catalogue
from expfw.plugins.kinds import MULTIPLE_KINDS

SECTIONS = {**api_reference.SECTIONS, **architecture.SECTIONS, **command_reference.SECTIONS}
TABLE = re.compile(r"(<!-- options (\w+) ([\w-]+)((?: \w+)*) -->\n)(.*?)(<!-- end -->)", re.DOTALL)
REFERENCE = re.compile(r"(<!-- api (\w+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)


def fill_page(text: str) -> str:
    """Returns a page with new tables and references; of the installed plugins, uses only those of expfw."""
    with disabling.use_variables({disabling.ALLOW_VARIABLE: "expfw"}):
        return _fill_sections(text)


def _fill_sections(text: str) -> str:
    listed_options: set[str] = set()

    def render_table(match: re.Match[str]) -> str:
        kind, name, named_options = match[2], match[3], match[4].split()
        options = option_schema.list_options(get_catalogue().get(kind, name).load().Config)
        selected_options = [
            o for o in options if (o.name in named_options if named_options else o.name not in listed_options)
        ]
        listed_options.update(named_options)
        prefix = f"{kind}.{name}" if kind in MULTIPLE_KINDS else kind
        rows = [
            [f"`{prefix}.{o.name}`", o.type, "required" if o.required else _format_default(o.default), o.help]
            for o in selected_options
        ]
        lines = [["option", "type", "default", "description"], ["---"] * 4, *rows]
        return match[1] + "".join(f"| {' | '.join(map(_escape_cell, line))} |\n" for line in lines) + match[6]

    def render_section(match: re.Match[str]) -> str:
        return f"{match[1]}\n{SECTIONS[match[2]]()}\n{match[4]}"

    return REFERENCE.sub(render_section, TABLE.sub(render_table, text))


def _format_default(default: object) -> str:
    if default in ((), [], {}, ""):
        return "none"
    return "null" if default is None else str(default)


def _escape_cell(text: str) -> str:
    return text.replace("|", "or")


def main() -> int:
    """Writes or checks all pages; returns the exit code."""
    outdated_pages = []
    docs = Path(__file__).parents[1]
    for page in [docs.parent / "CONTRIBUTING.md", *sorted(docs.rglob("*.md"))]:
        old_text = page.read_text()
        if (new_text := fill_page(old_text)) != old_text:
            outdated_pages.append(page.name)
            if "--check" not in sys.argv:
                page.write_text(new_text)
    if "--check" in sys.argv and outdated_pages:
        print(f"out of date: {', '.join(outdated_pages)}; to update: python docs/_generate/generate.py")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
