"""From a composed configuration to one that can run: every node checked, frozen, and known by its fingerprint."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from expfw.api import schema
from expfw.api.contracts import Plugin
from expfw.api.plain_values import plain
from expfw.api.settings import RunConfig
from expfw.errors import ConfigError, did_you_mean
from expfw.plugins import variants
from expfw.plugins.catalogue import Catalogue
from expfw.plugins.entry import Found, made
from expfw.plugins.kinds import KINDS, SEVERAL
from expfw.redaction import masked, redact

NOT_PART_OF_THE_RESULT = (
    "name",
    "tags",
    "runs_dir",
    "cache_gib",
    "quiet",
    "notice",
    "sweep",
    "tracker",
    "from_environment",
)


def freeze(
    values: Mapping[str, Any], catalogue: Catalogue, from_environment: Mapping[str, str] | None = None
) -> RunConfig:
    """A checked, frozen configuration from the plain, resolved values of a composed one.

    Args:
        from_environment: see `RunConfig`.

    Raises:
        ConfigError: an unknown key, a wrong type or a missing value, in the root or in any plugin's options.
        PluginError: a plugin is absent or broken.
    """
    config: RunConfig = schema.build(RunConfig, values, "")
    checked: dict[str, Any] = {}
    for kind in KINDS:
        node = getattr(config, kind)
        if kind in SEVERAL:
            checked[kind] = {name: _checked_node(kind, name, options, catalogue) for name, options in node.items()}
        else:
            checked[kind] = _checked_node(kind, None, node, catalogue)
    return dataclasses.replace(config, **checked, from_environment=dict(from_environment or {}))


def _checked_node(kind: str, key: str | None, node: Any, catalogue: Catalogue) -> dict[str, Any]:
    where = kind if key is None else f"{kind}.{key}"
    if not isinstance(node, Mapping) or "plugin" not in node:
        names = sorted({*catalogue.names(kind), *variants.of(kind)})
        if key is None:
            raise ConfigError(f"no {kind} chosen; add {kind}=NAME, with one of: {', '.join(names)}")
        if catalogue.has(kind, key):
            catalogue.get(kind, key)  # says where it is switched off
            raise ConfigError(f"{where} has options, but {kind} {key!r} is not chosen; add it with +{kind}={key}")
        raise ConfigError(
            f"{where} was not made by a {kind} plugin.{did_you_mean(key, names)} Add one with +{kind}=NAME"
        )
    options = _options(where, node, catalogue.get(kind, str(node["plugin"])))
    return {"plugin": node["plugin"], **plain(options)}


def _options(where: str, node: Mapping[str, Any], found: Found) -> Any:
    return found.configured({k: v for k, v in node.items() if k != "plugin"}, where)


def chosen(
    config: RunConfig, catalogue: Catalogue, kinds: Sequence[str] = tuple(KINDS)
) -> Iterator[tuple[str, Mapping[str, Any], Found]]:
    """The dotted key, the node and the declaration of each chosen plugin, in the order in which hooks are called."""
    for kind in kinds:
        node = getattr(config, kind)
        nodes = {f"{kind}.{name}": inner for name, inner in node.items()} if kind in SEVERAL else {kind: node}
        for where, inner in nodes.items():
            yield where, inner, catalogue.get(kind, inner["plugin"])


def make_plugins(config: RunConfig, catalogue: Catalogue, kinds: Sequence[str] = tuple(KINDS)) -> list[Plugin]:
    """The chosen plugins, instantiated with their options, in the order in which their hooks are called.

    Raises:
        PluginError: see `made`.
    """
    return [made(found, _options(where, node, found)) for where, node, found in chosen(config, catalogue, kinds)]


def shown(config: RunConfig) -> dict[str, Any]:
    """A configuration as it is written down: secrets are hidden, and what the environment holds is only named."""
    values: dict[str, Any] = masked(redact(plain(config)), config.from_environment)
    del values["from_environment"]
    return values


def from_plain(values: Mapping[str, Any]) -> RunConfig:
    """The frozen configuration that `plain` made these values of. Its plugins are not checked."""
    config: RunConfig = schema.build(RunConfig, values, "")
    return config


def fingerprint(config: RunConfig, identity: Mapping[str, Any]) -> str:
    """Hash, 16 hexadecimal digits, of what matters for the result: the configuration and which data it met."""
    relevant = {k: v for k, v in plain(config).items() if k not in NOT_PART_OF_THE_RESULT}
    text = json.dumps([relevant, plain(identity)], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
