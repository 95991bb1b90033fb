"""Plugin manager of a run: calls the registered plugins in the order of the configuration."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable
from typing import Any

import pluggy

from expfw.api import contracts, hookspecs
from expfw.errors import PluginError, to_one_line

traceback_log = logging.getLogger("expfw.tracebacks")
"""Logger for tracebacks in the log file of a run or a sweep; the terminal shows one line."""
traceback_log.addHandler(logging.NullHandler())  # otherwise Python prints records that have no handler
log = logging.getLogger("expfw")
_checked_classes: set[frozenset[type]] = set()


def list_preload_modules(plugins: Iterable[contracts.Plugin]) -> list[str]:
    """Returns the modules to import before a run starts; trackers are skipped, they run in the shipper process."""
    return [module for plugin in plugins if not isinstance(plugin, contracts.Tracker) for module in plugin.preload]


def make_manager(plugins: Iterable[contracts.Plugin], report: Callable[[str], None]) -> pluggy.PluginManager:
    """Creates the plugin manager of a run: registers the plugins and catches errors of their observing hooks.

    Args:
        plugins: in the order in which their hooks are called. Hooks with `tryfirst` are called before all others, hooks
            with `trylast` after them; of several with `trylast`, the last plugin is called first.
        report: called with one line when an observing hook raises.

    Raises:
        PluginError: if a plugin implements an unknown hook, or a hook with unknown arguments.
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
            raise PluginError(f"{label} has an invalid hook: {reason}; see expfw/api/hookspecs.py") from error
    _guard_observers(plugin_manager, report)
    return plugin_manager


def check_hooks(plugins: Iterable[contracts.Plugin]) -> None:
    """Raises the errors of `make_manager`. Each set of classes is checked once."""
    plugins = list(plugins)
    classes = frozenset(map(type, plugins))
    if classes not in _checked_classes:
        make_manager(plugins, report=log.warning)
        _checked_classes.add(classes)


def list_hook_calls(plugin_manager: pluggy.PluginManager) -> dict[str, list[dict[str, Any]]]:
    """Returns the plugins that implement each hook, in call order, with their ordering options.

    Wrappers are called around all others; the first one is outermost.
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
            report(
                f"{plugin.kind} plugin {plugin.name!r} failed in {hook_name} ({reason}); this hook of the plugin is "
                "not called again"
            )
            traceback_log.exception("%s in %s", plugin.name, hook_name)
            return None

    return call
