"""Intervals for judgements over tracks that come by artists: whole artists are drawn anew, with all their tracks.

Tracks of one artist are alike, and right or wrong together: an interval that draws tracks one by one is too narrow
(A. C. Davison and D. V. Hinkley 1997, "Bootstrap Methods and their Application", section 3.8, on clustered data).
"""

from dataclasses import dataclass

import numpy as np

RESAMPLES = 2_000
_SEED = 0


@dataclass(frozen=True)
class Estimate:
    """A number and its 95 % interval, by the bootstrap's percentiles."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class Judged:
    """What one or more trainings of a model said of the same tracks.

    Parameters
    ----------
    true : np.ndarray [shape=(tracks,), dtype=int]
    predicted : np.ndarray [shape=(trainings, tracks), dtype=int]
    clusters : np.ndarray [shape=(tracks,), dtype=int]
        The artist of each track, numbered from 0.
    genres : int
    """

    true: np.ndarray
    predicted: np.ndarray
    clusters: np.ndarray
    genres: int

    @property
    def accuracies(self) -> np.ndarray:
        """Accuracy of each training [shape=(trainings,)]."""
        return (self.predicted == self.true).mean(axis=1)

    def by_cluster(self) -> np.ndarray:
        """Confusion matrices, rows true [shape=(trainings, clusters, genres, genres)]."""
        counts = np.zeros((len(self.predicted), int(self.clusters.max()) + 1, self.genres, self.genres))
        for training, predicted in enumerate(self.predicted):
            np.add.at(counts[training], (self.clusters, self.true, predicted), 1)
        return counts


def accuracy_and_f1(judged: Judged) -> tuple[Estimate, Estimate]:
    """Accuracy and macro-F1, each the mean over the trainings, with intervals over artists.

    Macro-F1 is the mean over the genres that occur, in all tracks or in a draw of them.
    """
    counts = judged.by_cluster()
    draws = _draws(counts.shape[1])
    accuracies, f1s = [], []
    for weights in (np.ones((1, counts.shape[1])), draws):
        resampled = np.einsum("bc,tcij->btij", weights, counts, optimize=True)
        accuracies.append(np.trace(resampled, axis1=2, axis2=3).mean(axis=1) / resampled[:, 0].sum(axis=(1, 2)))
        f1s.append(_macro_f1(resampled).mean(axis=1))
    return _estimate(*accuracies), _estimate(*f1s)


def accuracy_difference(one: Judged, other: Judged) -> Estimate:
    """Accuracy of `one` minus that of `other` on the same tracks, drawn together.

    Raises
    ------
    ValueError
        If the two were not judged on the same tracks.
    """
    if not (np.array_equal(one.true, other.true) and np.array_equal(one.clusters, other.clusters)):
        raise ValueError("judged on different tracks")
    per_track = (one.predicted == one.true).mean(axis=0) - (other.predicted == other.true).mean(axis=0)
    sums = np.bincount(one.clusters, per_track)
    sizes = np.bincount(one.clusters)
    draws = _draws(len(sizes))
    return _estimate(np.array([per_track.mean()]), (draws @ sums) / (draws @ sizes))


def _draws(clusters: int) -> np.ndarray:
    """How often each cluster is drawn [shape=(RESAMPLES, clusters)]."""
    drawn = np.random.default_rng(_SEED).multinomial(clusters, np.full(clusters, 1 / clusters), size=RESAMPLES)
    return drawn.astype(np.float64)


def _estimate(value: np.ndarray, resampled: np.ndarray) -> Estimate:
    low, high = np.percentile(resampled, [2.5, 97.5])
    return Estimate(float(value[0]), float(low), float(high))


def _macro_f1(confusions: np.ndarray) -> np.ndarray:
    """Mean F1 over the genres that occur [shape=confusions.shape[:-2]]."""
    hits, occurring = np.diagonal(confusions, axis1=-2, axis2=-1), confusions.sum(axis=-1)
    sizes = occurring + confusions.sum(axis=-2)
    f1 = np.divide(2 * hits, sizes, out=np.zeros_like(hits), where=occurring > 0)
    return f1.sum(axis=-1) / (occurring > 0).sum(axis=-1)
