"""Trust in recorded code: a record may name plugin files, but only the user decides that they run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from expfw.api.plugin_code import hash_file
from expfw.errors import PluginError, TrustError, truncate_text
from expfw.plugins.catalogue import Catalogue, get_catalogue
from expfw.plugins.entry import PluginEntry
from expfw.system.formatting import join_some


@dataclass(frozen=True)
class Trust:
    """The code that may run in addition to installed plugins.

    Attributes:
        files: plugin files that the user names, with `-p` or `files=[...]`.
        records: whether plugin files that a record names may run, if they are unchanged: `--trust` or `trust=True`.
    """

    files: tuple[str, ...] = ()
    records: bool = False

    def make_catalogue(
        self,
        owner: str,
        recorded_files: Mapping[str, str],
        plugins: Iterable[tuple[str, str]] | None = None,
        originals: Mapping[str, str] = MappingProxyType({}),
        is_exact: bool = False,
    ) -> Catalogue:
        """Returns a catalogue with the plugins of a record; imports no file that the user does not trust.

        Args:
            owner: what needs the plugins, for errors.
            recorded_files: digest of each recorded plugin file, by path.
            plugins: kind and name of each plugin that is needed; None if all recorded files are needed.
            originals: digests of the files from which the recorded ones were copied.
            is_exact: whether a plugin file that the user names must equal a recorded one.

        Raises:
            TrustError: if a recorded file is needed, and the user trusts neither the record nor a file that equals it.
            PluginError: if a recorded file is missing or has changed.
        """
        named = {*self.files, *map(hash_file, self.files)}
        unnamed = {file: digest for file, digest in recorded_files.items() if named.isdisjoint((file, digest))}

        def is_usable(entry: PluginEntry) -> bool:
            return entry.file is None or not is_exact or hash_file(entry.file) in recorded_files.values()

        catalogue = get_catalogue(self.files)
        entries = [entry for kind, name in plugins or () for entry in catalogue.find_entries(kind, name)]
        changed = {entry.file for entry in entries if not is_usable(entry)}
        catalogue = get_catalogue(tuple(file for file in self.files if file not in changed))
        missing = [name for kind, name in plugins or () if not catalogue.find_entries(kind, name)]
        if not unnamed or (plugins is not None and not missing):
            return catalogue
        for file, digest in unnamed.items():
            current = hash_file(file)
            if current is None or (self.records and digest != current):
                problem = "is missing" if current is None else "has changed since it was recorded"
                name = truncate_text(file, 1000)
                raise PluginError(
                    f"{owner} needs the plugin file {name}, which {problem}; restore it, or name it with -p FILE"
                )
        if self.records:
            return get_catalogue((*catalogue.files, *unnamed))
        names = f" (plugin {truncate_text(join_some(missing), 100)})" if missing else ""
        files = truncate_text(join_some(list(unnamed)), 1000)
        files += "".join(f" (not {file}, which has changed)" for file in sorted(map(str, changed)))
        error = TrustError(
            f"{owner} needs code that its record names{names}: {files}; read it, then name the file "
            "with -p FILE (in Python: files=[FILE]), or trust the record with --trust (in Python: trust=True)"
        )
        by_digest = {digest: file for file, digest in originals.items() if hash_file(file) == digest}
        error.files = tuple(by_digest.get(digest, file) for file, digest in unnamed.items())
        raise error


def make_trust(files: Sequence[str | Path], records: bool) -> Trust:
    """Returns the trust for arguments of a Python function."""
    return Trust(tuple(str(Path(file).absolute()) for file in files), records)
