"""Compares sweeps of expfw and of its peers, and runs 1,000 small trials: tables of docs/reference/performance.md.

    python benchmarks/sweeps/sweep.py --data MNIST_FOLDER --peers FOLDER --environments FOLDER
        [--only expfw|autolog|lightning|expert|many ...] [--repeats 1] [--trials 24] [--many 1000]

The folder of `--peers` contains the Hydra applications `peer_hydra_autolog.py`, `peer_lightning.py` and
`peer_expert.py` (`python SCRIPT -m data=FOLDER uri=STORE epochs=3 lr=... units=... momentum=...`). Their virtual
environments are created once, with pip, in the folder of `--environments`. All sweeps run on two CPU cores, each in a
new folder. expfw runs first, last and between the others; its times therefore show whether the machine's speed changed.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from sweep_contenders import (
    CONTENDERS,
    CORES,
    EPOCHS,
    MAX_MEMORY_GROWTH_MIB,
    MAX_SECONDS_PER_TRIAL,
    REPORTED_PACKAGES,
    CommandError,
    Contender,
    SweepResults,
    measure_command,
    prepare_interpreter,
    run_sweep,
)
from sweep_stores import make_sqlite_uri, read_stored_runs

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from machine import describe_machine, format_versions, log


def compare_contenders(names: Sequence[str], options: argparse.Namespace) -> None:
    """Runs the contenders in turn, expfw also after each of the others; prints the tables."""
    results_by_name: dict[str, SweepResults] = {}
    missed_goals: list[str] = []
    peer_names = [name for name in names if name != "expfw"] * options.repeats
    expfw_turn = ["expfw"] if "expfw" in names else []
    turns = (
        [*expfw_turn, *(one for peer_name in peer_names for one in (peer_name, *expfw_turn))]
        if peer_names
        else expfw_turn * options.repeats
    )
    for name in turns:
        with tempfile.TemporaryDirectory() as folder:
            try:
                seconds, trials = run_sweep(CONTENDERS[name], Path(folder), options)
            except CommandError as error:
                log.print(f"{name}: {error}", highlight=False, markup=False)
                missed_goals.append(f"{CONTENDERS[name].label} failed")
                continue
        log.print(f"{name}: {seconds:.1f} s, {len(trials)} trials", highlight=False)
        results_by_name.setdefault(name, SweepResults()).seconds.append(seconds)
        results_by_name[name].trials.append(trials)
    print(
        f"| sweep of {options.trials} trials, {EPOCHS} epochs each | s of each sweep | times expfw's median |", end=""
    )
    print(" test accuracy, mean (lowest to highest) | largest difference from expfw | complete in MLflow |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name, results in results_by_name.items():
        print(_format_row(CONTENDERS[name], results, results_by_name.get("expfw")), flush=True)
    _print_missed_goals(
        [
            *missed_goals,
            *(
                x
                for name, one in results_by_name.items()
                for x in _find_missed_goals(name, one, results_by_name, options.trials)
            ),
        ]
    )
    for environment in sorted({CONTENDERS[name].environment for name in names}):
        python = prepare_interpreter(options.environments, environment) if environment else sys.executable
        print(f"{environment or 'expfw'}: {format_versions(python, REPORTED_PACKAGES)}.")


def _format_row(contender: Contender, results: SweepResults, expfw_results: SweepResults | None) -> str:
    accuracies = _list_accuracies(contender, results)
    spread = f"{statistics.mean(accuracies):.4f} ({min(accuracies):.4f} to {max(accuracies):.4f})" if accuracies else ""
    largest_difference = f"{_find_largest_difference(contender, results, expfw_results):.4f}" if expfw_results else ""
    complete = ", ".join(f"{sum(not t.missing_parts for t in trials)} of {len(trials)}" for trials in results.trials)
    seconds = ", ".join(f"{one:.1f}" for one in results.seconds)
    return (
        f"| {contender.label} | {seconds} | {_format_ratio(results, expfw_results)} | {spread} | {largest_difference} "
        f"| {complete} |"
    )


def _format_ratio(results: SweepResults, expfw_results: SweepResults | None) -> str:
    return (
        f"{statistics.median(results.seconds) / statistics.median(expfw_results.seconds):.2f}" if expfw_results else ""
    )


def _list_accuracies(contender: Contender, results: SweepResults) -> list[float]:
    return [
        trial.metrics[contender.metric]
        for trials in results.trials
        for trial in trials
        if contender.metric in trial.metrics
    ]


def _find_largest_difference(contender: Contender, results: SweepResults, expfw_results: SweepResults) -> float:
    """Returns the largest difference between trials with the same options; their initial weights are different."""
    accuracies, expfw_accuracies = (
        _get_accuracies_by_options(c, o) for c, o in ((contender, results), (CONTENDERS["expfw"], expfw_results))
    )
    return max(
        (abs(accuracies[key] - expfw_accuracies[key]) for key in accuracies.keys() & expfw_accuracies.keys()),
        default=float("nan"),
    )


def _get_accuracies_by_options(contender: Contender, results: SweepResults) -> dict[tuple[float, ...], float]:
    return {
        tuple(map(float, trial.options)): trial.metrics[contender.metric]
        for trial in results.trials[-1]
        if contender.metric in trial.metrics and all(trial.options)
    }


def _find_missed_goals(
    name: str, results: SweepResults, results_by_name: dict[str, SweepResults], trial_count: int
) -> Iterator[str]:
    contender, expfw_results = CONTENDERS[name], results_by_name.get("expfw")
    for number, stored_runs in enumerate(results.trials, start=1):
        incomplete_trials = [
            f"{' '.join(t.options)}: {', '.join(t.missing_parts)}" for t in stored_runs if t.missing_parts
        ]
        if len(stored_runs) != trial_count or incomplete_trials:
            yield (
                f"{contender.label}, sweep {number}: {len(stored_runs)} of {trial_count} trials in MLflow; "
                f"{'; '.join(incomplete_trials)}"
            )
    if (
        expfw_results
        and contender.min_ratio is not None
        and float(_format_ratio(results, expfw_results)) < contender.min_ratio
    ):
        yield (
            f"{contender.label}: {_format_ratio(results, expfw_results)} times expfw's seconds, expected at least "
            f"{contender.min_ratio:g}"
        )
    means = [
        statistics.mean(_list_accuracies(c, o))
        for c, o in ((contender, results), (CONTENDERS["expfw"], expfw_results))
        if o
    ]
    if max(means) - min(means) > 0.01:
        yield f"{contender.label}: mean accuracy {means[0]:.4f}, expfw {means[-1]:.4f}"


def run_many_trials(trial_count: int) -> None:
    """Runs trials of one epoch with the smallest model; prints seconds per trial, memory and runs in MLflow."""
    memory_by_trial: dict[int, float] = {}
    command = [sys.executable, "-m", "expfw", "sweep", "dataset=line", "model=ols", "train.epochs=1"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        seconds = measure_command([*command, f"seed=range({trial_count})"], folder, memory_by_trial)
        stored_runs = read_stored_runs(
            make_sqlite_uri(folder / "runs" / "mlflow.db"), "expfw", ("seed",), "train/epoch_loss"
        )
    complete_count = len({trial.options for trial in stored_runs if not trial.missing_parts})
    memory_marks = {
        mark: _get_memory_at(memory_by_trial, mark)
        for mark in sorted({trial_count // 10, trial_count // 2, trial_count})
    }
    print(f"\n| {trial_count:,} trials of `ols`, one epoch each | |\n| --- | --- |")
    print(f"| seconds until all are in MLflow | {seconds:.1f} |\n| seconds per trial | {seconds / trial_count:.3f} |")
    for mark, mib in memory_marks.items():
        print(f"| MiB of the main process at trial {mark:,} | {mib:.0f} |")
    print(f"| complete in MLflow: metrics, parameters and model | {complete_count:,} |")
    missed_goals = [
        f"{trial.options}: {', '.join(trial.missing_parts)}" for trial in stored_runs if trial.missing_parts
    ][:5]
    if complete_count != trial_count or len(stored_runs) != trial_count:
        missed_goals.append(
            f"{complete_count:,} of {trial_count:,} trials are complete in MLflow, which contains {len(stored_runs):,}"
        )
    if seconds / trial_count > MAX_SECONDS_PER_TRIAL:
        missed_goals.append(f"{seconds / trial_count:.3f} s per trial, expected at most {MAX_SECONDS_PER_TRIAL}")
    if max(memory_marks.values()) - min(memory_marks.values()) > MAX_MEMORY_GROWTH_MIB:
        missed_goals.append(f"the memory of the main process grows: {memory_marks}")
    _print_missed_goals(missed_goals)


def _get_memory_at(memory_by_trial: dict[int, float], trial: int) -> float:
    """Returns the memory when this many trials had started, or at the last measurement before."""
    return next((memory_by_trial[count] for count in sorted(memory_by_trial, reverse=True) if 0 < count <= trial), 0.0)


def _print_missed_goals(missed: Sequence[str]) -> None:
    print(
        "\nMissed goals:" if missed else "\nAll goals were met.", *(f"\n- {line}" for line in missed), "\n", flush=True
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--peers", type=Path)
    parser.add_argument("--environments", type=Path)
    parser.add_argument("--only", action="append", choices=[*CONTENDERS, "many"])
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--trials", type=int, default=24)
    parser.add_argument("--many", type=int, default=1000)
    options = parser.parse_args()
    names = [name for name in CONTENDERS if name in (options.only or CONTENDERS)]
    if any(CONTENDERS[name].script for name in names) and not (options.peers and options.environments):
        parser.error("the peers need --peers and --environments; add both, or: --only expfw --only many")
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])  # inherited by all processes started from here
    print(f"Machine: {describe_machine()}.\n")
    if names:
        compare_contenders(names, options)
    if "many" in (options.only or ["many"]):
        run_many_trials(options.many)


if __name__ == "__main__":
    main()
