import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, classification_report, confusion_matrix, precision_recall_fscore_support

from genre_spark.errors import RunError
from genre_spark.evaluation.metrics import (
    accuracy,
    build_metrics,
    genre_metrics,
    read_metrics,
    row_shares,
    wilson_interval,
    write_metrics,
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


def test_metrics_from_before_the_calibration_are_read_too(tmp_path: Path) -> None:
    metrics = build_metrics({"test": CONFUSION}, LABELS, "test")
    old = {name: value for name, value in metrics.items() if name not in ("ece", "reliability")}
    (tmp_path / "evaluation").mkdir()
    (tmp_path / "evaluation" / "metrics.json").write_text(json.dumps(old), encoding="utf-8")
    assert read_metrics(tmp_path) == metrics


def test_metrics_read_back_as_they_were_written(tmp_path: Path) -> None:
    confusions = {"validation": CONFUSION + 1, "test": CONFUSION}
    metrics = build_metrics(confusions, LABELS, "test", reliability=RELIABILITY)
    write_metrics(tmp_path / "evaluation", metrics)
    assert read_metrics(tmp_path) == metrics
    assert sorted(path.name for path in (tmp_path / "evaluation").iterdir()) == ["confusion.csv", "metrics.json"]


def test_pandas_reads_the_confusion_matrix(tmp_path: Path) -> None:
    labels = ["R&B, Soul", 'a "quoted" one', "演歌", "Rock"]
    write_metrics(tmp_path, build_metrics({"test": CONFUSION}, labels, "test"))
    table = pd.read_csv(tmp_path / "confusion.csv", index_col=0)
    assert table.index.tolist() == labels
    assert table.columns.tolist() == labels
    assert table.to_numpy().tolist() == CONFUSION.tolist()


def test_a_run_that_was_not_evaluated_is_refused_with_the_command_that_does_it(tmp_path: Path) -> None:
    with pytest.raises(RunError) as refusal:
        read_metrics(tmp_path)
    assert f"`genre-spark evaluate --run {tmp_path}`" in str(refusal.value)


@pytest.mark.parametrize(
    "damage",
    [
        lambda metrics: metrics | {"accuracy": "high"},
        lambda metrics: metrics | {"labels": ["Folk"]},
        lambda metrics: metrics | {"confusion": [[1, 2], [3]]},
        lambda metrics: metrics | {"reliability": [{"low": 0, "high": 1, "n": 0, "confidence": 1, "accuracy": 1}]},
        lambda metrics: {"labels": []},
        lambda metrics: [],
    ],
)
def test_damaged_metrics_are_refused_in_one_line(tmp_path: Path, damage) -> None:
    metrics = build_metrics({"test": CONFUSION}, LABELS, "test")
    (tmp_path / "evaluation").mkdir()
    (tmp_path / "evaluation" / "metrics.json").write_text(json.dumps(damage(metrics)), encoding="utf-8")
    with pytest.raises(RunError, match=r"metrics\.json.*genre-spark evaluate") as refusal:
        read_metrics(tmp_path)
    assert "\n" not in str(refusal.value)
