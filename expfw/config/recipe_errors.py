"""Error messages for invalid recipes, files in `conf/experiment` or `conf/debug`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import yaml
from hydra.core.global_hydra import GlobalHydra

from expfw.api.run_config import PRESETS
from expfw.errors import did_you_mean
from expfw.plugins.kinds import KINDS


def explain_malformed_recipe(overrides: Sequence[str]) -> str | None:
    """Explains the first selected recipe that does not apply to the root of the configuration; None if all do."""
    for group, name in _find_chosen_recipes(overrides):
        for folder in _find_user_conf_folders():
            file = folder / group / f"{name}.yaml"
            if file.is_file() and not _is_well_formed(file.read_text(errors="replace")):
                return (
                    f"{file} is not a valid recipe; expected `# @package _global_` as its first line, then lines such "
                    "as `train: {epochs: 3}`"
                )
    return None


def _is_well_formed(text: str) -> bool:
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError:
        return True  # invalid YAML has its own message
    return re.match(r"\s*#\s*@package\s", text) is not None and isinstance(content, Mapping | None)


def explain_defaults_error(text: str) -> str | None:
    """Explains an entry in the defaults of a file that Hydra cannot apply.

    Args:
        text: error text of Hydra.
    """
    if match := re.search(r"In '([^']+)': Could not override '([^'@]+)'", text):
        groups = [*KINDS, *PRESETS]
        return (
            f"{match[1]}.yaml has `override /{match[2]}` in its defaults: unknown group {match[2]!r}."
            f"{did_you_mean(match[2], groups)} Available: {', '.join(KINDS)}"
        )
    return None


def _find_chosen_recipes(overrides: Sequence[str]) -> Iterator[tuple[str, str]]:
    for override in overrides:
        key, _, value = override.lstrip("+").partition("=")
        if key in PRESETS:
            yield from ((key, name) for name in re.findall(r"[\w-]+", value))


def _find_user_conf_folders() -> Iterator[Path]:
    """Yields the user's folders on Hydra's last search path."""
    hydra = GlobalHydra.instance().hydra
    for source in [] if hydra is None else hydra.config_loader.get_sources():
        if source.scheme() == "file":
            yield Path(source.path)
