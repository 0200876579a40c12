"""Trainings that are stopped, by exceptions and by real signals, and go on."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from genre_spark.dataset.scaler import Scaler, save_fitted
from genre_spark.dataset.store import Dataset
from genre_spark.errors import EnvironmentSetupError, FeedError, ModelError, RunError
from genre_spark.models.bundle import load_bundle
from genre_spark.models.callbacks import Course
from genre_spark.models.checkpoints import State, load_state
from genre_spark.models.checkpoints_folder import unfinished_path, unfinished_run
from genre_spark.models.run import read_history, read_run_record
from genre_spark.models.train import train
from genre_spark.settings import Settings

EXACT = ("loss", "accuracy", "val_loss", "val_accuracy")


@pytest.fixture(scope="module")
def quick(settings: Settings) -> Settings:
    """Trainings of five epochs with all that has a state: dropout, Adam, plateaus, best weights."""
    models = {
        name: getattr(settings.models, name).model_copy(update={"epochs": 5, "batch_size": 6})
        for name in ("dnn", "cnn1d")
    }
    train = settings.train.model_copy(update={"plateau_patience": 1})
    return settings.model_copy(update={"models": settings.models.model_copy(update=models), "train": train})


@pytest.fixture(scope="module")
def whole(dataset: Dataset, quick: Settings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a training that nothing stopped."""
    run = tmp_path_factory.mktemp("runs") / "whole"
    train(dataset, "dnn", "study", run, quick)
    return run


def seldom(settings: Settings, checkpoint_epochs: int) -> Settings:
    train = settings.train.model_copy(update={"checkpoint_epochs": checkpoint_epochs})
    return settings.model_copy(update={"train": train})


def stop_after(epoch: int) -> Callable:
    def stop(row: dict[str, float]) -> None:
        if row["epoch"] == epoch:
            raise KeyboardInterrupt

    return stop


def weights(run: Path) -> list[bytes]:
    return [np.asarray(weight).tobytes() for weight in load_bundle(run / "bundle").model.get_weights()]


@pytest.mark.parametrize("name", ["dnn", pytest.param("cnn1d", marks=pytest.mark.slow)])
def test_a_training_that_was_interrupted_can_be_used_and_goes_on_to_the_same_last_digit(
    dataset: Dataset, quick: Settings, tmp_path: Path, name: str
) -> None:
    train(dataset, name, "study", tmp_path / "whole", quick)
    run = tmp_path / "parts"
    for epoch in (2, 3):
        with pytest.raises(KeyboardInterrupt):
            train(dataset, name, "study", run, quick, resume=epoch == 3, on_epoch=stop_after(epoch))
        record = read_run_record(run)
        assert record.interrupted
        assert (record.epochs, record.epochs_run) == (5, epoch)
        assert read_history(run)["epoch"] == list(range(1, epoch + 1))
        assert load_bundle(run / "bundle").description.labels == record.labels
        assert not unfinished_path(run).exists()
    record = train(dataset, name, "study", run, quick, resume=True)
    assert not record.interrupted
    assert sorted(path.name for path in run.iterdir()) == sorted(path.name for path in (tmp_path / "whole").iterdir())
    for column in EXACT:
        assert read_history(run)[column] == read_history(tmp_path / "whole")[column]
    assert record.best_epoch == read_run_record(tmp_path / "whole").best_epoch
    assert weights(run) == weights(tmp_path / "whole")
    log = (run / "train.log").read_text()
    assert [line.split()[2] for line in log.splitlines() if line.split()[1] == "epoch"] == [
        f"{n}/5" for n in range(1, 6)
    ]


def test_a_training_that_is_stopped_keeps_its_last_epoch_however_seldom_its_checkpoints_are(
    dataset: Dataset, quick: Settings, tmp_path: Path, whole: Path
) -> None:
    run, settings = tmp_path / "run", seldom(quick, 3)
    with pytest.raises(KeyboardInterrupt):
        train(dataset, "dnn", "study", run, settings, on_epoch=stop_after(4))
    assert read_run_record(run).epochs_run == 4
    assert read_history(run)["val_loss"] == read_history(whole)["val_loss"][:4]
    train(dataset, "dnn", "study", run, settings, resume=True)
    assert read_history(run)["val_loss"] == read_history(whole)["val_loss"]
    assert weights(run) == weights(whole)


def test_what_ends_a_training_otherwise_leaves_its_last_epoch_to_go_on_from(
    dataset: Dataset, quick: Settings, tmp_path: Path
) -> None:
    def fail(row: dict[str, float]) -> None:
        if row["epoch"] == 2:
            raise FeedError("the share is gone")

    with pytest.raises(FeedError, match="the share is gone"):
        train(dataset, "dnn", "study", tmp_path / "run", seldom(quick, 100), on_epoch=fail)
    state = load_state(tmp_path / "run.unfinished" / "checkpoint")
    assert state is not None
    assert [row["epoch"] for row in state.rows] == [1, 2]


