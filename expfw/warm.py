"""Imported last by the server that forks trials: what every trial would find out again."""

from __future__ import annotations

import gc

import safetensors.numpy  # noqa: F401

from expfw.plugins import catalogue

catalogue(()).found  # noqa: B018  # kept; it reads the metadata of all distributions
gc.freeze()  # a collection in a trial would write to every object, and so copy the server's whole memory
gc.enable()  # expfw.warming disabled it
