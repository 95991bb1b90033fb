"""Damaged records: a runs folder whose files are changed at random, and all functions that read them."""

from __future__ import annotations

import contextlib
import io
import json
import os
import platform
import random
import shutil
import signal
import traceback
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from support import run_folders

import expfw
from expfw.api.data_files import serialize_spec
from expfw.api.delivery_progress import DeliveryProgress
from expfw.api.run_config import Objective
from expfw.cli.main import run_command
from expfw.cli.runs.clean.selection import Selection
from expfw.errors import ExpfwError
from expfw.plugins.catalogue import get_catalogue
from expfw.plugins.trust import Trust
from expfw.reports.live.sweep_status import RunningTrial
from expfw.sweeps.pruning_monitor import PruningMonitor
from expfw.system import process_lock
from expfw.tracking import run_index
from expfw.tracking.ledger import Ledger, Trial
from expfw.tracking.recorded_run import read_run
from expfw.tracking.run_record import describe_environment
from expfw.tracking.saved_model import read_model
from expfw.tracking.shipper.delivery import Delivery, describe_progress

RUN, SWEEP, OTHER = "aaaa2222", "ssss2222", "zzzz9999"
TIMEOUT_SECONDS = 10
_ODD_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2**62, 2**63, -(2**70), 10**400, 0.5, -0.0, 1e308, "", "x", "NaN", "Infinity"),
    *("-Infinity", "../../victim", "/etc/passwd", "a\0b", "\ud800", "é" * 300, "FINISHED", "1" * 5000, [], {}, [[]]),
    *([1], [None], ["x"], {"": None}, {"x": "y"}, {"plugin": "x"}, {"plugin": 3}, {"a": {"b": [1, {"c": None}]}}),
)
_DEEP = (b"[" * 3000 + b"]" * 3000, b'{"a":' * 3000 + b"1" + b"}" * 3000, b"[" * 80 + b"]" * 80)
_RAW_VALUES = (b"NaN", b"-Infinity", b"1e999", b"9" * 5000, *_DEEP)


def write_records(runs_dir: Path) -> None:
    """Writes two runs and a sweep, with a saved model."""
    run = run_folders.write_run(runs_dir, RUN, 0.5, tracker={})
    run_folders.write_run(runs_dir, OTHER, float("nan"))
    sweep = run_folders.write_sweep(runs_dir, SWEEP, [0.5, float("inf"), None], ["FINISHED", "PRUNED", "FAILED"])
    _complete_journal(run / "journal.jsonl")
    environment = asdict(describe_environment([get_catalogue().get("model", "cnn")]))
    (run / "environment.json").write_text(json.dumps(environment))
    (run / "tracking").mkdir()
    DeliveryProgress(100, False, "here", {"run_id": "x", "objective": {"mode": "min"}}).write(run, "mlflow")
    path = sweep / "journal.jsonl"
    path.write_text(
        path.read_text().replace('"files": {}', f'"files": {{}}, "config": {json.dumps(run_folders.CONFIG)}', 1)
    )
    config = {kind: {"plugin": name} for kind, name in zip(("dataset", "model", "backend"), "xyz", strict=True)}
    data = expfw.DataSpec((4,), 3, class_names=("a", "b", "c"))
    spec = serialize_spec(data, run / "model" / "preprocessing.safetensors")
    content = {"format": 1, "run": RUN, "config": config, "data": spec, "raw_range": [0.0, 1.0], "files": {}}
    (run / "model" / "model.json").write_text(json.dumps(content | {"plugins": {"model=y": "z 1"}, "arrays": {}}))
    identity = {"pid": os.getpid(), "started": 1.0, "host": platform.node(), "boot": None}
    (sweep / "process.json").write_text(json.dumps(identity))


