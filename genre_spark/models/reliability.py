"""Is a model right as often as it is sure? The table behind a reliability diagram, and the error that sums it up.

Guo, Pleiss, Sun and Weinberger, "On calibration of modern neural networks", ICML 2017 (arXiv:1706.04599), equation 5.
"""

import math
from collections.abc import Sequence
from typing import Annotated

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

# Equal-width bins of the confidence: as many as Guo et al. take.
BINS = 15

Share = Annotated[float, Field(ge=0.0, le=1.0)]


class ReliabilityBin(BaseModel):
    """Tracks whose top probability lies above `low` and not above `high`; the lowest bin holds 0, too.

    Parameters
    ----------
    low, high : float
        Edges of the bin.
    n : int
        Its tracks, at least one.
    confidence : float
        Mean of their top probabilities.
    accuracy : float
        Share of them that was right.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    low: Share
    high: Share
    n: Annotated[int, Field(ge=1)]
    confidence: Share
    accuracy: Share


def reliability_table(probabilities: np.ndarray, labels: np.ndarray, *, bins: int = BINS) -> list[ReliabilityBin]:
    """Compare confidence and accuracy in equal-width bins of the confidence; bins without a track are left out."""
    p = np.asarray(probabilities)
    # A softmax in float32 may give a hair more than 1.
    confidence = np.minimum(p.max(axis=1).astype(np.float64), 1.0)
    hits = p.argmax(axis=1) == np.asarray(labels)
    numbers = np.maximum(np.ceil(confidence * bins) - 1, 0).astype(np.int64)
    return [
        ReliabilityBin(
            low=number / bins,
            high=(number + 1) / bins,
            n=int(inside.sum()),
            confidence=float(confidence[inside].mean()),
            accuracy=float(hits[inside].mean()),
        )
        for number, inside in ((int(number), numbers == number) for number in np.unique(numbers))
    ]


def error_of_table(table: Sequence[ReliabilityBin]) -> float:
    """Distance of confidence and accuracy in a reliability table, as the mean over its tracks; 0 of no track."""
    n = sum(found.n for found in table)
    return sum(found.n * abs(found.confidence - found.accuracy) for found in table) / max(n, 1)


def error_by_chance(table: Sequence[ReliabilityBin]) -> float:
    """What `error_of_table` would be on average if every confidence were true: few tracks in a bin miss it by chance.

    Parameters
    ----------
    table : sequence of ReliabilityBin
        Each track of a bin counts as right with the probability of the bin's mean confidence.
    """
    return sum(_mean_deviation(found.n, found.confidence) for found in table) / max(sum(f.n for f in table), 1)


def _mean_deviation(n: int, p: float) -> float:
    """Mean distance of a binomial variable from n p, by De Moivre's formula."""
    if not 0 < p < 1:
        return 0.0
    m = math.floor(n * p) + 1
    if m > n:
        return 2 * n * (1 - p) * p**n
    ways = math.lgamma(n + 1) - math.lgamma(m + 1) - math.lgamma(n - m + 1)
    return 2 * m * math.exp(ways + m * math.log(p) + (n - m + 1) * math.log1p(-p))


def expected_calibration_error(probabilities: np.ndarray, labels: np.ndarray, bins: int = BINS) -> float:
    """By how much the top probability is off: the mean, over the tracks, of its bin's |confidence - accuracy|.

    Parameters
    ----------
    probabilities : np.ndarray [shape=(n, genres)]
    labels : np.ndarray [shape=(n,)]
        Index of the true genre.
    bins : int
        As `reliability_table` has them.
    """
    return error_of_table(reliability_table(probabilities, labels, bins=bins))
