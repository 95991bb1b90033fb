"""The kinds of plugins."""

from __future__ import annotations

from expfw.api import contracts

KINDS: dict[str, type[contracts.Plugin]] = {
    base.kind: base
    for base in (contracts.Dataset, contracts.Model, contracts.Backend, contracts.Callback, contracts.Tracker)
}

MULTIPLE_KINDS = ("callback", "tracker")
"""Kinds that allow several plugins in a run; the options of each are below its name."""
