import pytest

from genre_spark.evaluation.comparison import compare_splits, difference_interval
from genre_spark.evaluation.metrics import wilson_interval
from genre_spark.evaluation.summary import summary_rows


@pytest.mark.parametrize(
    ("first", "second", "low", "high"),
    # Newcombe 1998, table II, examples (a) to (c) and (e), by method 10.
    [
        ((56, 70), (48, 80), 0.0524, 0.3339),
        ((9, 10), (3, 10), 0.1705, 0.8090),
        ((6, 7), (2, 7), 0.0582, 0.8062),
        ((10, 10), (0, 20), 0.6791, 1.0000),
    ],
)
def test_the_interval_of_a_difference_is_newcombes(first, second, low, high) -> None:
    shares = [hits / n for hits, n in (first, second)]
    interval = difference_interval(shares[0], wilson_interval(*first), shares[1], wilson_interval(*second))
    assert interval == pytest.approx((low, high), abs=5e-5)


def test_a_leaking_run_is_compared_with_the_disjoint_one_of_the_same_model(make_run) -> None:
    rows = summary_rows(
        [make_run("dnn", split="study", share=0.8), make_run("cnn1d"), make_run("dnn", share=0.6)],
    )
    [comparison] = compare_splits(rows)
    assert (comparison.leaking.split, comparison.disjoint.split) == ("study", "artist")
    assert comparison.model == "dnn"
    assert comparison.difference == pytest.approx(rows[0].accuracy - rows[2].accuracy)
    low, high = comparison.interval
    assert low < comparison.difference < high


def test_runs_on_other_genres_or_without_a_partner_are_not_compared(make_run) -> None:
    runs = [make_run("dnn", split="study"), make_run("dnn", labels=["one", "two"]), make_run("cnn2d", split="study")]
    assert compare_splits(summary_rows(runs)) == []
