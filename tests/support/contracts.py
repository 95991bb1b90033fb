"""The contract of each kind of plugin."""

from __future__ import annotations

from expfw import testing

CONTRACTS = {
    kind: getattr(testing, f"{kind.title()}Contract") for kind in ("backend", "callback", "dataset", "model", "tracker")
}
