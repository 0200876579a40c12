import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom
from sklearn.calibration import calibration_curve

from genre_spark.models.reliability import (
    BINS,
    ReliabilityBin,
    error_by_chance,
    error_of_table,
    expected_calibration_error,
    reliability_table,
)


def answers(n: int, seed: int, genres: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities `[shape=(n, genres)]` and true genres of a model that knows something."""
    random = np.random.default_rng(seed)
    labels = random.integers(genres, size=n)
    logits = random.normal(0, 1.5, (n, genres)) + 2 * np.eye(genres)[labels]
    p = np.exp(logits)
    return (p / p.sum(axis=1, keepdims=True)).astype(np.float32), labels


@given(st.integers(1, 400), st.integers(0, 50), st.integers(1, 30))
def test_the_table_is_scikit_learns_calibration_curve(n: int, seed: int, bins: int) -> None:
    p, labels = answers(n, seed)
    hits, confidence = p.argmax(axis=1) == labels, p.max(axis=1).astype(np.float64)
    accuracy, mean = calibration_curve(hits, confidence, n_bins=bins, strategy="uniform", pos_label=True)
    table = reliability_table(p, labels, bins=bins)
    np.testing.assert_allclose([found.accuracy for found in table], accuracy)
    np.testing.assert_allclose([found.confidence for found in table], mean)
    counts, edges = np.histogram(confidence, np.linspace(0, 1, bins + 1))
    assert [found.n for found in table] == counts[counts > 0].tolist()
    np.testing.assert_allclose([found.low for found in table], edges[:-1][counts > 0])
    np.testing.assert_allclose([found.high for found in table], edges[1:][counts > 0])
    error = (counts[counts > 0] * np.abs(accuracy - mean)).sum() / n
    assert expected_calibration_error(p, labels, bins) == pytest.approx(error)


def test_the_error_is_that_of_a_calculation_by_hand() -> None:
    # Two bins: (0, 0.5] has one track, sure by 0.4 and wrong; (0.5, 1] two, sure by 0.6 and 0.9, one of them right.
    p = np.array([[0.4, 0.3, 0.3], [0.6, 0.2, 0.2], [0.05, 0.05, 0.9]])
    labels = np.array([1, 0, 0])
    table = reliability_table(p, labels, bins=2)
    assert [(found.n, found.confidence, found.accuracy) for found in table] == [(1, 0.4, 0.0), (2, 0.75, 0.5)]
    assert expected_calibration_error(p, labels, 2) == pytest.approx((1 * 0.4 + 2 * 0.25) / 3)


def test_a_confidence_on_an_edge_belongs_to_the_bin_below() -> None:
    (low, high) = reliability_table(np.array([[0.5, 0.5], [0.25, 0.75]]), np.array([0, 0]), bins=2)
    assert (low.n, low.low, low.high) == (1, 0.0, 0.5)
    assert (high.n, high.low, high.high) == (1, 0.5, 1.0)


def test_a_hair_more_than_one_is_one() -> None:
    (found,) = reliability_table(np.array([[1.0000001, 0.0]], np.float32), np.array([0]))
    assert (found.high, found.confidence) == (1.0, 1.0)
    assert found.low == (BINS - 1) / BINS


@given(st.integers(1, 400), st.floats(0.05, 1))
def test_the_error_by_chance_is_the_mean_deviation_of_a_binomial_distribution(n: int, p: float) -> None:
    table = [ReliabilityBin(low=0, high=1, n=n, confidence=p, accuracy=0.5)]
    hits = np.arange(n + 1)
    wanted = (binom.pmf(hits, n, p) * np.abs(hits / n - p)).sum()
    assert error_by_chance(table) == pytest.approx(wanted, rel=1e-7, abs=1e-12)


def test_true_probabilities_have_the_error_that_chance_makes() -> None:
    random = np.random.default_rng(7)
    found, wanted = [], []
    for seed in range(300):
        p, _ = answers(60, seed)
        labels = (random.random(60)[:, None] > p.cumsum(axis=1)).sum(axis=1).clip(max=3)
        found.append(expected_calibration_error(p, labels))
        wanted.append(error_by_chance(reliability_table(p, labels)))
    assert np.mean(found) == pytest.approx(np.mean(wanted), rel=0.03)
    assert np.mean(wanted) > 0.05


def test_no_track_has_no_error() -> None:
    assert error_of_table([]) == error_by_chance([]) == 0
    assert expected_calibration_error(np.empty((0, 3)), np.empty(0, int)) == 0
