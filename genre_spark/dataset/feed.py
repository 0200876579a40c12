"""Parquet -> petastorm -> batches for Keras: the tracks of one part of a split, each (or each segment) once per epoch.

petastorm reads row groups ahead in threads; which tracks belong, in which order they come and whether all of them came
is decided and checked here. Batches are NumPy, so that they suit every back end of Keras.
"""

import functools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from genre_spark.dataset.feed_copy import RowCopier
from genre_spark.dataset.feed_order import fill, in_memory, on_disk, shuffled
from genre_spark.dataset.feed_part import find_part
from genre_spark.dataset.feed_reading import PartReader, Rows
from genre_spark.dataset.store import Dataset
from genre_spark.errors import FeedError
from genre_spark.features.spec import FeatureSpec

# Memory of the shuffle buffer when an epoch is read from files: 512 mel spectrograms of 96 x 1366.
SHUFFLE_BYTES = 2**28


@dataclass(frozen=True, eq=False)
class Batch:
    """Some tracks, or segments of tracks, of an epoch.

    Parameters
    ----------
    track_ids : list of str
        Whose row it is: a track may stand there once for each of its segments.
    x : np.ndarray [shape=(b, *spec.shape)], float32
    y : np.ndarray [shape=(b,)], int32
        Label indices.
    """

    track_ids: list[str]
    x: np.ndarray
    y: np.ndarray


