"""The bootstrap from counts alone: what is drawn anew is how often each kind of track occurs, so no row is needed.

To draw n tracks with replacement and count them is to draw the counts from a multinomial distribution with the shares
that were found (B. Efron and R. J. Tibshirani 1993, "An Introduction to the Bootstrap", section 5.2). The seed is
fixed: the same counts give the same interval.
"""

from collections.abc import Iterator

import numpy as np

from genre_spark.evaluation.bootstrap import RESAMPLES

# Of genres with fewer tracks than that, chance decides which ones a draw has, and which ones were judged at all. There
# may be some of them, but not more than this share.
_FEWEST_PER_GENRE = 5
_MOST_SMALL = 0.25

_SEED = 0
# Counts that are drawn at a time and in all: of many thousand kinds of tracks, fewer resamples do.
_AT_A_TIME = 2_000_000
_IN_ALL = 30_000_000
_FEWEST_RESAMPLES = 200


def macro_f1_interval(confusion: np.ndarray, value: float) -> tuple[float, float] | None:
    """Approximate 95 % interval of the mean F1 over all genres, by drawing tracks anew.

    Parameters
    ----------
    confusion : np.ndarray [shape=(true genres, predicted genres)]
        Counts. A row's genre is that of the column of the same number; columns may be more than rows: what is
        predicted of genres that the mean leaves out.
    value : float
        The mean F1 itself.

    Returns
    -------
    tuple of float or None
        Percentiles of the resamples, moved by the resamples' bias: genres with few tracks come out worse in them than
        they are, and of many such genres the percentiles alone would not hold the value itself. The value is as far
        from the truth as the resamples are from the value, so the end on that side, mostly the upper one, is moved once
        more. The tracks count as independent.
        None where that is too rough: where more than a quarter of the genres have fewer than 5 tracks, and where all
        draws are the same, as they are of a model without a mistake.
    """
    n, genres = int(confusion.sum()), len(confusion)
    if np.mean(confusion.sum(axis=1) < _FEWEST_PER_GENRE) > _MOST_SMALL:
        return None
    rows, columns = np.nonzero(confusion)
    on_diagonal = np.flatnonzero(rows == columns)
    occurring, genre = np.unique(np.concatenate([rows, columns]), return_inverse=True)
    true, predicted = genre[: len(rows)], genre[len(rows) :]
    counted = occurring < genres
    absent = genres - int(counted.sum())
    resampled = []
    for counts in _draws(confusion[rows, columns], n):
        hits = np.zeros((len(counts), len(occurring)))
        hits[:, true[on_diagonal]] = counts[:, on_diagonal]
        sizes = _sums(counts, true, len(occurring)) + _sums(counts, predicted, len(occurring))
        f1 = np.divide(2 * hits, sizes, out=np.zeros_like(hits), where=sizes > 0)[:, counted]
        # A genre that a draw happens to leave out has no F1 in it, one that nobody has a track of has 0 in all.
        resampled.append(f1.sum(axis=1) / ((sizes[:, counted] > 0).sum(axis=1) + absent))
    means = np.concatenate(resampled)
    if np.ptp(means) < 1e-9:
        return None
    bias = means.mean() - value
    low, high = np.clip(np.percentile(means, [2.5, 97.5]) - bias - [max(bias, 0.0), min(bias, 0.0)], 0.0, 1.0)
    return float(min(low, value)), float(max(high, value))


def _draws(counts: np.ndarray, n: int) -> Iterator[np.ndarray]:
    """Yield resampled counts `[shape=(some, len(counts))]`."""
    random = np.random.default_rng(_SEED)
    left = int(np.clip(_IN_ALL // len(counts), _FEWEST_RESAMPLES, RESAMPLES))
    while left:
        size = min(left, max(1, _AT_A_TIME // len(counts)))
        left -= size
        yield random.multinomial(n, counts / n, size=size)


def _sums(counts: np.ndarray, number: np.ndarray, length: int) -> np.ndarray:
    """Sum columns of the same number [shape=(len(counts), length)]."""
    order = np.argsort(number, kind="stable")
    present, first = np.unique(number[order], return_index=True)
    sums = np.zeros((len(counts), length), counts.dtype)
    sums[:, present] = np.add.reduceat(counts[:, order], first, axis=1)
    return sums
