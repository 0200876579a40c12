import logging

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from genre_spark.errors import BundleError
from genre_spark.models.calibration import (
    FEWEST_ANSWERS,
    PRECISIONS,
    TEMPERATURES,
    Calibration,
    Threshold,
    calibrate,
    calibrated,
    fit_temperature,
    threshold_for,
    threshold_of,
    track_probabilities,
)

LABELS = np.random.default_rng(0).integers(5, size=4_000)
LOGITS = np.random.default_rng(1).normal(0, 1.2, (4_000, 5))


def drawn(logits: np.ndarray, seed: int = 2) -> np.ndarray:
    """True genres drawn from the softmax itself: with them, no temperature is better than 1."""
    p = softmax(logits, axis=1)
    return (np.random.default_rng(seed).random(len(p))[:, None] > p.cumsum(axis=1)).sum(axis=1).clip(max=4)


distributions = hnp.arrays(
    np.float32, st.tuples(st.integers(1, 6), st.integers(2, 8)), elements=st.floats(0, 1, width=32)
).map(lambda weights: (weights + np.float32(1e-6)) / (weights + np.float32(1e-6)).sum(axis=1, keepdims=True))


@given(distributions, st.floats(0.01, 100))
def test_no_temperature_changes_the_most_probable_genre(p: np.ndarray, temperature: float) -> None:
    found = calibrated(p, temperature)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found.argmax(axis=1), p.argmax(axis=1))
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-5)


def test_two_genres_that_become_equal_in_float32_keep_their_order() -> None:
    p = np.array([[np.nextafter(np.float32(0.4), np.float32(0)), 0.4, 0.2]], np.float32)
    found = calibrated(p, 50.0)
    assert np.argmax(found) == 1
    assert calibrated(p[:, :2] * np.float32(1.25), 100.0).max() <= 1


@given(distributions)
def test_a_temperature_of_one_changes_no_bit(p: np.ndarray) -> None:
    np.testing.assert_array_equal(calibrated(p, 1.0), p)


@pytest.mark.parametrize("temperature", [0.3, 0.9, 2.5])
def test_the_temperature_divides_the_logits(temperature: float) -> None:
    found = calibrated(softmax(LOGITS, axis=1), temperature)
    np.testing.assert_allclose(found, softmax(LOGITS / temperature, axis=1), rtol=1e-5)


def test_a_probability_of_nought_is_no_error() -> None:
    found = calibrated(np.array([[1.0, 0.0]], np.float32), 2.0)
    assert np.isfinite(found).all()
    assert found[0, 0] == pytest.approx(1)
    assert TEMPERATURES[0] <= fit_temperature(np.tile([[1.0, 0.0]], (30, 1)), np.arange(30) % 2) <= TEMPERATURES[1]


@pytest.mark.parametrize("k", [0.25, 0.5, 1.0, 2.0, 4.0])
def test_logits_that_were_scaled_are_scaled_back(k: float) -> None:
    labels = drawn(LOGITS)
    before = fit_temperature(softmax(LOGITS, axis=1), labels)
    assert before == pytest.approx(1, abs=0.06)
    assert fit_temperature(softmax(k * LOGITS, axis=1), labels) == pytest.approx(k * before, rel=1e-4)


def test_the_temperature_is_the_slope_of_scikit_learns_logistic_regression() -> None:
    # Of two genres, temperature scaling is a logistic regression on the difference of the logits, without intercept.
    logits = 3 * LOGITS[:800, :2]
    margin = logits[:, 1] - logits[:, 0]
    labels = (np.random.default_rng(3).random(800) < 1 / (1 + np.exp(-margin / 2))).astype(int)
    regression = LogisticRegression(C=np.inf, fit_intercept=False, tol=1e-10).fit(margin[:, None], labels)
    assert fit_temperature(softmax(logits, axis=1), labels) == pytest.approx(1 / regression.coef_[0, 0], rel=1e-3)


def test_no_temperature_of_a_grid_has_a_smaller_loss() -> None:
    p, labels = softmax(2.3 * LOGITS[:300], axis=1), drawn(LOGITS)[:300]
    best = fit_temperature(p, labels)
    losses = [log_loss(labels, calibrated(p, t), labels=range(5)) for t in [best, *np.geomspace(*TEMPERATURES, 200)]]
    assert losses[0] == pytest.approx(min(losses), abs=1e-7)


def test_where_every_track_is_right_the_temperature_stays_in_its_bounds() -> None:
    p = softmax(LOGITS, axis=1)
    assert fit_temperature(p, p.argmax(axis=1)) == pytest.approx(TEMPERATURES[0], rel=1e-3)
    assert fit_temperature(p, p.argmin(axis=1)) == pytest.approx(TEMPERATURES[1], rel=1e-3)


