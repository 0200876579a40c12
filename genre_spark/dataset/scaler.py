"""Standardisation of the inputs, by scikit-learn's definition, fitted on the training part alone.

The study standardises all inputs before it splits them; here the feed that the scaler is fitted on is the training
part's own, so nothing of the other parts can reach it.
"""

import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from sklearn.preprocessing import StandardScaler

from genre_spark.dataset.feed import Feed
from genre_spark.errors import BundleError
from genre_spark.files import complete_file

_ARRAYS = ("mean", "variance", "n_samples")


@dataclass(frozen=True, eq=False)
class Scaler:
    """Mean and variance of every row of a tensor: of each coefficient or mel band.

    Parameters
    ----------
    mean : np.ndarray [shape=(rows,)], float32
        `rows` is the length of the tensor's axis 0.
    variance : np.ndarray [shape=(rows,)], float32
        Population variance; 1 for a row that is constant, as in `sklearn.preprocessing.StandardScaler.scale_`.
    n_samples : int
        Number of values behind each mean: tracks, times frames where the tensor has them.
    """

    mean: np.ndarray
    variance: np.ndarray
    n_samples: int

    def save(self, path: Path) -> None:
        """Write an .npz file without pickles; it appears under its name only when it is complete."""
        with complete_file(path, BundleError) as partial, partial.open("wb") as file:
            np.savez(file, mean=self.mean, variance=self.variance, n_samples=np.int64(self.n_samples))

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote.

        Raises
        ------
        BundleError
            If the file is missing or damaged, lacks an array, or holds one of another shape, type or range.
        """
        try:
            with np.load(path, allow_pickle=False) as stored:
                arrays = {name: stored[name] for name in _ARRAYS}
        except FileNotFoundError:
            raise BundleError(f"{path}: no such scaler; train the model again") from None
        except KeyError as error:
            raise BundleError(f"{path}: not a scaler: {error.args[0]}; train the model again") from None
        # TypeError and AttributeError: a lone .npy array is no context manager. MemoryError: a shape that is a lie.
        except (OSError, ValueError, EOFError, TypeError, AttributeError, MemoryError) as error:
            raise BundleError(f"{path}: not a scaler: {' '.join(str(error).split())}; train the model again") from None
        except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError) as error:
            raise BundleError(f"{path}: damaged: {error}; train the model again") from None
        mean, variance, n_samples = (arrays[name] for name in _ARRAYS)
        if n_samples.shape != () or n_samples.dtype.kind != "i" or n_samples < 1:
            raise BundleError(f"{path}: n_samples={n_samples} must be a positive integer; train the model again")
        for name, array in (("mean", mean), ("variance", variance)):
            if array.dtype != np.float32 or array.ndim != 1 or array.shape != mean.shape or not array.size:
                raise BundleError(
                    f"{path}: {name} is {array.dtype} of shape {array.shape}, not float32 of shape (rows,) like mean; "
                    "train the model again"
                )
            if not np.isfinite(array).all() or (name == "variance" and (array <= 0).any()):
                raise BundleError(f"{path}: {name} holds values that are no {name}; train the model again")
        return cls(mean, variance, int(n_samples))


def fit_scaler(feed: Feed) -> Scaler:
    """Fit mean and variance in one pass over a feed, accumulated in float64.

    Parameters
    ----------
    feed : Feed
        The training part. A tensor `[shape=(rows, t)]` gives t values to each row, one `[shape=(rows,)]` gives one.

    Raises
    ------
    FeedError
        If the feed can't be read.
    """
    fitted = StandardScaler()
    for batch in feed.epoch(0):
        x = batch.x.astype(np.float64)
        # One sample per track and frame: (b, rows, t) -> (b * t, rows).
        fitted.partial_fit(np.moveaxis(x, 1, -1).reshape(-1, x.shape[1]))
    # scale_, not var_: it is 1 where scikit-learn finds a row constant.
    return Scaler(
        fitted.mean_.astype(np.float32), np.square(fitted.scale_).astype(np.float32), int(fitted.n_samples_seen_)
    )
