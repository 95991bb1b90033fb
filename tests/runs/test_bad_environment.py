"""Bad environments: full disks, deleted folders, clock changes, non-finite losses, and signals."""

from __future__ import annotations

import inspect
import json
import os
import re
import shutil
import signal
import subprocess
import threading
import time
from contextlib import suppress

import pytest
from support.tensorboard_events import read_scalars

import expfw
from expfw.api import checkpoints
from expfw.system.signals import exit_deadline, raise_on_signals
from expfw.tracking import journal, run_index
from expfw_callbacks.plots.event_files import EventFile

DIGITS = ("dataset=digits", "model=mlp_keras", "train.epochs=4")


class At(expfw.Callback):
    """Calls a function when a step is reached, before checkpoints are saved."""

    kind = "observer"

    def __init__(self, step, act=None, name="at"):
        super().__init__(None, name)
        self.step = step
        if act is not None:
            self.act = act

    @expfw.hookimpl
    def expfw_run_started(self, run):
        run.call_hooks_at(self.step)

    @expfw.hookimpl
    def expfw_steps_ended(self, run):
        if run.step == self.step:
            self.act(run)


@pytest.fixture
def small_disk(tmp_path):
    """A real file system of 2 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder], capture_output=True, text=True)
    if mounted.returncode != 0:
        pytest.skip(f"cannot mount a file system here ({mounted.stderr.strip()})")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def fill(folder):
    """Fills the file system completely; the last write is partial."""
    with suppress(OSError), open(folder / "filler", "wb", buffering=0) as file:
        while True:
            file.write(bytes(1 << 16))


def test_a_run_survives_a_temporarily_full_disk(train, small_disk):
    def wait_and_free(run):
        time.sleep(1.0)  # checkpoint 42 is written by another thread
        (small_disk / "filler").unlink()

    full, free = At(30, lambda run: fill(small_disk)), At(50, wait_and_free, "free")
    result = train(*DIGITS, f"runs_dir={small_disk}/runs", "cache_gib=0", "train.log_every=1", observers=[full, free])
    assert result.status == "FINISHED"
    warnings = " ".join(result.warnings)
    assert "cannot write a checkpoint: No space left on device" in warnings
    assert "the run continues and tries again later" in warnings
    assert list(expfw.load(result).metrics["train/loss"].dropna().index) == list(range(84))
    assert not list((result.folder / "checkpoints").glob(".*"))
    assert expfw.checkpoint_steps(result.folder)[-1] == 84


def test_tensorboard_has_every_point_after_a_temporarily_full_disk(train, small_disk):
    def fill_and_wait(run):
        fill(small_disk)
        time.sleep(1.1)  # event files are written once per second

    full = At(30, fill_and_wait)
    free = At(50, lambda run: (small_disk / "filler").unlink(), "free")
    options = (f"runs_dir={small_disk}/runs", "cache_gib=0", "train.log_every=1", "callback=[tensorboard]")
    result = train(*DIGITS, *options, observers=[full, free])
    (warning,) = [text for text in result.warnings if "TensorBoard" in text]
    assert f"cannot write TensorBoard files to {result.folder}/tensorboard: No space left on device" in warning
    points = read_scalars(result.folder / "tensorboard", "train")["loss"]
    assert points == pytest.approx(dict(expfw.load(result).metrics["train/loss"].dropna()), rel=1e-6)
    assert sorted(points) == list(range(84))


def test_event_files_keep_a_limited_amount_in_memory_while_the_disk_is_full(small_disk):
    file, event = EventFile(small_disk / "events"), bytes(1 << 20)
    file.append(event)
    assert file.flush() is None
    fill(small_disk)
    for _ in range(20):
        file.append(event)
        assert file.flush().strerror == "No space left on device"
    assert (file.waiting_count, file.lost_count) == (16, 4)  # each record is a little larger than 1 MiB
    file.close()


def test_records_stay_in_memory_while_the_disk_is_full(small_disk):
    path = small_disk / journal.NAME
    with journal.Journal(path) as record:
        record.write("first")
        record.flush()
        fill(small_disk)
        for number in range(200):
            record.write("more", number=number, text="x" * 50)
        record.flush()
        assert record.write_error.strerror == "No space left on device"
        size = record.get_size()
        with pytest.raises(OSError, match="No space left on device"):
            record.sync(size)  # a checkpoint that needs these records is not written
        (small_disk / "filler").unlink()
        record.flush()
        record.sync(size)
        assert record.write_error is None
    assert [r.get("number") for r in journal.read_records(path)[0]] == [None, *range(200)]
    record = journal.Journal(path)
    fill(small_disk)
    record.write("lost", text="x" * 10_000)
    with pytest.raises(expfw.RunsFolderError, match=r"cannot write the last \d+ bytes of .*: No space left on device"):
        record.close()


def test_a_permanently_full_disk_is_a_one_line_error_and_the_run_can_be_resumed(expfw_here, small_disk, monkeypatch):
    (small_disk / "fill.py").write_text(
        "import expfw, os\nfrom contextlib import suppress\nfrom pathlib import Path\n"
        f"{inspect.getsource(fill)}\nclass Fill(expfw.Callback):\n"
        "    @expfw.hookimpl\n    def expfw_epoch_ended(self, run):\n"
        "        folder = Path(os.environ['FULL_DISK'])\n"
        "        if run.epoch == 2 and folder.exists(): fill(folder)\n"
    )
    options = (*DIGITS, f"runs_dir={small_disk}/runs", "cache_gib=0", "tracker=[]", "+callback=fill", "quiet=true")
    monkeypatch.setenv("FULL_DISK", str(small_disk))
    done = expfw_here("-p", str(small_disk / "fill.py"), "run", *options)
    assert done.code == 1
    assert re.search(r"No space left on device.*expfw runs resume", done.err.splitlines()[-1])
    assert "Traceback" not in done.err
    (entry,) = run_index.list_runs(small_disk / "runs")
    assert entry.status in ("INTERRUPTED", "FAILED")  # the disk may have had space for the last record
    (small_disk / "filler").unlink()
    monkeypatch.setenv("FULL_DISK", "/nowhere")
    done = expfw_here("runs", "resume", entry.id, "--trust", "--runs-dir", str(small_disk / "runs"))
    assert done.code == 0, done.err
    (entry,) = run_index.list_runs(small_disk / "runs")
    assert entry.status == "FINISHED"
    assert len([point for point in entry.points if "val/loss" in point.values]) == 4


def test_a_deleted_checkpoint_folder_is_created_again_and_threads_end_with_the_run(train):
    remove = At(50, lambda run: shutil.rmtree(run.folder / "checkpoints"))
    result = train(*DIGITS, observers=[remove])
    assert result.status == "FINISHED"
    assert len(result.warnings) <= 1  # of the checkpoint that was being written
    assert expfw.checkpoint_steps(result.folder)[-1] == 84
    assert not [thread for thread in threading.enumerate() if thread.name.startswith(("checkpoint", "heartbeat"))]


def test_a_deleted_run_folder_is_a_one_line_error(train, workdir):
    def remove(run):
        while run.folder.exists():  # a checkpoint may be written at the same time
            shutil.rmtree(run.folder, ignore_errors=True)

    observer = At(50, remove)
    with pytest.raises(expfw.RunsFolderError, match=r"the run folder of .* was deleted or moved during the run: "):
        train(*DIGITS, observers=[observer])


def test_a_clock_that_goes_back_does_not_change_the_record(train, monkeypatch):
    now = time.time

    def set_back(run):
        monkeypatch.setattr(time, "time", lambda: now() - 86_400)

    result = train(*DIGITS, observers=[At(30, set_back)])
    monkeypatch.undo()
    times = [record["time"] for record in expfw.load(result).records]
    assert times == sorted(times)
    assert 0 < result.seconds < 600


def test_non_finite_weights_are_not_saved_and_the_last_good_checkpoint_is_kept(train, workdir):
    options = ("dataset=digits", "model=mlp_keras", "callback.checkpoint.every.steps=5", "train.log_every=1")

    class Spoil(At):
        @expfw.hookimpl
        def expfw_run_started(self, run, model):
            self.model = model
            run.call_hooks_at(self.step)

        def act(self, run):
            arrays = run.hook.expfw_save(model=self.model, training=False).arrays
            state = expfw.ModelState({name: array * float("nan") for name, array in arrays.items()})
            run.hook.expfw_restore(model=self.model, state=state, training=False)

    with pytest.raises(expfw.TrainingError, match=r"the loss is nan at step 15; .*earlier checkpoints: .*/checkpoints"):
        train(*options, observers=[Spoil(15)])
    (entry,) = run_index.list_runs(workdir / "runs")
    assert entry.status == "FAILED"
    assert expfw.checkpoint_steps(entry.folder)[-1] == 10
    assert "no checkpoint of step 15: some weights are not finite" in " ".join(entry.last["warnings"])
    snapshot = next(checkpoints.read_usable_checkpoints(entry.folder, pytest.fail))
    assert snapshot.finite


def test_a_failure_writes_a_bundle_that_explains_it(train, workdir):
    (workdir / "bad.py").write_text(
        "import expfw, logging\nfrom expfw_models.mlp_keras import MlpKeras\n"
        "class Bad(MlpKeras):\n    def build(self, data):\n"
        "        logging.getLogger('mine').warning('a last message')\n"
        "        raise RuntimeError('in build')\n"
    )
    with pytest.raises(RuntimeError, match="in build"):
        train("model=bad", "dataset=digits", files=(str(workdir / "bad.py"),))
    (entry,) = run_index.list_runs(workdir / "runs")
    assert (entry.result.metrics, entry.result.metrics_step, entry.result.metrics_epoch) == ({}, None, None)
    bundle = entry.folder / "failure"
    names = {path.name for path in bundle.iterdir()}
    assert names == {"traceback.txt", "summary.json", "config.yaml", "environment.json", "end_of_log.txt"}
    assert "RuntimeError: in build" in (bundle / "traceback.txt").read_text()
    assert "a last message" in (bundle / "end_of_log.txt").read_text()
    summary = json.loads((bundle / "summary.json").read_text())
    assert (summary["error"], summary["step"]) == ("RuntimeError: in build", 0)
    assert summary["most_memory_mib"] > 50
    assert "failure" in [record["path"] for record in entry.select("artifact")]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_first_signal_saves_a_checkpoint_and_stops_the_run(train, workdir, number):
    observer = At(30, lambda run: os.kill(os.getpid(), number))
    with pytest.raises(BaseException, match="" if number == signal.SIGINT else "SIGTERM") as caught:
        train(*DIGITS, observers=[observer])
    assert "to resume: expfw runs resume" in " ".join(caught.value.__notes__)
    (entry,) = run_index.list_runs(workdir / "runs")
    assert (entry.status, entry.last["steps"]) == ("KILLED", 30)
    assert expfw.checkpoint_steps(entry.folder)[-1] == 30


def test_a_second_signal_stops_the_run_immediately(train, workdir):
    def twice(run):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.3)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(30)

    started_at = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        train(*DIGITS, observers=[At(30, twice)])
    assert time.monotonic() - started_at < 20
    (entry,) = run_index.list_runs(workdir / "runs")
    assert (entry.status, expfw.checkpoint_steps(entry.folder)[-1]) == ("KILLED", 21)


def test_a_run_that_does_not_stop_is_stopped_within_a_time_limit():
    with raise_on_signals() as received, exit_deadline(0.3) as start_clock:
        received.on_first_signal = start_clock
        started_at = time.monotonic()
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(BaseException, match="ended by SIGTERM"):
            time.sleep(10)
        assert 0.2 < time.monotonic() - started_at < 5


def test_a_blocked_process_exits_after_twice_the_time_limit():
    script = (
        "import os, signal, time\nfrom expfw.system.signals import exit_deadline, raise_on_signals\n"
        "with raise_on_signals() as received, exit_deadline(0.3) as clock:\n"
        "    received.on_first_signal = clock\n    os.kill(os.getpid(), signal.SIGINT)\n"
        "    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])\n    time.sleep(60)\n"
    )
    started_at = time.monotonic()
    done = subprocess.run([os.sys.executable, "-c", script], timeout=30)
    assert done.returncode == 130
    assert time.monotonic() - started_at < 15


def test_signals_within_two_seconds_count_as_one():
    with raise_on_signals() as received:
        signals = []
        received.on_first_signal = signals.append
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGTERM):
            os.kill(os.getpid(), number)
        time.sleep(0.01)
    assert signals == [signal.SIGINT]
