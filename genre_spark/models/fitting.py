"""Fit a model: from two feeds and a scaler to trained weights and their history."""

import contextlib
import logging
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from genre_spark.dataset.feed import Feed
from genre_spark.dataset.scaler import Scaler
from genre_spark.errors import ModelError, RunError
from genre_spark.models.architectures import build_model, trainable_parameters
from genre_spark.models.backend import keras
from genre_spark.models.callbacks import Course, EachEpoch, OnEpoch
from genre_spark.models.callbacks_tracking import TrainLog, tensorboard
from genre_spark.models.checkpoints import STATE, State, assign, load_state
from genre_spark.models.devices import Devices, find_devices, precision, precision_of
from genre_spark.models.fitting_batches import Batches, RowNumbers, Table, read_all
from genre_spark.models.fitting_errors import errors_of, memory_explained
from genre_spark.models.fitting_schedule import best_epoch
from genre_spark.models.run import CHECKPOINT, TENSORBOARD, TRAIN_LOG
from genre_spark.settings import ModelSettings, Settings, TrainSettings

# A momentum of BatchNorm's with which a hundred steps are enough. A smaller one makes the statistics those of a few
# batches.
QUICK_MOMENTUM = 0.9

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Fitted:
    """A trained model, and how it came about.

    Parameters
    ----------
    rows : list of dict
        The history.
    best_epoch : int
        Which epoch's weights the model has.
    class_weights : list of float, optional
        By label.
    stopped_by : BaseException, optional
        What ended the training before its time: a signal, or a loss that diverged.
    """

    model: keras.Model
    rows: list[dict[str, float]]
    best_epoch: int
    class_weights: list[float] | None
    precision: str
    devices: Devices
    stopped_by: BaseException | None


@dataclass(frozen=True, eq=False)
class Parts:
    """The two parts that a training reads."""

    training: Feed
    validation: Feed | None


def class_weights(counts: Sequence[int], train: TrainSettings) -> list[float] | None:
    """Weight of each label in the loss, by scikit-learn's `balanced`; None where all weigh 1.

    Parameters
    ----------
    counts : sequence of int
        Training tracks of each label, none of them 0.
    train : TrainSettings
        With `class_weights`: auto weighs where the commonest label has over 1.5 times the tracks of the rarest.
    """
    if train.class_weights == "off" or (train.class_weights == "auto" and max(counts) <= 1.5 * min(counts)):
        return None
    from sklearn.utils.class_weight import compute_class_weight

    labels = np.arange(len(counts))
    return [float(weight) for weight in compute_class_weight("balanced", classes=labels, y=np.repeat(labels, counts))]


def check_without_validation(train: TrainSettings) -> None:
    """Refuse settings that steer a training by a validation part that there isn't.

    Raises
    ------
    ModelError
        If there are any; the message names them.
    """
    wanted = []
    if train.early_stopping_patience:
        wanted.append("train.early_stopping_patience=0")
    if train.restore_best:
        wanted.append("train.restore_best=false")
    if train.schedule == "plateau":
        wanted.append("train.schedule=cosine (or constant)")
    if wanted:
        raise ModelError(f"all tracks are trained on and none validates: set {', '.join(wanted)}")


def fit(
    name: str,
    parts: Parts,
    scaler: Scaler,
    counts: Sequence[int],
    settings: Settings,
    work: Path,
    on_epoch: Sequence[OnEpoch],
) -> Fitted:
    """Fit a model, or go on with it where the folder holds a checkpoint.

    Parameters
    ----------
    name : str
        The architecture.
    parts : Parts
        Feeds of the training and the validation part; they may be closed in between. Without validation nothing can
        depend on it: see `check_without_validation`.
    scaler : Scaler
        Of the training part.
    counts : sequence of int
        Training tracks of each label.
    settings : Settings
        `models.<name>` and `train` are used.
    work : Path
        Folder of the training: gets log, event files and checkpoints.
    on_epoch : sequence of callable
        Each called after each epoch with its row of the history.

    Raises
    ------
    ModelError
        If it doesn't fit the devices or their memory, or diverges in its first epoch.
    FeedError, RunError
        If the data can't be read, or a file can't be written.
    """
    chosen: ModelSettings = getattr(settings.models, name)
    train = settings.train
    devices = find_devices(train.devices, chosen.batch_size, f"models.{name}.batch_size")
    policy = precision_of(train, devices)
    weights = class_weights(counts, train)
    log = TrainLog(work / TRAIN_LOG)
    state = load_state(work / CHECKPOINT)
    stopped_by: BaseException | None = None
    _seed(train.seed)
    with devices.shared(), memory_explained(name, chosen):
        with precision(policy):
            spec = parts.training.spec
            model = build_model(name, spec.shape, len(counts), scaler, batch_norm_momentum=chosen.batch_norm_momentum)
        _warn_of_few_steps(model, chosen, chosen.epochs * parts.training.n_batches)
        fitted, batches, judged = _around(model, parts, devices, train)
        fitted.compile(
            optimizer=keras.optimizers.Adam(chosen.learning_rate),
            loss=_loss(len(counts), chosen.label_smoothing),
            metrics=["accuracy"],
            # With several devices some rows have no weight; plain accuracies know no weights.
            weighted_metrics=["accuracy"] if len(devices.names) > 1 else [],
        )
        fitted.optimizer.build(fitted.trainable_variables)
        if state:
            _restore(state, model, fitted, work / CHECKPOINT / STATE)
        log.say(
            f"{'goes on with' if state else 'begins'} {name}: {trainable_parameters(model):,} parameters, "
            f"{keras.backend.backend()} on {len(devices.names)} {devices.kind}, {policy}, class weights {weights}"
        )
        course = Course(model, batches, judged, chosen, train, state, work / CHECKPOINT)
        callbacks = [course, EachEpoch(course, lambda row: log.epoch(row, chosen.epochs))]
        callbacks += tensorboard(work / TENSORBOARD, course)
        callbacks += [EachEpoch(course, tell) for tell in on_epoch]
        if not course.is_over:
            try:
                with errors_of(*(each for each in (batches, judged) if each)):
                    fitted.fit(
                        batches,
                        validation_data=judged,
                        initial_epoch=len(course.rows),
                        epochs=chosen.epochs,
                        class_weight=None if weights is None else dict(enumerate(weights)),
                        callbacks=callbacks,
                        shuffle=False,  # the feed does it
                        verbose=0,
                    )
            except (KeyboardInterrupt, ModelError) as error:
                # What came after the last finished epoch is half an epoch, or weights that are not finite.
                course.save()
                state = course.state
                if state is None:
                    raise
                log.say(f"stopped: {error or type(error).__name__}")
                stopped_by = error
                _restore(state, model, fitted, work / CHECKPOINT / STATE)
                course = Course(model, batches, judged, chosen, train, state, work / CHECKPOINT)
            except Exception:
                # What ended it is worth more words than that its last epoch can't be kept.
                with contextlib.suppress(RunError):
                    course.save()
                raise
        best = best_epoch(course.val_losses) if train.restore_best else len(course.rows)
        if course.best is not None:
            assign(model.variables, course.best, work / CHECKPOINT / STATE)
        log.say(f"ends with the weights of epoch {best}")
        return Fitted(model, course.rows, best, weights, policy, devices, stopped_by)


