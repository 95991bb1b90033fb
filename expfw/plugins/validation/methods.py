"""Whether a plugin's class has the methods of its kind, with the arguments that the contract has."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from weakref import WeakKeyDictionary

from expfw.api import contracts
from expfw.errors import did_you_mean

REQUIRED: dict[str, tuple[str, ...]] = {
    "dataset": ("load",),
    "model": ("build",),
    "backend": ("fit", "describe", "summary", "variables", "predict", "save", "restore"),
    "callback": (),
    "tracker": ("ship",),
}
"""The methods that a plugin of each kind must have of its own."""
_HOOKS = {"load": "expfw_load_data", "build": "expfw_build_model"}
"""Which hook asks a method, where it is named otherwise: whoever answers the hook needs no such method."""


def problems(cls: type[contracts.Plugin], base: type[contracts.Plugin]) -> tuple[tuple[str, str], ...]:
    """What is wrong with the methods of a class, and what to do: each one to be read behind the name of the plugin.

    Args:
        base: the class of its kind.
    """
    if cls not in _found:
        _found[cls] = (*_absent(cls, base), *_uncallable(cls, base))
    return _found[cls]


def hindrances(cls: type[contracts.Plugin], base: type[contracts.Plugin]) -> tuple[tuple[str, str], ...]:
    """Those of `problems` that no run can do with: a backend that serves others need not train."""
    serves = issubclass(cls, contracts.Backend) and cls.serve is not contracts.Backend.serve
    return tuple(_uncallable(cls, base)) if serves else problems(cls, base)


_found: WeakKeyDictionary[type, tuple[tuple[str, str], ...]] = WeakKeyDictionary()
"""What was found of a class already: it is asked for in every trial of a sweep, several times."""


def _absent(cls: type[contracts.Plugin], base: type[contracts.Plugin]) -> Iterator[tuple[str, str]]:
    own = [name for name in dir(cls) if not hasattr(base, name)]
    for name in REQUIRED[base.kind]:
        hook = _HOOKS.get(name, f"expfw_{name}")
        if getattr(cls, name) is getattr(base, name) and getattr(cls, hook, None) is getattr(base, hook, None):
            definition = f"def {name}{signature(getattr(base, name))}"
            meant = did_you_mean(name, own).replace(" Did you mean", " in place of").rstrip("?")
            yield f"has no {name}, which every {base.kind} plugin needs", f"define it{meant}: {definition}"


def _uncallable(cls: type[contracts.Plugin], base: type[contracts.Plugin]) -> Iterator[tuple[str, str]]:
    for name, contract in contract_methods(base).items():
        own = getattr(cls, name)
        if own is contract:
            continue
        wanted = list(inspect.signature(contract).parameters)
        if not callable(own) or not _takes(own, wanted):
            has = signature(own) if callable(own) else f" = {own!r}"
            remedy = f"give it the contract's arguments: def {name}{signature(contract)}"
            yield f"has {name}{has}, which cannot be called like the contract's", remedy


def contract_methods(base: type[contracts.Plugin]) -> dict[str, Callable[..., object]]:
    """The public methods of a kind that are no hooks, by name."""
    return {
        name: member
        for name, member in vars(base).items()
        if inspect.isfunction(member) and not name.startswith(("_", "expfw_"))
    }


def _takes(function: Callable[..., object], wanted: list[str]) -> bool:
    """Whether it can be called with these arguments, by place and by name."""
    parameters = inspect.signature(function).parameters
    kinds = {parameter.kind for parameter in parameters.values()}
    if inspect.Parameter.VAR_POSITIONAL in kinds:
        return True
    has = [name for name, p in parameters.items() if p.kind is not inspect.Parameter.VAR_KEYWORD]
    further = [name for name in has[len(wanted) :] if parameters[name].default is inspect.Parameter.empty]
    return has[: len(wanted)] == wanted and not further


def signature(function: Callable[..., object]) -> str:
    """The arguments of a function, as they are written."""
    return str(inspect.signature(function)).replace("'", "")
