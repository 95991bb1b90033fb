"""Checks that a class is a correct plugin: its options, its hooks and the methods of its kind."""

from __future__ import annotations

import dataclasses
import difflib
import inspect
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, NamedTuple

from expfw.api import contracts, hookspecs
from expfw.errors import did_you_mean

REQUIRED_METHODS: dict[str, tuple[str, ...]] = {
    "dataset": ("load",),
    "model": ("build",),
    "backend": ("fit", "describe", "summary", "variables", "predict", "save", "restore"),
    "callback": (),
    "tracker": ("ship",),
}
"""Methods that a plugin of each kind must define."""
_HOOK_NAMES = {"load": "expfw_load_data", "build": "expfw_build_model"}
"""Hooks that call a method of another name; a plugin that implements the hook does not need the method."""


class Problem(NamedTuple):
    """One problem of a plugin.

    Attributes:
        check: name of the check that found it.
        problem: text that begins with the plugin's label, or that follows it.
        remedy: how to fix it.
    """

    check: str
    problem: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.problem}; {self.remedy}"


@cache
def get_specifications() -> dict[str, Callable[..., Any]]:
    """Returns all hooks by name."""
    members = {**vars(hookspecs.Providers), **vars(hookspecs.Observers)}
    return {name: member for name, member in members.items() if name.startswith("expfw_")}


def find_class_problems(cls: type, base: type) -> list[Problem]:
    """Returns the problems that prevent that a plugin is loaded; the texts follow its label."""
    problems = [Problem("options", *found) for found in _find_option_problems(cls)]
    problems += [Problem("hooks", *found) for found in _find_hook_problems(cls, base)]
    try:
        inspect.signature(cls).bind(None, "name")
    except TypeError as error:
        problem = f" cannot be created as {cls.__name__}(config, name) ({error})"
        remedy = "give __init__ the arguments (self, config, name) and call super().__init__(config, name)"
        problems.append(Problem("class", problem, remedy))
    return problems


def _find_option_problems(cls: type) -> Iterator[tuple[str, str]]:
    config_class = inspect.getattr_static(cls, "Config")
    if not inspect.isclass(config_class):
        yield ": its Config is not a class", "write @dataclass class Config: ... inside it"
        return
    if not dataclasses.is_dataclass(config_class):
        yield ": its Config is not a dataclass", "put @dataclass above it"
        return
    for name, member in vars(cls).items():
        if inspect.isclass(member) and name != "Config" and name.lower() == "config":
            yield f": its options are in a class {name!r}, which is ignored", "rename it to Config"
    for base in config_class.__mro__:
        if dataclasses.is_dataclass(base) and "__dataclass_fields__" not in vars(base):  # it inherits the fields only
            hints = vars(base).get("__annotations__", {})
            for name in [name for name, hint in hints.items() if "ClassVar" not in str(hint)]:
                problem = f": its Config has the option {name!r} in a class that is not a dataclass, so it is ignored"
                yield problem, "put @dataclass above every class that adds options"


def find_implementations(cls: type, base: type) -> dict[str, Callable[..., Any]]:
    """Returns the hooks that a class adds to its contract, by name, including unmarked methods named like hooks."""
    implementations: dict[str, Callable[..., Any]] = {}
    for name in dir(cls):
        method = inspect.getattr_static(cls, name)
        if not inspect.isfunction(method) or method is inspect.getattr_static(base, name, None):
            continue
        mark = getattr(method, "expfw_impl", None)
        if mark is not None or name.startswith("expfw_"):
            implementations[(mark or {}).get("specname") or name] = method
    return implementations


