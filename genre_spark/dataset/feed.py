"""Parquet -> petastorm -> batches for Keras: the tracks of one part of a split, each (or each segment) once per epoch.

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

from genre_spark.dataset.petastorm_adapter import make_batch_reader, refuse_pickles
from genre_spark.dataset.segments import row_columns
from genre_spark.dataset.store import Dataset, read_track_ids
from genre_spark.errors import FeedError
from genre_spark.features.spec import FeatureSpec
from genre_spark.filesystems import is_remote, masked

# Memory of the shuffle buffer when an epoch is read from disk: 512 mel spectrograms of 96 x 1366.
SHUFFLE_BYTES = 2**28

# What petastorm and pyarrow raise for a file that is gone, damaged or ragged (pa.ArrowInvalid is a ValueError).
_READ_ERRORS = (pa.ArrowException, OSError, RuntimeError, ValueError, AttributeError, TypeError)


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
    from the seed and the epoch's index. Tensors that fit into the cache are permuted as a whole; otherwise the row
    groups are read in random order, and their rows pass a shuffle buffer of `SHUFFLE_BYTES`. The two orders differ.
    """

    def __init__(
        self,
        spec: FeatureSpec,
        files: Sequence[str],
        track_ids: list[str],
        labels: np.ndarray,
        *,
        batch_size: int,
        cached: bool,
        seed: int | None,
    ) -> None:
        self.spec = spec
        self.batch_size = batch_size
        self._per_track = len(spec.segment_starts_s)
        self.n_tracks = len(track_ids)
        self.n_rows = self.n_tracks * self._per_track
        self.n_batches = math.ceil(self.n_rows / batch_size)
        self._files = files
        self._track_ids = track_ids
        self._first_row = {track_id: number * self._per_track for number, track_id in enumerate(track_ids)}
        self._labels = labels
        self._cached = cached
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
            cache = np.empty((self.n_rows, *self.spec.shape), np.float32)
            for position, tensor in self._read(None):
                cache[position] = tensor
            self._cache = cache
        order = np.arange(self.n_rows) if random is None else random.permutation(self.n_rows)
        for start in range(0, self.n_rows, self.batch_size):
            chosen = order[start : start + self.batch_size]
            yield self._batch(chosen, cache[chosen])

    def _from_disk(self, random: np.random.Generator | None) -> Iterator[tuple[int, np.ndarray]]:
        """Yield positions and tensors; a tensor holds only until the next one is asked for."""
        if random is None:
            yield from self._read(None)
            return
        size = min(self.n_rows, max(self.batch_size, SHUFFLE_BYTES // (4 * math.prod(self.spec.shape))))
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
        # The last batch waits for the end of the pass: `_read` counts the rows behind its last row.
        done = 0
        while done < self.n_rows:
            size = min(self.batch_size, self.n_rows - done)
            x = np.empty((size, *self.spec.shape), np.float32)
            positions = np.empty(size, np.int64)
            for row in range(size):
                positions[row], x[row] = next(rows)
            done += size
            if done == self.n_rows:
                next(rows, None)
            yield self._batch(positions, x)

    def _batch(self, positions: np.ndarray, x: np.ndarray) -> Batch:
        tracks = positions // self._per_track
        return Batch([self._track_ids[track] for track in tracks], x, self._labels[tracks])

    def _read(self, seed: int | None) -> Iterator[tuple[int, np.ndarray]]:
        """Yield position and tensor of each row in one pass of petastorm; check that each came once."""
        seen = np.zeros(self.n_rows, bool)
        for track_ids, segments, tensors in self._row_groups(seed):
            if tensors.dtype != np.float32 or tensors.shape[1:] != (math.prod(self.spec.shape),):
                raise FeedError(
                    f"feature {self.spec.name!r} of track {track_ids[0]!r} is {tensors.dtype} of size "
                    f"{tensors.shape[1:]}, not float32 of shape {self.spec.shape}; extract the dataset again"
                )
            finite = np.isfinite(tensors).all(axis=1)
            for row, (track_id, segment) in enumerate(zip(track_ids, segments, strict=True)):
                first = self._first_row.get(str(track_id))
                if first is None:
                    continue
                if not 0 <= segment < self._per_track:
                    raise FeedError(f"track {str(track_id)!r} has no segment {segment}; extract the dataset again")
                position = first + int(segment)
                if seen[position]:
                    raise FeedError(f"track {self._named(position)} came twice in one epoch; extract the dataset again")
                if not finite[row]:
                    what = f"feature {self.spec.name!r} of track {self._named(position)} holds NaN or infinity"
                    raise FeedError(f"{what}; extract the dataset again")
                seen[position] = True
                yield position, tensors[row].reshape(self.spec.shape)
        if not seen.all():
            lost = np.flatnonzero(~seen)
            raise FeedError(
                f"{len(lost)} of {self.n_rows} {'segments' if self.spec.segments else 'tracks'} did not come in this "
                f"epoch, among them {self._named(lost[0])}; the files changed after the feed was opened: open it again"
            )

    def _named(self, position: int) -> str:
        track, segment = divmod(position, self._per_track)
        return f"{self._track_ids[track]!r}{f' (segment {segment})' if self.spec.segments else ''}"

    def _row_groups(self, seed: int | None) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Yield ids, segment numbers and tensors `[shape=(rows, size)]` of one row group after the other."""
        try:
            reader = make_batch_reader(
                [file if is_remote(file) else Path(file).as_uri() for file in self._files],
                # \Z: petastorm warns where a pattern is the beginning of another column's name.
                schema_fields=[rf"{name}\Z" for name in (*row_columns(self.spec), self.spec.name)],
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
                segments = group.segment if self.spec.segments else np.zeros(len(group.track_id), np.int32)
                yield group.track_id, segments, getattr(group, self.spec.name)
        finally:
            # Not petastorm's context manager: it prints to standard output.
            reader.stop()
            reader.join()

    def _unreadable(self, error: Exception) -> FeedError:
        folder, reason = masked(self._files[0].rpartition("/")[0]), " ".join(str(error).split())
        return FeedError(f"{folder}: feature {self.spec.name!r} can't be read: {reason}; extract the dataset again")


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
        Rows per batch: tracks, or segments of tracks.
    cache_bytes : int
        Up to this size the tensors are read once and kept in memory.
    seed : int, optional
        Non-negative; None keeps the order of files and rows in every epoch.

    Raises
    ------
    DatasetError
        If the dataset lacks the feature, a file may hold pickled code, or lacks a column or a track's segments.
    FeedError
        If there is nothing to read, a track of `labels_of` is not in the dataset, or one stands there twice.
    """
    spec = dataset.spec(feature)
    if batch_size < 1:
        raise FeedError(f"batch_size={batch_size} must be a positive integer")
    if not labels_of:
        raise FeedError(f"{dataset}: no track is asked for; check the split and the genres of its tracks")
    files = dataset.files()
    if not files:
        raise FeedError(
            f"{dataset}: holds no file with features; extract it with `genre-spark extract --out {dataset}`"
        )
    refuse_pickles(files)
    file_of: dict[str, str] = {}
    for file in files:
        for track_id in read_track_ids(file, spec):
            if track_id in file_of:
                raise FeedError(
                    f"{masked(file)}: track {track_id!r} stands in {masked(file_of[track_id])} too; extract again"
                )
            if track_id in labels_of:
                file_of[track_id] = file
    if len(file_of) < len(labels_of):
        missing = sorted(set(labels_of) - set(file_of))
        raise FeedError(
            f"{dataset}: {len(missing)} of {len(labels_of)} tracks have no features, among them {missing[0]!r}; "
            "make the split from the dataset's own tracks"
        )
    return Feed(
        spec,
        sorted(set(file_of.values())),
        list(file_of),
        np.array([labels_of[track_id] for track_id in file_of], np.int32),
        batch_size=batch_size,
        cached=len(file_of) * len(spec.segment_starts_s) * math.prod(spec.shape) * 4 <= cache_bytes,
        seed=seed,
    )
