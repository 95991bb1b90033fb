"""Equal results on one device and on several devices, for batches and slices of any size."""

from __future__ import annotations

import numpy as np
import pytest
from support.equal_metrics import (
    DEVICE_OVERRIDES,
    ENGINE_PLUGINS,
    assert_equal_metrics,
    find_free_addresses,
    read_metrics,
)
from support.processes import start_expfw

import expfw
from expfw.tracking import run_index

ODD = ("dataset=odd", "model=small", "train.steps=100", "train.batch_size=33", "train.log_every=1", "callback=[]")
VARIANTS = {
    "plain": (),
    "batch-norm": ("model.normalize=true",),
    "clipped": ("train.clip_norm=0.05", "train.clip_value=0.02", "model.optimizer.name=sgd"),
    "averaged": ("train.average=0.9",),
    "weighted": ("dataset.weights=true", "+train.class_weight={1: 3.0, 2: 0.5}"),
    "scheduled": ("model.optimizer.schedule={name: cosine, steps: 80, warmup: 10}",),
    "float64": ("backend.precision=float64",),
    "loss-scaling": ("model.loss_scaling=true", "train.clip_norm=0.05"),
}
QUICK_VARIANTS = ("plain",)


METRICS_ON_ONE_DEVICE = {}


def mark_slow(*names):
    """Marks parameters as slow; each takes several seconds."""
    return [pytest.param(name, marks=pytest.mark.slow) for name in names]


@pytest.fixture
def train_odd(train):
    """Returns a function that trains a model of ENGINE_PLUGINS on the data of `ODD`."""
    return lambda *options: train(*ODD, *options, files=[ENGINE_PLUGINS])


@pytest.fixture
def on_one_device(train_odd):
    """Returns a function for the metrics of a variant on tf-cpu; it trains each variant once."""

    def get(variant):
        if variant not in METRICS_ON_ONE_DEVICE:
            METRICS_ON_ONE_DEVICE[variant] = metrics = read_metrics(train_odd(*VARIANTS[variant]).folder)
            losses = list(metrics["train/loss"].values())
            assert len(losses) == 100
            assert np.isfinite(losses).all()
            assert np.mean(losses[-8:]) < np.mean(losses[:8])
        return METRICS_ON_ONE_DEVICE[variant]

    return get


@pytest.mark.parametrize("variant", [*QUICK_VARIANTS, *mark_slow(*sorted(VARIANTS.keys() - QUICK_VARIANTS))])
@pytest.mark.parametrize("devices", ["mirrored-2", *mark_slow("mirrored-4", "streamed")])
def test_results_do_not_depend_on_devices(train_odd, on_one_device, devices, variant):
    result = train_odd(*VARIANTS[variant], *DEVICE_OVERRIDES[devices])
    assert_equal_metrics(result.folder, on_one_device(variant), tolerance=0 if devices == "streamed" else 1e-5)


OPTIMIZERS = {
    "sgd": ("model.optimizer={name: sgd, learning_rate: 0.1}",),
    "momentum": ("model.optimizer={name: sgd, learning_rate: 0.05, momentum: 0.9}",),
    "nesterov": ("model.optimizer={name: sgd, learning_rate: 0.05, momentum: 0.9, options: {nesterov: true}}",),
    "adam": ("model.optimizer={name: adam, learning_rate: 0.01}",),
    "adamw": ("model.optimizer={name: adamw, learning_rate: 0.01, weight_decay: 0.1}",),
    "rmsprop": ("model.optimizer={name: rmsprop, learning_rate: 0.01, momentum: 0.9}",),
}


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["adam", "momentum", "sgd", "nesterov", "adamw", "rmsprop"])
def test_in_64_bits_several_devices_equal_one_device(train_odd, optimizer):
    options = ("backend.precision=float64", *OPTIMIZERS[optimizer])
    expected = read_metrics(train_odd(*options).folder)
    for devices in ("mirrored-2", "in-parts"):
        assert_equal_metrics(train_odd(*options, *DEVICE_OVERRIDES[devices]).folder, expected, tolerance=1e-10)


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["clipped", "averaged", "weighted", "scheduled", "batch-norm"])
def test_in_64_bits_each_variant_on_several_devices_equals_one_device(train_odd, variant):
    options = ("backend.precision=float64", *VARIANTS[variant])
    expected = read_metrics(train_odd(*options).folder)
    result = train_odd(*options, *DEVICE_OVERRIDES["mirrored-2"])
    assert_equal_metrics(result.folder, expected, tolerance=1e-10)


