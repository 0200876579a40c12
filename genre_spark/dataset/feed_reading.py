"""One part of a split as it comes out of its files: row group after row group, each row checked."""

import functools
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from genre_spark.dataset.feed_copy import RowCopier
from genre_spark.dataset.feed_part import Part
from genre_spark.dataset.petastorm_adapter import make_batch_reader
from genre_spark.dataset.segments import row_columns
from genre_spark.dataset.table_files import open_parquet
from genre_spark.errors import FeedError, GenreSparkError
from genre_spark.features.spec import FeatureSpec
from genre_spark.filesystems import is_remote, masked

# What petastorm and pyarrow raise for a file that is gone, damaged or ragged (pa.ArrowInvalid is a ValueError).
_READ_ERRORS = (pa.ArrowException, OSError, RuntimeError, ValueError, AttributeError, TypeError, LookupError)


class Rows(NamedTuple):
    """Some rows of a part.

    Attributes
    ----------
    positions : np.ndarray [shape=(n,)], int64
        Which rows of the part they are: the number of the track, times its segments, plus the segment's.
    source : np.ndarray [shape=(m, size)], float32
        Holds their tensors. It may change when the next rows are asked for.
    numbers : np.ndarray [shape=(n,)], int64
        Where they stand in `source`.
    """

    positions: np.ndarray
    source: np.ndarray
    numbers: np.ndarray


