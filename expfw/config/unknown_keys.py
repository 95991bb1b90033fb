"""Error messages for unknown keys, with similar and available keys."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from expfw.api.run_config import PRESETS
from expfw.config.plugin_source import make_hydra
from expfw.config.quoting import quote_overrides
from expfw.errors import ExpfwError, did_you_mean
from expfw.plugins import variants
from expfw.plugins.catalogue import Catalogue
from expfw.plugins.kinds import KINDS, MULTIPLE_KINDS

_GROUPS = (*KINDS, *PRESETS, "hydra/launcher")
_SIMILARITY_CUTOFF = 0.7
TARGET_HINT = "_target_ is not used, because classes are selected by plugin name"


def explain_unknown_key(key: str, overrides: Sequence[str], catalogue: Catalogue) -> str:
    """Explains an unknown key in one line.

    Args:
        key: the unknown key.
        overrides: all overrides; the groups that they select determine which keys exist.
        catalogue: available plugins.
    """
    if key in KINDS:
        several_hint = f", or {key}=[A,B]" if key in MULTIPLE_KINDS else ""
        return f"{key} expects the name of a plugin: {key}=NAME{several_hint}; `expfw run --help` lists the names"
    parent, _, name = key.rpartition(".")
    if name == "_target_":
        return f"{parent}: {TARGET_HINT}; remove it"
    try:
        config = _compose_choices(overrides, catalogue)
        if line := _explain_unselected_plugin(key, config, catalogue):
            return line
        if parent and OmegaConf.select(config, parent, default="absent") is None:
            return f"{parent} is null; set it as a whole: {parent}={{{name}: VALUE}}"
        while parent and OmegaConf.select(config, parent) is None:
            parent, _, name = parent.rpartition(".")
        node = OmegaConf.select(config, parent) if parent else config
        known_keys = sorted(str(k) for k in node if k not in ("hydra", "plugin"))
    except (HydraException, OmegaConfBaseException, ExpfwError, TypeError):
        return f"unknown option {key!r}; `expfw run --cfg job` prints all options"
    existing = OmegaConf.select(config, key)
    if isinstance(existing, DictConfig):
        return _explain_unknown_entry(key, existing)
    if not known_keys:
        return f"unknown option {key!r}; add a new one with +{key}=VALUE"
    plugin = f" of {parent} plugin {node['plugin']!r}" if isinstance(node, DictConfig) and "plugin" in node else ""
    section = config.hydra if key.startswith("hydra.") else config
    keys = [*_list_dotted_keys(section, "hydra." if section is not config else ""), *_GROUPS]
    return f"unknown option {key!r}{plugin}.{_suggest_key(key, keys)} Available: {', '.join(known_keys)}"


def explain_existing_key(key: str, overrides: Sequence[str], catalogue: Catalogue) -> str:
    """Explains `+key=value` for a key that already exists."""
    try:
        node = OmegaConf.select(_compose_choices(overrides, catalogue), key)
    except (HydraException, OmegaConfBaseException, ExpfwError):
        node = None
    if not isinstance(node, DictConfig):
        return f"{key} is already in the configuration; write {key}=VALUE without +"
    known_keys = [str(name) for name in node if name != "plugin"]
    if not known_keys:
        return f"{key} is already in the configuration; add an entry with +{key}.NAME=VALUE"
    return f"{key} is a group of options; write {key}.OPTION=VALUE. Available: {', '.join(known_keys)}"


def _compose_choices(overrides: Sequence[str], catalogue: Catalogue) -> Any:
    """Composes the groups that these overrides select; they determine which keys exist."""
    choices = [o for o in overrides if o.split("=")[0].lstrip("+~").split("@")[0] in _GROUPS]
    return make_hydra(catalogue).compose_config("config", quote_overrides(choices), RunMode.MULTIRUN)


def _explain_unselected_plugin(key: str, config: Any, catalogue: Catalogue) -> str | None:
    """Explains an option of a callback or tracker that is not selected."""
    kind, _, rest = key.partition(".")
    name = rest.partition(".")[0]
    if kind not in MULTIPLE_KINDS or name in (OmegaConf.select(config, kind) or ()):
        return None
    if catalogue.has(kind, name):
        return f"unknown option {key!r}: {kind} {name!r} is not selected; add it with +{kind}={name}"
    known_names = sorted({*catalogue.list_names(kind), *variants.find_variants(kind)})
    return f"unknown {kind} plugin {name!r}.{did_you_mean(name, known_names)} Available: {', '.join(known_names)}"


def _explain_unknown_entry(key: str, node: DictConfig) -> str:
    """Explains a dictionary of options that contains an unknown one."""
    if known_keys := ", ".join(str(k) for k in node if k != "plugin"):
        return f"unknown option in {key}. Available: {known_keys}"
    return f"unknown entry in {key}; add new entries with +{key}={{NAME: VALUE}}"


def _list_dotted_keys(node: DictConfig, prefix: str) -> Iterator[str]:
    """Yields all keys below a node, including keys of nodes."""
    for key in map(str, node):
        if key in ("hydra", "plugin"):
            continue
        yield f"{prefix}{key}"
        child = node._get_node(key)
        if isinstance(child, DictConfig) and not child._is_none() and not child._is_missing():
            yield from _list_dotted_keys(child, f"{prefix}{key}.")


def _suggest_key(key: str, keys: Sequence[str]) -> str:
    """Returns `` Did you mean 'train.epochs'?`` or an empty string."""
    suggestion = find_similar_key(key, keys)
    return f" Did you mean {suggestion!r}?" if suggestion else ""


def find_similar_key(key: str, keys: Iterable[str]) -> str | None:
    """Returns the most likely key: one with the same ending, a similar one, or one with the same last part.

    >>> find_similar_key("epochs", ["train.epochs", "train.steps"])
    'train.epochs'
    """
    keys = sorted(keys, key=lambda known_key: (known_key.count("."), known_key))
    parent, _, last = key.rpartition(".")
    endings = [known_key for known_key in keys if known_key.endswith(f".{key}")]
    abbreviated = [
        known_key for known_key in keys if known_key.rpartition(".")[0] == parent and _get_initials(known_key) == last
    ]
    parents = [known_key for known_key in keys if key.startswith(f"{known_key}.")]
    similar = [
        known_key
        for known_key in difflib.get_close_matches(
            key, [known_key for known_key in keys if known_key not in parents], cutoff=_SIMILARITY_CUTOFF
        )
        if difflib.SequenceMatcher(None, last, known_key.rpartition(".")[2]).ratio()
        > 0.5  # not only the first parts are similar
    ]
    same_name = [known_key for known_key in keys if last in (known_key.rpartition(".")[2], _get_initials(known_key))]
    return next(iter([*endings, *abbreviated, *similar, *same_name]), None)


def _get_initials(key: str) -> str:
    """Returns `lr` for `model.optimizer.learning_rate`, and an empty string for a single word."""
    parts = key.rpartition(".")[2].split("_")
    return "".join(word[:1] for word in parts) if len(parts) > 1 else ""
