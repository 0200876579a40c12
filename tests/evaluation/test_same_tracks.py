from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from genre_spark.evaluation.bootstrap import Judged, accuracy_difference
from genre_spark.evaluation.same_tracks import (
    PREDICTIONS,
    JudgedRun,
    difference_on_same_tracks,
    no_clear_difference,
)  # fmt: skip
from genre_spark.evaluation.summary import summary_rows

ARTISTS = [f"artist {number}" for number in range(40) for _ in range(5)]
# One model is right where the other one is, and on every tenth track more.
OTHER = [place % 2 == 0 for place in range(200)]
BETTER = [hit or place % 5 == 1 for place, hit in enumerate(OTHER)]


def judged(runs: Sequence[Path]) -> list[JudgedRun]:
    return [JudgedRun(run, row) for run, row in zip(runs, summary_rows(runs), strict=True)]


@pytest.fixture
def pair(make_run: Callable[..., Path], write_answers: Callable[..., None]) -> list[Path]:
    """A run that is right wherever another one is, and on 20 of 200 tracks more."""
    runs = [make_run("better"), make_run("other")]
    for run, right in zip(runs, (BETTER, OTHER), strict=True):
        write_answers(run, right, ARTISTS)
    return runs


def test_the_interval_is_that_of_drawing_whole_artists_anew() -> None:
    random = np.random.default_rng(0)
    groups = np.unique(random.integers(0, 60, 400), return_inverse=True)[1]
    right, other = random.random(400) < 0.6, random.random(400) < 0.5
    found = difference_on_same_tracks(right, other, groups)
    true = np.zeros(400, int)
    expected = accuracy_difference(
        Judged(true, (~right)[None].astype(int), groups, 2), Judged(true, (~other)[None].astype(int), groups, 2)
    )
    assert found is not None
    assert found.value == pytest.approx(expected.value)
    # Both draw 2,000 times, but not the same draws.
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=0.008)


def test_a_model_that_is_right_wherever_the_other_is_and_more_often_is_ahead(pair: list[Path]) -> None:
    best, other = judged(pair)
    assert best.row.accuracy - other.row.accuracy == pytest.approx(0.1)
    # Of two samples that have nothing to do with each other nobody could say so.
    assert best.row.honest_interval[0] < other.row.honest_interval[1]
    assert no_clear_difference(best, [other]) == []


def test_a_lead_that_a_few_artists_make_is_no_clear_one(make_run, write_answers) -> None:
    runs = [make_run("better"), make_run("other")]
    # One is right on all tracks of ten artists, the other one on all of six others, and both on the rest.
    answers = [[not 50 <= place < 80 for place in range(200)], [place >= 50 for place in range(200)]]
    for artists, chance in ((ARTISTS, True), (None, False)):
        for run, right in zip(runs, answers, strict=True):
            write_answers(run, right, artists)
        best, other = judged(runs)
        assert best.row.accuracy - other.row.accuracy == pytest.approx(0.1)
        assert bool(no_clear_difference(best, [other])) is chance


def test_of_a_handful_of_artists_nobody_can_tell(pair: list[Path], write_answers) -> None:
    for run, right in zip(pair, (BETTER, OTHER), strict=True):
        write_answers(run, right, [f"artist {place // 25}" for place in range(200)])
    best, other = judged(pair)
    assert no_clear_difference(best, [other]) == [other.row]


def test_runs_that_answer_alike_differ_by_chance_at_most(make_run, write_answers) -> None:
    runs = [make_run(name) for name in ("one", "two", "three")]
    random = np.random.default_rng(1)
    for run in runs:
        write_answers(run, (random.random(200) < 0.5).tolist(), ARTISTS)
    best, *others = sorted(judged(runs), key=lambda one: -one.row.accuracy)
    assert no_clear_difference(best, others) == [other.row for other in others]


def test_without_any_artist_tracks_count_one_by_one(make_run, write_answers) -> None:
    runs = [make_run("better"), make_run("other")]
    for run, right in zip(runs, (BETTER, OTHER), strict=True):
        write_answers(run, right)
    best, other = judged(runs)
    assert no_clear_difference(best, [other]) == []


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:200])


def of_other_tracks(file: Path) -> None:
    table = pq.read_table(file)
    ids = pa.array([f"other {name}" for name in table["track_id"].to_pylist()])
    pq.write_table(table.set_column(0, "track_id", ids), file)


def without_artists(file: Path) -> None:
    pq.write_table(pq.read_table(file).drop_columns(["artist"]), file)


def of_another_evaluation(file: Path) -> None:
    table = pq.read_table(file)
    pq.write_table(table.set_column(3, "predicted", table["genre"]), file)


@pytest.mark.parametrize("spoil", [Path.unlink, truncate, of_other_tracks, without_artists, of_another_evaluation])
def test_where_predictions_tell_nothing_the_intervals_alone_decide(pair: list[Path], spoil) -> None:
    spoil(pair[0] / "evaluation" / PREDICTIONS)
    best, other = judged(pair)
    assert no_clear_difference(best, [other]) == [other.row]


def test_far_apart_intervals_need_no_predictions(make_run) -> None:
    best, other = judged([make_run("dnn", share=0.9), make_run("cnn1d", share=0.2)])
    assert no_clear_difference(best, [other]) == []
    assert no_clear_difference(best, []) == []
