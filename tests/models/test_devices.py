"""Back ends, several devices, number formats and too little memory."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from genre_spark.dataset.scaler import Scaler
from genre_spark.dataset.store import Dataset
from genre_spark.errors import ModelError
from genre_spark.models.architectures import build_model
from genre_spark.models.backend import keras
from genre_spark.models.devices import Devices, find_devices, is_out_of_memory, precision, precision_of
from genre_spark.models.run import read_history, read_run_record
from genre_spark.settings import TrainSettings

needs_jax = pytest.mark.skipif(find_spec("jax") is None, reason="jax isn't installed")

# TensorFlow has one CPU unless it is told otherwise, before it starts.
TWO_CPUS = """
import sys
import tensorflow as tf
two = [tf.config.LogicalDeviceConfiguration()] * 2
tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], two)
from genre_spark.cli import main
main(sys.argv[1:])
"""
PLAIN = "import sys; from genre_spark.cli import main; main(sys.argv[1:])"


def trained(program: str, dataset: Dataset, run: Path, *more: str, **environment: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", program, "train", "--dataset", dataset.path, "--split", "study", "--run", run]
    done = subprocess.run(
        [*command, *more], env=os.environ | environment, capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stderr[-2_000:]
    return done


def jax(dataset: Dataset, run: Path, *more: str, devices: int = 1) -> subprocess.CompletedProcess:
    flags = f"--xla_force_host_platform_device_count={devices}"
    return trained(PLAIN, dataset, run, *more, KERAS_BACKEND="jax", XLA_FLAGS=flags, JAX_PLATFORMS="cpu")


@needs_jax
@pytest.mark.parametrize("model", ["dnn", *(pytest.param(name, marks=pytest.mark.slow) for name in ("cnn1d", "cnn2d"))])
def test_the_models_train_on_jax_without_noise(dataset: Dataset, tmp_path: Path, model: str) -> None:
    done = jax(dataset, tmp_path / "run", "--model", model, "--set", f"models.{model}.epochs=1")
    record = read_run_record(tmp_path / "run")
    assert (record.backend, record.device, record.epochs_run) == ("jax", "cpu", 1)
    assert np.isfinite(read_history(tmp_path / "run")["loss"]).all()
    assert "cuda" not in done.stderr.lower()
    if find_spec("tensorboard"):
        assert list((tmp_path / "run" / "tensorboard" / "validation").iterdir())


@needs_jax
@pytest.mark.slow
def test_two_devices_share_batches_on_jax_with_the_losses_of_one(dataset: Dataset, tmp_path: Path) -> None:
    # 16 training tracks and 7 for validation in batches of 4: the last batch of both has to be filled up.
    said = ["--model", "cnn1d", "--set", "models.cnn1d.epochs=2", "--set", "models.cnn1d.batch_size=4"]
    jax(dataset, tmp_path / "one", *said)
    jax(dataset, tmp_path / "two", *said, devices=2)
    assert read_run_record(tmp_path / "two").devices == 2
    for name in ("loss", "accuracy", "val_loss", "val_accuracy"):
        one, two = (read_history(tmp_path / run)[name] for run in ("one", "two"))
        np.testing.assert_allclose(two, one, rtol=1e-4)


@needs_jax
@pytest.mark.slow
def test_jax_goes_on_to_the_same_last_digit(dataset: Dataset, tmp_path: Path) -> None:
    said = ["--model", "dnn", "--set", "models.dnn.batch_size=6"]
    jax(dataset, tmp_path / "whole", *said, "--set", "models.dnn.epochs=4")
    stop = PLAIN.replace(
        "main(sys.argv[1:])",
        "import genre_spark.models.train as t; from genre_spark.cli.progress import Counter\n"
        "def stop(self, row):\n    if row['epoch'] == 2: raise KeyboardInterrupt\n"
        "Counter.epoch = stop\nmain(sys.argv[1:])",
    )
    command = [sys.executable, "-c", stop, "train", "--dataset", dataset.path, "--split", "study"]
    stopped = subprocess.run(
        [*command, "--run", tmp_path / "again", *said, "--set", "models.dnn.epochs=4"],
        env=os.environ | {"KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"}, capture_output=True, check=False,
    )  # fmt: skip
    assert stopped.returncode == 130
    jax(dataset, tmp_path / "again", *said, "--set", "models.dnn.epochs=4", "--resume")
    for name in ("loss", "val_loss"):
        assert read_history(tmp_path / "again")[name] == read_history(tmp_path / "whole")[name]


@pytest.mark.slow
def test_two_devices_share_batches_on_tensorflow(dataset: Dataset, tmp_path: Path) -> None:
    trained(TWO_CPUS, dataset, tmp_path / "run", "--model", "dnn", "--set", "models.dnn.epochs=2",
            "--set", "models.dnn.batch_size=4")  # fmt: skip
    record = read_run_record(tmp_path / "run")
    assert (record.backend, record.devices, record.epochs_run) == ("tensorflow", 2, 2)
    assert np.isfinite(read_history(tmp_path / "run")["val_loss"]).all()
    assert json.loads((tmp_path / "run" / "bundle" / "bundle.json").read_text())["architecture"] == "dnn"


def test_more_devices_than_there_are_say_how_many_there_are() -> None:
    with pytest.raises(ModelError, match=r"train\.devices=9: this machine has 1 cpu device\(s\) for tensorflow; lower"):
        find_devices(9, 32, "models.dnn.batch_size")


def test_a_batch_that_cannot_be_shared_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keras.distribution, "list_devices", lambda: ["gpu:0", "gpu:1"])
    with pytest.raises(ModelError, match=r"models\.dnn\.batch_size=5 can't be shared among 2 devices; take a multiple"):
        find_devices(None, 5, "models.dnn.batch_size")
    assert find_devices(None, 6, "models.dnn.batch_size") == Devices("gpu", ("gpu:0", "gpu:1"))
    assert find_devices(1, 5, "models.dnn.batch_size") == Devices("gpu", ("gpu:0",))


@pytest.mark.parametrize(
    ("said", "kind", "policy"),
    [
        ("auto", "cpu", "float32"),
        ("auto", "gpu", "mixed_float16"),
        ("auto", "tpu", "mixed_bfloat16"),
        ("on", "cpu", "mixed_bfloat16"),
        ("off", "gpu", "float32"),
    ],
)
def test_the_number_format_follows_the_device(said: str, kind: str, policy: str) -> None:
    assert precision_of(TrainSettings(mixed_precision=said), Devices(kind, (f"{kind}:0",))) == policy


@pytest.mark.parametrize("name", ["mixed_float16", "mixed_bfloat16"])
def test_softmax_and_standardisation_keep_32_bits_and_weights_too(name: str) -> None:
    scaler = Scaler(np.zeros(80, np.float32), np.ones(80, np.float32), 9)
    with precision(name):
        model = build_model("cnn1d", (80, 50), 8, scaler)
    assert keras.config.dtype_policy().name == "float32"
    computed = {layer.name.rstrip("_0123456789"): layer.compute_dtype for layer in model.layers}
    assert (computed["normalization"], computed["genre"]) == ("float32", "float32")
    assert computed["convd"] == name.removeprefix("mixed_") if "convd" in computed else "conv1d" in str(computed)
    assert {weight.dtype for weight in model.weights} == {"float32"}
    assert model.output.dtype == "float32"


def test_what_back_ends_say_of_too_little_memory_is_understood() -> None:
    import tensorflow as tf

    said = "{{function_node __wrapped__Fill}} OOM when allocating tensor with shape[1048576,4194304] and type float"
    assert is_out_of_memory(tf.errors.ResourceExhaustedError(None, None, said))
    assert is_out_of_memory(RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 17592186044416 bytes."))
    assert is_out_of_memory(MemoryError())
    assert not is_out_of_memory(tf.errors.ResourceExhaustedError(None, None, "run.log; No space left on device"))
    assert not is_out_of_memory(ValueError("no room"))
