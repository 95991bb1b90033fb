"""Logical processors for the tests in this process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from expfw.api.run import Run
from expfw.config.compose import compose
from expfw.config.run_plugins import make_plugins
from expfw.errors import ConfigError
from expfw.plugins.catalogue import get_catalogue


def configure_logical_processors(count: int) -> None:
    """Divides the CPU of this process into logical processors, unless a framework was already used."""
    config = compose(["backend=mirrored", f"backend.cpus={count}", "tracker=[]", "callback=[]"])
    backend: Any
    (backend,) = make_plugins(config, get_catalogue(), kinds=("backend",))
    try:
        backend.devices(Run("none", "none", Path(), config, config.objective, record=lambda kind, **fields: None))
    except ConfigError:
        return  # runs on several processors then use another process
