"""Statistics over time."""

from collections.abc import Sequence

import numpy as np


def summarise(rows: np.ndarray, statistics: Sequence[str]) -> np.ndarray:
    """Statistics of each row, in double precision.

    Parameters
    ----------
    rows : np.ndarray [shape=(d, t)]
        A feature over time.
    statistics : sequence of str
        Of mean, std, min, max, median, skew and kurtosis (`scipy.stats`: biased, and 0 for a normal distribution).

    Returns
    -------
    np.ndarray [shape=(len(statistics) * d,), dtype=float64]
        All rows of the first statistic, then all of the second. A row that doesn't change has skew 0 and kurtosis -3,
        as SciPy gave when FMA's features were made; today's gives NaN, which no model takes.
    """
    values = np.asarray(rows, np.float64)
    mean = values.mean(axis=1)
    moments: dict[int, np.ndarray] = {}
    if {"std", "skew", "kurtosis"} & set(statistics):
        centred = values - mean[:, None]
        square = centred * centred
        moments[2] = square.mean(axis=1)
        # What rounding alone makes of a constant.
        constant = moments[2] <= (np.finfo(np.float64).eps * mean) ** 2
        spread = np.where(constant, 1.0, moments[2])
        if "skew" in statistics:
            moments[3] = np.where(constant, 0.0, (square * centred).mean(axis=1) / spread**1.5)
        if "kurtosis" in statistics:
            moments[4] = np.where(constant, 0.0, (square * square).mean(axis=1) / spread**2) - 3.0
    results = {
        "mean": lambda: mean,
        "std": lambda: np.sqrt(moments[2]),
        "min": lambda: values.min(axis=1),
        "max": lambda: values.max(axis=1),
        "median": lambda: np.median(values, axis=1),
        "skew": lambda: moments[3],
        "kurtosis": lambda: moments[4],
    }
    return np.concatenate([results[statistic]() for statistic in statistics])
