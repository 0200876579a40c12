"""Parquet -> petastorm -> batches for Keras: the tracks of one part of a split, each exactly once per epoch.

petastorm reads row groups one after the other in the caller's thread; which tracks belong, in which order they come and
whether all of them came is decided and checked here. Batches are NumPy, so that they suit every back end of Keras.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from genre_spark.dataset.petastorm_adapter import make_batch_reader, refuse_pickles
from genre_spark.dataset.store import FEATURES, Dataset
from genre_spark.errors import FeedError
from genre_spark.features.spec import FeatureSpec

# Memory of the shuffle buffer when an epoch is read from disk: 512 mel spectrograms of 96 x 1366.
SHUFFLE_BYTES = 2**28

# What petastorm and pyarrow raise for a file that is gone, damaged or ragged (pa.ArrowInvalid is a ValueError).
_READ_ERRORS = (pa.ArrowException, OSError, RuntimeError, ValueError, AttributeError, TypeError)


@dataclass(frozen=True, eq=False)
class Batch:
    """Some tracks of an epoch.

    Parameters
    ----------
    track_ids : list of str
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
    batch_size, n_tracks, n_batches : int
        `n_batches` counts the last batch too, which may be short.

    Notes
    -----
    Without a seed the tracks come in the order of files and rows. With one, each epoch has its own order, which follows
    from the seed and the epoch's index. Tensors that fit into the cache are permuted as a whole; otherwise the row
    groups are read in random order, and their rows pass a shuffle buffer of `SHUFFLE_BYTES`. The two orders differ.
    """

    def __init__(
        self,
        spec: FeatureSpec,
        files: Sequence[Path],
        track_ids: list[str],
        labels: np.ndarray,
        *,
        batch_size: int,
        cached: bool,
        seed: int | None,
    ) -> None:
        self.spec = spec
        self.batch_size = batch_size
        self.n_tracks = len(track_ids)
        self.n_batches = math.ceil(self.n_tracks / batch_size)
        self._files = files
        self._track_ids = track_ids
        self._position = {track_id: position for position, track_id in enumerate(track_ids)}
        self._labels = labels
        self._cached = cached
        self._seed = seed
        self._cache: np.ndarray | None = None
        self._closed = False

    def epoch(self, index: int) -> Iterator[Batch]:
        """Yield every track once.

        Parameters
        ----------
        index : int
            Number of the epoch, from 0: together with the seed it decides the order.

        Raises
        ------
        FeedError
            If a file can't be read, a tensor is ragged or not finite, a track is missing or comes twice (at the latest
            in place of the last batch), or the feed is closed.
        """
        random = None if self._seed is None else np.random.default_rng([self._seed, index])
        batches = self._from_memory(random) if self._cached else self._in_batches(self._from_disk(random))
        while not self._closed:
            batch = next(batches, None)
            if batch is None:
                return
            yield batch
        raise FeedError(f"the feed of {self.spec.name!r} is closed; open another one")

    def close(self) -> None:
        """Free the memory. Nothing else has to be stopped: reading has no thread, and no file stays open."""
        self._closed = True
        self._cache = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _from_memory(self, random: np.random.Generator | None) -> Iterator[Batch]:
        cache = self._cache
        if cache is None:
            cache = np.empty((self.n_tracks, *self.spec.shape), np.float32)
            for position, tensor in self._read(None):
                cache[position] = tensor
            self._cache = cache
        order = np.arange(self.n_tracks) if random is None else random.permutation(self.n_tracks)
        for start in range(0, self.n_tracks, self.batch_size):
            chosen = order[start : start + self.batch_size]
            yield self._batch(chosen, cache[chosen])

    def _from_disk(self, random: np.random.Generator | None) -> Iterator[tuple[int, np.ndarray]]:
        """Yield positions and tensors; a tensor holds only until the next one is asked for."""
        if random is None:
            yield from self._read(None)
            return
        size = min(self.n_tracks, max(self.batch_size, SHUFFLE_BYTES // (4 * math.prod(self.spec.shape))))
        buffer = np.empty((size, *self.spec.shape), np.float32)
        positions = np.empty(size, np.int64)
        held = 0
        # petastorm takes a seed of 0 for none (workers_pool/ventilator.py:125).
        for position, tensor in self._read(int(random.integers(1, 2**32))):
            slot = held if held < size else int(random.integers(size))
            if held == size:
                yield int(positions[slot]), buffer[slot]
            held = min(held + 1, size)
            buffer[slot], positions[slot] = tensor, position
        for slot in random.permutation(held):
            yield int(positions[slot]), buffer[slot]

    def _in_batches(self, rows: Iterator[tuple[int, np.ndarray]]) -> Iterator[Batch]:
        # The last batch waits for the end of the pass: `_read` counts the tracks behind its last row.
        done = 0
        while done < self.n_tracks:
            size = min(self.batch_size, self.n_tracks - done)
            x = np.empty((size, *self.spec.shape), np.float32)
            positions = np.empty(size, np.int64)
            for row in range(size):
                positions[row], x[row] = next(rows)
            done += size
            if done == self.n_tracks:
                next(rows, None)
            yield self._batch(positions, x)

    def _batch(self, positions: np.ndarray, x: np.ndarray) -> Batch:
        return Batch([self._track_ids[position] for position in positions], x, self._labels[positions])

    def _read(self, seed: int | None) -> Iterator[tuple[int, np.ndarray]]:
        """Yield position and tensor of each track in one pass of petastorm; check that each came once."""
        seen = np.zeros(self.n_tracks, bool)
        for track_ids, tensors in self._row_groups(seed):
            if tensors.dtype != np.float32 or tensors.shape[1:] != (math.prod(self.spec.shape),):
                raise FeedError(
                    f"feature {self.spec.name!r} of track {track_ids[0]!r} is {tensors.dtype} of size "
                    f"{tensors.shape[1:]}, not float32 of shape {self.spec.shape}; extract the dataset again"
                )
            finite = np.isfinite(tensors).all(axis=1)
            for row, track_id in enumerate(track_ids):
                position = self._position.get(str(track_id))
                if position is None:
                    continue
                if seen[position]:
                    raise FeedError(f"track {str(track_id)!r} came twice in one epoch; extract the dataset again")
                if not finite[row]:
                    what = f"feature {self.spec.name!r} of track {str(track_id)!r}"
                    raise FeedError(f"{what} holds NaN or infinity; extract the dataset again")
                seen[position] = True
                yield position, tensors[row].reshape(self.spec.shape)
        if not seen.all():
            lost = np.flatnonzero(~seen)
            raise FeedError(
                f"{len(lost)} of {self.n_tracks} tracks did not come in this epoch, among them "
                f"{self._track_ids[lost[0]]!r}; the files changed after the feed was opened: open it again"
            )

    def _row_groups(self, seed: int | None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield ids and tensors `[shape=(rows, size)]` of one row group after the other."""
        try:
            reader = make_batch_reader(
                [file.absolute().as_uri() for file in self._files],
                # \Z: petastorm warns where a pattern is the beginning of another column's name.
                schema_fields=[r"track_id\Z", rf"{self.spec.name}\Z"],
                # Threads give no fixed order, and can lose row groups at the end under load.
                reader_pool_type="dummy",
                # Never together with a predicate: rows then get labels of other rows.
                shuffle_rows=False,
                shuffle_row_groups=seed is not None,
                seed=seed,
                num_epochs=1,
            )
        except _READ_ERRORS as error:
            raise self._unreadable(error) from error
        try:
            while True:
                try:
                    group = next(reader)
                except StopIteration:
                    return
                except _READ_ERRORS as error:
                    raise self._unreadable(error) from error
                yield group.track_id, getattr(group, self.spec.name)
        finally:
            # Not petastorm's context manager: it prints to standard output.
            reader.stop()
            reader.join()

    def _unreadable(self, error: Exception) -> FeedError:
        return FeedError(
            f"{self._files[0].parent}: feature {self.spec.name!r} can't be read: {' '.join(str(error).split())}; "
            "extract the dataset again"
        )


