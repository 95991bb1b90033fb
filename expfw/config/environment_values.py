"""Values that come from environment variables: recorded as the text of their interpolation, not as the value."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from omegaconf import DictConfig, ListConfig


def mask_values(value: Any, replacements: Mapping[str, str], dotted_key: str = "") -> Any:
    """Replaces nested values by texts, by dotted key."""
    if dotted_key in replacements:
        return replacements[dotted_key]
    prefix = f"{dotted_key}." if dotted_key else ""
    if isinstance(value, Mapping):
        return {str(key): mask_values(inner, replacements, f"{prefix}{key}") for key, inner in value.items()}
    if isinstance(value, list):
        return [mask_values(inner, replacements, f"{prefix}{place}") for place, inner in enumerate(value)]
    return value


def find_environment_values(node: DictConfig) -> dict[str, str]:
    """Returns the interpolations that read environment variables, by dotted key, such as `${oc.env:HOME}`.

    Includes indirect ones, such as `${data.root}/mnist` if `data.root` reads an environment variable.
    """
    from omegaconf import OmegaConf
    from omegaconf.resolvers import oc

    variables_read: list[str] = []

    def read_variable(*arguments: Any) -> Any:
        variables_read.append(str(arguments[0]))
        return oc.env(*arguments)

    OmegaConf.register_new_resolver("oc.env", read_variable, replace=True)
    try:
        return dict(_find_in_node(node, OmegaConf.to_container(node), variables_read, ""))
    finally:
        OmegaConf.register_new_resolver("oc.env", oc.env, replace=True)


def _find_in_node(
    node: DictConfig | ListConfig, raw_values: Any, variables_read: list[str], prefix: str
) -> Iterator[tuple[str, str]]:
    from omegaconf import OmegaConf

    for key in list(node) if isinstance(raw_values, dict) else range(len(node)):
        if OmegaConf.is_missing(node, key):
            continue
        variables_read.clear()
        value = node[key]
        if OmegaConf.is_interpolation(node, key):
            if OmegaConf.is_config(value):
                OmegaConf.to_container(value, resolve=True)
            if variables_read:
                yield f"{prefix}{key}", str(raw_values[key])
        elif OmegaConf.is_config(value):
            yield from _find_in_node(value, raw_values[key], variables_read, f"{prefix}{key}.")
