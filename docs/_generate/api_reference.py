"""Plugin API reference from the code: hooks, contracts, checks; generate.py writes it to docs/authors/plugin-api.md."""

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
from expfw.plugins import validation

CONTRACTS = ("ModelContract", "DatasetContract", "CallbackContract", "BackendContract", "TrackerContract")
KINDS = (contracts.Model, contracts.Dataset, contracts.Callback, contracts.Backend, contracts.Tracker)


def format_signature(function: Callable[..., Any]) -> str:
    """Formats a function's signature, as in the source, on one line."""
    (node,) = ast.parse(textwrap.dedent(inspect.getsource(function))).body
    assert isinstance(node, ast.FunctionDef)
    node.decorator_list = []
    returns = f" -> {ast.unparse(node.returns)}" if node.returns is not None else ""
    arguments = ast.unparse(node.args).replace("=", " = ")  # all arguments are annotated
    return f"def {node.name}({arguments}){returns}"


def render_kinds() -> str:
    """Renders the five kinds with the methods that a plugin may override."""
    return "\n".join(line for base in (contracts.Plugin, *KINDS) for line in _render_kind(base))


def _render_kind(base: type[contracts.Plugin]) -> Iterator[str]:
    yield f"### expfw.{base.__name__}\n"
    yield f"{_render_docstring(base)}\n"
    required = validation.REQUIRED_METHODS.get(getattr(base, "kind", ""), ())
    methods = (
        {"__init__": contracts.Plugin.__init__} if base is contracts.Plugin else validation.get_contract_methods(base)
    )
    for name, method in methods.items():
        yield f"```python\n{format_signature(method)}\n```\n"
        text = (
            _render_docstring(method)
            if name != "__init__"
            else "Called by expfw with the validated options and the plugin's name."
        )
        yield f"{'Required. ' if name in required else ''}{text}\n"


def render_hooks() -> str:
    """Renders every hook: signature, docstring, kinds that implement it."""
    return "\n".join(line for group in (hookspecs.Providers, hookspecs.Observers) for line in _render_hooks(group))


def _render_hooks(group: type) -> Iterator[str]:
    title = "Providing hooks: the first result counts, other plugins may wrap the hook"
    yield f"### {title if group is hookspecs.Providers else 'Observing hooks: every plugin is called'}\n"
    for name, specification in validation.get_specifications().items():
        if name not in vars(group):
            continue
        yield f"```python\n{format_signature(specification)}\n```\n"
        kinds = [base.__name__ for base in KINDS if name in vars(base)]
        implemented_by = f" Implemented by {', '.join(kinds)}." if kinds else ""
        all_results = "" if group is hookspecs.Observers or _is_first_result(specification) else " All results count."
        yield f"{_render_docstring(specification)}{implemented_by}{all_results}\n"


def _is_first_result(specification: Callable[..., Any]) -> bool:
    options: dict[str, Any] = specification.expfw_spec  # type: ignore[attr-defined]
    return bool(options["firstresult"])


def render_checks() -> str:
    """Renders the checks of each contract of `expfw.testing`."""
    shared = [testing.PluginContract, testing.RunContract]
    return "\n".join(
        line
        for contract in (*shared, *(getattr(testing, name) for name in CONTRACTS))
        for line in _render_checks(contract)
    )


def _render_checks(contract: type) -> Iterator[str]:
    base = contract.__bases__[0]
    inherited = f", with all checks of {base.__name__}" if hasattr(testing, base.__name__) else ""
    yield f"### expfw.testing.{contract.__name__}{inherited}\n"
    yield f"{_render_docstring(contract)}\n"
    members = {name: member for name, member in vars(contract).items() if inspect.isfunction(member)}
    for name, method in members.items():
        if name in ("make_options", "held"):
            yield f"```python\n{format_signature(method)}\n```\n\n{_render_docstring(method)}\n"
    yield "| check | requirement |\n| --- | --- |"
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
    """Renders the public classes with their methods."""
    return "\n".join(line for name in PUBLIC_CLASSES for line in _render_class(getattr(expfw, name)))


def _render_class(cls: type) -> Iterator[str]:
    home = "expfw" if cls.__name__ in expfw.__all__ else cls.__module__
    yield f"### {home}.{cls.__name__}\n"
    if constructor := format_constructor(cls):
        yield f"```python\n{constructor}\n```\n"
    yield f"{_render_docstring(cls)}\n"
    for name, member in vars(cls).items():
        if issubclass(cls, contracts.Backend) and hasattr(contracts.Backend, name):  # already in the list of kinds
            continue
        method = member.fget if isinstance(member, property) else member
        public = inspect.isfunction(method) and method.__name__ == name  # a default value may be a function too
        if public and (not name.startswith("_") or name == "__call__"):
            mark = "@property\n" if isinstance(member, property) else ""
            yield f"```python\n{mark}{format_signature(method)}\n```\n"
            yield f"{_render_docstring(method)}\n"


def format_constructor(cls: type) -> str:
    """Formats the constructor of a dataclass or named tuple, with types and defaults; empty for other classes."""
    if cls in (expfw.Run, expfw.Result):  # created only by expfw
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
    """Renders the base class of the built-in backends, which other backends may subclass."""
    from expfw_backends import tensorflow_backend

    bases = (tensorflow_backend.TensorFlowOptions, tensorflow_backend.TensorFlowBackend)
    return "\n".join(line for base in bases for line in _render_class(base))


def render_names() -> str:
    """Renders all public names of `expfw`, with the first paragraph of their docstrings."""
    rows = ["| name | description |", "| --- | --- |"]
    for name in (name for name in expfw.__all__ if not name.startswith("__")):
        value = getattr(expfw, name)
        summary = (inspect.getdoc(value) or "").partition("\n\n")[0] if callable(value) else ""
        rows.append(f"| `expfw.{name}` | {' '.join(summary.split()) or _DESCRIPTIONS[name]} |")
    return "\n".join(rows) + "\n"


_DESCRIPTIONS = {"API_VERSION": "Version of the plugin API.", "hookimpl": "Marks a method as a hook implementation."}


def _render_docstring(subject: Any) -> str:
    """Converts a docstring to Markdown: section titles in italics, entries as lists."""
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
