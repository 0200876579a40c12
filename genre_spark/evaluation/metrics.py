"""Judgement in numbers, from confusion matrices (rows true, columns predicted) and a table of confidence."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from genre_spark.errors import RunError
from genre_spark.evaluation.count_bootstrap import macro_f1_interval
from genre_spark.evaluation.effective_sample import GroupCounts, effective_sample
from genre_spark.models.reliability import ReliabilityBin, error_of_table

# The part of a judgement that belongs to no split.
ALL = "all"

# 97.5 % quantile of the standard normal: two-sided 95 %.
Z_95 = 1.959963984540054


def accuracy(confusion: np.ndarray) -> float:
    """Share of the tracks on the diagonal of `confusion` `[shape=(genres, genres)]`; 0 where there is no track."""
    return float(_ratio(np.trace(confusion), confusion.sum()))


def wilson_interval(hits: float, n: float, *, z: float = Z_95) -> tuple[float, float]:
    """Wilson's score interval of a proportion.

    Unlike the textbook interval it stays within 0 and 1 and is sensible for few tracks and for proportions near an
    end (E. B. Wilson 1927, "Probable inference, the law of succession, and statistical inference").

    Parameters
    ----------
    hits, n : float
        Successes and trials; with ``n=0`` nothing is known, and the interval is 0 to 1. They are no whole numbers where
        a sample of another design is worth so many trials.
    z : float
        Quantile of the standard normal distribution, or of Student's t.

    Returns
    -------
    tuple of float
        Lower and upper end.
    """
    if n == 0:
        return 0.0, 1.0
    share = hits / n
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    margin = z / (1 + z**2 / n) * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    # At 0 of n and n of n the ends are exactly 0 and 1; rounding would leave them a hair off.
    return (0.0 if hits == 0 else centre - margin), (1.0 if hits == n else centre + margin)


def f1_interval(hits: int, support: int, predicted: int, *, z: float = Z_95) -> tuple[float, float]:
    """Interval of an F1 score from counts.

    Of the tracks that are of a genre or predicted to be, some are both: that share J, Jaccard's index, is a proportion
    with Wilson's interval, and F1 = 2 J / (1 + J) rises with it. A bootstrap would say of 3 right out of 3 that F1 is 1
    for certain.

    Parameters
    ----------
    hits, support, predicted : int
        Tracks of the genre that are predicted to be, tracks of the genre, and tracks predicted to be.
    z : float
        Quantile of the standard normal distribution.

    Returns
    -------
    tuple of float
        Lower and upper end; 0 to 1 for a genre that neither occurs nor is predicted.
    """
    low, high = wilson_interval(hits, support + predicted - hits, z=z)
    return 2 * low / (1 + low), 2 * high / (1 + high)


def accuracy_interval_over_groups(counts: Sequence[GroupCounts]) -> tuple[float, float] | None:
    """95 % interval of the accuracy on tracks of other groups, where those of a group are right or wrong together.

    Parameters
    ----------
    counts : sequence of GroupCounts
        Each (n, hits) once.

    Returns
    -------
    tuple of float or None
        Wilson's interval of the effective sample, with the t quantile: never narrower than that over tracks. None of
        fewer groups than `genre_spark.evaluation.effective_sample.FEWEST_GROUPS`.
    """
    sample = effective_sample(counts)
    return None if sample is None else wilson_interval(sample.hits, sample.n, z=sample.quantile)


def genre_metrics(confusion: np.ndarray) -> dict[str, np.ndarray]:
    """Precision, recall, F1 and support of each genre.

    Parameters
    ----------
    confusion : np.ndarray [shape=(genres, genres)]
        Counts, rows true, columns predicted.

    Returns
    -------
    dict of str to np.ndarray [shape=(genres,)]
        `precision` (0 for a genre never predicted), `recall` (0 for one that never occurs), `f1`, `support` (number
        of true tracks).
    """
    hits, support, predicted = np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0)
    return {
        "precision": _ratio(hits, predicted),
        "recall": _ratio(hits, support),
        "f1": _ratio(2 * hits, support + predicted),
        "support": support,
    }


def row_shares(confusion: np.ndarray) -> np.ndarray:
    """Each row of `confusion` `[shape=(genres, genres)]` as shares of its true genre; 0 in an empty row."""
    return _ratio(confusion, confusion.sum(axis=1, keepdims=True))


def build_metrics(
    confusions: Mapping[str, np.ndarray],
    labels: Sequence[str],
    judged_part: str,
    *,
    reliability: Sequence[ReliabilityBin] | None = None,
    groups: Sequence[GroupCounts] | None = None,
    artists: int | None = None,
) -> dict[str, Any]:
    """Make the content of `metrics.json`.

    Parameters
    ----------
    confusions : mapping of str to np.ndarray [shape=(genres, genres)]
        The confusion matrix of each part, rows true, columns predicted.
    labels : sequence of str
        Genres in the order of the rows.
    judged_part : str
        The part that the model is judged on: all but `parts` is about it.
    reliability : sequence of ReliabilityBin, optional
        How sure the model was of the judged part's tracks, and how often right.
    groups : sequence of GroupCounts, optional
        How many of the judged tracks of an artist were right, counted over the artists; None where too few tracks name
        an artist.
    artists : int, optional
        How many artists the judged tracks name; by default, as many as there are groups.

    Returns
    -------
    dict
        `part`, `accuracy`, `accuracy_interval`, `n`, `labels`, `confusion`, `per_genre` (`precision`, `recall`, `f1`
        with an interval each, `support`), `macro_f1` (the plain mean over all labels; of the part "all" over those that
        occur), `macro_f1_interval`, `accuracy_interval_by_artist` and `artists` (how many), `chance` (1 / number of
        labels), `parts` (accuracy and n of each), `ece` (expected calibration error), `reliability` (the table behind
        it), and None for `dataset`, `bundle`, `model`, `feature`, `heard`, `unseen` and `unlabelled`, which only the
        evaluation of a bundle knows; None for all that isn't known.
        Intervals are 95 % ones: Wilson's from counts of tracks; over artists, Wilson's of as many tracks as those of
        whole artists are worth (`genre_spark.evaluation.effective_sample`); of macro-F1 approximate ones by the
        bootstrap (`genre_spark.evaluation.count_bootstrap`).

    Raises
    ------
    RunError
        If the judged part has no matrix, or a matrix doesn't fit the labels.
    """
    if judged_part not in confusions:
        raise RunError(f"part {judged_part!r} was not scored, only {', '.join(confusions) or 'none'}")
    counts = {part: np.asarray(confusion).astype(np.int64) for part, confusion in confusions.items()}
    for part, confusion in counts.items():
        if confusion.shape != (len(labels), len(labels)):
            raise RunError(f"part {part!r}: confusion matrix of shape {confusion.shape} for {len(labels)} labels")
    judged = counts[judged_part]
    by_artist = None if groups is None else accuracy_interval_over_groups(groups)
    macro_f1, macro_f1_ends = _macro_f1(judged, only_occurring=judged_part == ALL)
    if artists is None and groups is not None:
        artists = sum(found.groups for found in groups)
    return {
        "part": judged_part,
        "accuracy": accuracy(judged),
        "accuracy_interval": list(wilson_interval(int(np.trace(judged)), int(judged.sum()))),
        "accuracy_interval_by_artist": None if by_artist is None else list(by_artist),
        "artists": artists,
        "n": int(judged.sum()),
        "labels": list(labels),
        "confusion": judged.tolist(),
        "per_genre": _per_genre(judged, labels),
        "macro_f1": macro_f1,
        "macro_f1_interval": None if macro_f1_ends is None else list(macro_f1_ends),
        "chance": 1 / len(labels),
        "parts": {
            part: {"accuracy": accuracy(confusion), "n": int(confusion.sum())} for part, confusion in counts.items()
        },
        "ece": None if reliability is None else error_of_table(reliability),
        "reliability": None if reliability is None else [found.model_dump() for found in reliability],
        "dataset": None,
        "bundle": None,
        "model": None,
        "feature": None,
        "heard": None,
        "unseen": None,
        "unlabelled": None,
    }


def _macro_f1(confusion: np.ndarray, *, only_occurring: bool) -> tuple[float, tuple[float, float] | None]:
    """Mean F1 over all genres, or over those that have a track, and its interval."""
    f1 = genre_metrics(confusion)["f1"]
    occurs = confusion.sum(axis=1) > 0
    if only_occurring and occurs.any():
        # Those that occur first: what is predicted of the others remains as columns without rows.
        order = np.argsort(~occurs, kind="stable")
        f1, confusion = f1[occurs], confusion[np.ix_(order[: occurs.sum()], order)]
    value = float(f1.mean())
    return value, macro_f1_interval(confusion, value)


def _per_genre(confusion: np.ndarray, labels: Sequence[str]) -> dict[str, dict[str, Any]]:
    numbers = {name: values.tolist() for name, values in genre_metrics(confusion).items()}
    hits, predicted = np.diag(confusion).tolist(), confusion.sum(axis=0).tolist()
    return {
        label: {
            **{name: values[row] for name, values in numbers.items()},
            "precision_interval": list(wilson_interval(hits[row], predicted[row])),
            "recall_interval": list(wilson_interval(hits[row], numbers["support"][row])),
            "f1_interval": list(f1_interval(hits[row], numbers["support"][row], predicted[row])),
        }
        for row, label in enumerate(labels)
    }


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    shape = np.broadcast_shapes(np.shape(numerator), np.shape(denominator))
    return np.divide(numerator, denominator, out=np.zeros(shape), where=np.asarray(denominator) > 0)
