"""Checks that the hooks of a plugin's class exist, are marked and have valid arguments."""

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
"""Difference in similarity that corresponds to two or three letters."""


@cache
def get_specifications() -> dict[str, Callable[..., Any]]:
    """Returns all hooks by name."""
    return {
        name: member
        for group in (hookspecs.Providers, hookspecs.Observers)
        for name, member in vars(group).items()
        if name.startswith("expfw_")
    }


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


def list_implemented_hooks(cls: type) -> list[str]:
    """Returns the names of all hooks that a class implements, including those of its contract."""
    methods = (getattr(cls, name) for name in dir(cls) if name.startswith("expfw_"))
    marks = {m.__name__: m.expfw_impl for m in methods if hasattr(m, "expfw_impl")}
    return sorted(mark.get("specname") or name for name, mark in marks.items())


def find_problems(cls: type, base: type) -> tuple[tuple[str, str], ...]:
    """Returns problems of the hooks of a class with remedies, each worded to follow the plugin's name.

    Args:
        cls: class of the plugin.
        base: base class of its kind.
    """
    if cls not in _problems_by_class:
        _problems_by_class[cls] = tuple(_compute_problems(cls, base))
    return _problems_by_class[cls]


_problems_by_class: WeakKeyDictionary[type, tuple[tuple[str, str], ...]] = WeakKeyDictionary()
"""Cached problems by class; every trial of a sweep needs them several times."""


def _compute_problems(cls: type, base: type) -> Iterator[tuple[str, str]]:
    specifications = get_specifications()
    for hook, method in find_implementations(cls, base).items():
        if hook not in specifications:
            yield (
                f"implements the unknown hook {hook}",
                _suggest_hook(hook, base) or f"available: {', '.join(specifications)}",
            )
        elif not hasattr(method, "expfw_impl"):
            yield f"has the method {hook} without @expfw.hookimpl, so it is never called", "add @expfw.hookimpl"
        else:
            yield from _check_function_kind(hook, method)
            yield from _check_arguments(hook, method, specifications[hook])


def _check_function_kind(hook: str, method: Callable[..., Any]) -> Iterator[tuple[str, str]]:
    mark = getattr(method, "expfw_impl")  # noqa: B009  # set by pluggy
    is_wrapper, is_generator = mark.get("wrapper") or mark.get("hookwrapper"), inspect.isgeneratorfunction(method)
    if inspect.iscoroutinefunction(method) or inspect.isasyncgenfunction(method):
        yield f"implements {hook} with async def, which is never awaited", "write def"
    elif is_wrapper and not is_generator:
        yield f"implements {hook} as a wrapper that does not yield", "write return (yield) to call the others"
    elif is_generator and not is_wrapper:
        yield f"implements {hook} with a yield, so its body never runs", "write @expfw.hookimpl(wrapper=True)"


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
            problem = f"implements {hook} with the unknown argument {name!r}"
            yield problem, _suggest_name(name, allowed_names) or f"available: {', '.join(allowed_names) or 'none'}"


def find_deprecations(cls: type, base: type) -> Iterator[tuple[str, str]]:
    """Yields deprecated hooks and arguments of a class, with their replacement."""
    specifications = get_specifications()
    for hook, method in find_implementations(cls, base).items():
        if hook in specifications:
            for warning in get_deprecation_warnings(specifications[hook], method):
                yield f"implements {hook} in a deprecated way", str(warning)


def get_deprecation_warnings(specification: Callable[..., Any], method: Callable[..., Any]) -> list[Warning]:
    """Returns the warnings that pluggy would emit: `warn_on_impl` of a hook, `warn_on_impl_args` of its arguments."""
    options = getattr(specification, "expfw_spec")  # noqa: B009  # set by pluggy
    arguments = inspect.signature(method).parameters
    argument_warnings = [warning for name, warning in (options["warn_on_impl_args"] or {}).items() if name in arguments]
    return [warning for warning in (options["warn_on_impl"], *argument_warnings) if warning is not None]


def _suggest_hook(hook: str, base: type) -> str:
    """Suggests a similar hook; among hooks of nearly the same similarity, one that this kind implements or observes."""
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
