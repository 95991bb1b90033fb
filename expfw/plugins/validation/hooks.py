"""Whether the hooks of a plugin's class exist, are marked, and take arguments that they have."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterable, Iterator
from functools import cache, partial
from typing import Any
from weakref import WeakKeyDictionary

from expfw.api import hookspecs
from expfw.errors import did_you_mean

_HARDLY = 0.06
"""A difference in likeness that two or three letters make."""


@cache
def specifications() -> dict[str, Callable[..., Any]]:
    """Every hook there is, by name."""
    return {
        name: member
        for group in (hookspecs.Providers, hookspecs.Observers)
        for name, member in vars(group).items()
        if name.startswith("expfw_")
    }


def implemented(cls: type, base: type) -> dict[str, Callable[..., Any]]:
    """The hooks that a class has and its contract has not, by name; with those that are named so and not marked."""
    found: dict[str, Callable[..., Any]] = {}
    for name in dir(cls):
        method = inspect.getattr_static(cls, name)
        if not inspect.isfunction(method) or method is inspect.getattr_static(base, name, None):
            continue
        mark = getattr(method, "expfw_impl", None)
        if mark is not None or name.startswith("expfw_"):
            found[(mark or {}).get("specname") or name] = method
    return found


def answered(cls: type) -> list[str]:
    """All hooks that a class takes part in, those of its contract among them."""
    methods = (getattr(cls, name) for name in dir(cls) if name.startswith("expfw_"))
    marked = {m.__name__: m.expfw_impl for m in methods if hasattr(m, "expfw_impl")}
    return sorted(mark.get("specname") or name for name, mark in marked.items())


def problems(cls: type, base: type) -> tuple[tuple[str, str], ...]:
    """What is wrong with the hooks of a class, and what to do: each one to be read behind the name of the plugin.

    Args:
        base: the class of its kind.
    """
    if cls not in _found:
        _found[cls] = tuple(_problems(cls, base))
    return _found[cls]


_found: WeakKeyDictionary[type, tuple[tuple[str, str], ...]] = WeakKeyDictionary()
"""What was found of a class already: it is asked for in every trial of a sweep, several times."""


def _problems(cls: type, base: type) -> Iterator[tuple[str, str]]:
    known = specifications()
    for hook, method in implemented(cls, base).items():
        if hook not in known:
            yield (
                f"implements {hook}, which is no hook",
                _meant_hook(hook, base) or f"the hooks are: {', '.join(known)}",
            )
        elif not hasattr(method, "expfw_impl"):
            yield f"has the method {hook} without a mark, so it is never called", "put @expfw.hookimpl above it"
        else:
            yield from _sort(hook, method)
            yield from _arguments(hook, method, known[hook])


def _sort(hook: str, method: Callable[..., Any]) -> Iterator[tuple[str, str]]:
    mark = getattr(method, "expfw_impl")  # noqa: B009  # pluggy puts it there
    wraps, yields = mark.get("wrapper") or mark.get("hookwrapper"), inspect.isgeneratorfunction(method)
    if inspect.iscoroutinefunction(method) or inspect.isasyncgenfunction(method):
        yield f"implements {hook} with async def, and nobody awaits it", "write def"
    elif wraps and not yields:
        yield f"implements {hook} as a wrapper that does not yield", "write return (yield) where the others are called"
    elif yields and not wraps:
        yield f"implements {hook} with a yield, so that its body is never run", "write @expfw.hookimpl(wrapper=True)"


def _arguments(hook: str, method: Callable[..., Any], specification: Callable[..., Any]) -> Iterator[tuple[str, str]]:
    may = [name for name in inspect.signature(specification).parameters if name != "self"]
    takes = list(inspect.signature(method).parameters)
    if not takes or takes[0] in may:
        yield f"implements {hook} without self", f"write def {hook}({', '.join(['self', *takes])})"
        return
    for name in takes[1:]:
        if name not in may:
            what = f"implements {hook} with the argument {name!r}, which that hook has not"
            yield what, _meant(name, may) or f"it may take {', '.join(may) or 'none'}"


def going_away(cls: type, base: type) -> Iterator[tuple[str, str]]:
    """Which hooks and arguments of a class are deprecated, and what to use instead."""
    known = specifications()
    for hook, method in implemented(cls, base).items():
        if hook in known:
            for warning in deprecations(known[hook], method):
                yield f"implements {hook} in a way that goes away", str(warning)


def deprecations(specification: Callable[..., Any], method: Callable[..., Any]) -> list[Warning]:
    """What pluggy would warn of: `warn_on_impl` of a hook, `warn_on_impl_args` of its arguments."""
    options = getattr(specification, "expfw_spec")  # noqa: B009  # pluggy puts it there
    arguments = inspect.signature(method).parameters
    of_arguments = [warning for name, warning in (options["warn_on_impl_args"] or {}).items() if name in arguments]
    return [warning for warning in (options["warn_on_impl"], *of_arguments) if warning is not None]


def _meant_hook(word: str, base: type) -> str:
    """Of several that are hardly less close, one that this kind answers itself, or observes, rather than another's."""
    known = specifications()
    own = [name for name in known if hasattr(hookspecs.Observers, name) or hasattr(base, name)]
    closest = max(map(partial(_closeness, word), known))
    return _meant(word, [name for name in own if _closeness(word, name) > closest - _HARDLY] or known)


def _closeness(word: str, other: str) -> float:
    return difflib.SequenceMatcher(None, other, word).ratio()


def _meant(word: str, choices: Iterable[str]) -> str:
    return did_you_mean(word, choices).strip().replace("Did", "did")
