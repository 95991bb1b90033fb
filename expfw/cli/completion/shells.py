"""The supported shells: what their completion needs in addition to Click's."""

from __future__ import annotations

import os
from typing import Any

from click.shell_completion import (
    BashComplete,
    CompletionItem,
    FishComplete,
    ShellComplete,
    ZshComplete,
    add_completion_class,
    split_arg_string,
)

VARIABLE = "_EXPFW_COMPLETE"
"""Environment variable that asks the command `expfw` for candidates; Click reads it."""

_BASH = """\
%(complete_func)s() {
    local type value
    COMPREPLY=()
    while IFS=, read -r type value; do
        case $type in
            file) compopt +o nospace -o default ;;
            dir) compopt +o nospace -o dirnames ;;
            plain) COMPREPLY+=("$value") ;;
        esac
    done < <(COMP_WORDS="${COMP_LINE:0:COMP_POINT}" %(complete_var)s=bash_complete "$1" 2>/dev/null)
}
complete -o nosort -o nospace -F %(complete_func)s %(prog_name)s
"""


def _is_quoted() -> bool:
    """Whether a quote is open at the cursor."""
    return any(os.environ["COMP_WORDS"].count(quote) % 2 for quote in "\"'")


def _end_word(value: str) -> str:
    """Returns the value with a space after it, unless more text must follow: `model=`, `train.`, `callback=[a`."""
    needs_text = value.endswith(("=", ".")) or value.count("[") > value.count("]") or _is_quoted()
    return value if needs_text else f"{value} "


@add_completion_class
class Bash(BashComplete):
    """Splits the line itself, because bash also splits words at = and : and expects only the last part of a word."""

    source_template = _BASH

    def get_completion_args(self) -> tuple[list[str], str]:
        line = os.environ["COMP_WORDS"]
        words = split_arg_string(line)
        word = "" if line[-1:].isspace() else words.pop()
        self._given_length = 0 if _is_quoted() else max(map(word.rfind, "=:")) + 1
        return words[1:], word

    def format_completion(self, item: CompletionItem[Any]) -> str:
        return f"{item.type},{_end_word(item.value[self._given_length :])}"


@add_completion_class
class Zsh(ZshComplete):
    """Adds a space only after a complete word, and completes files after =."""

    source_template = ZshComplete.source_template.replace(" -U", " -U -Q -S ''").replace(
        "_path_files", "compset -P '*='; _path_files"
    )

    def format_completion(self, item: CompletionItem[str]) -> str:
        return super().format_completion(CompletionItem(_end_word(item.value), item.type, item.help))


@add_completion_class
class Fish(FishComplete):
    """Allows commas in values."""

    source_template = FishComplete.source_template.replace('string split ","', 'string split -m 1 ","')


SHELLS: dict[str, type[ShellComplete]] = {"bash": Bash, "zsh": Zsh, "fish": Fish}
