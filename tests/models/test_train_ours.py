"""Training without a validation part, and with labels that are smoothed."""

import math
from pathlib import Path

import numpy as np
import pytest

from genre_spark.corpora.splits import read_split
from genre_spark.dataset.store import Dataset
from genre_spark.errors import ModelError, RunError
from genre_spark.evaluation.score import evaluate
from genre_spark.models.bundle import load_bundle
from genre_spark.models.fitting import _loss
from genre_spark.models.run import read_history, read_run_record
from genre_spark.models.train import train
from genre_spark.settings import Settings, load_settings

WITHOUT_VALIDATION = ["train.schedule=cosine", "train.early_stopping_patience=0", "train.restore_best=false"]


@pytest.fixture(scope="module")
def all_settings() -> Settings:
    return load_settings([], [*WITHOUT_VALIDATION, "models.dnn.epochs=3", "models.dnn.batch_size=8"])


@pytest.mark.parametrize("on_device", ["off", "on"])
def test_a_model_can_be_trained_on_all_tracks(
    spark: object, dataset: Dataset, all_settings: Settings, tmp_path: Path, on_device: str
) -> None:
    train_settings = all_settings.train.model_copy(update={"on_device": on_device})
    settings = all_settings.model_copy(update={"train": train_settings})
    record = train(dataset, "dnn", "all", tmp_path / "run", settings)
    assert record.tracks == {"training": 23}
    assert (record.epochs_run, record.best_epoch) == (3, 3)
    assert set(read_split(tmp_path / "run" / "split.parquet")["part"].to_pylist()) == {"training"}
    history = read_history(tmp_path / "run")
    assert all(math.isnan(value) for name in ("val_loss", "val_accuracy") for value in history[name])
    assert np.isfinite(history["loss"]).all()
    description = load_bundle(tmp_path / "run" / "bundle").description
    assert description.metrics == {}
    assert description.calibration is None
    with pytest.raises(RunError, match="the all split left no tracks to judge it on"):
        evaluate(spark, tmp_path / "run", settings.evaluate)


def test_it_goes_on_where_it_was_stopped(dataset: Dataset, all_settings: Settings, tmp_path: Path) -> None:
    def stop(row: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(dataset, "dnn", "all", tmp_path / "run", all_settings, on_epoch=stop)
    train(dataset, "dnn", "all", tmp_path / "run", all_settings, resume=True)
    train(dataset, "dnn", "all", tmp_path / "other", all_settings)
    resumed, whole = (read_history(tmp_path / name)["loss"] for name in ("run", "other"))
    assert resumed == whole
    assert not read_run_record(tmp_path / "run").interrupted


def test_what_would_be_steered_by_validation_is_named(dataset: Dataset, settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="train.early_stopping_patience=0, train.restore_best=false, train.schedule=c"):
        train(dataset, "dnn", "all", tmp_path / "run", settings)
    assert not (tmp_path / "run").exists()


def test_smoothed_labels_spread_their_share_over_all_genres() -> None:
    rng = np.random.default_rng(0)
    said = rng.dirichlet(np.ones(4), 50).astype(np.float32)
    labels = rng.integers(0, 4, (50, 1))
    wanted = 0.9 * np.eye(4)[labels[:, 0]] + 0.1 / 4
    loss = _loss(4, 0.1)
    assert callable(loss)
    np.testing.assert_allclose(np.asarray(loss(labels, said)), -(wanted * np.log(said)).sum(axis=1), rtol=1e-4)
    assert _loss(4, 0.0) == "sparse_categorical_crossentropy"


def test_a_model_with_smoothed_labels_is_less_sure(dataset: Dataset, settings: Settings, tmp_path: Path) -> None:
    losses = []
    for smoothing in (0.0, 0.4):
        chosen = settings.models.dnn.model_copy(update={"label_smoothing": smoothing, "epochs": 30})
        models = settings.models.model_copy(update={"dnn": chosen})
        steady = settings.train.model_copy(update={"early_stopping_patience": 0, "restore_best": False})
        run = tmp_path / f"{smoothing}"
        train(dataset, "dnn", "study", run, settings.model_copy(update={"models": models, "train": steady}))
        losses.append(read_history(run)["loss"][-1])
    # What is wanted of three genres, and its entropy: no loss is less.
    own, other = 0.6 + 0.4 / 3, 0.4 / 3
    entropy = -own * math.log(own) - 2 * other * math.log(other)
    assert losses[0] < entropy <= losses[1]
