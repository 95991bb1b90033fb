"""Damages records of runs and sweeps at random and calls all functions that read them.

    python benchmarks/tracking/damaged_records.py [--mutations 20000] [--seed 0]

Each mutation changes a journal, a ledger entry, `model.json`, `process.json`, `environment.json` or the progress of a
delivery: bytes, a JSON value, or the type of the file (a folder, a pipe, a link to /dev/zero). Then three functions
read the records, and sometimes a command. The result may be an `ExpfwError`, which is one line. Prints each other
exception, each call that takes more than 10 seconds, and the growth of the memory; the exit code is 1 if there is any,
or if the memory has grown by more than 300 MiB.
"""

from __future__ import annotations

import argparse
import logging
import resource
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))
from support.record_mutations import run_mutations

MAX_GROWTH_MIB = 300


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mutations", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    logging.disable()
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="expfw-damaged-") as root:
        problems = run_mutations(Path(root) / "warm-up", 200, options.seed + 1)  # imports all modules
        before = measure_peak_mib()
        problems += run_mutations(Path(root) / "all", options.mutations, options.seed)
    growth = measure_peak_mib() - before
    for line in problems:
        print(line)
    seconds = time.monotonic() - start
    print(f"{options.mutations} mutations, {len(problems)} problems, memory +{growth:.0f} MiB, {seconds:.0f} s")
    return 1 if problems or growth > MAX_GROWTH_MIB else 0


def measure_peak_mib() -> float:
    """Returns the largest memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    sys.exit(main())
