"""Hooks, contracts and checks as text, from the code: generate.py writes it to docs/authors/plugin-api.md."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import textwrap
from collections.abc import Callable, Iterator
from typing import Any

import expfw
from expfw import testing
from expfw.api import contracts, hookspecs
from expfw.plugins.validation import hooks as hook_check
from expfw.plugins.validation import methods as method_check

CONTRACTS = ("ModelContract", "DatasetContract", "CallbackContract", "BackendContract", "TrackerContract")
KINDS = (contracts.Model, contracts.Dataset, contracts.Callback, contracts.Backend, contracts.Tracker)


def signature(function: Callable[..., Any]) -> str:
    """A function's head as it is written in the source, on one line."""
    (node,) = ast.parse(textwrap.dedent(inspect.getsource(function))).body
    assert isinstance(node, ast.FunctionDef)
    node.decorator_list = []
    returns = f" -> {ast.unparse(node.returns)}" if node.returns is not None else ""
    arguments = ast.unparse(node.args).replace("=", " = ")  # all of ours are annotated
    return f"def {node.name}({arguments}){returns}"


def kinds() -> str:
    """The five contracts, with the methods that a plugin may override."""
    return "\n".join(line for base in (contracts.Plugin, *KINDS) for line in _kind(base))


def _kind(base: type[contracts.Plugin]) -> Iterator[str]:
    yield f"### expfw.{base.__name__}\n"
    yield f"{_text(base)}\n"
    required = method_check.REQUIRED.get(getattr(base, "kind", ""), ())
    methods = (
        {"__init__": contracts.Plugin.__init__} if base is contracts.Plugin else method_check.contract_methods(base)
    )
    for name, method in methods.items():
        yield f"```python\n{signature(method)}\n```\n"
        text = _text(method) if name != "__init__" else "Called by the host, with the checked options and the name."
        yield f"{'Required. ' if name in required else ''}{text}\n"


def hooks() -> str:
    """Every hook: signature, text, who answers it."""
    return "\n".join(line for group in (hookspecs.Providers, hookspecs.Observers) for line in _hooks(group))


def _hooks(group: type) -> Iterator[str]:
    title = "Providing hooks: the first answer counts, others may wrap it" if group is hookspecs.Providers else ""
    yield f"### {title or 'Observing hooks: everybody is told'}\n"
    for name, specification in hook_check.specifications().items():
        if name not in vars(group):
            continue
        yield f"```python\n{signature(specification)}\n```\n"
        answers = [base.__name__ for base in KINDS if name in vars(base)]
        by = f" Answered by {', '.join(answers)}." if answers else ""
        several = "" if group is hookspecs.Observers or _first(specification) else " All answers count."
        yield f"{_text(specification)}{by}{several}\n"


def _first(specification: Callable[..., Any]) -> bool:
    options: dict[str, Any] = specification.expfw_spec  # type: ignore[attr-defined]
    return bool(options["firstresult"])


def checks() -> str:
    """What each contract of `expfw.testing` checks."""
    shared = [testing.PluginContract, testing.RunContract]
    return "\n".join(
        line for contract in (*shared, *(getattr(testing, name) for name in CONTRACTS)) for line in _checks(contract)
    )


def _checks(contract: type) -> Iterator[str]:
    base = contract.__bases__[0]
    more = f", and all of {base.__name__}" if base is not object else ""
    yield f"### expfw.testing.{contract.__name__}{more}\n"
    yield f"{_text(contract)}\n"
    members = {name: member for name, member in vars(contract).items() if inspect.isfunction(member)}
    for name, method in members.items():
        if name in ("make_options", "held"):
            yield f"```python\n{signature(method)}\n```\n\n{_text(method)}\n"
    yield "| check | what holds |\n| --- | --- |"
    for name, method in members.items():
        if name.startswith("test_"):
            yield f"| `{name}` | {' '.join(_text(method).split())} |"
    yield ""


GIVEN = ("Run", "Result", "Point", "DataSpec", "Affine", "Splits", "Split", "Preprocessed", "Optimizer", "Schedule")
GIVEN += ("Every", "ModelState", "Snapshot", "ModelSummary", "Layer", "SavedModel", "UserInterface", "Shown")


