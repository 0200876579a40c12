"""What happens between the epochs of a training: history, learning rate, best weights, checkpoints, the end."""

import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from genre_spark.errors import ModelError
from genre_spark.models.backend import keras
from genre_spark.models.checkpoints import Arrays, State, save_state, values_of
from genre_spark.models.fitting_batches import Batches
from genre_spark.models.fitting_schedule import best_epoch, is_over, learning_rate
from genre_spark.settings import ModelSettings, TrainSettings

Row = Mapping[str, float]
OnEpoch = Callable[[Row], None]


class Course(keras.callbacks.Callback):
    """Leads a training from epoch to epoch.

    Parameters
    ----------
    trained : keras.Model
        The model whose weights are kept; what is fitted may have a table of data around it.
    batches, judged : Batches
        The training and the validation part; None where all is trained on.
    chosen, train : ModelSettings, TrainSettings
        How it goes.
    state : State, optional
        Where it goes on; a checkpoint of it is there already.
    folder : Path
        Where checkpoints go.

    Attributes
    ----------
    rows : list of dict
        The history.
    best : list of np.ndarray, optional
        Variables of the model after its best epoch, where they are wanted.
    state : State, optional
        The training at the end of its last finished epoch; None before the first. It is kept in memory whether or not
        there is a checkpoint of it, so that a training that is stopped loses no more than the epoch under way.
    """

    def __init__(
        self,
        trained: keras.Model,
        batches: Batches,
        judged: Batches | None,
        chosen: ModelSettings,
        train: TrainSettings,
        state: State | None,
        folder: Path,
    ) -> None:
        super().__init__()
        self.rows: list[dict[str, float]] = list(state.rows) if state else []
        self.best: Arrays | None = None
        self.state = state
        if state and train.restore_best:
            self.best = state.best or state.variables
        self._trained = trained
        self._batches = batches
        self._judged = judged
        self._chosen = chosen
        self._train = train
        self._folder = folder
        self._is_saved = True
        self._started = 0.0

    @property
    def val_losses(self) -> list[float]:
        """Validation loss of each epoch so far."""
        return [row["val_loss"] for row in self.rows]

    @property
    def is_over(self) -> bool:
        """Whether no epoch is left to train."""
        return is_over(self.val_losses, self._chosen, self._train)

    def on_epoch_begin(self, epoch: int, logs: Row | None = None) -> None:
        """Set the order of the tracks and the learning rate."""
        self._started = time.monotonic()
        self._batches.epoch = epoch
        self.model.optimizer.learning_rate = learning_rate(self.val_losses, self._chosen, self._train)

    def on_epoch_end(self, epoch: int, logs: Row | None = None) -> None:
        """Take the row down, keep what is best, write a checkpoint, and end where it is time."""
        found = {name: float(value) for name, value in (logs or {}).items()}
        row = {
            "epoch": epoch + 1,
            "loss": found["loss"],
            "accuracy": found["accuracy"],
            "val_loss": self._corrected(found["val_loss"]) if self._judged else math.nan,
            "val_accuracy": found.get("val_weighted_accuracy", found.get("val_accuracy", math.nan)),
            "seconds": round(time.monotonic() - self._started, 3),
            "learning_rate": float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate)),
        }
        self._refuse_divergence(row)
        self.rows.append(row)
        if self._train.restore_best and best_epoch(self.val_losses) == len(self.rows):
            self.best = values_of(self._trained.variables)
        self.state, self._is_saved = self._now(), False
        if self.is_over or (epoch + 1) % self._train.checkpoint_epochs == 0:
            self.save()
        self.model.stop_training = self.is_over

    def save(self) -> None:
        """Write a checkpoint of the last finished epoch, where there is none."""
        if self.state is not None and not self._is_saved:
            save_state(self._folder, self.state)
            self._is_saved = True

    def _now(self) -> State:
        is_best = best_epoch(self.val_losses) == len(self.rows)
        return State(
            list(self.rows),
            values_of(self._trained.variables),
            values_of(self.model.optimizer.variables),
            None if is_best else self.best,
        )

    def _corrected(self, val_loss: float) -> float:
        if self._judged is None or self._judged.correction == 1.0:
            return val_loss
        # The regularisers' part of the loss is the same for every batch.
        penalty = sum(float(keras.ops.convert_to_numpy(loss)) for loss in self._trained.losses)
        return (val_loss - penalty) * self._judged.correction + penalty

    def _refuse_divergence(self, row: Row) -> None:
        for name, what in (("loss", "loss"), ("val_loss", "validation loss")):
            if not math.isfinite(row[name]) and (name == "loss" or self._judged):
                raise ModelError(
                    f"model {self._trained.name}: the {what} is {row[name]} in epoch {row['epoch']}; "
                    f"lower models.{self._trained.name}.learning_rate={self._chosen.learning_rate:g}"
                )


class EachEpoch(keras.callbacks.Callback):
    """Tells somebody the newest row of the history."""

    def __init__(self, course: Course, tell: OnEpoch) -> None:
        super().__init__()
        self._course = course
        self._tell = tell

    def on_epoch_end(self, epoch: int, logs: Row | None = None) -> None:
        """Tell it."""
        self._tell(self._course.rows[-1])
