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

_SIMILARITY_MARGIN = 0.06
"""A difference in likeness that two or three letters make."""


@cache
def get_specifications() -> dict[str, Callable[..., Any]]:
    """Every hook there is, by name."""
    return {
        name: member
        for group in (hookspecs.Providers, hookspecs.Observers)
        for name, member in vars(group).items()
        if name.startswith("expfw_")
    }


def find_implementations(cls: type, base: type) -> dict[str, Callable[..., Any]]:
    """The hooks that a class has and its contract has not, by name; with those that are named so and not marked."""
    implementations: dict[str, Callable[..., Any]] = {}
    for name in dir(cls):
        method = inspect.getattr_static(cls, name)
        if not inspect.isfunction(method) or method is inspect.getattr_static(base, name, None):
            continue
        mark = getattr(method, "expfw_impl", None)
        if mark is not None or name.startswith("expfw_"):
            implementations[(mark or {}).get("specname") or name] = method
    return implementations


def list_implemented_hooks(cls: type) -> list[str]:
    """All hooks that a class takes part in, those of its contract among them."""
    methods = (getattr(cls, name) for name in dir(cls) if name.startswith("expfw_"))
    marks = {m.__name__: m.expfw_impl for m in methods if hasattr(m, "expfw_impl")}
    return sorted(mark.get("specname") or name for name, mark in marks.items())


def find_problems(cls: type, base: type) -> tuple[tuple[str, str], ...]:
    """What is wrong with the hooks of a class, and what to do: each one to be read behind the name of the plugin.

    Args:
        base: the class of its kind.
    """
    if cls not in _problems_by_class:
        _problems_by_class[cls] = tuple(_compute_problems(cls, base))
    return _problems_by_class[cls]


_problems_by_class: WeakKeyDictionary[type, tuple[tuple[str, str], ...]] = WeakKeyDictionary()
"""What was found of a class already: it is asked for in every trial of a sweep, several times."""


def _compute_problems(cls: type, base: type) -> Iterator[tuple[str, str]]:
    specifications = get_specifications()
    for hook, method in find_implementations(cls, base).items():
        if hook not in specifications:
            yield (
                f"implements {hook}, which is no hook",
                _suggest_hook(hook, base) or f"the hooks are: {', '.join(specifications)}",
            )
        elif not hasattr(method, "expfw_impl"):
            yield f"has the method {hook} without a mark, so it is never called", "put @expfw.hookimpl above it"
        else:
            yield from _check_function_kind(hook, method)
            yield from _check_arguments(hook, method, specifications[hook])


def _check_function_kind(hook: str, method: Callable[..., Any]) -> Iterator[tuple[str, str]]:
    mark = getattr(method, "expfw_impl")  # noqa: B009  # pluggy puts it there
    is_wrapper, is_generator = mark.get("wrapper") or mark.get("hookwrapper"), inspect.isgeneratorfunction(method)
    if inspect.iscoroutinefunction(method) or inspect.isasyncgenfunction(method):
        yield f"implements {hook} with async def, and nobody awaits it", "write def"
    elif is_wrapper and not is_generator:
        yield f"implements {hook} as a wrapper that does not yield", "write return (yield) where the others are called"
    elif is_generator and not is_wrapper:
        yield f"implements {hook} with a yield, so that its body is never run", "write @expfw.hookimpl(wrapper=True)"


def _check_arguments(
    hook: str, method: Callable[..., Any], specification: Callable[..., Any]
) -> Iterator[tuple[str, str]]:
    allowed_names = [name for name in inspect.signature(specification).parameters if name != "self"]
    parameters = list(inspect.signature(method).parameters)
    if not parameters or parameters[0] in allowed_names:
        yield f"implements {hook} without self", f"write def {hook}({', '.join(['self', *parameters])})"
        return
    for name in parameters[1:]:
        if name not in allowed_names:
            problem = f"implements {hook} with the argument {name!r}, which that hook has not"
            yield problem, _suggest_name(name, allowed_names) or f"it may take {', '.join(allowed_names) or 'none'}"


def find_deprecations(cls: type, base: type) -> Iterator[tuple[str, str]]:
    """Which hooks and arguments of a class are deprecated, and what to use instead."""
    specifications = get_specifications()
    for hook, method in find_implementations(cls, base).items():
        if hook in specifications:
            for warning in get_deprecation_warnings(specifications[hook], method):
                yield f"implements {hook} in a way that goes away", str(warning)


def get_deprecation_warnings(specification: Callable[..., Any], method: Callable[..., Any]) -> list[Warning]:
    """What pluggy would warn of: `warn_on_impl` of a hook, `warn_on_impl_args` of its arguments."""
    options = getattr(specification, "expfw_spec")  # noqa: B009  # pluggy puts it there
    arguments = inspect.signature(method).parameters
    argument_warnings = [warning for name, warning in (options["warn_on_impl_args"] or {}).items() if name in arguments]
    return [warning for warning in (options["warn_on_impl"], *argument_warnings) if warning is not None]


def _suggest_hook(hook: str, base: type) -> str:
    """Of several that are hardly less close, one that this kind answers itself, or observes, rather than another's."""
    specifications = get_specifications()
    own_hooks = [name for name in specifications if hasattr(hookspecs.Observers, name) or hasattr(base, name)]
    highest_similarity = max(map(partial(_measure_similarity, hook), specifications))
    return _suggest_name(
        hook,
        [name for name in own_hooks if _measure_similarity(hook, name) > highest_similarity - _SIMILARITY_MARGIN]
        or specifications,
    )


def _measure_similarity(name: str, other: str) -> float:
    return difflib.SequenceMatcher(None, other, name).ratio()


def _suggest_name(name: str, choices: Iterable[str]) -> str:
    return did_you_mean(name, choices).strip().replace("Did", "did")
