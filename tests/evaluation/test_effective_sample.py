from collections import Counter

import numpy as np
import pytest
from scipy import stats

from genre_spark.evaluation.bootstrap import Judged, accuracy_and_f1
from genre_spark.evaluation.effective_sample import GroupCounts, effective_sample
from genre_spark.evaluation.metrics import accuracy_interval_over_groups, wilson_interval


def grouped(n: np.ndarray, hits: np.ndarray) -> list[GroupCounts]:
    kinds = Counter(zip(n.tolist(), hits.tolist(), strict=True))
    return [GroupCounts(n=n, hits=hits, groups=groups) for (n, hits), groups in kinds.items()]


def interval(n: np.ndarray, hits: np.ndarray) -> tuple[float, float]:
    found = accuracy_interval_over_groups(grouped(n, hits))
    assert found is not None
    return found


def width(n: np.ndarray, hits: np.ndarray) -> float:
    low, high = interval(n, hits)
    return high - low


@pytest.mark.parametrize(
    ("groups", "alike", "accuracy"),
    [(10, 0.3, 0.6), (10, 0.6, 0.95), (12, 0.3, 0.3), (30, 0.3, 0.9), (30, 0.6, 0.95), (100, 0.3, 0.6)],
)
def test_the_interval_holds_the_true_accuracy_about_95_times_in_100(groups: int, alike: float, accuracy: float) -> None:
    """Artists whose tracks are right together (`alike`: their correlation): drawing few artists anew holds it in 60."""
    random = np.random.default_rng(7)
    shares = accuracy * (1 - alike) / alike, (1 - accuracy) * (1 - alike) / alike
    held = []
    for _ in range(600):
        n = random.integers(1, 12, groups)
        low, high = interval(n, random.binomial(n, random.beta(*shares, groups)))
        held.append(low <= accuracy <= high)
    assert 0.88 < np.mean(held) < 0.99


def test_of_many_artists_the_interval_is_that_of_drawing_whole_artists() -> None:
    random = np.random.default_rng(2)
    sizes = random.integers(1, 12, 300)
    right = np.repeat(random.random(300) < 0.6, sizes) ^ (random.random(sizes.sum()) < 0.1)
    clusters = np.repeat(np.arange(300), sizes)
    expected, _ = accuracy_and_f1(Judged(np.zeros(len(right), int), np.where(right, 0, 1)[None], clusters, 2))
    found = interval(sizes, np.bincount(clusters, right).astype(int))
    assert found == pytest.approx((expected.low, expected.high), abs=0.006)


def test_the_sample_has_the_variance_of_the_mean_over_equal_groups() -> None:
    """Groups of one size: the variance of the accuracy is that of the groups' accuracies, by the number of groups."""
    hits = np.random.default_rng(0).binomial(8, 0.7, 40)
    sample = effective_sample(grouped(np.full(40, 8), hits))
    assert sample is not None
    share = hits.sum() / 320
    assert sample.hits / sample.n == pytest.approx(share)
    variance = np.var(hits / 8, ddof=1) / 40
    assert sample.n == pytest.approx(min(320, share * (1 - share) / variance))
    assert sample.quantile == pytest.approx(stats.t.ppf(0.975, 39))


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_artists_that_are_all_the_same_are_worth_one_track_each(share: float) -> None:
    """Twelve artists without a mistake say nothing for certain: an interval without width would."""
    n = np.full(12, 10)
    low, high = interval(n, (share * n).astype(int))
    assert (low, high) == pytest.approx(wilson_interval(12 * share, 12, z=float(stats.t.ppf(0.975, 11))))
    assert high - low > 0.25


def test_the_interval_is_never_narrower_than_that_over_tracks() -> None:
    random = np.random.default_rng(1)
    for _ in range(300):
        n = random.integers(1, 20, random.integers(10, 40))
        hits = random.binomial(n, random.random())
        low, high = interval(n, hits)
        inner = wilson_interval(int(hits.sum()), int(n.sum()))
        assert 0 <= low <= inner[0] + 1e-9
        assert inner[1] - 1e-9 <= high <= 1


def test_an_interval_is_wider_where_artists_are_right_or_wrong_as_a_whole() -> None:
    n, every = np.full(40, 10), np.arange(40)
    # Half of the tracks of each artist, but for as many one more as one less: not quite alike.
    assert width(n, every % 2 * 10) > 2 * width(n, 5 + every % 3 - 1)


def test_few_artists_get_no_interval() -> None:
    assert accuracy_interval_over_groups([GroupCounts(n=100, hits=60, groups=9)]) is None
    assert accuracy_interval_over_groups([GroupCounts(n=100, hits=60, groups=10)]) is not None
    assert accuracy_interval_over_groups([]) is None


def test_whoever_counted_first_the_interval_is_the_same() -> None:
    counts = grouped(np.arange(1, 30), np.arange(29) // 2)
    assert accuracy_interval_over_groups(counts) == accuracy_interval_over_groups(counts[::-1])
