import numpy as np
import pytest

from genre_spark.evaluation.confusion_matrix import most_confused

CONFUSION = np.random.default_rng(0).poisson(1, (60, 60)) + 9 * np.eye(60, dtype=int)
LABELS = [f"genre {index}" for index in range(60)]


def test_a_small_matrix_is_shown_whole() -> None:
    shown = most_confused(CONFUSION[:9, :9], LABELS[:9])
    assert shown.names == shown.labels == LABELS[:9]
    assert shown.left_out == 0
    np.testing.assert_array_equal(shown.counts, CONFUSION[:9, :9])


def test_those_with_most_mistakes_stay_in_their_order_and_the_others_are_counted_together() -> None:
    shown = most_confused(CONFUSION, LABELS, most=10)
    mistakes = {
        label: CONFUSION[index].sum() + CONFUSION[:, index].sum() - 2 * CONFUSION[index, index]
        for index, label in enumerate(LABELS)
    }
    assert sorted(mistakes[label] for label in shown.labels) == sorted(mistakes.values())[-10:]
    kept = [LABELS.index(label) for label in shown.labels]
    assert kept == sorted(kept)
    others = [index for index in range(60) if index not in kept]
    assert shown.names[-1] == "50 others"
    for row, index in enumerate(kept):
        assert shown.counts[row, :10].tolist() == [CONFUSION[index, other] for other in kept]
        assert shown.counts[row, 10] == sum(CONFUSION[index, other] for other in others)
        assert shown.counts[10, row] == sum(CONFUSION[other, index] for other in others)
    assert shown.counts.sum() == CONFUSION.sum()


@pytest.mark.parametrize("tracks", [0, 5])
def test_without_a_mistake_the_genres_with_most_tracks_are_shown(tracks: int) -> None:
    confusion = np.diag([tracks] * 30 + [tracks * 2] * 30)
    shown = most_confused(confusion, LABELS, most=30)
    assert shown.labels == (LABELS[30:] if tracks else LABELS[:30])
