"""Validation and freezing of a composed configuration, and its fingerprint."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import Any

from expfw.api import option_schema
from expfw.api.run_config import RunConfig, to_plain
from expfw.config.environment_values import mask_values
from expfw.errors import ConfigError
from expfw.plugins.catalogue import Catalogue
from expfw.plugins.kinds import KINDS, MULTIPLE_KINDS
from expfw.redaction import learn_secrets, redact, redact_options

KEYS_NOT_IN_FINGERPRINT = (
    *("name", "tags", "runs_dir", "cache_gib", "quiet", "notice"),
    *("sweep", "tracker", "from_environment"),
)


def freeze(
    values: Mapping[str, Any], catalogue: Catalogue, from_environment: Mapping[str, str] | None = None
) -> RunConfig:
    """Checks the values of a composed configuration and freezes them; from then on, its secrets are hidden.

    Args:
        values: plain, resolved values.
        catalogue: available plugins.
        from_environment: see `RunConfig`.

    Raises:
        ConfigError: if a key is unknown, or a value is missing or has the wrong type.
        PluginError: if a plugin is missing or broken.
    """
    config: RunConfig = option_schema.build_instance(RunConfig, values, "")
    nodes: dict[str, Any] = {}
    for kind in KINDS:
        node = getattr(config, kind)
        if kind in MULTIPLE_KINDS:
            nodes[kind] = {name: _check_node(kind, name, options, catalogue) for name, options in node.items()}
        else:
            nodes[kind] = _check_node(kind, None, node, catalogue)
    config = dataclasses.replace(config, **nodes, from_environment=dict(from_environment or {}))
    learn_secrets(vars(config))
    return config


def _check_node(kind: str, name: str | None, node: Any, catalogue: Catalogue) -> dict[str, Any]:
    dotted_key = kind if name is None else f"{kind}.{name}"
    if not isinstance(node, Mapping) or "plugin" not in node:
        if name is None:
            raise ConfigError(
                f"no {kind} plugin is selected; expected {kind}=NAME, or a line such as `defaults: [PLUGIN]` in your "
                f"file {kind}/NAME.yaml. Available: {', '.join(catalogue.list_choices(kind))}"
            )
        catalogue.get(kind, name)  # raises if the plugin is unknown or disabled
        raise ConfigError(f"{dotted_key} is set, but {kind} {name!r} is not selected; add it with +{kind}={name}")
    options = catalogue.get(kind, str(node["plugin"])).make_config(node, dotted_key)
    return {"plugin": node["plugin"], **to_plain(options)}


def redact_config(config: RunConfig) -> dict[str, Any]:
    """Returns a configuration for files: secrets are hidden, environment variables appear by name, not by value."""
    values: dict[str, Any] = redact(mask_values(redact_options(to_plain(config)), config.from_environment))
    del values["from_environment"]
    return values


def build_config(values: Mapping[str, Any]) -> RunConfig:
    """Rebuilds a frozen configuration from the values of `to_plain`; its plugins are not checked."""
    config: RunConfig = option_schema.build_instance(RunConfig, values, "")
    return config


def compute_fingerprint(config: RunConfig, identity: Mapping[str, Any], code: Mapping[str, str] | None = None) -> str:
    """Returns a hash of everything that affects the result: configuration and data, then the code of the plugins.

    The two parts are separated by a dash; see `drop_code`.

    Args:
        identity: identity of the data.
        code: digests of `hash_code`; their names are not part of the fingerprint.
    """
    relevant = {k: v for k, v in to_plain(config).items() if k not in KEYS_NOT_IN_FINGERPRINT}
    text = json.dumps([relevant, to_plain(identity)], sort_keys=True, default=str)
    parts = [hashlib.sha256(text.encode()).hexdigest()[:16]]
    if code:
        parts.append(hashlib.sha256(repr(sorted(code.values())).encode()).hexdigest()[:16])
    return "-".join(parts)


def drop_code(fingerprint: str) -> str:
    """Returns the part of a fingerprint that identifies configuration and data."""
    return fingerprint.partition("-")[0]