class Feed:
    """The tracks of one part of a split, as batches. Build it with `open_feed`.

    Attributes
    ----------
    spec : FeatureSpec
        What `Batch.x` holds.
    batch_size, n_tracks, n_rows, n_batches : int
        Rows are segments where the dataset has them, else tracks. The last batch, counted too, may be short.

    Notes
    -----
    Without a seed the rows come in the order of files and rows. With one, each epoch has its own order, which follows
    from the seed and the epoch's index. Tensors that fit into a cache, in memory or on disk, are permuted as a whole;
    otherwise the row groups are read in random order, and their rows pass a shuffle buffer of `SHUFFLE_BYTES`. The two
    orders differ. Batches of one feed may be taken in one thread at a time.
    """

    def __init__(
        self,
        spec: FeatureSpec,
        reader: PartReader,
        copier: RowCopier,
        track_ids: Sequence[str],
        labels: np.ndarray,
        *,
        batch_size: int,
        new_cache: Callable[[int, int], np.ndarray] | None,
        seed: int | None,
    ) -> None:
        self.spec = spec
        self.batch_size = batch_size
        self._per_track = len(spec.segment_starts_s)
        self.n_tracks = len(track_ids)
        self.n_rows = self.n_tracks * self._per_track
        self.n_batches = math.ceil(self.n_rows / batch_size)
        self._size = math.prod(spec.shape)
        self._reader = reader
        self._copier = copier
        self._track_ids = track_ids
        self._labels = labels
        self._new_cache = new_cache
        self._seed = seed
        self._cache: np.ndarray | None = None
        self._closed = False

    def epoch(self, index: int) -> Iterator[Batch]:
        """Yield every track once, with all its segments.

        Parameters
        ----------
        index : int
            Number of the epoch, from 0: together with the seed it decides the order.

        Raises
        ------
        FeedError
            If a file can't be read, a tensor is ragged or not finite, a row is missing or comes twice (at the latest
            in place of the last batch), the disk cache can't be written, or the feed is closed.
        """
        random = None if self._seed is None else np.random.default_rng([self._seed, index])
        batches = self._in_batches(self._from_files(random) if self._new_cache is None else self._from_cache(random))
        while not self._closed:
            batch = next(batches, None)
            if batch is None:
                return
            yield batch
        self._reader.refuse_closed()

    def arrays(self) -> tuple[np.ndarray, np.ndarray, list[str]]:
        """Return the whole part, in the order of files and rows.

        Returns
        -------
        x : np.ndarray [shape=(n_rows, *spec.shape)], float32
            The cache itself, not to be written to.
        y : np.ndarray [shape=(n_rows,)], int32
        track_ids : list of str
            Whose row it is.

        Raises
        ------
        FeedError
            If the part does not fit into a cache, and as `epoch` does.
        """
        self._reader.refuse_closed()
        if self._new_cache is None:
            raise FeedError(
                f"feature {self.spec.name!r}: the part's {4 * self.n_rows * self._size / 2**20:.0f} MB fit into no "
                "cache; raise cache_bytes, or name a cache_dir"
            )
        every = self._batch(np.arange(self.n_rows), self._filled())
        every.x.flags.writeable = False
        return every.x, every.y, every.track_ids

    def close(self) -> None:
        """End reading with all its threads, also in the midst of an epoch, and free memory and disk."""
        self._closed = True
        self._reader.close()
        self._copier.close()
        self._cache = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _filled(self) -> np.ndarray:
        if self._cache is None:
            assert self._new_cache is not None
            cache = self._new_cache(self.n_rows, self._size)
            self._cache = fill(cache, self._reader.read(None, cache), self._copier)
        return self._cache

    def _from_cache(self, random: np.random.Generator | None) -> Iterator[Rows]:
        order = np.arange(self.n_rows) if random is None else random.permutation(self.n_rows)
        yield Rows(order, self._filled(), order)

    def _from_files(self, random: np.random.Generator | None) -> Iterator[Rows]:
        if random is None:
            return self._reader.read(None)
        n_slots = min(self.n_rows, max(self.batch_size, SHUFFLE_BYTES // (4 * self._size)))
        seed = int(random.integers(2**32))
        return shuffled(self._reader.read(seed), random, in_memory(n_slots, self._size), self._copier)

    def _in_batches(self, rows: Iterable[Rows]) -> Iterator[Batch]:
        x, positions = self._empty(self.n_rows)
        held = done = 0
        last: Batch | None = None
        for coming in rows:
            start = 0
            while start < len(coming.numbers):
                part = slice(start, start + len(x) - held)
                end = held + len(coming.numbers[part])
                self._copier.copy(x, np.arange(held, end), coming.source, coming.numbers[part])
                positions[held:end] = coming.positions[part]
                start, held = start + end - held, end
                if held == len(x):
                    done += held
                    batch = self._batch(positions, x)
                    if done < self.n_rows:
                        yield batch
                    else:
                        last = batch
                    x, positions = self._empty(self.n_rows - done)
                    held = 0
        # It waits for the end of the pass: the reader counts the rows behind its last row.
        if last is not None:
            yield last

    def _empty(self, n_left: int) -> tuple[np.ndarray, np.ndarray]:
        size = min(self.batch_size, n_left)
        return np.empty((size, self._size), np.float32), np.empty(size, np.int64)

    def _batch(self, positions: np.ndarray, x: np.ndarray) -> Batch:
        tracks = positions // self._per_track
        return Batch(
            [self._track_ids[track] for track in tracks], x.reshape(-1, *self.spec.shape), self._labels[tracks]
        )


def open_feed(
    dataset: Dataset,
    feature: str,
    labels_of: Mapping[str, int],
    *,
    batch_size: int,
    cache_bytes: int = 0,
    cache_dir: str | Path | None = None,
    disk_cache_bytes: int | None = None,
    seed: int | None = None,
    reader_threads: int = 2,
    cur_shard: int | None = None,
    shard_count: int | None = None,
) -> Feed:
    """Open one part of a split for reading.

    Parameters
    ----------
    dataset : Dataset
    feature : str
        Name of a spec of the dataset.
    labels_of : mapping of str to int
        Label index by `track_id`, for exactly the tracks of the part; other tracks are skipped.
    batch_size : int
        Rows per batch: tracks, or segments of tracks.
    cache_bytes : int
        Up to this size the tensors are read once and kept in memory.
    cache_dir : str or Path, optional
        Folder on a local disk. Tensors that don't fit into memory are read once and kept there, in a file that is gone
        when the feed is closed or the process ends.
    disk_cache_bytes : int, optional
        Up to this size; None for as much as there is space for.
    seed : int, optional
        Non-negative; None keeps the order of files and rows in every epoch.
    reader_threads : int
        That read row groups ahead, and as many that copy and check what was read; 0 for none. The order does not depend
        on it.
    cur_shard, shard_count : int, optional
        Of `shard_count` shares of the part, as even as can be and by whole tracks, take the one of this number, from 0.

    Raises
    ------
    DatasetError
        If the dataset lacks the feature, a file may hold pickled code, or lacks a column or a track's segments.
    FeedError
        If there is nothing to read, a track of `labels_of` is not in the dataset, one stands there twice, or an option
        is impossible.
    """
    spec = dataset.spec(feature)
    if batch_size < 1:
        raise FeedError(f"batch_size={batch_size} must be a positive integer")
    if reader_threads < 0:
        raise FeedError(f"reader_threads={reader_threads} must not be negative")
    part = find_part(dataset, spec, set(labels_of), cur_shard, shard_count)
    n_bytes = 4 * len(part.track_ids) * len(spec.segment_starts_s) * math.prod(spec.shape)
    new_cache: Callable[[int, int], np.ndarray] | None = None
    if n_bytes <= cache_bytes:
        new_cache = in_memory
    elif cache_dir is not None and (disk_cache_bytes is None or n_bytes <= disk_cache_bytes):
        new_cache = functools.partial(on_disk, Path(cache_dir))
    copier = RowCopier(reader_threads)
    return Feed(
        spec,
        PartReader(spec, part, reader_threads, copier),
        copier,
        part.track_ids,
        np.array([labels_of[track_id] for track_id in part.track_ids], np.int32),
        batch_size=batch_size,
        new_cache=new_cache,
        seed=seed,
    )
