import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import (
    accuracy_score,
    classification_report,
    confusion_matrix,
    f1_score,
    precision_recall_fscore_support,
)

from genre_spark.errors import RunError
from genre_spark.evaluation.effective_sample import GroupCounts
from genre_spark.evaluation.metrics import (
    accuracy,
    build_metrics,
    f1_interval,
    genre_metrics,
    row_shares,
    wilson_interval,
)
from genre_spark.models.reliability import ReliabilityBin

LABELS = ("Folk", "Hip-Hop", "Pop", "Rock")
CONFUSION = np.array([[5, 1, 0, 0], [2, 3, 1, 0], [0, 0, 4, 2], [0, 0, 0, 6]])

RELIABILITY = [
    ReliabilityBin(low=10 / 15, high=11 / 15, n=18, confidence=0.7, accuracy=0.75),
    ReliabilityBin(low=14 / 15, high=1.0, n=6, confidence=0.95, accuracy=0.75),
]

# Few genres and few tracks, so that genres without tracks and genres never predicted come up often.
answers = st.integers(2, 6).flatmap(
    lambda n: st.tuples(
        st.just(n), st.lists(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)), min_size=1, max_size=40)
    )
)


@given(answers)
@settings(max_examples=80)
def test_the_metrics_are_scikit_learns(case: tuple[int, list[tuple[int, int]]]) -> None:
    n, pairs = case
    true, predicted = zip(*pairs, strict=True)
    names = [f"genre {index}" for index in range(n)]
    confusion = confusion_matrix(true, predicted, labels=range(n))
    metrics = build_metrics({"test": confusion}, names, "test")

    assert metrics["accuracy"] == pytest.approx(accuracy_score(true, predicted))
    wanted = precision_recall_fscore_support(true, predicted, labels=range(n), zero_division=0)
    ours = genre_metrics(confusion)
    for name, values in zip(("precision", "recall", "f1", "support"), wanted, strict=True):
        np.testing.assert_allclose(ours[name], values)
    report = classification_report(
        true, predicted, labels=range(n), target_names=names, output_dict=True, zero_division=0
    )
    assert metrics["macro_f1"] == pytest.approx(report["macro avg"]["f1-score"])
    for name in names:
        assert metrics["per_genre"][name]["recall"] == pytest.approx(report[name]["recall"])
        assert metrics["per_genre"][name]["support"] == report[name]["support"]