def _find_hook_problems(cls: type, base: type) -> Iterator[tuple[str, str]]:
    specifications = get_specifications()
    for hook, method in find_implementations(cls, base).items():
        mark = getattr(method, "expfw_impl", None)
        is_wrapper = mark is not None and (mark["wrapper"] or mark["hookwrapper"])
        is_generator = inspect.isgeneratorfunction(method)
        if hook not in specifications:
            similar = difflib.get_close_matches(hook, specifications, n=2, cutoff=0.78)
            suggestion = f"did you mean {' or '.join(map(repr, similar))}?" if similar else None
            yield f" implements the unknown hook {hook}", suggestion or f"available: {', '.join(specifications)}"
        elif mark is None:
            yield f" has the method {hook} without @expfw.hookimpl, so it is never called", "add @expfw.hookimpl"
        elif inspect.iscoroutinefunction(method) or inspect.isasyncgenfunction(method):
            yield f" implements {hook} with async def, which is never awaited", "write def"
        elif is_wrapper and not is_generator:
            yield f" implements {hook} as a wrapper that does not yield", "write return (yield) to call the others"
        elif is_generator and not is_wrapper:
            yield f" implements {hook} with a yield, so its body never runs", "write @expfw.hookimpl(wrapper=True)"
        else:
            _, *known_names = inspect.signature(specifications[hook]).parameters
            parameters = list(inspect.signature(method).parameters)
            if not parameters or parameters[0] in known_names:
                yield f" implements {hook} without self", f"write def {hook}({', '.join(['self', *parameters])})"
                continue
            for name in [name for name in parameters[1:] if name not in known_names]:
                suggestion = did_you_mean(name, known_names).strip().replace("Did", "did")
                remedy = suggestion or f"available: {', '.join(known_names) or 'none'}"
                yield f" implements {hook} with the unknown argument {name!r}", remedy


def find_deprecations(cls: type, base: type) -> Iterator[Problem]:
    """Yields deprecated hooks and arguments, about which pluggy warns in a run, with their replacement."""
    for hook, method in find_implementations(cls, base).items():
        options = getattr(get_specifications().get(hook), "expfw_spec", {})
        argument_warnings = options.get("warn_on_impl_args") or {}
        used_warnings = [argument_warnings.get(name) for name in inspect.signature(method).parameters]
        for warning in filter(None, [options.get("warn_on_impl"), *used_warnings]):
            yield Problem("hooks", f" implements {hook} in a deprecated way", str(warning))


def find_method_problems(cls: type[contracts.Plugin], base: type[contracts.Plugin]) -> Iterator[Problem]:
    """Yields the problems of the methods of its kind, which prevent a run; the texts follow the plugin's label."""
    may_only_serve = issubclass(cls, contracts.Backend) and cls.serve is not contracts.Backend.serve
    required_names = () if may_only_serve else REQUIRED_METHODS[base.kind]
    for name, contract in get_contract_methods(base).items():
        method, hook = getattr(cls, name), _HOOK_NAMES.get(name, f"expfw_{name}")
        definition = f"def {name}{format_signature(contract)}"
        if method is not contract:
            if not callable(method) or not _can_take(method, list(inspect.signature(contract).parameters)):
                declaration = format_signature(method) if callable(method) else f" = {method!r}"
                problem = f" has {name}{declaration}, which cannot be called with the arguments of the contract"
                yield Problem("methods", problem, f"use the arguments of the contract: {definition}")
        elif name in required_names and getattr(cls, hook, None) is getattr(base, hook, None):
            own_names = [name for name in dir(cls) if not hasattr(base, name)]
            suggestion = did_you_mean(name, own_names).replace(" Did you mean", " instead of").rstrip("?")
            problem = f" has no method {name}, which every {base.kind} plugin needs"
            yield Problem("methods", problem, f"define it{suggestion}: {definition}")


def get_contract_methods(base: type[contracts.Plugin]) -> dict[str, Callable[..., object]]:
    """Returns the public methods of a kind that are not hooks, by name."""
    return {
        name: member
        for name, member in vars(base).items()
        if inspect.isfunction(member) and not name.startswith(("_", "expfw_"))
    }


def _can_take(function: Callable[..., object], expected: list[str]) -> bool:
    """Returns whether it can be called with these arguments, by position and by name."""
    parameters = inspect.signature(function).parameters.values()
    if any(parameter.kind is parameter.VAR_POSITIONAL for parameter in parameters):
        return True
    named = [parameter for parameter in parameters if parameter.kind is not parameter.VAR_KEYWORD]
    extra_is_optional = all(parameter.default is not parameter.empty for parameter in named[len(expected) :])
    return [parameter.name for parameter in named[: len(expected)]] == expected and extra_is_optional


def format_signature(function: Callable[..., object]) -> str:
    """Returns the arguments of a function as source code."""
    return str(inspect.signature(function)).replace("'", "")