def open_feed(
    dataset: Dataset,
    feature: str,
    labels_of: Mapping[str, int],
    *,
    batch_size: int,
    cache_bytes: int = 0,
    seed: int | None = None,
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
        Tracks per batch.
    cache_bytes : int
        Up to this size the tensors are read once and kept in memory.
    seed : int, optional
        Non-negative; None keeps the order of files and rows in every epoch.

    Raises
    ------
    DatasetError
        If the dataset lacks the feature, or a file may hold pickled code.
    FeedError
        If there is nothing to read, a track of `labels_of` is not in the dataset, or one stands there twice.
    """
    spec = dataset.spec(feature)
    if batch_size < 1:
        raise FeedError(f"batch_size={batch_size} must be a positive integer")
    if not labels_of:
        raise FeedError(f"{dataset.path}: no track is asked for; check the split and the genres of its tracks")
    files = dataset.files()
    if not files:
        raise FeedError(
            f"{dataset.path / FEATURES}: no part-*.parquet; extract it with `genre-spark extract --out {dataset.path}`"
        )
    refuse_pickles(files)
    file_of: dict[str, Path] = {}
    for file in files:
        for track_id in _track_ids(file, feature):
            if track_id in file_of:
                raise FeedError(f"{file}: track {track_id!r} stands in {file_of[track_id]} too; extract again")
            if track_id in labels_of:
                file_of[track_id] = file
    if len(file_of) < len(labels_of):
        missing = sorted(set(labels_of) - set(file_of))
        raise FeedError(
            f"{dataset.path}: {len(missing)} of {len(labels_of)} tracks have no features, among them {missing[0]!r}; "
            "make the split from the dataset's own tracks"
        )
    return Feed(
        spec,
        sorted(set(file_of.values())),
        list(file_of),
        np.array([labels_of[track_id] for track_id in file_of], np.int32),
        batch_size=batch_size,
        cached=len(file_of) * math.prod(spec.shape) * 4 <= cache_bytes,
        seed=seed,
    )


def _track_ids(file: Path, feature: str) -> list[str]:
    with pq.ParquetFile(file) as parquet:
        for column in ("track_id", feature):
            if column not in parquet.schema_arrow.names:
                raise FeedError(f"{file}: column {column!r} is missing; extract the dataset again")
        return parquet.read(columns=["track_id"])["track_id"].to_pylist()