def test_probabilities_that_tell_nothing_are_left_as_they_are() -> None:
    assert fit_temperature(np.full((50, 5), 0.2), LABELS[:50]) == 1.0


def test_of_too_few_tracks_the_temperature_is_one_and_it_is_said(caplog: pytest.LogCaptureFixture) -> None:
    p, labels = softmax(4 * LOGITS, axis=1).astype(np.float32), drawn(LOGITS)
    with caplog.at_level(logging.WARNING):
        found = calibrate(p[:19], labels[:19])
    assert (found.temperature, found.n, found.thresholds) == (1.0, 19, [])
    assert found.ece_before == found.ece_after
    (record,) = caplog.records
    assert record.getMessage().startswith("19 validation tracks are too few to calibrate the probabilities")
    assert calibrate(p[:20], labels[:20]).temperature != 1.0
    assert len(caplog.records) == 1


def test_a_model_that_is_too_sure_is_calibrated() -> None:
    found = calibrate(softmax(3 * LOGITS, axis=1), drawn(LOGITS))
    assert found.temperature == pytest.approx(3, rel=0.06)
    assert found.n == len(LOGITS)
    assert found.ece_after < 0.03 < 0.15 < found.ece_before


@given(st.integers(1, 200), st.integers(0, 40), st.sampled_from([0.5, *PRECISIONS, 1.0]))
def test_a_threshold_is_the_smallest_of_all_that_occur(n: int, seed: int, precision: float) -> None:
    random = np.random.default_rng(seed)
    # Rounded, so that tracks are equally sure.
    p = softmax(random.normal(0, 1, (n, 3)).round(1), axis=1).round(2).astype(np.float32)
    labels = np.where(random.random(n) < 0.6, p.argmax(axis=1), random.integers(3, size=n))
    confidence, hits = p.max(axis=1), p.argmax(axis=1) == labels
    good = [t for t in np.unique(confidence) if np.mean(hits[confidence >= t]) >= precision]
    found = threshold_for(p, labels, precision)
    assert (found is None) == (not good)
    if found:
        assert found.threshold == min(good)
        assert found.coverage == pytest.approx((confidence >= min(good)).mean())


def test_a_precision_of_fewer_answers_than_asked_for_does_not_count() -> None:
    confidence = np.linspace(0.99, 0.6, 40)
    p = np.stack([confidence, 1 - confidence], axis=1)
    labels = np.array([0] * 9 + [1] + [0, 1] * 15)
    assert threshold_for(p, labels, 1.0).coverage == 9 / 40  # type: ignore[union-attr]
    assert threshold_for(p, labels, 1.0, fewest=FEWEST_ANSWERS) is None
    assert threshold_for(p, labels, 0.9, fewest=FEWEST_ANSWERS).coverage == 11 / 40  # type: ignore[union-attr]


def test_the_thresholds_give_on_validation_what_they_state() -> None:
    labels = drawn(LOGITS)
    found = calibrate(softmax(2 * LOGITS, axis=1), labels)
    assert {threshold.precision for threshold in found.thresholds} <= set(PRECISIONS)
    assert len(found.thresholds) >= 2
    p = calibrated(softmax(2 * LOGITS, axis=1), found.temperature)
    for threshold in found.thresholds:
        answered = p.max(axis=1) >= threshold.threshold
        assert (p.argmax(axis=1) == labels)[answered].mean() >= threshold.precision
        assert answered.mean() == pytest.approx(threshold.coverage)
    assert sorted(t.threshold for t in found.thresholds) == [t.threshold for t in found.thresholds]


def test_segments_vote_with_raw_probabilities_before_the_temperature() -> None:
    of_segments = softmax(LOGITS[:12].reshape(4, 3, 5), axis=2).astype(np.float32)
    calibration = Calibration(temperature=2.0, n=100, ece_before=0.1, ece_after=0.05)
    mean = of_segments.mean(axis=1)
    wanted = np.sqrt(mean) / np.sqrt(mean).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(track_probabilities(of_segments, calibration), wanted, rtol=1e-5)
    np.testing.assert_allclose(track_probabilities(of_segments, None), mean, rtol=1e-6)


def test_a_precision_without_a_threshold_is_refused_with_those_that_there_are() -> None:
    thresholds = [Threshold(precision=p, threshold=p / 2, coverage=0.5) for p in (0.7, 0.9)]
    calibration = Calibration(temperature=2.0, n=100, ece_before=0.1, ece_after=0.05, thresholds=thresholds)
    assert threshold_of(calibration, 0.9) == 0.45
    with pytest.raises(BundleError, match=r"no threshold for precision=0\.95: it has those for 0\.7, 0\.9$"):
        threshold_of(calibration, 0.95)
    for none in (None, calibration.model_copy(update={"thresholds": []})):
        with pytest.raises(BundleError, match=r"precision=0\.9: it has none; train it again with more validation"):
            threshold_of(none, 0.9)