def given() -> str:
    """The classes that cross borders, with their methods."""
    return "\n".join(line for name in GIVEN for line in _class(getattr(expfw, name)))


def _class(cls: type) -> Iterator[str]:
    home = "expfw" if cls.__name__ in expfw.__all__ else cls.__module__
    yield f"### {home}.{cls.__name__}\n"
    if makes := how_it_is_made(cls):
        yield f"```python\n{makes}\n```\n"
    yield f"{_text(cls)}\n"
    for name, member in vars(cls).items():
        if issubclass(cls, contracts.Backend) and hasattr(contracts.Backend, name):  # among the kinds already
            continue
        method = member.fget if isinstance(member, property) else member
        public = inspect.isfunction(method) and method.__name__ == name  # a default may be a function, too
        if public and (not name.startswith("_") or name == "__call__"):
            mark = "@property\n" if isinstance(member, property) else ""
            yield f"```python\n{mark}{signature(method)}\n```\n"
            yield f"{_text(method)}\n"


def how_it_is_made(cls: type) -> str:
    """A dataclass or named tuple with its fields, types and defaults, as one would call it; else nothing."""
    if cls in (expfw.Run, expfw.Result):  # nobody but the host makes them
        return ""
    if dataclasses.is_dataclass(cls):
        absent = dataclasses.MISSING
        fields = {
            field.name: (field.type, "..." if field.default_factory is not absent else _default(field.default, absent))
            for field in dataclasses.fields(cls)
            if field.init
        }
    elif hasattr(cls, "_field_defaults"):
        annotations = inspect.get_annotations(cls)
        fields = {name: (kind, _default(cls._field_defaults.get(name, ...), ...)) for name, kind in annotations.items()}
    else:
        return ""
    arguments = [f"{name}: {kind}{' = ' if default else ''}{default}" for name, (kind, default) in fields.items()]
    line = f"{cls.__name__}({', '.join(arguments)})"
    return line if len(line) <= 120 else "".join([f"{cls.__name__}(\n", *(f"    {a},\n" for a in arguments), ")"])


def _default(value: Any, absent: Any) -> str:
    if value is absent:
        return ""
    return "..." if callable(value) else repr(value)


def tensorflow() -> str:
    """The base of the built-in backends, which backends of others may subclass, too."""
    from expfw_backends import tensorflow_backend

    bases = (tensorflow_backend.TensorFlowOptions, tensorflow_backend.TensorFlowBackend)
    return "\n".join(line for base in bases for line in _class(base))


def names() -> str:
    """Everything that `import expfw` offers, with its first sentence."""
    rows = ["| name | what it is |", "| --- | --- |"]
    for name in (one for one in expfw.__all__ if not one.startswith("__")):
        value = getattr(expfw, name)
        first = (inspect.getdoc(value) or "").partition("\n\n")[0] if callable(value) else ""
        rows.append(f"| `expfw.{name}` | {' '.join(first.split()) or _PLAIN[name]} |")
    return "\n".join(rows) + "\n"


_PLAIN = {"API_VERSION": "The version of all this.", "hookimpl": "Marks a method as a hook."}


def _text(thing: Any) -> str:
    """A docstring as Markdown: its sections become bold words, their entries lists."""
    lines, section = [], ""
    for line in (inspect.getdoc(thing) or "").splitlines():
        if line.strip() in ("Args:", "Attributes:", "Raises:", "Returns:"):
            section = line.strip()[:-1]
            lines.append(f"*{section}*:\n")
        else:
            lines.append(_entry(line, section))
    return "\n".join(lines)


def _entry(line: str, section: str) -> str:
    inside = line.removeprefix("    ")
    if inside == line or section == "Returns":
        return inside
    return f"  {inside.strip()}" if inside.startswith("    ") else f"- {inside}"


SECTIONS: dict[str, Callable[[], str]] = {
    "kinds": kinds,
    "tensorflow": tensorflow,
    "hooks": hooks,
    "given": given,
    "checks": checks,
    "names": names,
}
