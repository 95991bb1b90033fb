"""Pipes, sockets, folders, devices and endless files in the place of a file: each reader rejects them at once."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from support import run_folders

import expfw
from expfw.api import checkpoints, data_cache
from expfw.api.delivery_progress import DeliveryProgress, get_progress_path, read_progress
from expfw.api.model_state import read_arrays
from expfw.plugins import variants
from expfw.plugins.importing import import_file
from expfw.plugins.trust import Trust
from expfw.runs.inference import samples
from expfw.sweeps.plan.measurement import read_measurement
from expfw.system import process_lock
from expfw.system.input_files import open_file, read_bytes
from expfw.system.yaml_files import read_yaml
from expfw.tracking import journal, recorded_run, saved_model
from expfw.tracking.ledger import Ledger
from expfw_datasets.cifar10 import Cifar10, read_records
from expfw_datasets.mnist import Mnist
from expfw_datasets.npz import Npz

pytestmark = pytest.mark.timeout(60)
KINDS = ("pipe", "socket", "folder", "device", "endless file")


def put(kind: str, path: Path) -> Path:
    """Creates something that is not a file, or never ends, with the name of a file."""
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        os.chdir(path.parent)  # the name of a socket has at most 107 characters
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path.name)
    elif kind == "folder":
        path.mkdir()
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        with open(path, "wb") as file:
            file.truncate(1 << 40)
    return path


def make_dataset(kind, path):
    return kind(kind.Config(path=str(path)), kind.__name__.lower())


def load_data(kind, path):
    dataset = make_dataset(kind, path)
    dataset.identity()
    return dataset.load(0)


READERS = {
    "images.idx": expfw.read_idx,
    "records.bin": read_records,
    "data.npz": lambda path: load_data(Npz, path),
    "train-images-idx3-ubyte": lambda path: load_data(Mnist, path.parent),
    "data_batch_1.bin": lambda path: load_data(Cifar10, path.parent),
    "samples.npz": samples._read_numpy,
    "samples.npy": samples._read_numpy,
    "samples.csv": samples._read_csv,
    "image.png": samples.ImageReader((8, 8), None, False).read,
    "plugin.py": import_file,
    "config.yaml": read_yaml,
    "journal.jsonl": journal.read_records,
    "start/journal.jsonl": journal.read_first_and_last,
    "000000.json": lambda path: Ledger(path.parents[1]).read_trial(0),
    "model.json": lambda path: saved_model.read_model(path.parent, Trust()),
    "weights.safetensors": read_arrays,
}


@pytest.fixture(autouse=True)
def _same_folder(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", READERS)
def test_a_reader_rejects_what_is_not_a_file_in_one_line(tmp_path, kind, name):
    folder = tmp_path / ("ledger" if name == "000000.json" else "folder")
    (folder / name).parent.mkdir(parents=True)
    put(kind, folder / name)
    with pytest.raises(expfw.ExpfwError) as caught:
        READERS[name](folder / name)
    assert str(folder) in str(caught.value)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize("kind", KINDS)
def test_optional_files_count_as_missing(tmp_path, kind):
    run = run_folders.write_run(tmp_path / "runs", "aaaa2222")
    (run / "environment.json").unlink()
    for name in ("environment.json", process_lock.PROCESS_FILE, "measurement.json"):
        put(kind, run / name)
    assert recorded_run.read_run(run).environment is None
    assert not process_lock.has_live_process(run)
    assert read_measurement(run) == (None, None)
    get_progress_path(run, "mlflow").parent.mkdir()
    put(kind, get_progress_path(run, "mlflow"))
    assert read_progress(run, "mlflow") == DeliveryProgress()
    put(kind, tmp_path / "data.json")
    assert data_cache._read_cached(tmp_path) is None
    (tmp_path / "conf" / "model").mkdir(parents=True)
    put(kind, tmp_path / "conf" / "model" / "mine.yaml")
    os.chdir(tmp_path)
    assert "mine" not in variants.find_variants("model")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["arrays.safetensors", "state.json", "checksums.json"])
def test_a_checkpoint_with_something_else_is_damaged_and_skipped(tmp_path, kind, name):
    state = expfw.ModelState({}, {})
    folder = checkpoints.Snapshot(step=7, run={}, plugins={}, model=state).write(tmp_path)
    (folder / name).unlink()
    put(kind, folder / name)
    reports = []
    assert list(checkpoints.read_usable_checkpoints(tmp_path, reports.append)) == []
    assert str(folder) in reports[0]


@pytest.mark.parametrize("kind", KINDS)
def test_commands_list_a_folder_whose_files_are_something_else(call, caplog, tmp_path, kind):
    for number, name in enumerate(("journal.jsonl", "environment.json", process_lock.PROCESS_FILE)):
        run = run_folders.write_run(tmp_path / "runs", f"aaaa222{number}", status=None)
        (run / name).unlink(missing_ok=True)
        put(kind, run / name)
    os.chdir(tmp_path)
    done = call("runs", "list")
    assert (done.code, "aaaa2221" in done.out, "without a readable journal: aaaa2220" in caplog.text) == (0, True, True)


def test_a_file_is_read_through_a_link_and_a_large_one_is_rejected(tmp_path):
    (tmp_path / "file").write_bytes(b"12345")
    (tmp_path / "link").symlink_to("file")
    with open_file(tmp_path / "link") as file:
        assert file.read() == b"12345"
    assert read_bytes(tmp_path / "link", max_bytes=5) == b"12345"
    with pytest.raises(OSError, match="larger than 4 bytes"):
        read_bytes(tmp_path / "link", max_bytes=4)
