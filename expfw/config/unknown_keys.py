"""Suggestions for unknown keys."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from expfw.api.run_config import PRESETS
from expfw.plugins.kinds import KINDS

_SIMILARITY_CUTOFF = 0.7


def suggest_key(key: str, values: Mapping[str, Any]) -> str:
    """Returns `` Did you mean 'train.epochs'?``, or an empty string; `values` may contain the unknown key, too."""
    known_keys = [known_key for known_key in _list_keys(values) if known_key != key]
    similar_key = find_similar_key(key, {*known_keys, *KINDS, *PRESETS})
    return f" Did you mean {similar_key!r}?" if similar_key else ""


def _list_keys(values: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Yields all dotted keys, including those of inner mappings."""
    for name, value in values.items():
        yield f"{prefix}{name}"
        if isinstance(value, Mapping):
            yield from _list_keys(value, f"{prefix}{name}.")


def find_similar_key(key: str, keys: Iterable[str]) -> str | None:
    """Returns the most likely key: one with the same ending, a similar one, or one with the same last part.

    >>> find_similar_key("epochs", ["train.epochs", "train.steps"])
    'train.epochs'
    """
    keys = sorted(keys, key=lambda known_key: (known_key.count("."), known_key))
    parent, _, last = key.rpartition(".")
    last_parts = {known_key: known_key.rpartition(".")[2] for known_key in keys}
    endings = [known_key for known_key in keys if known_key.endswith(f".{key}")]
    siblings = [known_key for known_key in keys if known_key.rpartition(".")[0] == parent]
    abbreviated = [known_key for known_key in siblings if _get_initials(last_parts[known_key]) == last]
    candidates = [known_key for known_key in keys if not key.startswith(f"{known_key}.")]
    similar = [
        known_key
        for known_key in difflib.get_close_matches(key, candidates, cutoff=_SIMILARITY_CUTOFF)
        if difflib.SequenceMatcher(None, last, last_parts[known_key]).ratio() > 0.5  # not only the first parts
    ]
    same_name = [name for name in keys if last in (last_parts[name], _get_initials(last_parts[name]))]
    return next(iter([*endings, *abbreviated, *similar, *same_name]), None)


def _get_initials(name: str) -> str:
    """Returns `lr` for `learning_rate`, and an empty string for a single word."""
    parts = name.split("_")
    return "".join(word[:1] for word in parts) if len(parts) > 1 else ""
