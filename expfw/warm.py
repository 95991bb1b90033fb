"""Imported last by the server that forks trials: what takes long to import, and what every trial would find out again.

First what is most likely needed, while the command still composes; then what the command says.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
from collections.abc import Iterable

import safetensors.numpy  # noqa: F401

from expfw.fork_server import known_words, take_order
from expfw.likely_backend import modules_for
from expfw.plugins import catalogue


def _import(names: Iterable[str]) -> None:
    for name in names:
        with contextlib.suppress(ImportError):  # a trial that needs it says what is wrong
            importlib.import_module(name)


catalogue(()).found  # noqa: B018  # kept; it reads the metadata of all distributions
_import(modules_for(known_words()))
_import(take_order())
gc.freeze()  # a collection in a trial would write to every object, and so copy the server's whole memory
gc.enable()  # expfw.warming disabled it
