"""A feed as Keras reads it: batch after batch, or as numbers of rows of a table in the device's memory."""

from collections.abc import Iterator

import numpy as np

from genre_spark.dataset.feed import Feed
from genre_spark.models.backend import keras

Arrays = tuple[np.ndarray, ...]


class Batches(keras.utils.PyDataset):
    """One part's batches, in each epoch from the first one on.

    A generator would not do: Keras starts it anew at each validation, and loses the batches that it had read ahead.

    Parameters
    ----------
    feed : Feed
        Where the batches come from.
    n_devices : int
        Each batch is a multiple of it.
    is_judged : bool
        Whether every row counts. Then short batches are filled up with rows of weight 0; otherwise, in training, where
        each epoch has another order, the last rows that don't fill all devices are left out.

    Attributes
    ----------
    epoch : int
        Which epoch's order comes next; to be set before an epoch begins.
    error : Exception, optional
        What went wrong when a batch was read. TensorFlow reads in a thread and tells no more than its text.
    """

    def __init__(self, feed: Feed, n_devices: int, *, is_judged: bool) -> None:
        super().__init__()
        self.epoch = 0
        self.error: Exception | None = None
        self._feed = feed
        self._n_devices = n_devices
        self._is_judged = is_judged
        self._batches: Iterator[Arrays] = iter(())
        left = feed.n_rows % feed.batch_size
        self._drops_last = not is_judged and 0 < left < n_devices and feed.n_batches > 1
        missing = -left % n_devices
        # What Keras' mean over all rows has to be multiplied with where rows of weight 0 are among them.
        self.correction = (feed.n_rows + missing) / feed.n_rows if is_judged and n_devices > 1 else 1.0

    def __len__(self) -> int:
        return self._feed.n_batches - self._drops_last

    def __getitem__(self, index: int) -> Arrays:
        try:
            if index == 0:
                self._batches = self._read(self.epoch)
            x, y = next(self._batches)
        except Exception as error:
            self.error = error
            raise
        return (x, y) if self._n_devices == 1 else self._shared(x, y)

    def _read(self, epoch: int) -> Iterator[Arrays]:
        for batch in self._feed.epoch(epoch):
            yield batch.x, batch.y

    def _shared(self, x: np.ndarray, y: np.ndarray) -> Arrays:
        rows = len(y)
        if not self._is_judged:
            # Fewer rows than devices are all that there is: each row as often as it takes.
            kept = rows - rows % self._n_devices
            taken = np.arange(kept) if kept else np.resize(np.arange(rows), self._n_devices)
            return x[taken], y[taken]
        taken = np.resize(np.arange(rows), rows + -rows % self._n_devices)
        return x[taken], y[taken], (np.arange(len(taken)) < rows).astype(np.float32)


class RowNumbers(Batches):
    """The same batches as numbers of rows of a table, in the order of a feed that keeps its tensors in memory."""

    def __init__(
        self, feed: Feed, n_devices: int, *, is_judged: bool, labels: np.ndarray, first: int, seed: int | None
    ) -> None:
        super().__init__(feed, n_devices, is_judged=is_judged)
        self._labels = labels
        self._first = first
        self._seed = seed

    def _read(self, epoch: int) -> Iterator[Arrays]:
        order = order_of(len(self._labels), self._seed, epoch)
        for start in range(0, len(order), self._feed.batch_size):
            chosen = order[start : start + self._feed.batch_size]
            yield (self._first + chosen).astype(np.int32), self._labels[chosen]


class Table(keras.layers.Layer):
    """From numbers of rows `[shape=(batch,)]` to rows of a table in the device's memory."""

    def __init__(self, rows: np.ndarray) -> None:
        super().__init__(trainable=False, dtype="float32")
        self._rows = keras.Variable(rows, trainable=False, dtype="float32", autocast=False, name="rows")

    def call(self, numbers: keras.KerasTensor) -> keras.KerasTensor:
        """Look the rows up."""
        return keras.ops.take(self._rows, numbers, axis=0)


def order_of(rows: int, seed: int | None, epoch: int) -> np.ndarray:
    """Order of an epoch, as `genre_spark.dataset.feed` has it for tensors in memory."""
    return np.arange(rows) if seed is None else np.random.default_rng([seed, epoch]).permutation(rows)


def read_all(feed: Feed, seed: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Read a part's tensors `[shape=(rows, *spec.shape)]` and labels `[shape=(rows,)]`, each at its place."""
    x, y = np.empty((feed.n_rows, *feed.spec.shape), np.float32), np.empty(feed.n_rows, np.int32)
    places, done = order_of(feed.n_rows, seed, 0), 0
    for batch in feed.epoch(0):
        at = places[done : done + len(batch.y)]
        x[at], y[at] = batch.x, batch.y
        done += len(batch.y)
    return x, y
