import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from genre_spark.evaluation.count_bootstrap import macro_f1_interval
from genre_spark.evaluation.metrics import genre_metrics

# The last genre has no track, and none is taken for it.
CONFUSION = np.array([[40, 6, 2, 0], [9, 25, 4, 0], [1, 3, 30, 0], [0, 0, 0, 0]])

COUNTS = st.integers(1, 6).flatmap(
    lambda n: st.lists(st.lists(st.integers(0, 9), min_size=n, max_size=n), min_size=n, max_size=n)
)


def macro_f1(confusion: np.ndarray) -> float:
    return float(genre_metrics(confusion)["f1"].mean())


def interval(confusion: np.ndarray) -> tuple[float, float]:
    found = macro_f1_interval(confusion, macro_f1(confusion))
    assert found is not None
    return found


def tracks_of(confusion: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    cells = np.argwhere(confusion).repeat(confusion[confusion > 0], axis=0)
    return cells[:, 0], cells[:, 1]


def drawn_anew(confusion: np.ndarray, absent: int = 0, draws: int = 800) -> np.ndarray:
    """Macro-F1 of tracks that are drawn one by one, by scikit-learn, over the genres in the draw and absent ones."""
    true, predicted = tracks_of(confusion)
    random, found = np.random.default_rng(1), []
    for draw in random.integers(0, len(true), (draws, len(true))):
        f1 = f1_score(true[draw], predicted[draw], average=None, zero_division=0)
        found.append(f1.sum() / (len(f1) + absent))
    return np.array(found)


def test_the_interval_is_that_of_drawing_tracks_and_asking_scikit_learn() -> None:
    expected = np.percentile(drawn_anew(CONFUSION, absent=1), [2.5, 97.5])
    np.testing.assert_allclose(interval(CONFUSION), expected, atol=0.01)


def test_the_lower_end_is_moved_once_by_the_bias_of_the_draws_and_the_upper_one_twice() -> None:
    """Genres of few tracks have a lower F1 in draws than they have, and among the judged tracks than among all."""
    right = [4, 5, 3, 5, 4, 5, 3, 4, 2, 5]
    confusion = np.diag(right)
    for genre, n in enumerate(right):
        for step in range(6 - n):
            confusion[genre, (genre + 1 + step) % 10] += 1
    drawn = drawn_anew(confusion)
    bias = drawn.mean() - macro_f1(confusion)
    assert bias < -0.02, "else the test tells nothing"
    expected = np.percentile(drawn, [2.5, 97.5]) - [bias, 2 * bias]
    np.testing.assert_allclose(interval(confusion), expected, atol=0.008)


@pytest.mark.parametrize(
    ("genres", "accuracy", "n"),
    [
        (8, 0.9, 120),
        (3, 0.6, 40),
        pytest.param(8, 0.5, 120, marks=pytest.mark.slow),
        pytest.param(20, 0.5, 240, marks=pytest.mark.slow),
        pytest.param(60, 0.5, 900, marks=pytest.mark.slow),
    ],
)
def test_the_interval_holds_the_true_value_about_95_times_in_100(
    genres: int, accuracy: float, n: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("genre_spark.evaluation.count_bootstrap.RESAMPLES", 300)
    shares = np.full((genres, genres), (1 - accuracy) / (genres - 1) / genres)
    np.fill_diagonal(shares, accuracy / genres)
    random, held = np.random.default_rng(3), []
    for _ in range(200):
        confusion = random.multinomial(n, shares.ravel()).reshape(genres, genres)
        found = macro_f1_interval(confusion, macro_f1(confusion))
        if found is not None:
            held.append(found[0] <= macro_f1(shares) <= found[1])
    assert len(held) > 150
    assert 0.9 < np.mean(held) < 0.995


@given(COUNTS)
@settings(max_examples=40, deadline=None)
def test_the_interval_holds_the_value_and_stays_within_0_and_1(counts: list[list[int]]) -> None:
    confusion = np.array(counts)
    found = macro_f1_interval(confusion, macro_f1(confusion))
    if found is None:
        return
    true, predicted = tracks_of(confusion)
    value = f1_score(true, predicted, labels=range(len(counts)), average="macro", zero_division=0)
    assert 0 <= found[0] <= value + 1e-12
    assert value - 1e-12 <= found[1] <= 1


def test_predictions_of_genres_that_the_mean_leaves_out_are_mistakes() -> None:
    """Two genres out of three are judged; what is taken for the third is a column without a row."""
    confusion = 4 * np.array([[40, 6, 2], [9, 25, 4]])
    true, predicted = tracks_of(confusion)
    value = f1_score(true, predicted, labels=[0, 1], average="macro")
    random = np.random.default_rng(1)
    drawn = [
        f1_score(true[draw], predicted[draw], labels=[0, 1], average="macro")
        for draw in random.integers(0, len(true), (500, len(true)))
    ]
    found = macro_f1_interval(confusion, value)
    assert found is not None
    np.testing.assert_allclose(found, np.percentile(drawn, [2.5, 97.5]), atol=0.01)


@pytest.mark.parametrize(
    "confusion",
    [
        np.zeros((3, 3), np.int64),
        np.diag([3, 3, 3]),  # three tracks of each
        np.array([[30, 10, 0], [10, 2, 0], [0, 0, 1]]) * [[1, 1, 1], [0, 1, 1], [1, 1, 1]],  # two small genres of three
        np.diag([30, 30, 30]),  # no draw has a mistake
    ],
)
def test_there_is_none_where_it_would_be_too_rough(confusion: np.ndarray) -> None:
    assert macro_f1_interval(confusion, macro_f1(confusion)) is None


def test_the_same_counts_give_the_same_interval() -> None:
    assert interval(CONFUSION) == interval(CONFUSION.copy())


def test_a_thousand_genres_and_two_hundred_thousand_tracks_take_seconds() -> None:
    random = np.random.default_rng(0)
    confusion = np.zeros((1_000, 1_000), np.int64)
    np.add.at(confusion, tuple(random.integers(0, 1_000, (2, 100_000))), 1)
    confusion[np.diag_indices(1_000)] += 100
    started = time.perf_counter()
    low, high = interval(confusion)
    assert time.perf_counter() - started < 30
    assert 0.49 < low < macro_f1(confusion) < high < 0.51
