"""Checks that a plugin's class has the methods of its kind, with the arguments of the contract."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from weakref import WeakKeyDictionary

from expfw.api import contracts
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


def find_problems(cls: type[contracts.Plugin], base: type[contracts.Plugin]) -> tuple[tuple[str, str], ...]:
    """Returns problems of the methods of a class with remedies, each worded to follow the plugin's name.

    Args:
        cls: class of the plugin.
        base: base class of its kind.
    """
    if cls not in _problems_by_class:
        _problems_by_class[cls] = (*_find_missing_methods(cls, base), *_find_uncallable_methods(cls, base))
    return _problems_by_class[cls]


def find_blocking_problems(cls: type[contracts.Plugin], base: type[contracts.Plugin]) -> tuple[tuple[str, str], ...]:
    """Returns the problems that prevent a run; a backend that only serves others does not need to train."""
    is_server = issubclass(cls, contracts.Backend) and cls.serve is not contracts.Backend.serve
    return tuple(_find_uncallable_methods(cls, base)) if is_server else find_problems(cls, base)


_problems_by_class: WeakKeyDictionary[type, tuple[tuple[str, str], ...]] = WeakKeyDictionary()
"""Cached problems by class; every trial of a sweep needs them several times."""


def _find_missing_methods(cls: type[contracts.Plugin], base: type[contracts.Plugin]) -> Iterator[tuple[str, str]]:
    own_names = [name for name in dir(cls) if not hasattr(base, name)]
    for name in REQUIRED_METHODS[base.kind]:
        hook = _HOOK_NAMES.get(name, f"expfw_{name}")
        if getattr(cls, name) is getattr(base, name) and getattr(cls, hook, None) is getattr(base, hook, None):
            definition = f"def {name}{format_signature(getattr(base, name))}"
            suggestion = did_you_mean(name, own_names).replace(" Did you mean", " instead of").rstrip("?")
            yield f"has no method {name}, which every {base.kind} plugin needs", f"define it{suggestion}: {definition}"


def _find_uncallable_methods(cls: type[contracts.Plugin], base: type[contracts.Plugin]) -> Iterator[tuple[str, str]]:
    for name, contract in get_contract_methods(base).items():
        method = getattr(cls, name)
        if method is contract:
            continue
        expected = list(inspect.signature(contract).parameters)
        if not callable(method) or not _can_take(method, expected):
            declaration = format_signature(method) if callable(method) else f" = {method!r}"
            remedy = f"use the arguments of the contract: def {name}{format_signature(contract)}"
            yield f"has {name}{declaration}, which cannot be called with the arguments of the contract", remedy


def get_contract_methods(base: type[contracts.Plugin]) -> dict[str, Callable[..., object]]:
    """Returns the public methods of a kind that are not hooks, by name."""
    return {
        name: member
        for name, member in vars(base).items()
        if inspect.isfunction(member) and not name.startswith(("_", "expfw_"))
    }


def _can_take(function: Callable[..., object], expected: list[str]) -> bool:
    """Returns whether it can be called with these arguments, by position and by name."""
    parameters = inspect.signature(function).parameters
    kinds = {parameter.kind for parameter in parameters.values()}
    if inspect.Parameter.VAR_POSITIONAL in kinds:
        return True
    names = [name for name, p in parameters.items() if p.kind is not inspect.Parameter.VAR_KEYWORD]
    required_extra = [name for name in names[len(expected) :] if parameters[name].default is inspect.Parameter.empty]
    return names[: len(expected)] == expected and not required_extra


def format_signature(function: Callable[..., object]) -> str:
    """Returns the arguments of a function as source code."""
    return str(inspect.signature(function)).replace("'", "")
