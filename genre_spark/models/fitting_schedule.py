"""What a training does next, from the validation losses so far: learning rate, best epoch, and when it is over.

Nothing here has a memory of its own, so a training that is resumed decides as one that was never stopped. The rules are
those of Keras' `ReduceLROnPlateau` and `EarlyStopping`, which forget everything when a fit begins.
"""

import math
from collections.abc import Sequence

from genre_spark.settings import ModelSettings, TrainSettings


def learning_rate(val_losses: Sequence[float], chosen: ModelSettings, train: TrainSettings) -> float:
    """Learning rate of the epoch that follows.

    Parameters
    ----------
    val_losses : sequence of float
        Validation losses of the epochs so far.
    chosen, train : ModelSettings, TrainSettings
        Where it begins and how it goes on.
    """
    begin, least = chosen.learning_rate, min(train.min_learning_rate, chosen.learning_rate)
    if train.schedule == "cosine":
        done = len(val_losses) / max(1, chosen.epochs - 1)
        return least + (begin - least) * (1 + math.cos(math.pi * min(1.0, done))) / 2
    rate, best, waited = begin, math.inf, 0
    for loss in val_losses if train.schedule == "plateau" else ():
        best, waited = (loss, 0) if loss < best else (best, waited + 1)
        if waited >= train.plateau_patience:
            rate, waited = max(least, rate * train.plateau_factor), 0
    return rate


def best_epoch(val_losses: Sequence[float]) -> int:
    """Number, from 1, of the first epoch with the lowest validation loss."""
    return min(range(len(val_losses)), key=val_losses.__getitem__) + 1


def is_over(val_losses: Sequence[float], chosen: ModelSettings, train: TrainSettings) -> bool:
    """Tell whether all epochs are done, or too many came without a lower validation loss."""
    done, patience = len(val_losses), train.early_stopping_patience
    if done >= chosen.epochs:
        return True
    return bool(done and patience and done - best_epoch(val_losses) >= patience)
