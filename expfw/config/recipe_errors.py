"""What to say of a recipe, a file in `conf/experiment` or `conf/debug`, that is not what it should be."""

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
    """What to say of the first chosen recipe whose options are not those of the whole configuration; None else."""
    for group, name in _find_chosen_recipes(overrides):
        for folder in _find_user_conf_folders():
            file = folder / group / f"{name}.yaml"
            if file.is_file() and not _is_well_formed(file.read_text(errors="replace")):
                return (
                    f"{file} is no recipe yet: its first line must be `# @package _global_`, what follows are lines "
                    "such as `train: {epochs: 3}`, as in the whole configuration"
                )
    return None


def _is_well_formed(text: str) -> bool:
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError:
        return True  # which is told otherwise
    return re.match(r"\s*#\s*@package\s", text) is not None and isinstance(content, Mapping | None)


def explain_defaults_error(text: str) -> str | None:
    """What to say of an entry in the defaults of a file that Hydra cannot follow.

    Args:
        text: Hydra's.
    """
    if match := re.search(r"In '([^']+)': Could not override '([^'@]+)'", text):
        groups = [*KINDS, *PRESETS]
        return (
            f"{match[1]}.yaml has `override /{match[2]}` in its defaults, but there is no such choice to override."
            f"{did_you_mean(match[2], groups)} There are: {', '.join(KINDS)}"
        )
    return None


def _find_chosen_recipes(overrides: Sequence[str]) -> Iterator[tuple[str, str]]:
    for override in overrides:
        key, _, value = override.lstrip("+").partition("=")
        if key in PRESETS:
            yield from ((key, name) for name in re.findall(r"[\w-]+", value))


def _find_user_conf_folders() -> Iterator[Path]:
    """Those of the user's in which Hydra looked last."""
    hydra = GlobalHydra.instance().hydra
    for source in [] if hydra is None else hydra.config_loader.get_sources():
        if source.scheme() == "file":
            yield Path(source.path)
