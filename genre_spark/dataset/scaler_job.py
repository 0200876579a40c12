"""Mean and variance of the training part with Spark: one pass over a dataset's files, for all its features.

A file is a task (or some files, where the results are large): its row groups are read one after the other, each gives
moments in two passes, and all are merged in the order of files and row groups. So the numbers depend on the files and
the tracks that are asked for, and not on cores, tasks that were tried again, or tracks of other parts.
"""

import contextlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from genre_spark.dataset.moments import Moments, Per, merge_all
from genre_spark.dataset.rows import tensors_of
from genre_spark.dataset.scaler import Scaler
from genre_spark.dataset.segments import row_columns, whole_tracks
from genre_spark.dataset.store import Dataset
from genre_spark.dataset.table_files import open_parquet
from genre_spark.dataset.tasks import run_tasks
from genre_spark.errors import DatasetError
from genre_spark.features.spec import FeatureSpec
from genre_spark.filesystems import masked

if TYPE_CHECKING:
    import pyarrow.parquet as pq
    from pyspark import Broadcast
    from pyspark.sql import SparkSession

# Most tasks whose results hold a number per cell: 5 MB each for the study's features, and the driver holds them all.
_TASKS_PER_CELL = 64


def fit_scalers(
    spark: "SparkSession",
    dataset: Dataset,
    track_ids: Iterable[str],
    *,
    features: Sequence[str] | None = None,
    per: Per = "band",
    on_tracks: Callable[[int], None] | None = None,
) -> dict[str, Scaler]:
    """Fit the scalers of a dataset's features on some of its tracks.

    Parameters
    ----------
    spark : SparkSession
        Where the work is done.
    dataset : Dataset
        From `open_dataset`; the workers have to reach it under its address.
    track_ids : iterable of str
        The training part, each track once. Of a dataset of segments, each segment of them counts.
    features : sequence of str, optional
        Names of specs of the dataset; all by default.
    per : {"band", "cell"}
        A mean for each coefficient or band, over tracks and time, or one for each cell, over tracks.
    on_tracks : callable, optional
        Called from a thread now and then with the number of tracks that are done.

    Returns
    -------
    dict of str to Scaler
        By feature. Equal to scikit-learn's `StandardScaler` on the same values in float64, but for rounding to float32.

    Raises
    ------
    DatasetError
        If the dataset lacks a feature or a track, holds a track twice, a NaN or a ragged tensor, or can't be read.
    """
    specs = [dataset.spec(name) for name in features or [spec.name for spec in dataset.manifest.specs]]
    wanted = pa.array(sorted(set(track_ids)), pa.string())
    files = dataset.files()
    if not len(wanted) or not files:
        raise DatasetError(f"{dataset}: no track is asked for; check the split and the genres of its tracks")
    tasks = len(files) if per == "band" else min(len(files), _TASKS_PER_CELL)
    groups = [files[n * len(files) // tasks : (n + 1) * len(files) // tasks] for n in range(tasks)]
    done = 0

    def tell(new: list[Any], _: object) -> None:
        nonlocal done
        done += sum(len(part.tracks) for part in new)
        if on_tracks is not None:
            on_tracks(done)

    # Results with a number per cell are not sent twice, only to tell that they are there.
    on_done = tell if on_tracks is not None and per == "band" else None
    ids = spark.sparkContext.broadcast(wanted)
    try:
        parts: list[_Part] = run_tasks(spark, _Fit(specs, per, ids), groups, "fit scalers", on_done)
    finally:
        with contextlib.suppress(Exception):  # where Spark has ended, there is nothing left to free
            ids.destroy()
    _check_tracks(dataset, wanted, parts)
    return {
        spec.name: Scaler.of(merge_all(part.moments[spec.name] for part in parts if part.moments)) for spec in specs
    }


@dataclass(frozen=True)
class _Part:
    """What a task found.

    `tracks` are positions in the list of those asked for; `moments` are by feature, and none where no track was found.
    """

    tracks: np.ndarray
    moments: dict[str, Moments]


@dataclass(frozen=True)
class _Fit:
    """One task; travels to the workers."""

    specs: Sequence[FeatureSpec]
    per: Per
    ids: "Broadcast[pa.Array]"

    def __call__(self, files: Sequence[str]) -> _Part:
        tracks, moments = [], dict[str, Moments]()
        for file in files:
            try:
                with open_parquet(file) as parquet:
                    tracks.append(self._add(parquet, masked(file), moments))
            except (pa.ArrowException, OSError) as error:
                reason = " ".join(str(error).split())
                raise DatasetError(f"{masked(file)}: can't be read: {reason}; extract the dataset again") from None
        return _Part(np.concatenate(tracks), moments)

    def _add(self, parquet: "pq.ParquetFile", file: str, moments: dict[str, Moments]) -> np.ndarray:
        """Merge a file's row groups into `moments`; return which of the tracks asked for stand in it."""
        columns = row_columns(self.specs[0])
        for column in (*columns, *(spec.name for spec in self.specs)):
            if column not in parquet.schema_arrow.names:
                raise DatasetError(f"{file}: column {column!r} is missing; extract the dataset again")
        rows = parquet.read(columns=columns)
        whole_tracks(rows, self.specs[0].segments, file)
        found = pc.index_in(rows["track_id"], self.ids.value).to_pylist()
        positions = np.array([-1 if position is None else position for position in found], np.int64)
        first = 0
        for number in range(parquet.num_row_groups):
            last = first + parquet.metadata.row_group(number).num_rows
            chosen = np.flatnonzero(positions[first:last] >= 0)
            for spec in self.specs if len(chosen) else ():
                column = parquet.read_row_group(number, columns=[spec.name], use_threads=False)[spec.name]
                try:
                    tensors = tensors_of(column, spec)[chosen]
                except DatasetError as error:
                    raise DatasetError(f"{file}: {error}; extract the dataset again") from None
                with np.errstate(invalid="ignore"):  # refused by name below
                    of_group = Moments.of(tensors, self.per)
                if not np.isfinite(of_group.squares).all():
                    row = np.flatnonzero(~np.isfinite(tensors.reshape(len(tensors), -1)).all(axis=1))[0]
                    track_id = rows["track_id"][first + int(chosen[row])].as_py()
                    what = f"feature {spec.name!r} of track {track_id!r} holds NaN or infinity"
                    raise DatasetError(f"{file}: {what}; extract the dataset again")
                before = moments.get(spec.name)
                moments[spec.name] = of_group if before is None else before.merged(of_group)
            first = last
        return positions[positions >= 0][:: len(self.specs[0].segment_starts_s)]


def _check_tracks(dataset: Dataset, wanted: pa.Array, parts: Sequence[_Part]) -> None:
    times = np.bincount(np.concatenate([part.tracks for part in parts]), minlength=len(wanted))
    missing, twice = np.flatnonzero(times == 0), np.flatnonzero(times > 1)
    if len(missing):
        raise DatasetError(
            f"{dataset}: {len(missing)} of {len(wanted)} tracks have no features, among them "
            f"{wanted[int(missing[0])].as_py()!r}; make the split from the dataset's own tracks"
        )
    if len(twice):
        raise DatasetError(f"{dataset}: track {wanted[int(twice[0])].as_py()!r} stands there twice; extract it again")
