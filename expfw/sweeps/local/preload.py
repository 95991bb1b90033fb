"""Preparation of the fork server, which imports this module. Garbage collection is off during the import."""

from __future__ import annotations

import gc

gc.disable()  # before all imports; see expfw.system.garbage_collection

import contextlib  # noqa: E402
import importlib  # noqa: E402

import safetensors.numpy  # noqa: E402, F401

import expfw.sweeps.local.trial_process  # noqa: E402, F401
from expfw.plugins.catalogue import get_catalogue  # noqa: E402
from expfw.sweeps.local.backend_guess import get_likely_modules  # noqa: E402
from expfw.sweeps.local.fork_server import read_early_overrides, wait_for_modules  # noqa: E402
from expfw.system.garbage_collection import import_modules  # noqa: E402

get_catalogue(()).entries  # noqa: B018  # cached; it reads the metadata of all distributions

with contextlib.suppress(Exception):  # only a guess while the main process composes; a trial reports errors
    import_modules(get_likely_modules(read_early_overrides()))

for module in wait_for_modules():
    with contextlib.suppress(ImportError):  # a trial that needs the module reports the error
        importlib.import_module(module)

gc.freeze()  # otherwise a collection in a trial would write to every object and so copy the server's whole memory

gc.enable()
