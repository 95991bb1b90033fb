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


def format_signature(function: Callable[..., Any]) -> str:
    """A function's head as it is written in the source, on one line."""
    (node,) = ast.parse(textwrap.dedent(inspect.getsource(function))).body
    assert isinstance(node, ast.FunctionDef)
    node.decorator_list = []
    returns = f" -> {ast.unparse(node.returns)}" if node.returns is not None else ""
    arguments = ast.unparse(node.args).replace("=", " = ")  # all of ours are annotated
    return f"def {node.name}({arguments}){returns}"


def render_kinds() -> str:
    """The five contracts, with the methods that a plugin may override."""
    return "\n".join(line for base in (contracts.Plugin, *KINDS) for line in _render_kind(base))


def _render_kind(base: type[contracts.Plugin]) -> Iterator[str]:
    yield f"### expfw.{base.__name__}\n"
    yield f"{_render_docstring(base)}\n"
    required = method_check.REQUIRED_METHODS.get(getattr(base, "kind", ""), ())
    methods = (
        {"__init__": contracts.Plugin.__init__} if base is contracts.Plugin else method_check.get_contract_methods(base)
    )
    for name, method in methods.items():
        yield f"```python\n{format_signature(method)}\n```\n"
        text = (
            _render_docstring(method)
            if name != "__init__"
            else "Called by the host, with the checked options and the name."
        )
        yield f"{'Required. ' if name in required else ''}{text}\n"


def render_hooks() -> str:
    """Every hook: signature, text, who answers it."""
    return "\n".join(line for group in (hookspecs.Providers, hookspecs.Observers) for line in _render_hooks(group))


def _render_hooks(group: type) -> Iterator[str]:
    title = "Providing hooks: the first answer counts, others may wrap it" if group is hookspecs.Providers else ""
    yield f"### {title or 'Observing hooks: everybody is told'}\n"
    for name, specification in hook_check.get_specifications().items():
        if name not in vars(group):
            continue
        yield f"```python\n{format_signature(specification)}\n```\n"
        answers = [base.__name__ for base in KINDS if name in vars(base)]
        by = f" Answered by {', '.join(answers)}." if answers else ""
        several = "" if group is hookspecs.Observers or _is_first_result(specification) else " All answers count."
        yield f"{_render_docstring(specification)}{by}{several}\n"


def _is_first_result(specification: Callable[..., Any]) -> bool:
    options: dict[str, Any] = specification.expfw_spec  # type: ignore[attr-defined]
    return bool(options["firstresult"])


def render_checks() -> str:
    """What each contract of `expfw.testing` checks."""
    shared = [testing.PluginContract, testing.RunContract]
    return "\n".join(
        line
        for contract in (*shared, *(getattr(testing, name) for name in CONTRACTS))
        for line in _render_checks(contract)
    )


def _render_checks(contract: type) -> Iterator[str]:
    base = contract.__bases__[0]
    more = f", and all of {base.__name__}" if base is not object else ""
    yield f"### expfw.testing.{contract.__name__}{more}\n"
    yield f"{_render_docstring(contract)}\n"
    members = {name: member for name, member in vars(contract).items() if inspect.isfunction(member)}
    for name, method in members.items():
        if name in ("make_options", "held"):
            yield f"```python\n{format_signature(method)}\n```\n\n{_render_docstring(method)}\n"
    yield "| check | what holds |\n| --- | --- |"
    for name, method in members.items():
        if name.startswith("test_"):
            yield f"| `{name}` | {' '.join(_render_docstring(method).split())} |"
    yield ""


PUBLIC_CLASSES = (
    "Run",
    "Result",
    "Point",
    "DataSpec",
    "AffineScaling",
    "Splits",
    "Split",
    "Preprocessed",
    "Optimizer",
    "Schedule",
)
PUBLIC_CLASSES += (
    "Every",
    "ModelState",
    "Snapshot",
    "ModelSummary",
    "Layer",
    "SavedModel",
    "UserInterface",
    "UiTarget",
)


def render_public_classes() -> str:
    """The classes that cross borders, with their methods."""
    return "\n".join(line for name in PUBLIC_CLASSES for line in _render_class(getattr(expfw, name)))


