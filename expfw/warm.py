"""Imported last by the server that forks trials: imports and finds out what every trial would."""

from __future__ import annotations

import contextlib
import gc
import importlib

import safetensors.numpy  # noqa: F401

from expfw.fork_server import known_words, wait_for_order
from expfw.large_imports import import_modules
from expfw.likely_backend import modules_for
from expfw.plugins import catalogue

catalogue(()).found  # noqa: B018  # kept; it reads the metadata of all distributions
with contextlib.suppress(Exception):  # a guess while the command composes; what is wrong is told where it is needed
    import_modules(modules_for(known_words()))
for module in wait_for_order():
    with contextlib.suppress(ImportError):  # a trial that needs it says what is wrong
        importlib.import_module(module)
gc.freeze()  # a collection in a trial would write to every object, and so copy the server's whole memory
gc.enable()  # expfw.warming disabled it