@pytest.mark.parametrize(
    ("hits", "n", "low", "high"),
    [
        # R. G. Newcombe 1998, Two-sided confidence intervals for the single proportion, table I, method 3.
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_the_interval_is_that_of_newcombes_published_examples(hits: int, n: int, low: float, high: float) -> None:
    assert wilson_interval(hits, n) == pytest.approx((low, high), abs=5e-5)


@given(st.integers(1, 5_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_an_interval_holds_its_share_and_stays_within_0_and_1(case: tuple[int, int]) -> None:
    hits, n = case
    low, high = wilson_interval(hits, n)
    assert 0 <= low <= hits / n <= high <= 1
    mirrored = wilson_interval(n - hits, n)
    assert (1 - mirrored[1], 1 - mirrored[0]) == pytest.approx((low, high))


def test_an_interval_of_no_track_says_that_nothing_is_known() -> None:
    assert wilson_interval(0, 0) == (0.0, 1.0)


def test_an_empty_matrix_gives_zeros_and_no_warning(recwarn: pytest.WarningsRecorder) -> None:
    empty = np.zeros((3, 3), dtype=np.int64)
    assert accuracy(empty) == 0.0
    assert row_shares(empty).tolist() == empty.tolist()
    assert all(not values.any() for values in genre_metrics(empty).values())
    assert not recwarn.list


def test_rows_are_shares_of_the_true_genre() -> None:
    np.testing.assert_allclose(row_shares(CONFUSION)[1], [2 / 6, 3 / 6, 1 / 6, 0])


def test_the_metrics_tell_of_the_judged_part_and_of_all_parts() -> None:
    metrics = build_metrics({"training": 10 * np.eye(4, dtype=int), "test": CONFUSION}, LABELS, "test")
    assert metrics["part"] == "test"
    assert metrics["n"] == 24
    assert metrics["accuracy"] == 18 / 24
    assert metrics["chance"] == 0.25
    assert metrics["confusion"] == CONFUSION.tolist()
    assert metrics["parts"] == {"training": {"accuracy": 1.0, "n": 40}, "test": {"accuracy": 18 / 24, "n": 24}}


def test_a_judged_part_that_was_not_scored_is_refused() -> None:
    with pytest.raises(RunError, match="part 'test' was not scored, only training"):
        build_metrics({"training": CONFUSION}, LABELS, "test")


def test_a_matrix_that_does_not_fit_the_labels_is_refused() -> None:
    with pytest.raises(RunError, match=r"part 'test': confusion matrix of shape \(4, 4\) for 3 labels"):
        build_metrics({"test": CONFUSION}, LABELS[:3], "test")


def test_the_calibration_error_is_the_mean_distance_of_confidence_and_accuracy() -> None:
    metrics = build_metrics({"test": CONFUSION}, LABELS, "test", reliability=RELIABILITY)
    assert metrics["ece"] == pytest.approx((18 * 0.05 + 6 * 0.2) / 24)
    assert [found["n"] for found in metrics["reliability"]] == [18, 6]
    assert build_metrics({"test": CONFUSION}, LABELS, "test")["ece"] is None


# What the first version that evaluated wrote; later ones added keys.
def test_the_intervals_of_a_genre_are_wilsons_of_its_counts() -> None:
    metrics = build_metrics({"test": CONFUSION}, LABELS, "test")
    assert metrics["per_genre"]["Folk"]["precision_interval"] == list(wilson_interval(5, 7))
    assert metrics["per_genre"]["Folk"]["recall_interval"] == list(wilson_interval(5, 6))


@given(answers)
@settings(max_examples=60, deadline=None)
def test_all_intervals_hold_their_values(case: tuple[int, list[tuple[int, int]]]) -> None:
    n, pairs = case
    true, predicted = zip(*pairs, strict=True)
    labels = [f"genre {index}" for index in range(n)]
    metrics = build_metrics({"test": confusion_matrix(true, predicted, labels=range(n))}, labels, "test")
    for values in [*metrics["per_genre"].values(), metrics]:
        for name in ("precision", "recall", "f1", "macro_f1", "accuracy"):
            # Of few tracks macro-F1 has none.
            if name in values and values[f"{name}_interval"] is not None:
                low, high = values[f"{name}_interval"]
                assert 0 <= low <= values[name] + 1e-12 <= high + 2e-12 <= 1 + 3e-12, name


def test_the_interval_of_f1_is_near_that_of_drawing_tracks_where_there_are_many() -> None:
    hits, missed, wrong, others = 300, 120, 90, 490
    share = np.array([hits, missed, wrong, others]) / 1_000
    drawn = np.random.default_rng(0).multinomial(1_000, share, 5_000)
    f1 = 2 * drawn[:, 0] / (2 * drawn[:, 0] + drawn[:, 1] + drawn[:, 2])
    expected = np.percentile(f1, [2.5, 97.5])
    np.testing.assert_allclose(f1_interval(hits, hits + missed, hits + wrong), expected, atol=0.003)


@pytest.mark.parametrize(("support", "recall", "wrong"), [(8, 0.9, 0.5), (20, 0.6, 4), (40, 0.95, 1)])
def test_the_interval_of_f1_covers_the_true_one_95_times_in_100(support: int, recall: float, wrong: float) -> None:
    """Few tracks and high scores: where the bootstrap's percentiles are far too narrow."""
    random = np.random.default_rng(5)
    n, p = 1_000, np.array([support * recall, support * (1 - recall), wrong])
    true_f1 = 2 * p[0] / (2 * p[0] + p[1] + p[2])
    drawn = random.multinomial(n, [*p / n, 1 - p.sum() / n], 2_000)[:, :3].tolist()
    covered = []
    for hits, missed, false in drawn:
        low, high = f1_interval(hits, hits + missed, hits + false)
        covered.append(low <= true_f1 <= high)
    assert 0.93 < np.mean(covered) < 0.99


def test_three_right_out_of_three_are_no_proof() -> None:
    low, high = f1_interval(3, 3, 3)
    assert 0.5 < low < 0.7
    assert high == 1.0
    assert f1_interval(0, 0, 0) == (0.0, 1.0)


def test_artists_are_counted_and_few_of_them_give_no_interval() -> None:
    groups = [GroupCounts(n=2, hits=1, groups=6), GroupCounts(n=1, hits=1, groups=12)]
    metrics = build_metrics({"test": CONFUSION}, LABELS, "test", groups=groups)
    assert metrics["artists"] == 18
    low, high = metrics["accuracy_interval_by_artist"]
    assert low < 18 / 24 < high
    few = build_metrics({"test": CONFUSION}, LABELS, "test", groups=[GroupCounts(n=4, hits=3, groups=6)])
    assert (few["artists"], few["accuracy_interval_by_artist"]) == (6, None)
    unknown = build_metrics({"test": CONFUSION}, LABELS, "test")
    assert (unknown["artists"], unknown["accuracy_interval_by_artist"]) == (None, None)


def test_artists_may_be_known_of_too_few_tracks_for_an_interval() -> None:
    metrics = build_metrics({"test": CONFUSION}, LABELS, "test", artists=40)
    assert (metrics["artists"], metrics["accuracy_interval_by_artist"]) == (40, None)
    # A track whose artist isn't known is a group, and no artist.
    groups = [GroupCounts(n=2, hits=1, groups=6), GroupCounts(n=1, hits=1, groups=12)]
    metrics = build_metrics({"test": CONFUSION}, LABELS, "test", groups=groups, artists=17)
    assert metrics["artists"] == 17
    assert metrics["accuracy_interval_by_artist"] is not None


def test_macro_f1_of_a_dataset_is_over_the_genres_that_it_has_and_of_a_run_over_all() -> None:
    """Two genres out of four, and an answer of a third."""
    confusion = np.array([[20, 4, 1, 0], [3, 30, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]])
    cells = np.argwhere(confusion).repeat(confusion[confusion > 0], axis=0)
    of_dataset = build_metrics({"all": confusion}, LABELS, "all")
    assert of_dataset["macro_f1"] == pytest.approx(f1_score(*cells.T, labels=[0, 1], average="macro"))
    low, high = of_dataset["macro_f1_interval"]
    assert low < of_dataset["macro_f1"] < high
    of_run = build_metrics({"test": confusion}, LABELS, "test")
    assert of_run["macro_f1"] == pytest.approx(f1_score(*cells.T, labels=range(4), average="macro", zero_division=0))
    assert of_run["macro_f1"] < 0.5 < 0.8 < of_dataset["macro_f1"]
    # The order of the genres is no matter.
    order = [3, 1, 0, 2]
    turned = build_metrics({"all": confusion[np.ix_(order, order)]}, LABELS, "all")
    assert turned["macro_f1"] == pytest.approx(of_dataset["macro_f1"])
    assert turned["macro_f1_interval"] == pytest.approx([low, high], abs=0.01)
