"""What the commands about plugins print, as tables or JSON."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from expfw.api.plain_values import plain
from expfw.config.freeze import make_plugins
from expfw.errors import NotFoundError, PluginError, did_you_mean
from expfw.plugins import manager
from expfw.plugins.catalogue import catalogue
from expfw.plugins.entry import Found
from expfw.plugins.inspection.inspect import facts, inspect_all
from expfw.plugins.kinds import KINDS
from expfw.reports import console, tables
from expfw.system import formatting
from expfw.system.json_output import print_json

_SIDE_BY_SIDE = 140  # columns, from which on what is said of an option stands beside it


def listed(files: tuple[str, ...], as_json: bool) -> None:
    """`expfw plugins list`; only for JSON each plugin is loaded, in a process of its own."""
    known = catalogue(files)
    found = [plugin for kind in KINDS for plugin in known.found[kind]]
    if as_json:
        _print_json(_as_json(files, found))
        return
    _print(["kind", "name", "from", "class"], [[p.kind, p.name, p.source, p.target] for p in found])
    if left_out := [f"{p.kind}/{p.name}" for p in found if known.reason(p) is not None]:
        print(f"left out: {', '.join(left_out)}")
    used = [p for p in found if known.reason(p) is None]
    for line in dict.fromkeys(trouble for p in used if (trouble := known.trouble(p))):
        print(f"not usable: {line}")
    for _, what, remedy in known.strays():
        print(f"not usable: {what}. {remedy}")


def shown(files: tuple[str, ...], name: str, as_json: bool) -> None:
    """`expfw plugins show`."""
    everything = _called(files, name)
    if as_json:
        _print_json(_as_json(files, everything))
        return
    for plugin in everything:
        if trouble := catalogue(files).trouble(plugin):
            raise PluginError(trouble)
        about = facts(plugin, plugin.load())
        console.screen().print(f"{plugin.who}\n\n{_filled(about['about'])}\n")
        _print_options(about["options"])
        console.screen().print(f"hooks: {', '.join(about['hooks'])}", soft_wrap=False)


def _filled(text: str) -> str:
    """Paragraphs without the line breaks of the source; lists, examples and the like as they are."""
    return "\n\n".join(map(_joined, text.split("\n\n")))


def _joined(paragraph: str) -> str:
    lines = paragraph.split("\n")
    return " ".join(lines) if all(line[:1].isalnum() for line in lines[1:]) else paragraph


def _print_options(options: Sequence[Mapping[str, Any]]) -> None:
    from rich.padding import Padding

    screen = console.screen()
    if not options:
        print("no options")
    elif screen.width >= _SIDE_BY_SIDE:
        rows = [
            [o["option"], o["type"], "required" if o["required"] else _text(o["default"]), o["help"]] for o in options
        ]
        _print(["option", "type", "default", "help"], rows)
    else:
        for o in options:
            usual = "  required" if o["required"] else f"={_text(o['default'])}"
            screen.print(f"{o['option']}{usual}  {o['type']}")
            screen.print(Padding(o["help"], (0, 0, 0, 4)))
        print()


def checked(files: tuple[str, ...], name: str | None, as_json: bool) -> int:
    """`expfw plugins check`; returns the exit code."""
    known = catalogue(files)
    wanted = [p for kind in KINDS for p in known.found[kind]] if name is None else _called(files, name)
    everything = [plugin for plugin in wanted if known.reason(plugin) is None]
    if name is not None and not everything:
        raise PluginError(str(known.trouble(wanted[0])))
    found = [[*one["faults"], *_clashes(known.clash(p))] for p, one in _inspected(files, everything)]
    strays = list(known.strays()) if name is None else []
    if as_json:
        who = [{"kind": p.kind, "name": p.name, "distribution": p.distribution} for p in everything]
        values: list[Any] = [{**one, "faults": faults} for one, faults in zip(who, found, strict=True)]
        _print_json(values + [_stray(*stray) for stray in strays])
    else:
        for plugin, faults in zip(everything, found, strict=True):
            _print_faults(plugin, faults)
        print("".join(f"{what}. {remedy}\n" for _, what, remedy in strays), end="")
        wrong, count = sum(map(bool, found)), len(everything)
        print(f"{formatting.many(count, 'plugin')} checked, {f'{wrong} with faults' if wrong else 'no fault found'}")
    return 1 if any(found) or strays else 0


def _inspected(files: tuple[str, ...], plugins: Sequence[Found]) -> list[tuple[Found, dict[str, Any]]]:
    return list(zip(plugins, inspect_all(plugins, files), strict=True))


def _clashes(text: str | None) -> list[dict[str, str]]:
    if text is None:
        return []
    what, _, remedy = text.partition("; ")
    return [{"check": "name", "what": what, "remedy": remedy}]


def _stray(distribution: str, what: str, remedy: str) -> dict[str, Any]:
    """Entry points of no kind, in place of a plugin."""
    faults = [{"check": "entry points", "what": what, "remedy": remedy}]
    return {"kind": None, "name": None, "distribution": distribution, "faults": faults}


def _print_faults(plugin: Found, faults: Sequence[dict[str, str]]) -> None:
    if faults:
        print(plugin.who)
    name = re.escape(f"{plugin.kind} plugin {plugin.name!r}")
    for fault in faults:
        what = re.sub(rf"^{name}( of {re.escape(plugin.source)}| \([\w.]+\))?:? ", "", fault["what"])
        print(f"  {fault['check']}: {what}\n    -> {fault['remedy']}")


def order(files: tuple[str, ...], overrides: Sequence[str], as_json: bool) -> None:
    """`expfw plugins show --order`: for each hook, who of a configuration's plugins is called, in that order."""
    from expfw.config.compose import compose  # Hydra, which the others do without

    config = compose(overrides, files)
    made = manager.manager(make_plugins(config, catalogue(files)), report=print)
    calls = manager.order(made)
    if as_json:
        _print_json(calls)
        return
    _print(["hook", "called, in this order"], [[hook, "\n".join(map(_call, who))] for hook, who in calls.items()])


