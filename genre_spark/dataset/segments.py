"""Rows that are segments: what stands in them, and that a track's stand there whole, together and in order.

Who reads a dataset counts on it: splits, feeds and votes are by track.
"""

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from genre_spark.errors import DatasetError
from genre_spark.features.spec import FeatureSpec, Segments

# Columns of a segment, between the track's and the tensors: its number, and where it begins in seconds.
SEGMENT_SCHEMA = pa.schema(
    [pa.field("segment", pa.int32(), nullable=False), pa.field("start_s", pa.float64(), nullable=False)]
)


def common_segments(specs: Sequence[FeatureSpec]) -> Segments | None:
    """How all the specs of a dataset cut a clip, or None where none does.

    Raises
    ------
    DatasetError
        If one cuts otherwise than another, or is named like a column that segments have.
    """
    segments = specs[0].segments
    for spec in specs:
        if spec.segments != segments:
            one, other = (f"{each.name!r} has {_in_words(each.segments)}" for each in (specs[0], spec))
            raise DatasetError(f"feature {one}, {other}: extract them into two datasets")
        if segments and spec.name in SEGMENT_SCHEMA.names:
            raise DatasetError(f"feature {spec.name!r}: a dataset of segments has a column of this name; take another")
    return segments


def _in_words(segments: Segments | None) -> str:
    if segments is None:
        return "no segments"
    return f"segments of {segments.count} x {segments.length_s:g} s with {segments.overlap_s:g} s overlap"


def row_columns(spec: FeatureSpec) -> list[str]:
    """Columns that together name a row of a feature table."""
    return ["track_id", "segment"] if spec.segments else ["track_id"]


def whole_tracks(rows: pa.Table | pa.RecordBatch, segments: Segments | None, source: Path | str) -> list[str]:
    """Return the id of each track, once, of consecutive rows with the columns `track_id` and, if any, `segment`.

    Raises
    ------
    DatasetError
        If a track's segments don't stand there whole, together and in order; the message names `source` and track.
    """
    ids: list[str] = rows["track_id"].to_pylist()
    if segments is None:
        return ids
    wanted, numbers = list(range(segments.count)), rows["segment"].to_pylist()
    for first in range(0, len(ids), len(wanted)):
        of_track = slice(first, first + len(wanted))
        if numbers[of_track] != wanted or set(ids[of_track]) != {ids[first]}:
            raise DatasetError(
                f"{source}: the rows of track {ids[first]!r} are not its segments 0 to {wanted[-1]} in order; "
                "extract it again"
            )
    return ids[:: len(wanted)]
