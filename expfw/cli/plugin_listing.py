"""Output of the commands `plugins ...`, as tables or JSON."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from expfw.api.run_config import to_plain
from expfw.cli.output import Output
from expfw.config.run_plugins import make_plugins
from expfw.errors import NotFoundError, PluginError, did_you_mean
from expfw.plugins import manager
from expfw.plugins.catalogue import Catalogue
from expfw.plugins.entry import PluginEntry
from expfw.plugins.inspection.child_inspection import collect_details, inspect_all
from expfw.plugins.kinds import KINDS
from expfw.reports import tables
from expfw.reports.console import make_console
from expfw.system import formatting
from expfw.system.formatting import format_value
from expfw.system.json_output import print_json

_WIDE_TABLE_COLUMNS = 140  # smallest width with the help next to the option


def list_plugins(catalogue: Catalogue, output: Output) -> None:
    """`expfw plugins list`; imports each plugin, in a separate process, for JSON only."""
    entries = [entry for kind in KINDS for entry in catalogue.entries[kind]]
    if output.is_json:
        _print_json(_describe_entries(catalogue, entries))
        return
    _print_table(["kind", "name", "from", "class"], [[p.kind, p.name, p.source, p.target] for p in entries])
    if disabled_names := [f"{p.kind}/{p.name}" for p in entries if catalogue.get_exclusion_reason(p) is not None]:
        print(f"disabled: {', '.join(disabled_names)}")
    enabled_entries = [p for p in entries if catalogue.get_exclusion_reason(p) is None]
    for line in dict.fromkeys(reason for p in enabled_entries if (reason := catalogue.find_problem(p))):
        print(f"not usable: {line}")
    for _, problem, remedy in catalogue.find_unknown_entry_points():
        print(f"not usable: {problem}. {remedy}")


def show_plugin(catalogue: Catalogue, name: str, output: Output) -> None:
    """`expfw plugins show`."""
    entries = _find_entries(catalogue, name)
    if output.is_json:
        _print_json(_describe_entries(catalogue, entries))
        return
    for entry in entries:
        if problem := catalogue.find_problem(entry):
            raise PluginError(problem)
        details = collect_details(entry, entry.load())
        make_console().print(f"{entry.label}\n\n{_join_paragraphs(details['about'])}\n")
        _print_options(details["options"])
        make_console().print(f"hooks: {', '.join(details['hooks'])}", soft_wrap=False)


def _join_paragraphs(text: str) -> str:
    """Joins the lines of each paragraph; keeps lists, examples and the like unchanged."""
    return "\n\n".join(map(_join_lines, text.split("\n\n")))


def _join_lines(paragraph: str) -> str:
    lines = paragraph.split("\n")
    return " ".join(lines) if all(line[:1].isalnum() for line in lines[1:]) else paragraph


def _print_options(options: Sequence[Mapping[str, Any]]) -> None:
    from rich.padding import Padding

    console = make_console()
    if not options:
        print("no options")
    elif console.width >= _WIDE_TABLE_COLUMNS:
        rows = [
            [
                option["option"],
                option["type"],
                "required" if option["required"] else format_value(option["default"]),
                option["help"],
            ]
            for option in options
        ]
        _print_table(["option", "type", "default", "help"], rows)
    else:
        for option in options:
            usual = "  required" if option["required"] else f"={format_value(option['default'])}"
            console.print(f"{option['option']}{usual}  {option['type']}")
            console.print(Padding(option["help"], (0, 0, 0, 4)))
        print()


def check_plugins(catalogue: Catalogue, name: str | None, output: Output) -> int:
    """`expfw plugins check`; returns the exit code."""
    selected_entries = (
        [p for kind in KINDS for p in catalogue.entries[kind]] if name is None else _find_entries(catalogue, name)
    )
    entries = [entry for entry in selected_entries if catalogue.get_exclusion_reason(entry) is None]
    if name is not None and not entries:
        raise PluginError(str(catalogue.find_problem(selected_entries[0])))
    fault_lists = [
        [*report["problems"], *_make_clash_faults(catalogue.describe_clash(p))]
        for p, report in _inspect_entries(catalogue, entries)
    ]
    unknown_entry_points = list(catalogue.find_unknown_entry_points()) if name is None else []
    if output.is_json:
        identities = [{"kind": p.kind, "name": p.name, "distribution": p.distribution} for p in entries]
        values: list[Any] = [
            {**report, "problems": faults} for report, faults in zip(identities, fault_lists, strict=True)
        ]
        _print_json(values + [_describe_unknown_entry_point(*entry_point) for entry_point in unknown_entry_points])
    else:
        for entry, faults in zip(entries, fault_lists, strict=True):
            _print_faults(entry, faults)
        print("".join(f"{problem}. {remedy}\n" for _, problem, remedy in unknown_entry_points), end="")
        faulty, count = sum(map(bool, fault_lists)), len(entries)
        print(
            f"{formatting.pluralize(count, 'plugin')} checked, "
            f"{f'{faulty} with problems' if faulty else 'no problems found'}"
        )
    return 1 if any(fault_lists) or unknown_entry_points else 0


def _inspect_entries(catalogue: Catalogue, entries: Sequence[PluginEntry]) -> list[tuple[PluginEntry, dict[str, Any]]]:
    return list(zip(entries, inspect_all(entries, catalogue.files), strict=True))


def _make_clash_faults(text: str | None) -> list[dict[str, str]]:
    if text is None:
        return []
    problem, _, remedy = text.partition("; ")
    return [{"check": "name", "problem": problem, "remedy": remedy}]


def _describe_unknown_entry_point(distribution: str, problem: str, remedy: str) -> dict[str, Any]:
    """Describes an entry point of an unknown kind, in the form of a plugin."""
    faults = [{"check": "entry points", "problem": problem, "remedy": remedy}]
    return {"kind": None, "name": None, "distribution": distribution, "problems": faults}


def _print_faults(entry: PluginEntry, faults: Sequence[dict[str, str]]) -> None:
    if faults:
        print(entry.label)
    name = re.escape(f"{entry.kind} plugin {entry.name!r}")
    for fault in faults:
        problem = re.sub(rf"^{name}( of {re.escape(entry.source)}| \([\w.]+\))?:? ", "", fault["problem"])
        print(f"  {fault['check']}: {problem}\n    -> {fault['remedy']}")


def show_hook_order(catalogue: Catalogue, overrides: Sequence[str], output: Output) -> None:
    """`expfw plugins show --order`: prints, for each hook, the plugins of a configuration in call order."""
    from expfw.config.compose import compose  # imports Hydra, which no other command here needs

    config = compose(overrides, catalogue)
    plugin_manager = manager.make_manager(make_plugins(config, catalogue), report=print)
    calls = manager.list_hook_calls(plugin_manager)
    if output.is_json:
        _print_json(calls)
        return
    _print_table(
        ["hook", "plugins, in call order"],
        [[hook, "\n".join(map(_format_call, hook_calls))] for hook, hook_calls in calls.items()],
    )


def _format_call(call: dict[str, Any]) -> str:
    marks = [mark for mark in ("wrapper", "tryfirst", "trylast") if call[mark]]
    return f"{call['plugin']}{' (' + ', '.join(marks) + ')' if marks else ''}"


def print_new_plugin(path: Path, written_files: Sequence[str], name: str, command: str, output: Output) -> None:
    """`expfw plugins new`."""
    if output.is_json:
        print_json({"folder": path, "files": written_files, "name": name, "command": command})
        return
    print(f"{path}")
    for file in written_files:
        print(f"  {file}")
    print(f"\nnext: cd {shlex.quote(str(path))} && pip install -e '.[test]' && pytest")
    print(f"      expfw plugins check {name}\n      {command}")


def _find_entries(catalogue: Catalogue, name: str) -> list[PluginEntry]:
    """Returns all plugins with this name.

    Args:
        catalogue: all plugins.
        name: NAME for plugins of any kind, or KIND/NAME.

    Raises:
        NotFoundError: if there is no such plugin.
    """
    wanted_kind, _, plugin_name = name.rpartition("/")
    kinds = [kind for kind in KINDS if wanted_kind in ("", kind)]
    entries = [entry for kind in kinds for entry in catalogue.find_entries(kind, plugin_name)]
    if not entries:
        names = [known_name for kind in KINDS for known_name in catalogue.list_names(kind)]
        if wanted_kind:
            names = [f"{kind}/{known_name}" for kind in KINDS for known_name in catalogue.list_names(kind)]
        kind_suggestions = [
            f" Did you mean '{kind}/{plugin_name}'?"
            for kind in KINDS
            if wanted_kind and catalogue.has(kind, plugin_name)
        ]
        suggestion = kind_suggestions[0] if kind_suggestions else did_you_mean(name, names)
        if name.endswith(".py") or Path(name).is_file():
            raise NotFoundError(
                f"{name} is a file; expected the name of a plugin. Put the file before the command, as in "
                f"`expfw -p {name} plugins list`, which lists the names"
            )
        raise NotFoundError(f"unknown plugin {name!r}.{suggestion} `expfw plugins list` lists all plugins")
    return entries


def _describe_entries(catalogue: Catalogue, entries: Sequence[PluginEntry]) -> list[dict[str, Any]]:
    values = []
    for entry, report in _inspect_entries(catalogue, entries):
        reason = catalogue.find_problem(entry) or report["reason"]
        identity = {
            "kind": entry.kind,
            "name": entry.name,
            "distribution": entry.distribution,
            "version": entry.version,
        }
        usability = {"class": entry.target, "usable": reason is None, "reason": reason}
        default_details = {"about": "", "options": [], "hooks": []}
        values.append(
            {
                **identity,
                **usability,
                "import_seconds": report["import_seconds"],
                **default_details,
                **report["details"],
            }
        )
    return values


def _print_table(header: list[str], rows: list[list[str]]) -> None:
    make_console().print(tables.make_plain_table(header, rows, no_wrap=("kind", "name", "option", "hook")))


def _print_json(values: Any) -> None:
    print_json(to_plain(values))
