from collections.abc import Iterator
from types import SimpleNamespace

import numpy as np
import pytest

from genre_spark.corpora.splits import make_split
from genre_spark.dataset.feed import Batch, open_feed
from genre_spark.dataset.store import Dataset
from genre_spark.models.backend import keras
from genre_spark.models.fitting_batches import Batches, RowNumbers, Table, read_all
from genre_spark.settings import Settings


class Rows:
    """A feed of numbered rows."""

    def __init__(self, n_rows: int, batch_size: int) -> None:
        self.n_rows, self.batch_size = n_rows, batch_size
        self.n_batches = -(-n_rows // batch_size)
        self.spec = SimpleNamespace(shape=(1,))

    def epoch(self, index: int) -> Iterator[Batch]:
        rows = np.roll(np.arange(self.n_rows), index)
        for start in range(0, self.n_rows, self.batch_size):
            y = rows[start : start + self.batch_size].astype(np.int32)
            yield Batch([], y[:, np.newaxis].astype(np.float32), y)


@pytest.mark.parametrize(("rows", "size", "devices"), [(10, 4, 1), (10, 4, 2), (9, 4, 2), (11, 4, 4), (3, 4, 4)])
def test_judged_rows_all_count_once_and_batches_can_be_shared(rows: int, size: int, devices: int) -> None:
    judged = Batches(Rows(rows, size), devices, is_judged=True)
    batches = [judged[index] for index in range(len(judged))]
    weights = [batch[2] if len(batch) == 3 else np.ones(len(batch[1])) for batch in batches]
    assert all(len(batch[1]) % devices == 0 for batch in batches)
    counted = np.concatenate([batch[1][weight == 1] for batch, weight in zip(batches, weights, strict=True)])
    assert counted.tolist() == list(range(rows))
    # Keras divides by all rows; the correction makes that the mean over those that count.
    total = sum(len(weight) for weight in weights)
    assert judged.correction == pytest.approx(total / rows)


@pytest.mark.parametrize(("rows", "devices", "left_out"), [(10, 1, 0), (10, 2, 0), (9, 2, 1), (11, 4, 3), (3, 4, -1)])
def test_training_leaves_out_less_than_a_row_per_device(rows: int, devices: int, left_out: int) -> None:
    training = Batches(Rows(rows, 4), devices, is_judged=False)
    seen = np.concatenate([training[index][1] for index in range(len(training))])
    assert len(seen) == rows - left_out
    assert all(len(training[index][1]) % devices == 0 for index in range(len(training)))


def test_the_epoch_decides_the_order_however_often_keras_looks_ahead() -> None:
    training = Batches(Rows(8, 4), 1, is_judged=False)
    for epoch in (0, 3, 3, 1):
        training.epoch = epoch
        assert [y for index in range(2) for y in training[index][1]] == np.roll(np.arange(8), epoch).tolist()


def test_what_went_wrong_is_kept_for_who_reads_in_another_thread() -> None:
    training = Batches(
        SimpleNamespace(n_rows=4, batch_size=4, n_batches=1, epoch=lambda index: 1 / 0), 1, is_judged=False
    )
    with pytest.raises(ZeroDivisionError):
        training[0]
    assert isinstance(training.error, ZeroDivisionError)


def test_numbers_of_rows_lead_to_the_feeds_own_batches(dataset: Dataset, settings: Settings) -> None:
    split = make_split(dataset.tracks(), "study", settings.split).to_pylist()
    labels_of = {row["track_id"]: number for number, row in enumerate(split)}

    def feed(seed: int | None):
        return open_feed(dataset, "mfcc_mean", labels_of, batch_size=5, cache_bytes=2**20, seed=seed)

    x, y = read_all(feed(7), 7)
    numbers = RowNumbers(feed(7), 1, is_judged=False, labels=y, first=2, seed=7)
    table = Table(np.concatenate([np.zeros((2, 80), np.float32), x]))
    for epoch in (0, 4):
        numbers.epoch = epoch
        for index, batch in enumerate(feed(7).epoch(epoch)):
            chosen, labels = numbers[index]
            np.testing.assert_array_equal(keras.ops.convert_to_numpy(table(chosen)), batch.x)
            np.testing.assert_array_equal(labels, batch.y)
