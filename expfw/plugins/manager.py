"""Plugin manager of a run: calls the registered plugins in the order of the configuration."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any

import pluggy

from expfw.api import contracts, hookspecs
from expfw.errors import PluginError, to_error_text
from expfw.plugins.validation import get_specifications

traceback_log = logging.getLogger("expfw.tracebacks")
"""Logger for tracebacks in the log file of a run or a sweep; the terminal shows one line."""
traceback_log.addHandler(logging.NullHandler())  # otherwise Python prints records that have no handler


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
        try:
            plugin_manager.register(plugin, name=f"{plugin.kind}:{plugin.name}")
            plugin_manager.check_pending()
        except pluggy.PluginValidationError as error:
            label = f"{plugin.kind} plugin {plugin.name!r}"
            raise PluginError(f"{label} has an invalid hook: {error}; see expfw/api/hookspecs.py") from error
    for name in get_specifications():
        for implementation in getattr(plugin_manager.hook, name).get_hookimpls():
            if hasattr(hookspecs.Observers, name) and not (implementation.wrapper or implementation.hookwrapper):
                implementation.function = _guard(implementation, name, report)
    return plugin_manager


def _guard(implementation: pluggy.HookImpl, hook: str, report: Callable[[str], None]) -> Callable[..., Any]:
    """Returns the function of a hook; after an error, which is reported, it does nothing."""
    function, enabled = implementation.function, True
    kind, _, name = implementation.plugin_name.partition(":")

    def call(*arguments: Any) -> Any:
        nonlocal enabled
        if not enabled:
            return None
        try:
            return function(*arguments)
        except (Exception, SystemExit) as error:
            enabled = False
            reason = to_error_text(f"{type(error).__name__}: {error}")
            report(f"{kind} plugin {name!r} failed in {hook} ({reason}); this hook of the plugin is not called again")
            traceback_log.exception("%s in %s", name, hook)
            return None

    return call


def list_hook_calls(plugin_manager: pluggy.PluginManager) -> dict[str, list[dict[str, Any]]]:
    """Returns the plugins that implement each hook, in call order, with their ordering options.

    Wrappers are called around all others; the first one is outermost.
    """
    calls: dict[str, list[dict[str, Any]]] = {}
    for hook in get_specifications():
        for implementation in reversed(getattr(plugin_manager.hook, hook).get_hookimpls()):
            options = {name: getattr(implementation, name) for name in ("wrapper", "tryfirst", "trylast")}
            options["wrapper"] |= implementation.hookwrapper
            calls.setdefault(hook, []).append({"plugin": implementation.plugin_name, **options})
    return calls
