"""Source code of the working directory: commit, and uncommitted changes as a patch."""

from __future__ import annotations

import os
import re
import stat
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from expfw.redaction import redact_lines, redact_text
from expfw.system.formatting import format_size
from expfw.tracking.environment import GitState

_MAX_FILE_BYTES, _MAX_PATCH_BYTES, _MAX_FILES = 1 << 18, 1 << 20, 1000
_CODE_SUFFIXES = (".py", ".pyi", ".ipynb", ".c", ".cc", ".cpp", ".h", ".cu", ".js", ".ts")
_SECRET_FILE = re.compile(
    r"(^|/)(\.env|\.netrc|\.pypirc|\.?id_(rsa|ed25519|ecdsa)|[^/]*(secret|password|credential|token(?!s|i))[^/]*$)"
    r"|\.(pem|key|p12|pfx|keystore)$",
    re.IGNORECASE,
)


def read_source_changes(excluded_folder: Path) -> tuple[GitState | None, str]:
    """Returns the state of the git repository, and its uncommitted changes, with untracked files, as a patch.

    Secrets are hidden. Untracked files that are binary or look like secrets, and changes that are too large, are only
    named. Files in `excluded_folder` are omitted. Without a repository, the result is None and an empty patch.
    """
    if (head := _run_git("rev-parse", "HEAD", "--show-toplevel")) is None:
        return None, ""
    commit, root = head.rstrip("\n").split("\n", 1)
    diff = _run_git("diff", "--no-color", "--no-ext-diff", "--no-textconv", "HEAD") or ""
    changes = [part for part in re.split(r"^(?=diff --git )", diff, flags=re.MULTILINE) if part]
    parts: list[str] = []
    free_bytes = _MAX_PATCH_BYTES
    for part in (*changes, *_read_untracked_files(Path(root), excluded_folder)):
        name = part.partition("\n")[0].rpartition(" b/")[2]
        is_code = name.endswith(_CODE_SUFFIXES)
        if len(part) > min(_MAX_FILE_BYTES, free_bytes):
            part = f"# omitted: {name}, {format_size(len(part))}\n"
        elif _SECRET_FILE.search(name) and not is_code and part.startswith("diff "):
            part = f"# omitted: {name}, which may contain secrets\n"
        free_bytes -= len(part)
        parts.append(redact_text(part) if is_code else redact_lines(part))
    return GitState(commit, bool(parts)), "".join(parts)


def _read_untracked_files(root: Path, excluded_folder: Path) -> Iterator[str]:
    """Yields a patch that adds the file, or one line that only names it, for each untracked file."""
    output = _run_git("-C", str(root), "ls-files", "--others", "--exclude-standard", "-z") or ""
    excluded = f"{os.path.relpath(excluded_folder.resolve(), root.resolve())}{os.sep}"
    names = [name for name in output.split("\0") if name and not name.startswith(excluded)]
    for name in names[:_MAX_FILES]:
        printable_name = name.encode("utf-8", "backslashreplace").decode().replace("\n", "\\n")
        yield _make_patch(root / name, printable_name)
    if len(names) > _MAX_FILES:
        yield f"# omitted: {len(names) - _MAX_FILES} more untracked files\n"


def _make_patch(path: Path, name: str) -> str:
    try:
        info = path.lstat()
        if not stat.S_ISREG(info.st_mode):
            return f"# omitted: {name}, not a file\n"
        if info.st_size > _MAX_FILE_BYTES:
            return f"# omitted: {name}, {format_size(info.st_size)}\n"
        text = path.read_bytes().decode()
    except OSError as error:
        return f"# omitted: {name}, {error.strerror}\n"
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        return f"# omitted: {name}, binary, {format_size(info.st_size)}\n"
    header = f"diff --git a/{name} b/{name}\nnew file mode 100{'755' if info.st_mode & stat.S_IXUSR else '644'}\n"
    if not text:
        return header
    lines = text.split("\n")
    end = "" if lines[-1] == "" else "\n\\ No newline at end of file\n"
    lines = lines[:-1] if lines[-1] == "" else lines
    body = "\n".join(f"+{line}" for line in lines) + (end or "\n")
    return f"{header}--- /dev/null\n+++ b/{name}\n@@ -0,0 +1,{len(lines)} @@\n{body}"


def _run_git(*arguments: str) -> str | None:
    command = ["git", *arguments]
    with suppress(OSError, subprocess.SubprocessError):
        output = subprocess.check_output(command, stderr=subprocess.DEVNULL, timeout=10)
        return output.decode(errors="surrogateescape")
    return None
