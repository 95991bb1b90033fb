"""The commands that go on with a run, prove that going on is exact, or make a run once more."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from expfw.api.run import FAILED, FINISHED, PRUNED
from expfw.cli import json_results, train
from expfw.config.overrides import override
from expfw.errors import ConfigError, DataError, JournalError
from expfw.plugins import disabled
from expfw.redaction import HIDDEN
from expfw.runs import comparison, resume, verification
from expfw.runs.resume import Recorded
from expfw.sweeps.resume import GoingOn
from expfw.system import cpu, output
from expfw.system.json_output import people_on_stderr, print_json
from expfw.tracking import run_folders, run_index
from expfw.tracking.ledger import Ledger
from expfw.tracking.run_index import RUNNING, Entry


def go_on(run_id: str, runs_dir: Path, overrides: Sequence[str], accept: bool, as_json: bool = False) -> int:
    """`expfw runs resume`."""
    return train.shown(resume.to_go_on(_recorded(run_id, runs_dir), runs_dir, overrides, accept), as_json)


def verify(run_id: str, runs_dir: Path, secrets: Sequence[str], accept: bool, as_json: bool = False) -> int:
    """`expfw runs resume --verify`."""
    found = _recorded(run_id, runs_dir)
    with output.noise_to(Path(os.devnull)), people_on_stderr():
        report = verification.verify(found, secrets, accept)
    if as_json:
        print_json({"id": found.entry.id, "exact": report.exact, "text": report.text})
    else:
        print(report.text)
    return 0 if report.exact else 1


def rerun(run_id: str, runs_dir: Path, secrets: Sequence[str], check: bool, as_json: bool = False) -> int:
    """`expfw runs rerun`."""
    found = _recorded(run_id, runs_dir)
    if check and found.entry.status not in (FINISHED, PRUNED):
        raise ConfigError(
            f"run {found.entry.id} is {found.entry.status}, there is no end to compare with; first: expfw runs resume "
            f"{found.entry.id}{run_folders.option(runs_dir)}"
        )
    cpu.use_cores(found.cores)
    made, differences = resume.once_more(found, runs_dir, secrets)
    told: AbstractContextManager[dict[str, Any]] = nullcontext({})
    with json_results.run_as_json(made, of=found.entry.id) if as_json else told as further:
        code = train.shown(made)
        if not check or code != 0:
            return code
        again = run_index.find_run(runs_dir, made.id)
        report = comparison.compare(found.entry.folder, again.folder, found.ends)
        further["check"] = {"exact": report.exact, "text": report.text, "differences": differences}
        print(f"run {found.entry.id}, and again as {again.id}: {report.text}")
        for difference in differences:
            print(f"  {difference}")
    return 0 if report.exact else 1


def go_on_with_sweep(sweep_id: str, runs_dir: Path, accept: bool, as_json: bool = False) -> int:
    """`expfw sweeps resume`."""
    entry = _not_running(sweep_id, runs_dir)
    if entry.status == FINISHED:
        raise ConfigError(
            f"sweep {entry.id} is FINISHED, there is nothing left to do; for other trials begin a new sweep"
        )
    return _sweep_again(entry, runs_dir, accept, None, as_json)


def retry(
    sweep_id: str, runs_dir: Path, numbers: Sequence[int], failed: bool, accept: bool, as_json: bool = False
) -> int:
    """`expfw sweeps retry`."""
    entry = _not_running(sweep_id, runs_dir)
    trials = {trial.number: trial for trial in Ledger(entry.folder).trials()}
    have_failed = [number for number, trial in trials.items() if trial.status == FAILED]
    if wrong := [number for number in numbers if number not in have_failed]:
        status = trials[wrong[0]].status if wrong[0] in trials else "not among its trials"
        names = ", ".join(map(str, have_failed)) or "none"
        raise ConfigError(f"trial {wrong[0]} of sweep {entry.id} is {status}; those that have failed are: {names}")
    if not numbers and not failed:
        where = run_folders.option(runs_dir)
        raise ConfigError(f"say which trials: expfw sweeps retry {entry.id} --failed{where}, or numbers of trials")
    if not have_failed:
        raise ConfigError(f"no trial of sweep {entry.id} has failed, there is nothing to try again")
    return _sweep_again(entry, runs_dir, accept, sorted(set(numbers)) or have_failed, as_json)


def _not_running(sweep_id: str, runs_dir: Path) -> Entry:
    entry = run_index.find_sweep(runs_dir, sweep_id)
    if entry.status == RUNNING:
        status = f"expfw sweeps status {entry.id}{run_folders.option(runs_dir)}"
        raise ConfigError(f"sweep {entry.id} goes on already; `{status}` shows how far it is")
    return entry


def _sweep_again(entry: Entry, runs_dir: Path, accept: bool, retry: Sequence[int] | None, as_json: bool) -> int:
    began = entry.first
    if "config_name" not in began:
        raise JournalError(
            f"the sweep in {entry.folder} was recorded by another version of expfw, which cannot go on; begin a new one"
        )
    own = [word for word in began["overrides"] if word.lstrip("+").partition("=")[0] != "quiet"]  # of that command
    typed = [*own, *began.get("hydra", [])]
    if hidden := [word for word in typed if HIDDEN in word]:
        raise ConfigError(f"{hidden[0]} of sweep {entry.id} is a secret and not in the record; begin a new sweep")
    if gone := [file for file in began["files"] if not Path(file).is_file()]:
        raise ConfigError(
            f"the plugin file {gone[0]}, which sweep {entry.id} was made with, is not there; put it back where it was"
        )
    overrides = [*typed, override("runs_dir", runs_dir.absolute())]
    how = GoingOn(entry, accept, retry)
    files, name, folder = tuple(began["files"]), began["config_name"], began["config_dir"]
    without = [word.removeprefix("no:") for word in began.get("switched_off", [])]
    try:
        with disabled.set_as(disabled.also_disabled(without)):
            return train.sweep_by(overrides, files, name, folder, how, as_json)
    except DataError as error:
        error.add_note(f"(sweep {entry.id} goes on with the data that it began with; put them back)")
        raise


def _recorded(run_id: str, runs_dir: Path) -> Recorded:
    return resume.recorded(run_index.find_run(runs_dir, run_id))
