"""The commands `plugins ...`: listing, description, checks and call order of plugins, as text or JSON."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from expfw.config.run_plugins import make_plugins
from expfw.errors import ConfigError, NotFoundError, PluginError, did_you_mean
from expfw.plugins import manager
from expfw.plugins.catalogue import Catalogue
from expfw.plugins.entry import PluginEntry
from expfw.plugins.inspection import collect_details, inspect_all
from expfw.reports.console import make_console
from expfw.reports.table import Column, Table
from expfw.system.formatting import format_value, pluralize
from expfw.system.json_output import print_json


def list_plugins(catalogue: Catalogue, as_json: bool) -> None:
    """`expfw plugins list`; imports each plugin, in a separate process, for JSON only."""
    entries = list(chain.from_iterable(catalogue.entries.values()))
    if as_json:
        print_json(_describe_entries(catalogue, entries))
        return
    columns = (Column("kind", "code"), Column("name", "code"), "from", "class")
    make_console().print(Table(columns, [[p.kind, p.name, p.source, p.target] for p in entries]))
    disabled_entries = [entry for entry in entries if catalogue.get_exclusion_reason(entry) is not None]
    if disabled_entries:
        print(f"disabled: {', '.join(f'{entry.kind}/{entry.name}' for entry in disabled_entries)}")
    problems = [catalogue.find_problem(entry) for entry in entries if entry not in disabled_entries]
    problems += [f"{problem}. {remedy}" for _, problem, remedy in catalogue.find_unknown_entry_points()]
    for problem in dict.fromkeys(filter(None, problems)):
        print(f"not usable: {problem}")


def show_plugins(catalogue: Catalogue, arguments: Sequence[str], order: bool, as_json: bool) -> None:
    """`expfw plugins show`."""
    if order:
        _show_hook_order(catalogue, arguments, as_json)
        return
    if len(arguments) != 1:
        raise ConfigError(f"{len(arguments) or 'no'} names given; expected one: expfw plugins show NAME")
    entries = _find_entries(catalogue, arguments[0])
    if as_json:
        print_json(_describe_entries(catalogue, entries))
        return
    from rich.padding import Padding

    console = make_console()
    for entry in entries:
        if problem := catalogue.find_problem(entry):
            raise PluginError(problem)
        details = collect_details(entry)
        description = "\n\n".join(map(_join_lines, details["about"].split("\n\n")))
        console.print(f"{entry.label}\n\n{description}\n")
        for option in details["options"]:
            default = "  required" if option["required"] else f"={format_value(option['default'])}"
            console.print(f"{option['option']}{default}  {option['type']}")
            console.print(Padding(option["help"], (0, 0, 0, 4), expand=False))
        console.print(f"{'' if details['options'] else 'no options'}\nhooks: {', '.join(details['hooks'])}")


def _join_lines(paragraph: str) -> str:
    """Joins the lines of a paragraph; keeps lists, examples and the like unchanged."""
    lines = paragraph.split("\n")
    return " ".join(lines) if all(line[:1].isalnum() for line in lines[1:]) else paragraph


def _show_hook_order(catalogue: Catalogue, overrides: Sequence[str], as_json: bool) -> None:
    """Prints, for each hook, the plugins of a configuration in call order."""
    from expfw.config.compose import compose  # imports Hydra, which no other command here needs

    plugins = make_plugins(compose(overrides, catalogue), catalogue)
    calls_by_hook = manager.list_hook_calls(manager.make_manager(plugins, report=print))
    if as_json:
        print_json(calls_by_hook)
        return
    rows = []
    for hook, calls in calls_by_hook.items():
        marks = [", ".join(mark for mark in ("wrapper", "tryfirst", "trylast") if call[mark]) for call in calls]
        lines = [call["plugin"] + (f" ({mark})" if mark else "") for call, mark in zip(calls, marks, strict=True)]
        rows.append([hook, "\n".join(lines)])
    make_console().print(Table([Column("hook", "code"), "plugins, in call order"], rows))


def check_plugins(catalogue: Catalogue, name: str | None, as_json: bool) -> int:
    """`expfw plugins check`; returns the exit code."""
    selected_entries = _find_entries(catalogue, name) if name else list(chain.from_iterable(catalogue.entries.values()))
    entries = [entry for entry in selected_entries if catalogue.get_exclusion_reason(entry) is None]
    if name and not entries:
        raise PluginError(str(catalogue.find_problem(selected_entries[0])))
    reports: list[dict[str, Any]] = []
    for entry, report in zip(entries, inspect_all(entries), strict=True):
        problems = report["problems"]
        if clash := catalogue.describe_clash(entry):
            problem, _, remedy = clash.partition("; ")
            problems.append({"check": "name", "problem": problem, "remedy": remedy})
        identity = {"kind": entry.kind, "name": entry.name, "distribution": entry.distribution}
        reports.append({**identity, "problems": problems})
        if problems and not as_json:
            print(entry.label)
            for problem in problems:
                text = problem["problem"].removeprefix(entry.label).lstrip(": ")
                print(f"  {problem['check']}: {text}\n    -> {problem['remedy']}")
    for distribution, problem, remedy in () if name else catalogue.find_unknown_entry_points():
        problems = [{"check": "entry points", "problem": problem, "remedy": remedy}]
        reports.append({"kind": None, "name": None, "distribution": distribution, "problems": problems})
        if not as_json:
            print(f"{problem}. {remedy}")
    faulty_count = sum(bool(report["problems"]) for report in reports[: len(entries)])
    if as_json:
        print_json(reports)
    else:
        result = f"{faulty_count} with problems" if faulty_count else "no problems found"
        print(f"{pluralize(len(entries), 'plugin')} checked, {result}")
    return 1 if any(report["problems"] for report in reports) else 0


def create_plugin(catalogue: Catalogue, name: str, kind: str, folder: Path, as_json: bool) -> None:
    """`expfw plugins new`."""
    from expfw.plugins.scaffold import new

    plugin = new.name_plugin(kind, name)
    path, files = new.write_distribution(plugin, folder)
    if as_json:
        print_json({"folder": path, "files": files, "name": plugin.name, "command": plugin.command})
        return
    print("\n  ".join([str(path), *files]))
    print(f"\nnext: cd {shlex.quote(str(path))} && pip install -e '.[test]' && pytest")
    print(f"      expfw plugins check {plugin.name}\n      {plugin.command}")


def _find_entries(catalogue: Catalogue, name: str) -> list[PluginEntry]:
    """Returns all plugins with this name: NAME for plugins of any kind, or KIND/NAME.

    Raises:
        NotFoundError: if there is no such plugin.
    """
    wanted_kind, _, plugin_name = name.rpartition("/")
    kinds = [kind for kind in catalogue.entries if wanted_kind in ("", kind)]
    entries = [entry for kind in kinds for entry in catalogue.find_entries(kind, plugin_name)]
    if not entries:
        names = chain.from_iterable(map(catalogue.list_names, catalogue.entries))
        advice = f"{did_you_mean(plugin_name, names)} `expfw plugins list` lists all plugins"
        if Path(name).is_file():
            advice = f" For a file, write `expfw -p {name} plugins list`, which lists its plugins"
        raise NotFoundError(f"unknown plugin {name!r}.{advice}")
    return entries


def _describe_entries(catalogue: Catalogue, entries: Sequence[PluginEntry]) -> list[dict[str, Any]]:
    """Returns metadata, description, options and hooks of plugins, which are imported in separate processes."""
    values = []
    for entry, report in zip(entries, inspect_all(entries), strict=True):
        reason = catalogue.find_problem(entry) or report["reason"]
        values.append(
            {
                "kind": entry.kind,
                "name": entry.name,
                "distribution": entry.distribution,
                "version": entry.version,
                "class": entry.target,
                "usable": reason is None,
                "reason": reason,
                "import_seconds": report["import_seconds"],
                "about": "",
                "options": [],
                "hooks": [],
                **report["details"],
            }
        )
    return values
