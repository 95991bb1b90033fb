"""Interpolations of limited size: each may contain others, so a few short ones can stand for billions of values."""

from __future__ import annotations

from contextlib import suppress

from omegaconf import Container, DictConfig, Node
from omegaconf.errors import OmegaConfBaseException

from expfw.errors import ConfigError

_BUDGET, _INTERPOLATION_COST = 100_000, 10


class _Budget(set[int]):
    """Costs so far. OmegaConf adds each node to which an interpolation refers to such a set before it resolves it."""

    def __init__(self, longest_text: int) -> None:
        super().__init__()
        self._cost, self._cost_each = 0, max(_INTERPOLATION_COST, longest_text // 100)

    def add(self, node_id: int) -> None:
        self.spend(self._cost_each)
        super().add(node_id)

    def spend(self, cost: int) -> None:
        self._cost += cost
        if self._cost > _BUDGET:
            raise ConfigError(
                "the interpolations ${...} in the configuration expand to too many values; expected fewer references "
                "to values that contain references"
            )


def check_interpolations(config: DictConfig) -> None:
    """Raises a `ConfigError` if the resolved configuration would be much larger than the configuration.

    Other errors are not raised here, but when the configuration is resolved.
    """
    nodes: list[Node] = [config]
    for node in nodes:
        nodes += _list_children(node)
    if not any(node._is_interpolation() for node in nodes):
        return
    budget = _Budget(max(len(str(node._value())) for node in nodes if not isinstance(node, Container)))
    pending: list[tuple[Node, bool]] = [(config, False)]
    while pending:
        node, is_copy = pending.pop()
        is_copy = is_copy or node._is_interpolation()
        target: Node | None = None
        with suppress(OmegaConfBaseException):
            target = node._maybe_dereference_node(memo=budget)  # the node itself if it is not an interpolation
        budget.spend(int(is_copy))  # raises also if OmegaConf has caught the error of `add`
        pending += [(child, is_copy) for child in _list_children(target)]


def _list_children(node: Node | None) -> list[Node]:
    content = node._value() if isinstance(node, Container) else None
    return list(content.values()) if isinstance(content, dict) else content if isinstance(content, list) else []
