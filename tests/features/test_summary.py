"""Statistics over time, against SciPy."""

import numpy as np
import pytest
import scipy.stats

from genre_spark.features.summary import summarise

REFERENCE = {
    "mean": np.mean,
    "std": np.std,
    "min": np.min,
    "max": np.max,
    "median": np.median,
    "skew": scipy.stats.skew,
    "kurtosis": scipy.stats.kurtosis,
}


@pytest.mark.parametrize("statistic", REFERENCE)
@pytest.mark.parametrize("frames", [2, 3, 100, 1_001])
def test_a_statistic_is_scipys(statistic: str, frames: int) -> None:
    rows = np.random.default_rng(0).gamma(2, 3, (5, frames)).astype(np.float32) - 400
    expected = REFERENCE[statistic](rows.astype(np.float64), axis=1)
    np.testing.assert_allclose(summarise(rows, [statistic]), expected, rtol=1e-9, atol=1e-9)


def test_a_row_that_does_not_change_has_no_skew_and_no_nan() -> None:
    rows = np.full((2, 50), -100.0, np.float32)
    rows[1, 7] = 1.0
    summary = summarise(rows, ["std", "skew", "kurtosis"]).reshape(3, 2)
    np.testing.assert_allclose(summary[:, 0], [0, 0, -3], atol=1e-12)
    assert summary[1, 1] == pytest.approx(scipy.stats.skew(rows[1]))


def test_a_single_frame_has_statistics_too() -> None:
    np.testing.assert_array_equal(summarise(np.full((1, 1), 7.0), list(REFERENCE)), [7, 0, 7, 7, 7, 0, -3])
