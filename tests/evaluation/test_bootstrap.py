import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score

from genre_spark.evaluation.bootstrap import Judged, accuracy_and_f1, accuracy_difference


def judged(seed: int, *, clusters: int = 40, size: int = 5, trainings: int = 2, hit: float = 0.6) -> Judged:
    rng = np.random.default_rng(seed)
    n = clusters * size
    true = np.concatenate([np.arange(4), rng.integers(0, 4, n - 4)])
    predicted = np.where(rng.random((trainings, n)) < hit, true, rng.integers(0, 4, (trainings, n)))
    return Judged(true, predicted, np.repeat(np.arange(clusters), size), 4)


def test_values_are_the_means_of_scikit_learns_over_the_trainings() -> None:
    given = judged(0, trainings=3)
    accuracy, f1 = accuracy_and_f1(given)
    assert accuracy.value == pytest.approx(np.mean([accuracy_score(given.true, p) for p in given.predicted]))
    assert f1.value == pytest.approx(np.mean([f1_score(given.true, p, average="macro") for p in given.predicted]))
    assert accuracy.low < accuracy.value < accuracy.high
    assert f1.low < f1.value < f1.high


def test_where_every_track_has_its_own_artist_the_interval_is_that_of_a_proportion() -> None:
    given = judged(1, clusters=400, size=1, trainings=1)
    accuracy, _ = accuracy_and_f1(given)
    width = 2 * 1.96 * np.sqrt(accuracy.value * (1 - accuracy.value) / 400)
    assert accuracy.high - accuracy.low == pytest.approx(width, rel=0.1)


def test_artists_that_are_right_or_wrong_as_a_whole_make_the_interval_as_wide_as_if_each_were_one_track() -> None:
    rng = np.random.default_rng(2)
    right = rng.random(100) < 0.6
    true = rng.integers(0, 4, 100)
    predicted = np.where(right, true, (true + 1) % 4)
    alone, _ = accuracy_and_f1(Judged(true, predicted[np.newaxis], np.arange(100), 4))
    nine = [np.repeat(values, 9) for values in (true, predicted, np.arange(100))]
    together, _ = accuracy_and_f1(Judged(nine[0], nine[1][np.newaxis], nine[2], 4))
    assert (together.low, together.high) == (alone.low, alone.high)


def test_a_difference_is_paired() -> None:
    one = judged(3)
    # Right where `one` is right, and on every tenth track more: sure to be better, however the artists are drawn.
    better = Judged(one.true, one.predicted.copy(), one.clusters, 4)
    better.predicted[:, ::10] = one.true[::10]
    difference = accuracy_difference(better, one)
    assert difference.value == pytest.approx(better.accuracies.mean() - one.accuracies.mean())
    assert 0 < difference.low < difference.value < difference.high
    unpaired = [accuracy_and_f1(each)[0] for each in (better, one)]
    assert difference.high - difference.low < (unpaired[0].high - unpaired[0].low) / 2
    same = accuracy_difference(one, one)
    assert (same.value, same.low, same.high) == (0, 0, 0)


def test_different_tracks_are_not_compared() -> None:
    with pytest.raises(ValueError, match="different tracks"):
        accuracy_difference(judged(4), judged(5))
