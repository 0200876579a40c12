"""Standardisation of the inputs, by scikit-learn's definition, fitted on the training part alone.

The study standardises all inputs before it splits them; here only tensors of the training part are looked at: by a
feed of that part (`fit_scaler`), or with Spark where the dataset lies (`genre_spark.dataset.scaler_job`).
"""

import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from genre_spark.dataset.moments import Moments, Per, merge_all
from genre_spark.errors import BundleError
from genre_spark.features.spec import FeatureSpec
from genre_spark.files import complete_file

if TYPE_CHECKING:
    from genre_spark.dataset.feed import Feed

_ARRAYS = ("mean", "variance", "n_samples")
# Text in a fitted scaler's file that says what it was fitted on.
_FITTED_ON = "fitted_on"


@dataclass(frozen=True, eq=False)
class Scaler:
    """Mean and variance of every row of a tensor (of each coefficient or mel band), or of every cell.

    Parameters
    ----------
    mean : np.ndarray [shape=(rows,) or the tensor's], float32
        `rows` is the length of the tensor's axis 0.
    variance : np.ndarray [shape=(rows,) or the tensor's], float32
        Population variance; 1 where the values are constant, as in `sklearn.preprocessing.StandardScaler.scale_`.
    n_samples : int
        Number of values behind each mean: rows of the dataset, times frames for a mean over time.
    """

    mean: np.ndarray
    variance: np.ndarray
    n_samples: int

    @classmethod
    def of(cls, moments: Moments) -> Self:
        """Round moments to float32. A variance that float32 can't hold becomes the nearest that it can."""
        limits = np.finfo(np.float32)
        variance = np.clip(np.square(moments.scale), limits.tiny, limits.max)
        return cls(moments.mean.astype(np.float32), variance.astype(np.float32), moments.n)

    def save(self, path: Path) -> None:
        """Write an .npz file without pickles; it appears under its name only when it is complete."""
        self._write(path)

    def _write(self, path: Path, **more: Any) -> None:
        with complete_file(path, BundleError) as partial, partial.open("wb") as file:
            np.savez(file, mean=self.mean, variance=self.variance, n_samples=np.int64(self.n_samples), **more)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote.

        Raises
        ------
        BundleError
            If the file is missing or damaged, lacks an array, or holds one of another shape, type or range.
        """
        return cls._checked(path, _read_arrays(path, _ARRAYS, "train the model again"), "train the model again")

    @classmethod
    def _checked(cls, path: Path, arrays: dict[str, np.ndarray], advice: str) -> Self:
        mean, variance, n_samples = (arrays[name] for name in _ARRAYS)
        if n_samples.shape != () or n_samples.dtype.kind != "i" or n_samples < 1:
            raise BundleError(f"{path}: n_samples={n_samples} must be a positive integer; {advice}")
        for name, array in (("mean", mean), ("variance", variance)):
            if array.dtype != np.float32 or not array.ndim or array.shape != mean.shape or not array.size:
                raise BundleError(
                    f"{path}: {name} is {array.dtype} of shape {array.shape}, not float32 of shape (rows,) or the "
                    f"tensor's, like mean; {advice}"
                )
            if not np.isfinite(array).all() or (name == "variance" and (array <= 0).any()):
                raise BundleError(f"{path}: {name} holds values that are no {name}; {advice}")
        return cls(mean, variance, int(n_samples))


def fit_scaler(feed: "Feed", per: Per = "band") -> Scaler:
    """Fit mean and variance in one pass over a feed.

    The Spark job (`fit_scalers`) computes with the same `Moments`, over row groups in the order of the files where
    this takes batches in the feed's order: in float64 the two differ by rounding (measured on 700 melgrams: 1e-15 of
    the value), so the float32 values are equal or neighbours.

    Parameters
    ----------
    feed : Feed
        The training part.
    per : {"band", "cell"}
        A mean for each coefficient or band, over tracks and time, or one for each cell, over tracks.

    Raises
    ------
    FeedError
        If the feed can't be read.
    """
    return Scaler.of(merge_all(Moments.of(batch.x, per) for batch in feed.epoch(0)))


class FittedOn(BaseModel):
    """What a scaler was fitted on, as its file says."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    feature: str
    spec_digest: str
    split_digest: str


def fitted_file(folder: Path, feature: str) -> Path:
    """File of a feature's scaler in a folder of fitted scalers."""
    return folder / f"{feature}.npz"


def save_fitted(path: Path, scaler: Scaler, spec: FeatureSpec, split_digest: str) -> None:
    """Write a scaler as `Scaler.save` does, with the digests of what it was fitted on."""
    fitted_on = FittedOn(feature=spec.name, spec_digest=spec.digest, split_digest=split_digest)
    scaler._write(path, **{_FITTED_ON: np.array(fitted_on.model_dump_json())})


def load_fitted(path: Path, spec: FeatureSpec, split_digest: str, per: Per | None = None) -> Scaler:
    """Read a scaler that was fitted before, and refuse one that was fitted on something else.

    Parameters
    ----------
    path : Path
        A file, or the folder that `genre-spark fit-scaler` wrote.
    spec : FeatureSpec
        What it has to standardise.
    split_digest : str
        Of the split whose training part it has to be fitted on.
    per : {"band", "cell"}, optional
        What it has to have a mean for; None takes both.

    Raises
    ------
    BundleError
        If it is missing or damaged, or was fitted on another feature or split, or in the other way.
    """
    advice = "fit it again with `genre-spark fit-scaler`"
    file = fitted_file(path, spec.name) if path.is_dir() else path
    arrays = _read_arrays(file, (*_ARRAYS, _FITTED_ON), advice)
    scaler = Scaler._checked(file, arrays, advice)
    try:
        fitted_on = FittedOn.model_validate_json(str(arrays[_FITTED_ON]))
    except ValidationError:
        raise BundleError(f"{file}: doesn't say what it was fitted on; {advice}") from None
    if fitted_on.spec_digest != spec.digest:
        raise BundleError(
            f"{file}: was fitted on feature {fitted_on.feature!r} (digest {fitted_on.spec_digest}), not on "
            f"{spec.name!r} ({spec.digest}); {advice}"
        )
    if fitted_on.split_digest != split_digest:
        raise BundleError(
            f"{file}: was fitted on the training part of split {fitted_on.split_digest}, not of {split_digest}; "
            f"{advice}"
        )
    wanted = {"band": spec.shape[:1], "cell": spec.shape}
    if scaler.mean.shape not in (wanted.values() if per is None else [wanted[per]]):
        shapes = " or ".join(str(shape) for name, shape in wanted.items() if per in (None, name))
        raise BundleError(f"{file}: has means of shape {scaler.mean.shape}, not {shapes}; {advice}")
    return scaler


def _read_arrays(path: Path, names: tuple[str, ...], advice: str) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as stored:
            return {name: stored[name] for name in names}
    except FileNotFoundError:
        raise BundleError(f"{path}: no such scaler; {advice}") from None
    except KeyError as error:
        raise BundleError(f"{path}: not a scaler: {error.args[0]}; {advice}") from None
    # TypeError and AttributeError: a lone .npy array is no context manager. MemoryError: a shape that is a lie.
    except (OSError, ValueError, EOFError, TypeError, AttributeError, MemoryError) as error:
        raise BundleError(f"{path}: not a scaler: {' '.join(str(error).split())}; {advice}") from None
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError) as error:
        raise BundleError(f"{path}: damaged: {error}; {advice}") from None
