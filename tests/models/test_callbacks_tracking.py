"""What a training writes for people, read with the tools that they read it with."""

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from genre_spark.dataset.store import Dataset
from genre_spark.errors import EnvironmentSetupError, RunError
from genre_spark.models.callbacks_tracking import TrainLog, _event_writer, tracked
from genre_spark.models.run import read_history
from genre_spark.models.train import train
from genre_spark.settings import Settings

ROW = {
    "epoch": 1,
    "loss": 2.0,
    "accuracy": 0.25,
    "val_loss": 2.5,
    "val_accuracy": 0.125,
    "seconds": 1.5,
    "learning_rate": 1e-3,
}


def scalars(folder: Path, tag: str) -> list[float]:
    """Values of a tag in a folder of event files, as TensorBoard reads them."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.util import tensor_util

    events = EventAccumulator(str(folder)).Reload()
    return [float(tensor_util.make_ndarray(event.tensor_proto)) for event in events.Tensors(tag)]


def test_a_log_gets_a_line_per_epoch_and_says_where_it_cannot_be_written(tmp_path: Path) -> None:
    log = TrainLog(tmp_path / "train.log")
    log.epoch(ROW, 50)
    assert (tmp_path / "train.log").read_text().partition(" ")[2] == (
        "epoch 1/50 loss=2.0000 accuracy=0.2500 val_loss=2.5000 val_accuracy=0.1250 learning_rate=0.001 1.5 s\n"
    )
    with pytest.raises(RunError, match=r"none/train\.log: can't be written: No such file"):
        TrainLog(tmp_path / "none" / "train.log").say("hello")


@pytest.mark.skipif(find_spec("tensorboard") is None, reason="tensorboard isn't installed")
@pytest.mark.parametrize("resident", ["off", "on"])
def test_tensorboard_shows_the_history(dataset: Dataset, settings: Settings, tmp_path: Path, resident: str) -> None:
    chosen = settings.model_copy(update={"train": settings.train.model_copy(update={"on_device": resident})})
    train(dataset, "dnn", "study", tmp_path / "run", chosen)
    history = read_history(tmp_path / "run")
    events = tmp_path / "run" / "tensorboard"
    np.testing.assert_allclose(scalars(events / "train", "epoch_loss"), history["loss"], rtol=1e-6)
    np.testing.assert_allclose(scalars(events / "validation", "epoch_accuracy"), history["val_accuracy"], rtol=1e-6)


@pytest.mark.skipif(find_spec("tensorboard") is None, reason="tensorboard isn't installed")
def test_tensorboard_shows_what_is_written_without_tensorflow(tmp_path: Path) -> None:
    write = _event_writer(tmp_path)
    for epoch in (1, 2):
        write(ROW | {"epoch": epoch, "val_loss": 2.5 / epoch})
    assert scalars(tmp_path / "validation", "epoch_loss") == [2.5, 1.25]
    assert scalars(tmp_path / "train", "epoch_accuracy") == [0.25, 0.25]


def test_nothing_is_tracked_where_no_experiment_is_named() -> None:
    with tracked(None, "run") as mlflow:
        assert mlflow is None


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    """A file store of MLflow of its own."""
    mlflow = pytest.importorskip("mlflow", reason="MLflow isn't installed")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    mlflow.set_tracking_uri((tmp_path / "mlruns").as_uri())
    yield mlflow
    mlflow.set_tracking_uri(None)


def test_mlflow_gets_what_was_trained_and_every_epoch(
    store, dataset: Dataset, settings: Settings, tmp_path: Path
) -> None:
    logged = settings.model_copy(update={"train": settings.train.model_copy(update={"mlflow_experiment": "genres"})})
    train(dataset, "dnn", "study", tmp_path / "run", logged)
    client = store.MlflowClient()
    (found,) = client.search_runs([client.get_experiment_by_name("genres").experiment_id])
    assert (found.info.status, found.info.run_name) == ("FINISHED", "run")
    assert found.data.params["model"] == "dnn"
    assert found.data.params["train.seed"] == "0"
    metrics = client.get_metric_history(found.info.run_id, "val_loss")
    assert [metric.value for metric in metrics] == read_history(tmp_path / "run")["val_loss"]
    assert [metric.step for metric in metrics] == [1, 2, 3]
    assert {file.path for file in client.list_artifacts(found.info.run_id)} == {"run.json", "history.csv"}


def test_a_training_that_is_stopped_is_told_to_mlflow_as_such(
    store, dataset: Dataset, settings: Settings, tmp_path: Path
) -> None:
    def stop(row: object) -> None:
        raise KeyboardInterrupt

    logged = settings.model_copy(update={"train": settings.train.model_copy(update={"mlflow_experiment": "genres"})})
    with pytest.raises(KeyboardInterrupt):
        train(dataset, "dnn", "study", tmp_path / "run", logged, on_epoch=stop)
    client = store.MlflowClient()
    (found,) = client.search_runs([client.get_experiment_by_name("genres").experiment_id])
    assert found.info.status == "KILLED"


def test_a_store_of_mlflow_that_is_none_is_named(store) -> None:
    store.set_tracking_uri("nonsense://nowhere")
    with (
        pytest.raises(
            EnvironmentSetupError, match=r"train\.mlflow_experiment=genres: MLflow says: .*check MLFLOW_TRACK"
        ),
        tracked("genres", "run"),
    ):
        pass
