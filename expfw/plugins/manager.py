"""One run's plugin manager: who is registered is called, in the order of the configuration."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable
from typing import Any

import pluggy

from expfw.api import contracts, hookspecs
from expfw.errors import PluginError, to_one_line

traceback_log = logging.getLogger("expfw.tracebacks")
"""For the log of a run or a sweep: what is shown is one line."""
traceback_log.addHandler(logging.NullHandler())  # else Python writes to the screen what nobody takes
log = logging.getLogger("expfw")
_checked_classes: set[frozenset[type]] = set()


def list_preload_modules(plugins: Iterable[contracts.Plugin]) -> list[str]:
    """The modules that these plugins want imported before a run needs them; trackers work in another process."""
    return [module for plugin in plugins if not isinstance(plugin, contracts.Tracker) for module in plugin.preload]


def make_manager(plugins: Iterable[contracts.Plugin], report: Callable[[str], None]) -> pluggy.PluginManager:
    """One run's plugin manager: the given plugins registered, their observing hooks guarded.

    Args:
        plugins: in the order in which their hooks are to be called. Those with `tryfirst` come before all others, those
            with `trylast` behind them; of several of these, the first one is last.
        report: called with one line when an observing hook raised.

    Raises:
        PluginError: a plugin implements a hook that does not exist, or with arguments it does not have.
    """
    plugin_manager = pluggy.PluginManager("expfw")
    plugin_manager.add_hookspecs(hookspecs.Providers)
    plugin_manager.add_hookspecs(hookspecs.Observers)
    for plugin in reversed(list(plugins)):  # pluggy calls the last registered first
        label = f"{plugin.kind} plugin {plugin.name!r}"
        try:
            plugin_manager.register(plugin, name=f"{plugin.kind}:{plugin.name}")
            plugin_manager.check_pending()
        except pluggy.PluginValidationError as error:
            reason = re.sub(r"\s+", " ", str(error))
            raise PluginError(f"{label} has a hook that does not fit: {reason}; see expfw/api/hookspecs.py") from error
    _guard_observers(plugin_manager, report)
    return plugin_manager


def check_hooks(plugins: Iterable[contracts.Plugin]) -> None:
    """Raises what `make_manager` raises. Each set of classes is checked once."""
    plugins = list(plugins)
    classes = frozenset(map(type, plugins))
    if classes not in _checked_classes:
        make_manager(plugins, report=log.warning)
        _checked_classes.add(classes)


def list_hook_calls(plugin_manager: pluggy.PluginManager) -> dict[str, list[dict[str, Any]]]:
    """For each hook that somebody answers: who is called, first to last, with what was wished of the order.

    Wrappers are called around all others, the first one outermost.
    """
    calls = {}
    for hook in (*vars(hookspecs.Providers), *vars(hookspecs.Observers)):
        if not hook.startswith("expfw_"):
            continue
        implementations = [
            {
                "plugin": implementation.plugin_name,
                "wrapper": implementation.wrapper or implementation.hookwrapper,
                "tryfirst": implementation.tryfirst,
                "trylast": implementation.trylast,
            }
            for implementation in reversed(getattr(plugin_manager.hook, hook).get_hookimpls())
        ]
        if implementations:
            calls[hook] = implementations
    return calls


def _guard_observers(plugin_manager: pluggy.PluginManager, report: Callable[[str], None]) -> None:
    for hook_name in vars(hookspecs.Observers):
        if not hook_name.startswith("expfw_"):
            continue
        for implementation in getattr(plugin_manager.hook, hook_name).get_hookimpls():
            if not implementation.wrapper and not implementation.hookwrapper:
                implementation.function = _guard_function(
                    implementation.function, implementation.plugin, hook_name, report
                )


def _guard_function(
    function: Callable[..., Any], plugin: contracts.Plugin, hook_name: str, report: Callable[[str], None]
) -> Callable[..., Any]:
    enabled = True

    def call(*arguments: Any) -> Any:
        nonlocal enabled
        if not enabled:
            return None
        try:
            return function(*arguments)
        except (Exception, SystemExit) as error:
            enabled = False
            reason = to_one_line(f"{type(error).__name__}: {error}")
            report(f"{plugin.kind} plugin {plugin.name!r} failed in {hook_name} ({reason}); off for this run")
            traceback_log.exception("%s in %s", plugin.name, hook_name)
            return None

    return call
