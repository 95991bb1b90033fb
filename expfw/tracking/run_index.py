"""The runs folder and its index: finds runs and sweeps, by ID or status."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from expfw.api.result import Result
from expfw.errors import JournalError, NotFoundError, did_you_mean
from expfw.plugins.catalogue import Catalogue, get_catalogue
from expfw.plugins.trust import Trust, make_trust
from expfw.system import process_lock
from expfw.tracking.recorded_run import DAMAGED, RecordedRun, make_damaged_run, read_run
from expfw.tracking.run_folders import DELETED_PREFIX, format_runs_dir_option, make_begin_from_hint

_FOLDER_NAME = re.compile(r"(\d\d-\d\d-\d\d|\d{3,})-[a-z0-9]{8}")
_FOLDERS = ("*/*/", "*/*/trials/*/")
RUNS_DIR_HINT, RUNS_DIR_HINT_IN_PYTHON = "--runs-dir FOLDER", "runs_dir=FOLDER"
"""How to select another runs folder: on the command line and in Python."""


@dataclass(frozen=True)
class Workspace:
    """A runs folder, which contains all runs and sweeps, and the available plugins.

    `trusts_records` is the option `--trust`, see `Trust`.
    """

    runs_dir: Path
    catalogue: Catalogue = field(default_factory=get_catalogue)
    trusts_records: bool = False

    @property
    def trust(self) -> Trust:
        """Code that may run in addition to installed plugins."""
        return Trust(self.catalogue.files, self.trusts_records)

    def find_run(self, id_prefix: str) -> RecordedRun:
        """Returns the run whose ID starts with `id_prefix`; see `find_recorded`."""
        return replace(find_run(self.runs_dir, id_prefix), trust=self.trust)

    @property
    def runs_dir_option(self) -> str:
        """Option that selects this runs folder, with a leading space; empty for the default folder."""
        return format_runs_dir_option(self.runs_dir)


def list_all(runs_dir: Path, patterns: Sequence[str] = _FOLDERS, includes_damaged: bool = False) -> list[RecordedRun]:
    """Returns all sweeps and runs, including trials, newest first.

    `includes_damaged` adds the folders without a readable journal, with the status DAMAGED.
    """
    recorded_runs = []
    for folder in (folder for pattern in patterns for folder in runs_dir.absolute().glob(pattern)):
        if folder.name.startswith(DELETED_PREFIX) or folder.parents[1].name.startswith(DELETED_PREFIX):
            continue
        try:
            recorded_runs.append(read_run(folder))
        except JournalError:
            has_name = includes_damaged and _FOLDER_NAME.fullmatch(folder.name)
            if has_name and not process_lock.has_live_process(folder):  # otherwise it has just started
                recorded_runs.append(make_damaged_run(folder))
    return sorted(recorded_runs, key=lambda recorded_run: float(recorded_run.first["time"]), reverse=True)


def list_runs(runs_dir: Path) -> list[RecordedRun]:
    """Returns all runs with a readable journal, including trials of sweeps, newest first."""
    return [run for run in list_all(runs_dir) if not run.is_sweep]


def list_sweeps(runs_dir: Path) -> list[RecordedRun]:
    """Returns all sweeps with a readable journal, newest first."""
    return [sweep for sweep in list_all(runs_dir, _FOLDERS[:1]) if sweep.is_sweep]


def find_run(runs_dir: Path, id_prefix: str, runs_dir_hint: str = RUNS_DIR_HINT) -> RecordedRun:
    """Returns the run whose ID starts with `id_prefix`; see `find_recorded`."""
    return find_recorded(list_runs(runs_dir), id_prefix, "run", runs_dir, runs_dir_hint)


def find_sweep(runs_dir: Path, id_prefix: str, runs_dir_hint: str = RUNS_DIR_HINT) -> RecordedRun:
    """Returns the sweep whose ID starts with `id_prefix`; see `find_recorded`."""
    return find_recorded(list_sweeps(runs_dir), id_prefix, "sweep", runs_dir, runs_dir_hint)


def find_recorded(
    candidates: Sequence[RecordedRun], id_prefix: str, noun: str, runs_dir: Path, runs_dir_hint: str = RUNS_DIR_HINT
) -> RecordedRun:
    """Returns the only candidate whose ID starts with `id_prefix`, or whose folder it is.

    The other arguments are for errors; `noun` is `run`, `sweep` or `sweep or run`.
    """
    option = format_runs_dir_option(runs_dir)
    commands = " and ".join(f"`expfw {kind}s list{option}`" for kind in noun.split(" or "))
    list_hint = f"{commands} {'list' if ' or ' in noun else 'lists'} all IDs"
    if not id_prefix:
        raise NotFoundError(f"missing ID; {list_hint}")
    matches = [run for run in candidates if run.id.startswith(id_prefix) or run.folder == Path(id_prefix).absolute()]
    if len(matches) == 1:
        return matches[0]
    if matches:
        ids = ", ".join(run.id for run in matches)
        has_copies = len({run.id for run in matches}) == 1
        advice = f"give its folder instead, such as {matches[0].folder}" if has_copies else "give more characters"
        raise NotFoundError(f"{noun} {id_prefix!r} is ambiguous: it matches {ids}; {advice}")
    for other in list_all(runs_dir, includes_damaged=True):
        if other.id.startswith(id_prefix) and other.status == DAMAGED:
            hint = f"{make_begin_from_hint(other.folder)}; " if (other.folder / "checkpoints").is_dir() else ""
            raise JournalError(
                f"cannot read the journal in {other.folder}; {hint}to delete it: expfw runs clean {other.id}{option}"
            )
        if other.id.startswith(id_prefix):
            kind, command = ("sweep", "sweeps status") if other.is_sweep else ("run", "runs show")
            show = f"expfw {command} {other.id}{option}"
            raise NotFoundError(f"{other.id} is a {kind}, not a {noun}; to show it: {show}")
    if not runs_dir.is_dir():
        raise NotFoundError(
            f"unknown {noun} {id_prefix!r}: runs folder {runs_dir.absolute()} does not exist; change to the folder "
            f"where it was started, or use {runs_dir_hint}"
        )
    suggestion = did_you_mean(id_prefix, [run.id[: len(id_prefix)] for run in candidates])
    raise NotFoundError(
        f"unknown {noun} {id_prefix!r} in folder {runs_dir}.{suggestion} {list_hint}; for another runs folder: "
        f"{runs_dir_hint}"
    )


def load(
    run: str | Path | Result, runs_dir: str | Path = "runs", *, files: Sequence[str | Path] = (), trust: bool = False
) -> RecordedRun:
    """Loads a recorded run. Its `model` runs code of installed plugins, and other code only with `files` or `trust`.

    Args:
        run: ID or prefix of the ID, run folder, or the result of `expfw.run`.
        runs_dir: runs folder to search for an ID.
        files: plugin files of the run, as for `expfw.run`.
        trust: whether to run the copies of plugin files in the run folder.

    Raises:
        NotFoundError: if no run or several runs match.
        JournalError: if its journal cannot be read.
    """
    if isinstance(run, str):
        recorded_run = find_run(Path(runs_dir), run, RUNS_DIR_HINT_IN_PYTHON)
    else:
        recorded_run = read_run((run.folder if isinstance(run, Result) else run).absolute())
    if recorded_run.is_sweep:
        raise NotFoundError(f"{recorded_run.folder} is a sweep; load it with expfw.load_sweep")
    return replace(recorded_run, trust=make_trust(files, trust))