@pytest.mark.parametrize("variant", ["plain", *mark_slow("clipped"), "weighted"])
@pytest.mark.parametrize("devices", ["in-parts", *mark_slow("mirrored-2-streamed", "mirrored-2-in-parts")])
def test_results_do_not_depend_on_parts_or_streaming(train_odd, on_one_device, devices, variant):
    result = train_odd(*VARIANTS[variant], *DEVICE_OVERRIDES[devices])
    assert_equal_metrics(result.folder, on_one_device(variant))


@pytest.mark.parametrize("variant", ["clipped", "averaged", "weighted", "scheduled", "batch-norm"])
def test_each_variant_changes_the_results(on_one_device, variant):
    assert on_one_device(variant) != on_one_device("plain")


def test_results_of_low_level_models_do_not_depend_on_devices(train):
    options = ("dataset=line", "model=ols", "train.epochs=50", "train.batch_size=3", "train.log_every=1", "callback=[]")
    expected = read_metrics(train(*options).folder)
    for devices in ("mirrored-2", "mirrored-4", "in-parts"):
        assert_equal_metrics(train(*options, *DEVICE_OVERRIDES[devices]).folder, expected)


@pytest.mark.slow
def test_unsynchronised_batch_norm_differs_on_replicas_but_is_finite(train_odd, on_one_device):
    result = train_odd("model.normalize=true", "model.synchronized=false", *DEVICE_OVERRIDES["mirrored-2"])
    losses = read_metrics(result.folder)["train/loss"]
    assert np.isfinite(list(losses.values())).all()
    assert losses[50] != pytest.approx(on_one_device("batch-norm")["train/loss"][50], rel=1e-5)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        (["+model.optimizer.options.clipnorm=1.0"], r"clipnorm=1.0.* use train.clip_norm"),
        (["+model.optimizer.options.use_ema=true"], "use train.average"),
        (["+model.optimizer.options.gradient_accumulation_steps=2"], "use train.accumulate"),
        (["model.reduction=sum"], "reduction='sum'"),
        (["backend=tf-cpu", "train.accumulate=3", "model.reduction=sum"], r"with train\.accumulate=3 the loss would"),
        (["model.normalize=true", "train.accumulate=2"], r"train\.accumulate=2 on 2 replicas .* batch normalisation"),
        (["model=added_up"], r"the loss of \d+ samples is .*, but the mean of their losses"),
        (["model=masked"], "the output of the model has a mask"),
        (["model=own_loss"], "overrides compute_loss"),
        (["backend=tf-cpu", "train.accumulate=2", "model=own_loss"], "overrides compute_loss"),
        (["model=own_step"], r"slices of equal size.* must be divisible by 2"),
    ],
)
def test_options_that_replicas_would_change_are_rejected(train_odd, options, match):
    devices = () if "backend=tf-cpu" in options else DEVICE_OVERRIDES["mirrored-2"]
    with pytest.raises(expfw.ConfigError, match=match):
        train_odd(*devices, *options)


@pytest.mark.slow
def test_keras_clipping_works_on_one_device(train_odd):
    clipped = train_odd("model.optimizer.name=sgd", "+model.optimizer.options.global_clipnorm=0.05")
    engine_clipped = train_odd("model.optimizer.name=sgd", "train.clip_norm=0.05")
    assert_equal_metrics(engine_clipped.folder, read_metrics(clipped.folder))


def start(folder, *arguments, **variables):
    options = ("tracker=[]", "quiet=true", "backend=multi-worker", *arguments)
    return start_expfw(folder, "-p", ENGINE_PLUGINS, "run", *ODD, *options, **variables)


@pytest.mark.slow
def test_two_workers_equal_one_device_and_only_the_chief_writes(workdir, on_one_device):
    hosts = ",".join(find_free_addresses(2))
    shared = (workdir, "model.normalize=true", f"backend.hosts=[{hosts}]")
    workers = [start(*shared, f"backend.index={n}", f"runs_dir=runs{n}", TMPDIR=str(workdir)) for n in (0, 1)]
    outputs = [worker.communicate(timeout=120)[0] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], outputs
    (run,) = run_index.list_runs(workdir / "runs0")
    assert run.status == "FINISHED"
    assert [path.name for path in workdir.iterdir()] == ["runs0"]
    assert_equal_metrics(run.folder, on_one_device("batch-norm"))


@pytest.mark.slow
def test_a_missing_worker_is_reported_within_the_timeout(workdir):
    hosts = ",".join(find_free_addresses(2))
    process = start(workdir, f"backend.hosts=[{hosts}]", "backend.timeout=1", "backend.index=0")
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "worker:1 did not connect within 1 s" in output
    (run,) = run_index.list_runs(workdir / "runs")
    assert run.status == "FAILED"
