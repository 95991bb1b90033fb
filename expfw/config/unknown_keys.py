"""What to say of a key that the configuration does not have: what is like it, what there is beside it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from expfw.api.settings import PRESETS
from expfw.config.hydra_source import hydra
from expfw.config.quoting import readable
from expfw.errors import ExpfwError, did_you_mean
from expfw.plugins import variants
from expfw.plugins.catalogue import Catalogue, catalogue
from expfw.plugins.kinds import KINDS, SEVERAL

_GROUPS = (*KINDS, *PRESETS, "hydra/launcher")
_ALIKE = 0.7
TARGET_IS_NOT_USED = "its _target_ is not used here, a class is known by the name of its plugin"


def unknown_key(key: str, overrides: Sequence[str], files: Sequence[str]) -> str:
    """One line about a key that does not exist.

    Args:
        overrides: among which it was; the groups that they choose decide which keys there are.
    """
    if key in KINDS:
        several = f", or {key}=[A,B]" if key in SEVERAL else ""
        return f"{key} takes the name of a plugin, as in {key}=NAME{several}; `expfw run --help` lists them"
    parent, _, name = key.rpartition(".")
    if name == "_target_":
        return f"{parent}: {TARGET_IS_NOT_USED}; take it out"
    try:
        whole = _composed(overrides, files)
        if line := _of_one_not_chosen(key, whole, catalogue(tuple(files))):
            return line
        if parent and OmegaConf.select(whole, parent, default="absent") is None:
            return f"{parent} is null; give it as a whole, with {parent}={{{name}: VALUE}}"
        while parent and OmegaConf.select(whole, parent) is None:
            parent, _, name = parent.rpartition(".")
        node = OmegaConf.select(whole, parent) if parent else whole
        known = sorted(str(k) for k in node if k not in ("hydra", "plugin"))
    except (HydraException, OmegaConfBaseException, ExpfwError, TypeError):
        return f"no option {key!r}; `expfw run --cfg job` shows all there are"
    same = OmegaConf.select(whole, key)
    if isinstance(same, DictConfig):
        return _whole_node(key, same)
    if not known:
        return f"no option {key!r} yet; {parent} takes new ones with +{key}=VALUE"
    plugin = f" of {parent} plugin {node['plugin']!r}" if isinstance(node, DictConfig) and "plugin" in node else ""
    own = whole.hydra if key.startswith("hydra.") else whole
    keys = [*_dotted(own, "hydra." if own is not whole else ""), *_GROUPS]
    return f"no option {key!r}{plugin}.{_meant(key, keys)} Options here: {', '.join(known)}"


def there_already(key: str, overrides: Sequence[str], files: Sequence[str]) -> str:
    """What to say of `+key=value` where there is one."""
    try:
        node = OmegaConf.select(_composed(overrides, files), key)
    except (HydraException, OmegaConfBaseException, ExpfwError):
        node = None
    if not isinstance(node, DictConfig):
        return f"{key} is in the configuration already; write {key}=VALUE, without +"
    known = [str(name) for name in node if name != "plugin"]
    if not known:
        return f"{key} takes new entries, such as +{key}.NAME=VALUE"
    return f"{key} is a group of options; write {key}.OPTION=VALUE. Options here: {', '.join(known)}"


def _composed(overrides: Sequence[str], files: Sequence[str]) -> Any:
    """The configuration with what these overrides choose, which decides which keys there are."""
    choices = [o for o in overrides if o.split("=")[0].lstrip("+~").split("@")[0] in _GROUPS]
    return hydra(files).compose_config("config", readable(choices), RunMode.MULTIRUN)


def _of_one_not_chosen(key: str, whole: Any, plugins: Catalogue) -> str | None:
    """What to say of an option of a callback or tracker that this configuration goes without."""
    kind, _, rest = key.partition(".")
    name = rest.partition(".")[0]
    if kind not in SEVERAL or name in (OmegaConf.select(whole, kind) or ()):
        return None
    if plugins.has(kind, name):
        return f"no option {key!r}: {kind} {name!r} is not chosen; add it with +{kind}={name}"
    known = sorted({*plugins.names(kind), *variants.of(kind)})
    return f"no {kind} plugin {name!r}.{did_you_mean(name, known)} There are: {', '.join(known)}"


def _whole_node(key: str, node: DictConfig) -> str:
    """What to say where several options were given at once, one of which is none."""
    if known := ", ".join(str(k) for k in node if k != "plugin"):
        return f"{key} was given an option that it does not have. Options here: {known}"
    return f"{key} takes new entries with +: +{key}={{NAME: VALUE}}"


def _dotted(node: DictConfig, prefix: str) -> Iterator[str]:
    """All keys below a node, those of nodes among them."""
    for key in map(str, node):
        if key in ("hydra", "plugin"):
            continue
        yield f"{prefix}{key}"
        child = node._get_node(key)
        if isinstance(child, DictConfig) and not child._is_none() and not child._is_missing():
            yield from _dotted(child, f"{prefix}{key}.")


def _meant(key: str, keys: Sequence[str]) -> str:
    """`` Did you mean 'train.epochs'?``, or nothing."""
    near = meant(key, keys)
    return f" Did you mean {near!r}?" if near else ""


def meant(key: str, keys: Iterable[str]) -> str | None:
    """The key that was meant, most likely: one that ends so, one that is like it, or one with the same last part.

    >>> meant("epochs", ["train.epochs", "train.steps"])
    'train.epochs'
    """
    keys = sorted(keys, key=lambda other: (other.count("."), other))
    parent, _, last = key.rpartition(".")
    endings = [other for other in keys if other.endswith(f".{key}")]
    beside = [other for other in keys if other.rpartition(".")[0] == parent and _initials(other) == last]
    above = [other for other in keys if key.startswith(f"{other}.")]
    alike = [
        other
        for other in difflib.get_close_matches(key, [other for other in keys if other not in above], cutoff=_ALIKE)
        if difflib.SequenceMatcher(None, last, other.rpartition(".")[2]).ratio() > 0.5  # not only what they begin with
    ]
    same = [other for other in keys if last in (other.rpartition(".")[2], _initials(other))]
    return next(iter([*endings, *beside, *alike, *same]), None)


def _initials(key: str) -> str:
    """`lr` of `model.optimizer.learning_rate`; nothing of a single word."""
    words = key.rpartition(".")[2].split("_")
    return "".join(word[:1] for word in words) if len(words) > 1 else ""