def _complete_journal(path: Path) -> None:
    """Adds a record of each other kind, before the last one."""
    *lines, end = path.read_text().splitlines(keepends=True)
    arrays = {"x": {"dtype": "float32", "shape": [3, 4]}, "y": {"dtype": "int32", "shape": [3]}}
    tensor = {"dtype": "float32", "shape": [-1, 4]}
    records: list[dict[str, Any]] = [
        {"kind": "artifact", "path": "model/model.json"},
        {
            "kind": "dataset",
            "name": "digits",
            "options": {"path": None},
            "identity": {},
            "samples": {"train": 3},
            "classes": 3,
            "splits": {"train": {"samples": 3, "digest": "a", "arrays": arrays}},
        },
        {"kind": "series", "step": 4, "values": {"train/loss": [0.5, "NaN", 0.25]}},
        {"kind": "system", "step": 4, "values": {"cpu": 1.5}},
        {"kind": "message", "step": 4, "text": "stop: enough"},
        {"kind": "failure", "exception": "ConfigError"},
        {"kind": "model", "path": "model", "step": 3, "requirements": ["a==1"], "input": tensor, "output": tensor},
        {"kind": "later", "anything": [1]},
    ]
    time = json.loads(end)["time"]
    path.write_text("".join([*lines, *(json.dumps({"time": time, **record}) + "\n" for record in records), end]))


def make_readers(runs_dir: Path) -> tuple[list[Callable[[], object]], list[Callable[[], object]]]:
    """Returns the commands and the functions that read the records."""
    run = f"{runs_dir}/2026-01-01/00-00-00-{RUN}"
    sweep = Path(f"{runs_dir}/2026-01-01/00-00-01-{SWEEP}")

    def command(*words: str) -> Callable[[], object]:
        return lambda: run_command([*words, "--runs-dir", str(runs_dir)])

    def read_all_of_a_run() -> None:
        loaded = expfw.load(Path(run))
        for name in ("metrics", "points", "environment", "info", "objective", "end_steps", "config", "result", "error"):
            with contextlib.suppress(ExpfwError):
                getattr(loaded, name)

    def read_as_live_views() -> None:
        trial = RunningTrial(Trial(0, "", (), (), folder=run), 0.0)
        trial.read_new_records()
        assert isinstance(f"{trial.position} {trial.metric_text} {trial.estimated_seconds}", str)
        source: Any = SimpleNamespace(observe=lambda *_: False)
        PruningMonitor(source, 0, Path(run), Objective()).check()

    def deliver() -> None:
        tracker: Any = SimpleNamespace(ship=lambda *_: None)
        delivery = Delivery("x", tracker, Path(run), from_beginning=True)
        try:
            while delivery.deliver_portion():
                pass
        except OSError:
            pass  # the shipper logs each error of a journal, and tries again
        finally:
            delivery._lock.release(force=True)

    commands = [
        command("runs", "list"),
        command("runs", "list", "--json"),
        command("runs", "show", RUN),
        command("runs", "show", RUN, "--json"),
        command("runs", "compare", RUN, OTHER),
        command("runs", "compare", RUN, SWEEP, "--json"),
        command("runs", "clean", "--keep-best", "1", "--status", "finished"),
        command("runs", "clean", RUN, "--json"),
        command("runs", "sync"),
        command("runs", "resume", RUN, "train.epochs=9"),
        command("runs", "rerun", RUN),
        command("runs", "predict", RUN, "missing.npz"),
        command("sweeps", "list"),
        command("sweeps", "status", SWEEP),
        command("sweeps", "status", SWEEP, "--json"),
        command("sweeps", "report", SWEEP),
        command("sweeps", "retry", SWEEP, "7"),
        command("sweeps", "resume", SWEEP),
    ]
    functions = [
        read_all_of_a_run,
        read_as_live_views,
        deliver,
        lambda: run_index.list_all(runs_dir, includes_damaged=True),
        lambda: expfw.load_sweep(sweep, runs_dir).table,
        lambda: expfw.load_sweep(sweep, runs_dir).best,
        lambda: [Ledger(sweep).read_trial(number) for number in range(3)],
        lambda: Selection(runs_dir, keep_best=1, statuses=("finished",)),
        lambda: read_model(Path(run, "model"), Trust()),
        lambda: describe_progress(read_run(Path(run)).folder),
        lambda: process_lock.has_live_process(sweep),
    ]
    return commands, functions