def _call(call: dict[str, Any]) -> str:
    marks = [mark for mark in ("wrapper", "tryfirst", "trylast") if call[mark]]
    return f"{call['plugin']}{' (' + ', '.join(marks) + ')' if marks else ''}"


def made(path: Path, wrote: Sequence[str], name: str, command: str, as_json: bool = False) -> None:
    """`expfw plugins new`."""
    if as_json:
        print_json({"folder": path, "files": wrote, "name": name, "command": command})
        return
    print(f"{path}")
    for file in wrote:
        print(f"  {file}")
    print(f"\nnext: cd {shlex.quote(str(path))} && pip install -e '.[test]' && pytest")
    print(f"      expfw plugins check {name}\n      {command}")


def _called(files: tuple[str, ...], name: str) -> list[Found]:
    """All plugins of that name, of whatever kind, or of that kind where it is KIND/NAME.

    Raises:
        NotFoundError: there is none.
    """
    known = catalogue(files)
    wanted, _, own = name.rpartition("/")
    kinds = [kind for kind in KINDS if wanted in ("", kind)]
    everything = [plugin for kind in kinds for plugin in known.called(kind, own)]
    if not everything:
        names = [known_name for kind in KINDS for known_name in known.names(kind)]
        if wanted:
            names = [f"{kind}/{known_name}" for kind in KINDS for known_name in known.names(kind)]
        elsewhere = [f" Did you mean '{kind}/{own}'?" for kind in KINDS if wanted and known.has(kind, own)]
        meant = elsewhere[0] if elsewhere else did_you_mean(name, names)
        if name.endswith(".py") or Path(name).is_file():
            raise NotFoundError(
                f"{name} is no name of a plugin; a file goes before the command: expfw -p {name} plugins check NAME; "
                f"`expfw -p {name} plugins list` shows the names"
            )
        raise NotFoundError(f"no plugin {name!r}.{meant} `expfw plugins list` shows all there are")
    return everything


def _as_json(files: tuple[str, ...], plugins: Sequence[Found]) -> list[dict[str, Any]]:
    known, values = catalogue(files), []
    for plugin, one in _inspected(files, plugins):
        reason = known.trouble(plugin) or one["reason"]
        who = {"kind": plugin.kind, "name": plugin.name, "distribution": plugin.distribution, "version": plugin.version}
        how = {"class": plugin.target, "usable": reason is None, "reason": reason}
        nothing = {"about": "", "options": [], "hooks": []}
        values.append({**who, **how, "import_seconds": one["import_seconds"], **nothing, **one["facts"]})
    return values


def _text(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else "null" if value is None else str(value)


def _print(header: list[str], rows: list[list[str]]) -> None:
    console.screen().print(tables.plain_table(header, rows, whole=("kind", "name", "option", "hook")))


def _print_json(values: Any) -> None:
    print_json(plain(values))