def _loss(n_genres: int, smoothing: float) -> str | Callable[[keras.KerasTensor, keras.KerasTensor], keras.KerasTensor]:
    if not smoothing:
        return "sparse_categorical_crossentropy"

    # Keras smooths labels that are rows of probabilities only.
    def smoothed(labels: keras.KerasTensor, said: keras.KerasTensor) -> keras.KerasTensor:
        wanted = keras.ops.one_hot(keras.ops.cast(keras.ops.reshape(labels, (-1,)), "int32"), n_genres)
        return keras.losses.categorical_crossentropy(wanted, said, label_smoothing=smoothing)

    return smoothed


def _around(
    model: keras.Model, parts: Parts, devices: Devices, train: TrainSettings
) -> tuple[keras.Model, Batches, Batches | None]:
    """Put the data where it is read from; return what is to be fitted, and its batches of both parts."""
    n = len(devices.names)
    validation = parts.validation
    rows = parts.training.n_rows + (validation.n_rows if validation else 0)
    n_bytes = 4 * rows * int(np.prod(parts.training.spec.shape))
    memory = devices.memory_bytes() if train.on_device == "auto" and devices.is_accelerator else None
    if train.on_device != "on" and (memory is None or n_bytes > memory / 3):
        judged = Batches(validation, n, is_judged=True) if validation else None
        return model, Batches(parts.training, n, is_judged=False), judged
    x, y = read_all(parts.training, train.seed)
    training = RowNumbers(parts.training, n, is_judged=False, labels=y, first=0, seed=train.seed)
    parts.training.close()
    judged = None
    if validation:
        val_x, val_y = read_all(validation, None)
        judged = RowNumbers(validation, n, is_judged=True, labels=val_y, first=len(x), seed=None)
        validation.close()
        x = np.concatenate([x, val_x])
    numbers = keras.Input((), dtype="int32", name="row")
    return keras.Model(numbers, model(Table(x)(numbers)), name=model.name), training, judged


def _seed(seed: int) -> None:
    if keras.backend.backend() == "tensorflow":
        keras.utils.set_random_seed(seed)
    else:
        # That would import TensorFlow wherever it is installed. Keras draws all other seeds from Python's generator.
        random.seed(seed)
        np.random.seed(seed)


def _restore(state: State, model: keras.Model, fitted: keras.Model, file: Path) -> None:
    assign(model.variables, state.variables, file)
    assign(fitted.optimizer.variables, state.optimizer, file)


def _warn_of_few_steps(model: keras.Model, chosen: ModelSettings, steps: int) -> None:
    # Ten times the memory of the moving averages: seen on 224 tracks, where below it a model that was right on every
    # training track while training was at chance on the same tracks afterwards.
    wanted = 10 / (1 - chosen.batch_norm_momentum)
    if steps >= wanted or not any(isinstance(layer, keras.layers.BatchNormalization) for layer in model.layers):
        return
    logger.warning(
        "%d training steps are few for BatchNorm (models.%s.batch_norm_momentum=%g wants about %d): "
        "its statistics lag behind; %stake more epochs or a smaller batch_size",
        steps, model.name, chosen.batch_norm_momentum, wanted,
        f"set it to {QUICK_MOMENTUM:g}, or " if chosen.batch_norm_momentum > QUICK_MOMENTUM else "",
    )  # fmt: skip
