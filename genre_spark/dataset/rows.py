"""The rows of a dataset's tables: their columns, and tensors in them."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from genre_spark.corpora.tracks import TRACK_SCHEMA
from genre_spark.dataset.segments import SEGMENT_SCHEMA, common_segments
from genre_spark.errors import DatasetError
from genre_spark.features.spec import FeatureSpec

# The tables of a dataset, by the names of their folders.
FEATURES = "features"
ERRORS = "errors"

TENSORS_KEY = b"genre_spark.tensors"

# What tells a file from another version of itself: size, time of the last change as its file system tells it (seconds
# since 1970), and XXH3-128 of the bytes where `extract.changed_by` asks for it.
IDENTITY_SCHEMA = pa.schema(
    [pa.field("audio_bytes", pa.int64()), pa.field("audio_modified", pa.float64()), pa.field("audio_hash", pa.string())]
)

# What comes before the tensors, or before the segment's columns. `shortened_s`: seconds that the file announces and
# that didn't come out of it, infinite where nobody knows how many; null for a whole file.
ROW_SCHEMA = pa.schema([*TRACK_SCHEMA, pa.field("shortened_s", pa.float64()), *IDENTITY_SCHEMA])

ERROR_SCHEMA = pa.schema(
    [
        pa.field("track_id", pa.string(), nullable=False),
        pa.field("uri", pa.string(), nullable=False),
        pa.field("error", pa.string(), nullable=False),
        pa.field("detail", pa.string(), nullable=False),
        *IDENTITY_SCHEMA,
    ]
)


def feature_schema(specs: Sequence[FeatureSpec]) -> pa.Schema:
    """Schema of a feature table: the track's columns, the segment's where there are any, a `list<float>` per spec."""
    tensors = {
        spec.name: {"shape": list(spec.shape), "dtype": "float32", "digest": spec.digest, "spec": spec.model_dump()}
        for spec in specs
    }
    of_segment = SEGMENT_SCHEMA if common_segments(specs) else ()
    fields = [pa.field(spec.name, pa.list_(pa.field("element", pa.float32())), nullable=False) for spec in specs]
    return pa.schema([*ROW_SCHEMA, *of_segment, *fields], metadata={TENSORS_KEY: json.dumps(tensors).encode()})


def feature_table(
    tracks: Sequence[Mapping[str, Any]], arrays: Sequence[Mapping[str, np.ndarray]], specs: Sequence[FeatureSpec]
) -> pa.Table:
    """Rows of a feature table: one per track, or one per segment.

    Parameters
    ----------
    tracks : sequence of dict
        Rows of a track table, with `shortened_s` if there is something to say.
    arrays : sequence of dict of str to np.ndarray
        The features of each track, as `genre_spark.features.compute_features` gives them.
    specs : sequence of FeatureSpec
        One tensor column each.
    """
    segments = common_segments(specs)
    if segments is None:
        columns = [_column([track.get(field.name) for track in tracks], field.type) for field in ROW_SCHEMA]
        tensors = [tensor_column([of_track[spec.name] for of_track in arrays], spec) for spec in specs]
        return pa.Table.from_arrays([*columns, *tensors], schema=feature_schema(specs))
    rows = [track for track in tracks for _ in range(segments.count)]
    columns = [_column([row.get(field.name) for row in rows], field.type) for field in ROW_SCHEMA]
    numbers = np.tile(np.arange(segments.count, dtype=np.int32), len(tracks))
    starts_s = np.tile(np.array(specs[0].segment_starts_s, np.float64), len(tracks))
    tensors = [tensor_column([part for of_track in arrays for part in of_track[spec.name]], spec) for spec in specs]
    return pa.Table.from_arrays(
        [*columns, _numbers(numbers, pa.int32()), _numbers(starts_s, pa.float64()), *tensors],
        schema=feature_schema(specs),
    )


def tensor_column(arrays: Sequence[np.ndarray], spec: FeatureSpec) -> pa.ListArray:
    """Pack arrays `[shape=spec.shape]` into a `list<float>` column, one row each."""
    size = math.prod(spec.shape)
    offsets = np.arange(len(arrays) + 1, dtype=np.int32) * size
    values = np.stack(arrays).astype(np.float32, copy=False).reshape(-1) if arrays else np.empty(0, np.float32)
    return pa.ListArray.from_arrays(
        _numbers(offsets, pa.int32()),
        _numbers(values, pa.float32()),
        type=pa.list_(pa.field("element", pa.float32())),
    )


# `pa.array` and all that calls it import pandas, to see whether they were given something of it: half a second of each
# Python worker's start.


def _numbers(values: np.ndarray, kind: pa.DataType, valid: pa.Buffer | None = None) -> pa.Array:
    return pa.Array.from_buffers(kind, len(values), [valid, pa.py_buffer(values)])


def _column(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    """Strings, or numbers of 64 bits, some of them None."""
    valid = pa.py_buffer(np.packbits(np.array([value is not None for value in values], bool), bitorder="little"))
    if not pa.types.is_string(kind):
        dtype = np.float64 if pa.types.is_floating(kind) else np.int64
        return _numbers(np.array([value or 0 for value in values], dtype), kind, valid)
    texts = [(value or "").encode() for value in values]
    offsets = np.cumsum([0, *map(len, texts)], dtype=np.int32)
    return pa.Array.from_buffers(kind, len(values), [valid, pa.py_buffer(offsets), pa.py_buffer(b"".join(texts))])


def tensors_of(column: pa.ChunkedArray | pa.ListArray, spec: FeatureSpec) -> np.ndarray:
    """Unpack a `list<float>` column into one array `[shape=(rows, *spec.shape)]`, float32.

    Raises
    ------
    DatasetError
        If the column holds a null or a row of another size.
    """
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if isinstance(array, pa.ChunkedArray):  # no chunk, or more than one array can hold
        array = pa.concat_arrays(array.chunks)
    sizes = np.diff(np.asarray(array.offsets))
    if array.null_count or (sizes != math.prod(spec.shape)).any():
        raise DatasetError(f"column {spec.name!r} has rows that are not of shape {spec.shape}")
    return np.asarray(array.flatten(), dtype=np.float32).reshape(len(array), *spec.shape)
