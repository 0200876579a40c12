"""What follows from the validation losses, beside Keras' own callbacks on the same losses."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from genre_spark.models.backend import keras
from genre_spark.models.fitting import class_weights
from genre_spark.models.fitting_schedule import best_epoch, is_over, learning_rate
from genre_spark.models.fitting_study import LEFT, study_overrides
from genre_spark.settings import ModelSettings, Settings, SplitSettings, TrainSettings, load_settings

LOSSES = st.lists(st.sampled_from([0.5, 1.0, 1.5, 2.0]), min_size=1, max_size=40)


class Model:
    """As much of a model as Keras' two callbacks look at."""

    def __init__(self, rate: float) -> None:
        self.optimizer = keras.optimizers.SGD(rate)
        self.stop_training = False


@given(LOSSES, st.integers(1, 4))
def test_the_plateau_schedule_is_that_of_keras(losses: list[float], patience: int) -> None:
    model = Model(0.1)
    theirs = keras.callbacks.ReduceLROnPlateau(factor=0.5, patience=patience, min_delta=0.0, min_lr=0.01)
    theirs.set_model(model)
    theirs.on_train_begin()
    chosen = ModelSettings(epochs=100, learning_rate=0.1)
    train = TrainSettings(plateau_patience=patience, min_learning_rate=0.01)
    for epoch, loss in enumerate(losses):
        theirs.on_epoch_end(epoch, {"val_loss": loss})
        ours = learning_rate(losses[: epoch + 1], chosen, train)
        assert ours == pytest.approx(float(model.optimizer.learning_rate), rel=1e-6)


@given(LOSSES, st.integers(1, 4))
def test_the_end_is_that_of_keras_early_stopping(losses: list[float], patience: int) -> None:
    model = Model(0.1)
    theirs = keras.callbacks.EarlyStopping(monitor="val_loss", mode="min", patience=patience)
    theirs.set_model(model)
    theirs.on_train_begin()
    chosen, train = ModelSettings(epochs=100), TrainSettings(early_stopping_patience=patience)
    for epoch, loss in enumerate(losses):
        theirs.on_epoch_end(epoch, {"val_loss": loss})
        assert is_over(losses[: epoch + 1], chosen, train) == model.stop_training
        assert best_epoch(losses[: epoch + 1]) == theirs.best_epoch + 1
        if model.stop_training:
            return


def test_without_patience_all_epochs_are_trained() -> None:
    chosen, train = ModelSettings(epochs=50), TrainSettings(early_stopping_patience=0)
    assert [is_over([1.0] * n, chosen, train) for n in (0, 1, 49, 50)] == [False, False, False, True]


def test_the_cosine_falls_from_the_first_to_the_last_epoch() -> None:
    chosen = ModelSettings(epochs=5, learning_rate=0.1)
    rates = [
        learning_rate([1.0] * n, chosen, TrainSettings(schedule="cosine", min_learning_rate=0.0)) for n in range(5)
    ]
    np.testing.assert_allclose(rates, [0.1, 0.1 * (1 + math.sqrt(0.5)) / 2, 0.05, 0.1 * (1 - math.sqrt(0.5)) / 2, 0.0])


def test_a_constant_rate_stays() -> None:
    assert learning_rate([1.0] * 30, ModelSettings(epochs=50), TrainSettings(schedule="constant")) == 1e-3


def test_rare_genres_weigh_more_where_the_commonest_has_over_one_and_a_half_times_their_tracks() -> None:
    assert class_weights([10, 15], TrainSettings()) is None
    # 26 / (2 * 10) and 26 / (2 * 16)
    assert class_weights([10, 16], TrainSettings()) == pytest.approx([1.3, 0.8125])
    assert class_weights([10, 16], TrainSettings(class_weights="off")) is None
    assert class_weights([10, 10], TrainSettings(class_weights="on")) == pytest.approx([1.0, 1.0])


@pytest.mark.parametrize(("model", "epochs"), [("dnn", 100), ("cnn1d", 50), ("cnn2d", 50)])
def test_the_study_is_the_same_whatever_a_file_says_and_a_person_may_still_change_it(model: str, epochs: int) -> None:
    before = [f"models.{model}.{key}=0.5" for key in ("learning_rate", "batch_norm_momentum", "label_smoothing")]
    before += [f"models.{model}.epochs=3", f"models.{model}.batch_size=5", "train.schedule=cosine"]
    before += ["train.standardise=cell", "train.scaler=scalers", "split.study_training=0.5"]
    settings = load_settings([], [*before, *study_overrides(model)])
    assert getattr(settings.models, model) == getattr(Settings().models, model)
    assert getattr(settings.models, model).epochs == epochs
    assert (settings.train.schedule, settings.train.early_stopping_patience) == ("constant", 0)
    assert (settings.train.restore_best, settings.train.class_weights) == (False, "off")
    assert (settings.train.mixed_precision, settings.train.standardise, settings.train.scaler) == ("off", "band", None)
    assert settings.split.study_training == 0.7
    assert load_settings([], [*study_overrides(model), "train.schedule=cosine"]).train.schedule == "cosine"


@pytest.mark.parametrize("model", ["dnn", "cnn1d", "cnn2d"])
def test_each_setting_is_one_that_the_study_decides_or_one_that_changes_nothing_of_it(model: str) -> None:
    """So that a new one is thought of: it belongs into one of the two."""
    decided = [override.partition("=")[0].rpartition(".")[::2] for override in study_overrides(model)]
    for section, fields in (
        ("train", TrainSettings.model_fields),
        ("split", SplitSettings.model_fields),
        (f"models.{model}", ModelSettings.model_fields),
    ):
        of_study = [key for of, key in decided if of == section]
        assert sorted([*of_study, *LEFT.get(section, ())]) == sorted(fields)


@pytest.mark.parametrize("key", ["class_weights", "mixed_precision", "on_device"])
def test_on_and_off_are_taken_as_yaml_reads_them(key: str) -> None:
    for said, meant in (("on", "on"), ("off", "off"), ("auto", "auto"), ("true", "on")):
        assert getattr(load_settings([], [f"train.{key}={said}"]).train, key) == meant