def test_epochs_behind_the_last_checkpoint_of_a_killed_training_are_trained_again(
    dataset: Dataset, quick: Settings, tmp_path: Path, whole: Path
) -> None:
    def kill(row: dict[str, float]) -> None:
        if row["epoch"] == 3:
            shutil.copytree(tmp_path / "run.unfinished", tmp_path / "killed.unfinished")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(dataset, "dnn", "study", tmp_path / "run", seldom(quick, 2), on_epoch=kill)
    state = load_state(tmp_path / "killed.unfinished" / "checkpoint")
    assert state is not None
    assert len(state.rows) == 2
    train(dataset, "dnn", "study", tmp_path / "killed", seldom(quick, 2), resume=True)
    assert read_history(tmp_path / "killed")["val_loss"] == read_history(whole)["val_loss"]


def test_before_the_first_epoch_has_ended_nothing_is_left(
    dataset: Dataset, quick: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(course: Course, epoch: int, logs: object = None) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Course, "on_epoch_begin", interrupt)
    with pytest.raises(KeyboardInterrupt):
        train(dataset, "dnn", "study", tmp_path / "run", quick)
    assert not list(tmp_path.iterdir())


def test_an_epoch_that_is_being_taken_down_when_the_training_is_stopped_is_trained_again(
    dataset: Dataset, quick: Settings, tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    take_down = Course._now

    def interrupt(course: Course) -> State:
        if len(course.rows) == 3:
            raise KeyboardInterrupt
        return take_down(course)

    monkeypatch.setattr(Course, "_now", interrupt)
    with pytest.raises(KeyboardInterrupt):
        train(dataset, "dnn", "study", tmp_path / "run", seldom(quick, 100))
    assert read_history(tmp_path / "run")["val_loss"] == read_history(whole)["val_loss"][:2]


def test_a_resumed_training_keeps_its_scaler_and_its_record_says_which(
    dataset: Dataset, quick: Settings, tmp_path: Path, whole: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run, file = tmp_path / "run", tmp_path / "other.npz"
    record, begun = read_run_record(whole), Scaler.load(whole / "bundle" / "scaler.npz")
    save_fitted(file, Scaler(begun.mean + 1, begun.variance, 16), dataset.spec("mfcc_mean"), record.split_digest)
    other = quick.model_copy(update={"train": quick.train.model_copy(update={"scaler": file})})
    with pytest.raises(KeyboardInterrupt):
        train(dataset, "dnn", "study", run, quick, on_epoch=stop_after(2))
    caplog.clear()
    resumed = train(dataset, "dnn", "study", run, other, resume=True)
    assert f"train.scaler={file} is ignored: the training goes on with the scaler that it was begun with" in caplog.text
    assert resumed.settings["train"]["scaler"] is None
    assert read_history(run)["val_loss"] == read_history(whole)["val_loss"]


def test_a_training_that_diverges_after_a_checkpoint_leaves_what_it_had_reached(
    dataset: Dataset, quick: Settings, tmp_path: Path
) -> None:
    def diverge(row: dict[str, float]) -> None:
        if row["epoch"] == 3:
            raise ModelError("model dnn: the loss is nan in epoch 4")

    with pytest.raises(ModelError, match=r"in epoch 4 \(stopped after epoch 3; .*run holds what was reached, --resume"):
        train(dataset, "dnn", "study", tmp_path / "run", quick, on_epoch=diverge)
    assert read_run_record(tmp_path / "run").epochs_run == 3
    assert np.isfinite(
        np.concatenate([w.ravel() for w in load_bundle(tmp_path / "run" / "bundle").model.get_weights()])
    ).all()


def test_resume_begins_where_there_is_nothing_and_refuses_a_finished_run(
    dataset: Dataset, quick: Settings, tmp_path: Path
) -> None:
    assert train(dataset, "dnn", "study", tmp_path / "run", quick, resume=True).epochs_run == 5
    with pytest.raises(RunError, match="holds a finished run; replace it with --overwrite"):
        train(dataset, "dnn", "study", tmp_path / "run", quick, resume=True)


def test_another_training_is_not_gone_on_with_except_with_more_epochs(
    dataset: Dataset, quick: Settings, tmp_path: Path
) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(dataset, "dnn", "study", tmp_path / "run", quick, on_epoch=stop_after(2))
    other = quick.model_copy(update={"train": quick.train.model_copy(update={"seed": 5})})
    with pytest.raises(RunError, match=r"was begun with train\.seed=0, now it is 5; go on with what it was, or begin"):
        train(dataset, "dnn", "study", tmp_path / "run", other, resume=True)
    with pytest.raises(RunError, match="was begun with split=study, now it is artist"):
        train(dataset, "dnn", "artist", tmp_path / "run", quick, resume=True)
    assert read_run_record(tmp_path / "run").epochs_run == 2
    dnn = quick.models.dnn.model_copy(update={"epochs": 6})
    longer = quick.model_copy(update={"models": quick.models.model_copy(update={"dnn": dnn})})
    assert train(dataset, "dnn", "study", tmp_path / "run", longer, resume=True).epochs_run == 6


def test_two_trainings_of_one_run_do_not_meet(dataset: Dataset, quick: Settings, tmp_path: Path) -> None:
    with (
        unfinished_run(tmp_path / "run", {}, 5, overwrite=False, resume=False),
        pytest.raises(RunError, match=r"run\.unfinished: another training is under way there"),
    ):
        train(dataset, "dnn", "study", tmp_path / "run", quick)


def test_mlflow_is_asked_for_by_name_where_it_is_not_installed(
    dataset: Dataset, quick: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    logged = quick.model_copy(update={"train": quick.train.model_copy(update={"mlflow_experiment": "genres"})})
    with pytest.raises(EnvironmentSetupError, match=r"train\.mlflow_experiment=genres: MLflow isn't installed; `pip"):
        train(dataset, "dnn", "study", tmp_path / "run", logged)
    assert not list(tmp_path.iterdir())


def start(dataset: Dataset, run: Path, *more: str) -> subprocess.Popen:
    command = [Path(sys.executable).with_name("genre-spark"), "train", "--dataset", dataset.path, "--model", "dnn"]
    return subprocess.Popen(
        [*command, "--run", run, *more, "--set", "models.dnn.epochs=2000", "--set", "train.early_stopping_patience=0"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def wait_for_epochs(process: subprocess.Popen, log: Path, epochs: int) -> None:
    until = time.monotonic() + 90
    while not (log.exists() and log.read_text().count(" epoch ") >= epochs):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.05)


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_a_signal_leaves_a_run_that_can_be_judged(dataset: Dataset, tmp_path: Path, number: signal.Signals) -> None:
    run = tmp_path / "run"
    process = start(dataset, run, "--set", "train.checkpoint_epochs=5000")
    wait_for_epochs(process, tmp_path / "run.unfinished" / "train.log", 3)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in said
    assert "--resume goes on" in " ".join(said.split())
    record = read_run_record(run)
    assert record.interrupted
    assert record.epochs_run == len(read_history(run)["epoch"]) >= 3
    assert load_bundle(run / "bundle").description.architecture == "dnn"
    assert (run / "checkpoint" / "state.npz").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


@pytest.mark.slow
def test_a_training_that_was_killed_goes_on_from_its_last_checkpoint(dataset: Dataset, tmp_path: Path) -> None:
    run = tmp_path / "run"
    process = start(dataset, run)
    wait_for_epochs(process, tmp_path / "run.unfinished" / "train.log", 3)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert not run.exists()
    resumed = start(dataset, run, "--resume")
    log = tmp_path / "run.unfinished" / "train.log"
    wait_for_epochs(resumed, log, log.read_text().count(" epoch ") + 2)
    resumed.terminate()
    resumed.communicate(timeout=60)
    epochs = read_history(run)["epoch"]
    assert epochs == list(range(1, len(epochs) + 1))
    assert "goes on with dnn" in (run / "train.log").read_text()


def test_a_full_disk_ends_a_training_with_its_files_name_and_it_goes_on_later(
    dataset: Dataset, quick: Settings, tmp_path: Path
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = shutil.which("mount")
    size = ["-o", "size=4m"]
    if (
        not mount
        or subprocess.run([mount, "-t", "tmpfs", *size, "x", disk], capture_output=True, check=False).returncode
    ):
        pytest.skip("this user can't mount a file system")
    try:

        def fill(row: dict[str, float]) -> None:
            if row["epoch"] == 2:
                (disk / "filler").write_bytes(bytes(shutil.disk_usage(disk).free - 4096))

        # Told what to do once, not twice.
        with pytest.raises(RunError, match=r"^(?!.*--resume.*--resume).*No space left on device"):
            train(dataset, "dnn", "study", disk / "run", quick, on_epoch=fill)
        (disk / "filler").unlink()
        train(dataset, "dnn", "study", disk / "run", quick, resume=True)
        train(dataset, "dnn", "study", tmp_path / "whole", quick)
        assert read_history(disk / "run")["val_loss"] == read_history(tmp_path / "whole")["val_loss"]
    finally:
        subprocess.run(["umount", disk], check=True)
