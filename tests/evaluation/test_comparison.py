import pytest

from genre_spark.corpora.groups import KINDS
from genre_spark.evaluation.comparison import compare_splits, difference_interval, fellows
from genre_spark.evaluation.metrics import wilson_interval
from genre_spark.evaluation.summary import summary_rows
from genre_spark.models.run import read_run_record, write_run_record


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


def test_two_splits_are_compared_by_the_intervals_that_take_an_artists_tracks_together(make_run, write_answers) -> None:
    runs = [make_run("dnn", split="official", shared=["artist"]), make_run("dnn")]
    artists = [f"artist {number}" for number in range(12) for _ in range(10)]
    for run, share in zip(runs, (6, 3), strict=True):
        write_answers(run, [number < share for number in range(12) for _ in range(10)], artists)
    [comparison] = compare_splits(summary_rows(runs))
    # Of 120 tracks that were independent of each other, 50 % and 25 % are no chance; of 12 artists they are.
    assert comparison.interval[0] < 0 < comparison.difference
    leaking, disjoint = comparison.leaking, comparison.disjoint
    assert difference_interval(leaking.accuracy, leaking.interval, disjoint.accuracy, disjoint.interval)[0] > 0


@pytest.mark.parametrize("kind", KINDS)
def test_whatever_is_shared_makes_a_leaking_run_and_only_what_is_known_a_disjoint_one(make_run, kind) -> None:
    leaking, disjoint = make_run("dnn", split="official", shared=[kind]), make_run("dnn")
    assert len(compare_splits(summary_rows([leaking, disjoint]))) == 1
    assert compare_splits(summary_rows([leaking, make_run("dnn", unknown=[kind])])) == []
    others = [other for other in KINDS if other != kind]
    assert len(compare_splits(summary_rows([leaking, make_run("dnn", unknown=others)]))) == 1


def test_a_run_that_is_grouped_by_copies_alone_and_shares_artists_is_no_disjoint_one(make_run) -> None:
    # Its groups stand apart, its artists don't.
    loose = make_run("dnn", by=["pcm"], shared=["artist"])
    record = read_run_record(loose)
    kinds = {**record.leaks.kinds, "group": record.leaks.kinds["pcm"]}
    write_run_record(loose, record.model_copy(update={"leaks": record.leaks.model_copy(update={"kinds": kinds})}))
    study, artist = make_run("dnn", split="study"), make_run("dnn")
    assert compare_splits(summary_rows([study, loose])) == []
    assert [c.leaking.name for c in compare_splits(summary_rows([study, loose, artist]))] == [study.name, loose.name]


def test_runs_that_were_trained_in_other_ways_are_not_compared(make_run) -> None:
    leaking = make_run("dnn", split="study")
    for other in (make_run("dnn", epochs=3), make_run("dnn", learning_rate=0.01)):
        assert compare_splits(summary_rows([leaking, other])) == []


@pytest.mark.parametrize(
    ("shared", "unknown", "said"),
    [
        (("artist",), (), "the artist of 120 of them"),
        (("album",), ("artist",), "the album of 120 of them"),
        (("pcm",), (), "a copy of 120 of them"),
        (KINDS, (), "the artist of 120, the album of 120 and a copy of 120 of them"),
        ((), (), "no artist, album or recording of theirs"),
        ((), ("artist",), "no album or recording of theirs"),
        ((), ("artist", "pcm"), "no album of theirs"),
        ((), KINDS, "nothing that is known of them"),
    ],
)
def test_what_training_holds_of_the_judged_tracks_is_said_in_words(make_run, shared, unknown, said) -> None:
    [row] = summary_rows([make_run("dnn", split="study", shared=shared, unknown=unknown)])
    assert fellows(row.leaks) == said


def test_runs_on_other_genres_or_without_a_partner_are_not_compared(make_run) -> None:
    runs = [make_run("dnn", split="study"), make_run("dnn", labels=["one", "two"]), make_run("cnn2d", split="study")]
    assert compare_splits(summary_rows(runs)) == []