class PartReader:
    """Reads the tracks of one part with petastorm.

    Parameters
    ----------
    spec : FeatureSpec
    part : Part
    threads : int
        That read ahead, each up to four row groups; with 0 the caller's thread reads.
    copier : RowCopier
        Checks what was read.
    """

    def __init__(self, spec: FeatureSpec, part: Part, threads: int, copier: RowCopier) -> None:
        self._spec = spec
        self._files = part.files
        self._skip = part.skip
        self._track_ids = part.track_ids
        self._threads = threads
        self._copier = copier
        self._size = math.prod(spec.shape)
        self._columns = [*row_columns(spec), spec.name]
        self._per_track = len(spec.segment_starts_s)
        self._first_row = {track_id: number * self._per_track for number, track_id in enumerate(part.track_ids)}
        self._open: list[Any] = []
        self._closed = False

    def close(self) -> None:
        """End all passes, and their threads."""
        self._closed = True
        for reader in list(self._open):
            _end(reader)

    def refuse_closed(self) -> None:
        """Raise a FeedError if `close` was called."""
        if self._closed:
            raise FeedError(f"the feed of {self._spec.name!r} is closed; open another one")

    def read(self, seed: int | None, cache: np.ndarray | None = None) -> Iterator[Rows]:
        """Yield each row once, in the order of files and rows or, with a seed, in one of row groups.

        Parameters
        ----------
        seed : int, optional
        cache : np.ndarray [shape=(n_rows, size)], float32, optional
            Takes rows that are neighbours in a file straight away: what comes of them is a view of it.

        Raises
        ------
        FeedError
            If a file can't be read, a tensor is ragged or not finite, a row comes twice, or rows are missing.
        """
        seen = np.zeros(len(self._track_ids) * self._per_track, bool)
        for track_ids, segments, tensors in self._row_groups(seed, cache):
            ids = track_ids.tolist()
            if tensors.dtype != np.float32 or tensors.shape[1:] != (self._size,):
                raise FeedError(
                    f"feature {self._spec.name!r} of track {ids[0]!r} is {tensors.dtype} of size "
                    f"{tensors.shape[1:]}, not float32 of shape {self._spec.shape}; extract the dataset again"
                )
            first = np.fromiter((self._first_row.get(track_id, -1) for track_id in ids), np.int64, len(ids))
            numbers = np.flatnonzero(first >= 0)
            if not len(numbers):
                continue
            positions = first[numbers] + segments[numbers]
            self._check(positions, segments[numbers], [ids[number] for number in numbers], seen)
            self._check_finite(positions, tensors, numbers)
            seen[positions] = True
            yield Rows(positions, tensors, numbers)
        if not seen.all():
            lost = np.flatnonzero(~seen)
            raise FeedError(
                f"{len(lost)} of {len(seen)} {'segments' if self._spec.segments else 'tracks'} did not come in this "
                f"epoch, among them {self._named(lost[0])}; the files changed after the feed was opened: open it again"
            )

    def _check(self, positions: np.ndarray, segments: np.ndarray, ids: Sequence[str], seen: np.ndarray) -> None:
        impossible = np.flatnonzero((segments < 0) | (segments >= self._per_track))
        if len(impossible):
            row = impossible[0]
            raise FeedError(f"track {ids[row]!r} has no segment {segments[row]}; extract the dataset again")
        twice = np.ones(len(positions), bool)
        twice[np.unique(positions, return_index=True)[1]] = False
        twice |= seen[positions]
        if twice.any():
            raise FeedError(
                f"track {self._named(positions[twice][0])} came twice in one epoch; extract the dataset again"
            )

    def _check_finite(self, positions: np.ndarray, tensors: np.ndarray, numbers: np.ndarray) -> None:
        if self._copier.are_finite(tensors):
            return
        bad = [
            position for position, row in zip(positions, numbers, strict=True) if not np.isfinite(tensors[row]).all()
        ]
        if bad:
            what = f"feature {self._spec.name!r} of track {self._named(bad[0])} holds NaN or infinity"
            raise FeedError(f"{what}; extract the dataset again")

    def _named(self, position: int) -> str:
        track, segment = divmod(int(position), self._per_track)
        return f"{self._track_ids[track]!r}{f' (segment {segment})' if self._spec.segments else ''}"

    def _room(self, cache: np.ndarray, rows: pa.Table) -> np.ndarray | None:
        """Where the values of a row group belong, if all of it does and it isn't scattered."""
        first = np.array([self._first_row.get(track_id, -1) for track_id in rows["track_id"].to_pylist()], np.int64)
        positions = first + rows["segment"].to_numpy() if self._spec.segments else first
        start, count = positions[0], len(positions)
        is_stretch = first.min() >= 0 and (positions == np.arange(start, start + count)).all()
        return cache[start : start + count].reshape(-1) if is_stretch and 0 <= start <= len(cache) - count else None

    def _row_groups(
        self, seed: int | None, cache: np.ndarray | None
    ) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Yield ids, segment numbers and tensors `[shape=(rows, size)]` of one row group after the other."""
        try:
            reader = make_batch_reader(
                [file if is_remote(file) else Path(file).as_uri() for file in self._files],
                # \Z: petastorm warns where a pattern is the beginning of another column's name.
                schema_fields=[rf"{name}\Z" for name in self._columns],
                reader_pool_type="thread" if self._threads else "dummy",
                workers_count=self._threads,
                # Never together with a predicate: rows then get labels of other rows.
                shuffle_rows=False,
                shuffle_row_groups=seed is not None,
                seed=seed,
                num_epochs=1,
                skip=self._skip,
                room=functools.partial(self._room, cache) if cache is not None else None,
            )
        except _READ_ERRORS as error:
            raise self._unreadable(error) from error
        self._open.append(reader)
        try:
            while True:
                try:
                    group = next(reader)
                except StopIteration:
                    return
                except _READ_ERRORS as error:
                    self.refuse_closed()
                    raise self._unreadable(error) from error
                segments = group.segment if self._spec.segments else np.zeros(len(group.track_id), np.int32)
                yield group.track_id, segments, getattr(group, self._spec.name)
        finally:
            self._open.remove(reader)
            _end(reader)

    def _unreadable(self, error: Exception) -> FeedError:
        where, found = masked(self._files[0].rpartition("/")[0]), None
        # A store that is gone for a moment is not to be read from its first file on.
        if not isinstance(error, (OSError, pa.ArrowException)) or not is_remote(self._files[0]):
            where, found = self._misshapen() or (where, found)
        reason = found or f"can't be read: {' '.join(str(error).split())[:200]}"
        return FeedError(f"{where}: feature {self._spec.name!r} {reason}; extract the dataset again")

    def _misshapen(self) -> tuple[str, str | None] | None:
        """Find the first tensor that has not the shape's size: its file, and what it is. Or a file that can't be read.

        What petastorm says of such a row group is a number for each of its rows, and no name.
        """
        for file in self._files:
            try:
                with open_parquet(file) as parquet:
                    for number in range(parquet.num_row_groups):
                        if row := self._first_misshapen(parquet.read_row_group(number, self._columns)):
                            return masked(file), row
            except (pa.ArrowException, OSError, LookupError, GenreSparkError):
                return masked(file), None
        return None

    def _first_misshapen(self, rows: pa.Table) -> str | None:
        sizes = pc.fill_null(pc.list_value_length(rows[self._spec.name]), -1).to_numpy()
        others = np.flatnonzero(sizes != self._size)
        if not len(others):
            return None
        row = rows.slice(others[0], 1).to_pylist()[0]
        segment = f" (segment {row['segment']})" if self._spec.segments else ""
        size = f"has {sizes[others[0]]:,} values" if sizes[others[0]] >= 0 else "is missing"
        return f"of track {row['track_id']!r}{segment} {size}, where shape {self._spec.shape} has {self._size:,}"


def _end(reader: Any) -> None:
    reader.stop()
    reader.join()