def _render_class(cls: type) -> Iterator[str]:
    home = "expfw" if cls.__name__ in expfw.__all__ else cls.__module__
    yield f"### {home}.{cls.__name__}\n"
    if constructor := format_constructor(cls):
        yield f"```python\n{constructor}\n```\n"
    yield f"{_render_docstring(cls)}\n"
    for name, member in vars(cls).items():
        if issubclass(cls, contracts.Backend) and hasattr(contracts.Backend, name):  # among the kinds already
            continue
        method = member.fget if isinstance(member, property) else member
        public = inspect.isfunction(method) and method.__name__ == name  # a default may be a function, too
        if public and (not name.startswith("_") or name == "__call__"):
            mark = "@property\n" if isinstance(member, property) else ""
            yield f"```python\n{mark}{format_signature(method)}\n```\n"
            yield f"{_render_docstring(method)}\n"


def format_constructor(cls: type) -> str:
    """A dataclass or named tuple with its fields, types and defaults, as one would call it; else nothing."""
    if cls in (expfw.Run, expfw.Result):  # nobody but the host makes them
        return ""
    if dataclasses.is_dataclass(cls):
        absent = dataclasses.MISSING
        fields = {
            field.name: (
                field.type,
                "..." if field.default_factory is not absent else _format_default(field.default, absent),
            )
            for field in dataclasses.fields(cls)
            if field.init
        }
    elif hasattr(cls, "_field_defaults"):
        annotations = inspect.get_annotations(cls)
        fields = {
            name: (kind, _format_default(cls._field_defaults.get(name, ...), ...)) for name, kind in annotations.items()
        }
    else:
        return ""
    arguments = [f"{name}: {kind}{' = ' if default else ''}{default}" for name, (kind, default) in fields.items()]
    line = f"{cls.__name__}({', '.join(arguments)})"
    return line if len(line) <= 120 else "".join([f"{cls.__name__}(\n", *(f"    {a},\n" for a in arguments), ")"])


def _format_default(value: Any, missing: Any) -> str:
    if value is missing:
        return ""
    return "..." if callable(value) else repr(value)


def render_tensorflow_backend() -> str:
    """The base of the built-in backends, which backends of others may subclass, too."""
    from expfw_backends import tensorflow_backend

    bases = (tensorflow_backend.TensorFlowOptions, tensorflow_backend.TensorFlowBackend)
    return "\n".join(line for base in bases for line in _render_class(base))


def render_names() -> str:
    """Everything that `import expfw` offers, with its first sentence."""
    rows = ["| name | what it is |", "| --- | --- |"]
    for name in (one for one in expfw.__all__ if not one.startswith("__")):
        value = getattr(expfw, name)
        summary = (inspect.getdoc(value) or "").partition("\n\n")[0] if callable(value) else ""
        rows.append(f"| `expfw.{name}` | {' '.join(summary.split()) or _DESCRIPTIONS[name]} |")
    return "\n".join(rows) + "\n"


_DESCRIPTIONS = {"API_VERSION": "The version of all this.", "hookimpl": "Marks a method as a hook."}


def _render_docstring(subject: Any) -> str:
    """A docstring as Markdown: its sections become bold words, their entries lists."""
    lines, section = [], ""
    for line in (inspect.getdoc(subject) or "").splitlines():
        if line.strip() in ("Args:", "Attributes:", "Raises:", "Returns:"):
            section = line.strip()[:-1]
            lines.append(f"*{section}*:\n")
        else:
            lines.append(_render_docstring_line(line, section))
    return "\n".join(lines)


def _render_docstring_line(line: str, section: str) -> str:
    content = line.removeprefix("    ")
    if content == line or section == "Returns":
        return content
    return f"  {content.strip()}" if content.startswith("    ") else f"- {content}"


SECTIONS: dict[str, Callable[[], str]] = {
    "kinds": render_kinds,
    "tensorflow": render_tensorflow_backend,
    "hooks": render_hooks,
    "given": render_public_classes,
    "checks": render_checks,
    "names": render_names,
}
