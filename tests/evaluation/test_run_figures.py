from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from genre_spark.evaluation.run_figures import accuracies_figure, coverage_figure
from genre_spark.evaluation.study import STUDY
from genre_spark.evaluation.summary import summary_rows
from genre_spark.models.calibration import Threshold, threshold_for

RANDOM = np.random.default_rng(0)
PROBABILITIES = RANDOM.dirichlet([0.4] * 5, size=80)
TRUE = np.where(RANDOM.random(80) < PROBABILITIES.max(axis=1), PROBABILITIES.argmax(axis=1), RANDOM.integers(0, 5, 80))
CONFIDENCE, RIGHT = PROBABILITIES.max(axis=1), PROBABILITIES.argmax(axis=1) == TRUE


def points_of(figure: Figure, label: str) -> list[tuple[float, float]]:
    return [
        (x, y)
        for line in figure.axes[0].lines
        if line.get_label() == label
        for x, y in zip(np.asarray(line.get_xdata()), np.asarray(line.get_ydata()), strict=True)
    ]


def test_each_run_has_a_line_with_its_accuracy_on_each_part(make_run: Callable[..., Path]) -> None:
    rows = summary_rows([make_run("dnn"), make_run("dnn", split="study"), make_run("cnn_time")])
    figure = accuracies_figure(rows)
    for part in ("training", "validation", "test"):
        expected = [(row.accuracies[part], place) for place, row in enumerate(rows) if row.accuracies[part] is not None]
        found = points_of(figure, part)
        assert [share for share, _ in found] == [share for share, _ in expected]
        assert [round(height) for _, height in found] == [place for _, place in expected]
    assert len(points_of(figure, "test")) == 2, "the study's split has no test part"
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert names == [f"{row.name}\n{row.split} split" for row in rows]


def test_the_interval_is_that_of_the_part_that_judges_by_artist_where_artists_are_known(
    make_run: Callable[..., Path], write_answers: Callable[..., None]
) -> None:
    run = make_run("dnn")
    [row] = summary_rows([run])
    intervals = [tuple(line.get_xdata()) for line in accuracies_figure([row]).axes[0].lines if line.get_alpha() == 0.45]
    assert intervals == [row.interval]
    write_answers(run, [place < 30 for place in range(120)], [f"artist {place // 10}" for place in range(120)])
    [row] = summary_rows([run])
    intervals = [tuple(line.get_xdata()) for line in accuracies_figure([row]).axes[0].lines if line.get_alpha() == 0.45]
    assert intervals == [row.interval_by_artist]
    assert row.interval[0] < row.accuracy < row.interval[1]


def test_the_studys_accuracies_stand_beside_its_models_only(make_run: Callable[..., Path]) -> None:
    figure = accuracies_figure(summary_rows([make_run("cnn_time"), make_run("cnn2d")]))
    found = points_of(figure, "the study, validation")
    assert [share for share, _ in found] == [STUDY["cnn2d"].validation_accuracy]
    assert round(found[0][1]) == 1


def test_the_curve_is_the_share_of_right_answers_among_the_surest() -> None:
    for share, right in points_of(coverage_figure(CONFIDENCE, RIGHT), "right of them"):
        surest = np.argsort(-CONFIDENCE)[: round(share * 80)]
        assert right == pytest.approx(RIGHT[surest].mean())
    assert points_of(coverage_figure(CONFIDENCE, RIGHT), "right of them")[-1] == (1.0, pytest.approx(RIGHT.mean()))


def test_tracks_of_one_confidence_are_one_point_whatever_their_order() -> None:
    confidence = [0.9, 0.9, 0.9, 0.9, 0.5]
    for right in ([True, True, False, False, True], [False, False, True, True, True]):
        assert points_of(coverage_figure(confidence, right), "right of them") == [(0.8, 0.5), (1.0, 0.6)]


def test_a_threshold_is_marked_where_its_answers_reach_what_was_asked_for() -> None:
    thresholds = [threshold_for(PROBABILITIES, TRUE, precision) for precision in (0.7, 0.9)]
    found = points_of(coverage_figure(CONFIDENCE, RIGHT, thresholds), "threshold chosen for")
    # From few answers to many: the higher precision first.
    for (share, right), threshold in zip(found, reversed(thresholds), strict=True):
        assert share == pytest.approx(threshold.coverage)
        assert right >= threshold.precision


def test_thresholds_that_answer_the_same_tracks_share_a_mark_and_one_that_answers_none_has_no_mark() -> None:
    thresholds = [
        Threshold(precision=0.7, threshold=0.55, coverage=1.0),
        Threshold(precision=0.8, threshold=0.6, coverage=1.0),
        Threshold(precision=0.9, threshold=0.99, coverage=0.1),
    ]
    figure = coverage_figure([0.9, 0.7, 0.5], [True, False, False], thresholds)
    assert points_of(figure, "threshold chosen for") == [(2 / 3, 0.5)]
    assert [text.get_text() for text in figure.axes[0].texts] == ["70 %, 80 %"]