def mutate(path: Path, chance: random.Random) -> None:
    """Changes a file: its bytes, a JSON value, or its type."""
    content = path.read_bytes()
    kind = chance.choices(("value", "raw", "bytes", "type"), (6, 2, 3, 1))[0]
    if kind == "type":
        path.unlink()
        shape = chance.choice(("folder", "missing", "empty", "pipe", "link"))
        if shape == "folder":
            path.mkdir()
        elif shape == "pipe":
            os.mkfifo(path)
        elif shape == "link":
            path.symlink_to(chance.choice((path, Path("/dev/zero"), path.parent)))
        elif shape == "empty":
            path.touch()
    elif kind == "bytes":
        data = bytearray(content)
        for _ in range(chance.randint(1, 4)):
            place, new = chance.randrange(len(data) + 1), chance.randbytes(chance.randint(0, 6))
            data[place : place + chance.randint(0, 9)] = new
        path.write_bytes(data if chance.random() < 0.8 else data[: chance.randrange(len(data) + 1)])
    else:
        lines = content.splitlines() if path.suffix == ".jsonl" else [content]
        index = chance.randrange(len(lines))
        lines[index] = _mutate_value(json.loads(lines[index]), chance, raw=kind == "raw")
        path.write_bytes(b"\n".join(lines) + b"\n")


def _mutate_value(value: Any, chance: random.Random, raw: bool) -> bytes:
    """Replaces, removes or adds a value at a random place."""
    places = list(_list_places(value))
    parent, key = chance.choice(places)
    marker = "a place for a raw value"
    action = chance.random()
    if action < 0.75 or raw:
        parent[key] = marker if raw else chance.choice(_ODD_VALUES)
    elif action < 0.9:
        del parent[key]
    elif isinstance(parent, dict):
        parent[chance.choice(("x", "kind", "plugin", "path", ""))] = chance.choice(_ODD_VALUES)
    encoded = json.dumps(value).encode()
    return encoded.replace(f'"{marker}"'.encode(), chance.choice(_RAW_VALUES))


def _list_places(value: Any) -> Iterator[tuple[Any, Any]]:
    for key in list(value) if isinstance(value, dict) else range(len(value)):
        yield value, key
        if isinstance(value[key], (dict, list)):
            yield from _list_places(value[key])


def run_mutations(root: Path, count: int, seed: int, command_share: float = 0.2) -> list[str]:
    """Reads records after each of `count` changes, each time with three functions, and sometimes with a command.

    Returns a line for each reader that crashed or took too long.
    """
    original, runs_dir = root / "original", root / "runs"
    chance, problems = random.Random(seed), []
    write_records(runs_dir)
    shutil.move(runs_dir, original)
    shutil.copytree(original, runs_dir)
    files = [path.relative_to(original) for path in _list_files(original)]
    commands, functions = make_readers(runs_dir)

    def stop(*_: object) -> None:
        raise TimeoutError

    previous_handler = signal.signal(signal.SIGALRM, stop)
    try:
        for number in range(count):
            file = runs_dir / chance.choice(files)
            mutate(file, chance)
            readers = chance.sample(functions, 3) + [chance.choice(commands)] * (chance.random() < command_share)
            for reader in readers:
                signal.alarm(TIMEOUT_SECONDS)
                try:
                    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                        reader()
                except ExpfwError:
                    pass
                except BaseException as error:
                    text = f"{type(error).__name__}: {error}"[:300]
                    problems.append(f"mutation {number} of {file.name}: {text}, {_find_place(error)}")
                finally:
                    signal.alarm(0)
            _restore(original, runs_dir, file)
    finally:
        signal.signal(signal.SIGALRM, previous_handler)
    return problems


def _find_place(error: BaseException) -> str:
    """Returns the last line of expfw in the traceback."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "/expfw" in frame.filename]
    return f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "?"


def _list_files(runs_dir: Path) -> list[Path]:
    names = ("journal.jsonl", "model.json", "process.json", "environment.json", "mlflow.json")
    return sorted(p for p in runs_dir.rglob("*") if p.name in names or (p.parent.name == "ledger" and p.is_file()))


def _restore(original: Path, runs_dir: Path, file: Path) -> None:
    if file.is_dir() and not file.is_symlink():
        shutil.rmtree(file)
    file.unlink(missing_ok=True)
    shutil.copy(original / file.relative_to(runs_dir), file)
