"""The tasks of an evaluation: a slice of a dataset's file in, predictions out. This runs on Spark's Python workers.

A worker loads the bundle once and keeps it: TensorFlow takes seconds to start. It reads the one tensor column that the
model needs, and whose tracks they are. Where a row is a segment, those of a track, which stand together, are joined by
a soft vote: whoever reads predictions sees tracks.

How many rows go through the model together changes the last bits of what it says: probabilities agree to 1e-6 across
batch sizes, not bit for bit.
"""

import math
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from genre_spark.dataset.rows import tensors_of
from genre_spark.dataset.segments import row_columns, whole_tracks
from genre_spark.dataset.store import Dataset
from genre_spark.dataset.table_files import open_parquet
from genre_spark.errors import DatasetError
from genre_spark.features.spec import FeatureSpec
from genre_spark.filesystems import masked
from genre_spark.models.bundle import Bundle, load_bundle

if TYPE_CHECKING:
    from pyspark.core.broadcast import Broadcast
    from pyspark.sql import DataFrame, SparkSession

# What a task reads at most, but for a row group that is larger: a file may be too much for one core while others idle.
# It doesn't depend on the cores, so that the same rows go through the model together wherever it runs.
_BYTES_PER_TASK = 32 * 2**20
# Of small tensors more rows than asked for go through the model at a time: each call costs a millisecond.
_BYTES_PER_BATCH = 2**20
_MOST_ROWS = 1024

# `probabilities` are calibrated; `segments` holds the raw ones of each segment in order, and is null where the dataset
# has none.
SCORED_SCHEMA = pa.schema(
    [
        ("track_id", pa.string()),
        ("uri", pa.string()),
        ("artist", pa.string()),
        ("predicted", pa.string()),
        ("probabilities", pa.list_(pa.float32())),
        ("segments", pa.list_(pa.list_(pa.float32()))),
    ]
)
_SCORED = (
    "track_id string, uri string, artist string, predicted string, probabilities array<float>, "
    "segments array<array<float>>"
)


def scored(
    spark: "SparkSession",
    dataset: Dataset,
    spec: FeatureSpec,
    bundle: "Broadcast[dict[str, bytes]]",
    key: str,
    batch_size: int,
    on_scored: Callable[[int], None],
) -> "DataFrame":
    """Predict every track of a dataset.

    Parameters
    ----------
    spark : SparkSession
        Its workers must see the dataset under the address that it was opened by.
    dataset : Dataset
    spec : FeatureSpec
        The feature that the model reads.
    bundle : Broadcast of dict of str to bytes
        The bundle's files.
    key : str
        Tells bundles apart.
    batch_size : int
        How many rows at least go through the model at a time: no fewer than those of one track, and more of small
        tensors.
    on_scored : callable
        Called on the workers with numbers of tracks; an accumulator's `add`.

    Returns
    -------
    DataFrame
        Columns of `SCORED_SCHEMA`, one row per track.
    """
    slices = pa.table(
        dict(zip(("number", "file", "slice", "slices"), zip(*_slices(dataset, spec), strict=True), strict=True))
    )
    return (
        spark.createDataFrame(slices)
        .repartitionByRange(slices.num_rows, "number")
        .mapInArrow(_slice_scorer(bundle, key, batch_size, on_scored), _SCORED)
    )


def _slices(dataset: Dataset, spec: FeatureSpec) -> list[tuple[int, str, int, int]]:
    """What the tasks read, in order: number of the task, file, which of its slices, and how many it has."""
    rows_of = {row["name"]: row["rows"] for row in dataset.listed.to_pylist()}
    found: list[tuple[int, str, int, int]] = []
    for name, file in zip(dataset.names(), dataset.files(), strict=True):
        slices = max(1, math.ceil(rows_of[name] * 4 * math.prod(spec.shape) / _BYTES_PER_TASK))
        found += [(len(found) + number, file, number, slices) for number in range(slices)]
    return found


def _slice_scorer(
    files: "Broadcast[dict[str, bytes]]", key: str, batch_size: int, on_scored: Callable[[int], None]
) -> Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """Make the function of one task."""

    def score_slices(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for row in batch.to_pylist():
                bundle = _bundle_in_worker(key, files.value)
                for predicted in _score(bundle, row["file"], row["slice"], row["slices"], batch_size):
                    on_scored(predicted.num_rows)
                    yield predicted

    return score_slices


def _score(bundle: Bundle, path: str, number: int, slices: int, batch_size: int) -> Iterator[pa.RecordBatch]:
    spec = bundle.description.spec
    per_track = len(spec.segment_starts_s)
    rows_per_batch = max(batch_size, min(_BYTES_PER_BATCH // (4 * math.prod(spec.shape)), _MOST_ROWS))
    # Whole tracks, as many as fit into a batch: a file holds nothing else, nor does a row group.
    size = max(1, rows_per_batch // per_track) * per_track
    with open_parquet(path) as parquet:
        groups = parquet.num_row_groups
        chosen = range(groups * number // slices, groups * (number + 1) // slices)
        if not chosen:
            return
        columns = [*row_columns(spec), "uri", "artist", spec.name]
        batches = parquet.iter_batches(size, row_groups=list(chosen), columns=columns)
        while (rows := _next_rows(batches, path)) is not None:
            yield _predicted(bundle, rows, whole_tracks(rows, spec.segments, path), size)


def _next_rows(batches: Iterator[pa.RecordBatch], path: str) -> pa.RecordBatch | None:
    try:
        return next(batches, None)
    except (pa.ArrowException, OSError) as error:
        reason = masked(" ".join(str(error).split()))
        raise DatasetError(f"{masked(path)}: can't be read: {reason}; extract it again with --overwrite") from None


def _predicted(bundle: Bundle, rows: pa.RecordBatch, track_ids: list[str], size: int) -> pa.RecordBatch:
    """Predictions for the tracks of some rows; `size` is how many rows go through the model."""
    from genre_spark.models.architectures import probabilities
    from genre_spark.models.calibration import track_probabilities

    spec, labels = bundle.description.spec, bundle.description.labels
    x = tensors_of(rows[spec.name], spec)
    # JAX compiles a model anew for each number of rows, which takes longer than a few rows of zeros.
    step = max(1, size // 4)
    missing = -len(x) % step
    padded = np.concatenate([x, np.zeros((missing, *x.shape[1:]), x.dtype)]) if missing else x
    of_rows = probabilities(bundle.model, padded)[: len(x)]
    per_track = len(spec.segment_starts_s)
    of_segments = of_rows.reshape(len(track_ids), per_track, len(labels))
    p = track_probabilities(of_segments, bundle.description.calibration)
    columns = {
        "track_id": track_ids,
        "uri": rows["uri"].to_pylist()[::per_track],
        "artist": rows["artist"].to_pylist()[::per_track],
        "predicted": [labels[genre] for genre in p.argmax(axis=1)],
        "probabilities": list(p),
        "segments": of_segments.tolist() if spec.segments else [None] * len(p),
    }
    return pa.RecordBatch.from_pydict(columns, schema=SCORED_SCHEMA)


# The bundle that this Python worker has loaded: Spark uses workers again.
_LOADED: dict[str, Bundle] = {}


def _bundle_in_worker(key: str, files: dict[str, bytes]) -> Bundle:
    if key not in _LOADED:
        with tempfile.TemporaryDirectory(prefix="genre_spark-bundle-") as folder:
            for name, content in files.items():
                (Path(folder) / name).write_bytes(content)
            _LOADED.clear()
            _LOADED[key] = load_bundle(Path(folder))
    return _LOADED[key]
