"""The supported shells: their completion scripts and output formats."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

SHELLS = ("bash", "zsh", "fish")
SHELL_VARIABLE, LINE_VARIABLE = "EXPFW_COMPLETE_SHELL", "EXPFW_COMPLETE_LINE"
NO_FILES_EXIT_CODE = 3
"""Exit code if there are no candidates, and files are not allowed either."""


class Candidate(NamedTuple):
    """A completion of a word.

    Attributes:
        value: the completed word.
        help: one line of help.
    """

    value: str
    help: str


# bash splits words at = and : and completes only the last part (see `trim_candidates`).
# A value that needs more text (`model=`, `train.`) gets no space after it.
_BASH = """\
_expfw_completion() {
    local candidate answer
    COMPREPLY=()
    answer=$(%(shell)s=bash %(line)s="${COMP_LINE:0:COMP_POINT}" "$1" 2>/dev/null)
    if [[ $? -eq %(no_files)s ]]; then
        compopt +o default
    fi
    while IFS= read -r candidate; do
        [[ -n $candidate ]] && COMPREPLY+=("$candidate")
    done <<< "$answer"
    if [[ ${#COMPREPLY[@]} -gt 0 && ${COMPREPLY[0]} =~ [=.]$ ]]; then
        compopt -o nospace
    fi
}
complete -o default -F _expfw_completion expfw
"""
_ZSH = """\
#compdef expfw
_expfw() {
    local candidate value shown answer files
    local -i longest
    local -a open whole open_help whole_help
    answer=$(%(shell)s=zsh %(line)s="${(j: :)${(@q)words[1,CURRENT-1]}} ${words[CURRENT]}" ${words[1]} 2>/dev/null)
    files=$(( $? != %(no_files)s ))
    for candidate in "${(@f)answer}"; do
        value="${candidate%%%%$'\\t'*}"
        (( ${#value} > longest )) && longest=${#value}
    done
    for candidate in "${(@f)answer}"; do
        value="${candidate%%%%$'\\t'*}"
        [[ -z $value ]] && continue
        shown="${(r:longest:)value}  ${${candidate#"$value"}#$'\\t'}"
        shown="${shown[1,COLUMNS-1]}"
        if [[ $value == *[=.] ]]; then
            open+=("$value"); open_help+=("$shown")
        else
            whole+=("$value"); whole_help+=("$shown")
        fi
    done
    (( ${#open} )) && compadd -Q -S '' -l -d open_help -a open
    (( ${#whole} )) && compadd -Q -l -d whole_help -a whole
    (( ${#open} + ${#whole} || ! files )) || _files
}
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    _expfw "$@"
else
    compdef _expfw expfw
fi
"""
_FISH = """\
function _expfw_completion
    %(shell)s=fish %(line)s=(commandline -cp | string collect) expfw 2>/dev/null
end
complete -c expfw -f -a '(_expfw_completion)'
"""
_SCRIPTS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}


def make_script(shell: str) -> str:
    """Returns the completion script of a shell."""
    return _SCRIPTS[shell] % {"shell": SHELL_VARIABLE, "line": LINE_VARIABLE, "no_files": NO_FILES_EXIT_CODE}


def trim_candidates(shell: str, word: str, candidates: Sequence[Candidate]) -> list[Candidate]:
    """For bash, removes the part of each word before its last = or :."""
    if shell != "bash":
        return list(candidates)
    match = re.match(r".*[=:]", word, re.DOTALL)
    begin = match.end() if match else 0
    return [Candidate(candidate.value[begin:], candidate.help) for candidate in candidates]


def format_candidates(shell: str, candidates: Sequence[Candidate]) -> str:
    """Formats the candidates for the shell, one line each."""
    return "".join(f"{c.value}\n" if shell == "bash" else f"{c.value}\t{c.help}\n" for c in candidates)
