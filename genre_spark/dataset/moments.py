"""Number, mean and variance of values that come in parts: each part in two passes, parts merged pairwise, in float64.

Chan, Golub and LeVeque, "Algorithms for Computing the Sample Variance: Analysis and Recommendations", The American
Statistician 37 (1983): the sum of squared deviations is never the difference of two large numbers, so a large mean
takes nothing from a small variance.
"""

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

# "band": one mean and variance for each row of a tensor (a coefficient, a mel band), over time where there is time.
# "cell": one for each number of a tensor, over tracks alone.
Per = Literal["band", "cell"]


@dataclass(frozen=True, eq=False)
class Moments:
    """What is known of the values behind each cell of an array.

    Parameters
    ----------
    n : int
        Values behind each cell.
    mean : np.ndarray, float64
        Any shape.
    squares : np.ndarray, float64
        Sums of squared deviations from the mean, of the same shape.
    """

    n: int
    mean: np.ndarray
    squares: np.ndarray

    @staticmethod
    def of(tensors: np.ndarray, per: Per = "band") -> "Moments":
        """Moments of some tensors, in two passes.

        Parameters
        ----------
        tensors : np.ndarray [shape=(b, rows, t) or (b, rows)]
            At least one tensor, of at least one value.
        per : {"band", "cell"}
            Moments of shape (rows,), or of the tensors' own. Where there is no time, the two are the same.
        """
        if per == "band" and tensors.ndim == 3:
            # Tensor by tensor, so that what is computed with stays in the processor's cache.
            return _of_equal_parts([_over_time(tensor) for tensor in tensors], tensors.shape[2])
        values = tensors.astype(np.float64)
        mean = values.mean(axis=0)
        values -= mean
        return Moments(len(values), mean, np.einsum("i...,i...->...", values, values))

    def merged(self, other: "Moments") -> "Moments":
        """Moments of the values behind both."""
        if not self.n or not other.n:
            return self if self.n else other
        n = self.n + other.n
        delta = other.mean - self.mean
        mean = self.mean + delta * (other.n / n)
        squares = self.squares + other.squares + delta * delta * (self.n * (other.n / n))
        return Moments(n, mean, squares)

    @property
    def variance(self) -> np.ndarray:
        """Population variance."""
        return self.squares / self.n

    @property
    def scale(self) -> np.ndarray:
        """Standard deviation, or 1 for a cell that is constant but for rounding, as scikit-learn's `scale_`.

        The bound is that of `sklearn.preprocessing.StandardScaler` (`_is_constant_feature`), from the error that the
        paper above gives for the variance.
        """
        epsilon = np.finfo(np.float64).eps
        bound = self.n * epsilon * self.variance + (self.n * self.mean * epsilon) ** 2
        return np.where(self.variance <= bound, 1.0, np.sqrt(self.variance))


def merge_all(parts: Iterable[Moments]) -> Moments:
    """Merge one or more parts, from the first to the last: another order may give other last bits."""
    return functools.reduce(Moments.merged, parts)


def _over_time(tensor: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means and sums of squared deviations of the rows of one tensor [shape=(rows, t)]."""
    values = tensor.astype(np.float64)
    mean = values.mean(axis=1)
    values -= mean[:, None]
    return mean, np.einsum("rt,rt->r", values, values)


def _of_equal_parts(parts: Sequence[tuple[np.ndarray, np.ndarray]], n: int) -> Moments:
    """Merge means and squares of n values each at once: Chan's formula, summed over all of them."""
    means, squares = (np.stack(arrays) for arrays in zip(*parts, strict=True))
    mean = means.mean(axis=0)
    between = np.square(means - mean).sum(axis=0)
    return Moments(n * len(parts), mean, squares.sum(axis=0) + n * between)
