"""The layout of a dataset on disk, and what is there already.

    DATASET/
      extraction.json           what it is and how it was made; written last, so a folder without it is no dataset
      features/part-*.parquet   the track's columns and one tensor column per feature, one row per track or segment
      errors/part-*.parquet     track_id, uri, error (a class name of `genre_spark.errors`), detail

A tensor column is an ordinary `list<float>`: pandas, DuckDB and Spark read it. Its shape, spec and digest stand in the
schema's metadata under `TENSORS_KEY` as JSON.

Where the specs cut clips into segments, a row is a segment: `segment` (its number, from 0) and `start_s` stand before
the tensors, and the rows of a track stand together, in order, in one row group.
"""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from genre_spark.corpora.tracks import TRACK_SCHEMA
from genre_spark.dataset.segments import SEGMENT_SCHEMA, common_segments, row_columns, whole_tracks
from genre_spark.errors import DatasetError
from genre_spark.features.spec import FeatureSpec, Segments

FORMAT_VERSION = 2
MANIFEST = "extraction.json"
FEATURES = "features"
ERRORS = "errors"
TENSORS_KEY = b"genre_spark.tensors"

# What comes before the tensors, or before the segment's columns. `shortened_s`: seconds that the file announces and
# that didn't come out of it, infinite where nobody knows how many; null for a whole file.
ROW_SCHEMA = pa.schema([*TRACK_SCHEMA, pa.field("shortened_s", pa.float64())])

ERROR_SCHEMA = pa.schema(
    [
        pa.field("track_id", pa.string(), nullable=False),
        pa.field("uri", pa.string(), nullable=False),
        pa.field("error", pa.string(), nullable=False),
        pa.field("detail", pa.string(), nullable=False),
    ]
)


class Manifest(BaseModel):
    """`extraction.json`: what a dataset holds and how it was made.

    `counts` are of tracks: all (`tracks`), those with features and with errors; and of the `rows` in `features/`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format_version: int
    specs: list[FeatureSpec] = Field(min_length=1)
    digests: dict[str, str]
    tracks_digest: str
    counts: dict[str, int]
    errors: dict[str, int]
    versions: dict[str, str]
    audio: dict[str, float | str]
    created: str
    wall_s: float


class Dataset(BaseModel):
    """A finished dataset, opened with `open_dataset`."""

    model_config = ConfigDict(frozen=True)

    path: Path
    manifest: Manifest

    @classmethod
    def _open(cls, path: Path) -> Self:
        file = path / MANIFEST
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError):
            raise DatasetError(
                f"{path}: no dataset ({MANIFEST} is missing); make one with `genre-spark extract --out {path}`"
            ) from None
        except (OSError, ValueError) as error:
            raise DatasetError(f"{file}: can't be read: {error}") from None
        version = content.get("format_version") if isinstance(content, dict) else None
        if version != FORMAT_VERSION:
            raise DatasetError(f"{file}: format_version={version!r}, this program reads {FORMAT_VERSION}")
        try:
            return cls(path=path, manifest=Manifest.model_validate(content))
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(str(part) for part in first["loc"])
            raise DatasetError(f"{file}: {where}: {first['msg']}") from None

    @property
    def segments(self) -> Segments | None:
        """How clips are cut, or None where a row is a whole clip."""
        return common_segments(self.manifest.specs)

    def files(self) -> list[Path]:
        """Parquet files with features, in the order of their names."""
        return sorted((self.path / FEATURES).glob("part-*.parquet"))

    def spec(self, name: str) -> FeatureSpec:
        """Spec of a feature.

        Raises
        ------
        DatasetError
            If the dataset lacks the feature; the message names those that it has.
        """
        specs = {spec.name: spec for spec in self.manifest.specs}
        if name not in specs:
            wanted = ",".join([*specs, name])
            raise DatasetError(
                f"{self.path}: has no feature {name!r}, only {', '.join(specs)}; extract anew with "
                f"`genre-spark extract --tracks ... --features {wanted} --out {self.path} --overwrite`"
            )
        return specs[name]

    def tracks(self) -> pa.Table:
        """Columns of the track table for the tracks that have features, sorted by `track_id`.

        Raises
        ------
        DatasetError
            If there is no such track, a file can't be read, or rows are missing.
        """
        counts, segments = self.manifest.counts, self.segments
        if not counts["features"]:
            raise DatasetError(f"{self.path}: no track has features; see its {ERRORS}/ table, and extract again")
        schema = pa.schema([*TRACK_SCHEMA, *(SEGMENT_SCHEMA if segments else ())])
        try:
            table = pyarrow.dataset.dataset(self.files(), schema=schema).to_table()
        except (pa.ArrowException, OSError) as error:
            raise DatasetError(
                f"{self.path}: can't be read: {' '.join(str(error).split())}; extract it again"
            ) from None
        if table.num_rows != counts["rows"]:
            rows = "segments" if segments else "tracks"
            raise DatasetError(
                f"{self.path}: holds {table.num_rows} {rows} where {counts['rows']} were written; extract it again"
            )
        if segments:
            whole_tracks(table, segments, self.path)
            table = table.filter(pc.field("segment") == 0).select(TRACK_SCHEMA.names)
        return table.sort_by("track_id")

    def errors(self) -> pa.Table:
        """The error table, sorted by `track_id`."""
        files = sorted((self.path / ERRORS).glob("part-*.parquet"))
        if not files:
            return ERROR_SCHEMA.empty_table()
        return pyarrow.dataset.dataset(files, schema=ERROR_SCHEMA).to_table().sort_by("track_id")


def open_dataset(path: Path) -> Dataset:
    """Open a finished dataset.

    Raises
    ------
    DatasetError
        If there is none, or it is of another format version.
    """
    # Absolute: a run remembers the path, and workers have working folders of their own.
    return Dataset._open(Path(path).resolve())


def read_track_ids(file: Path, spec: FeatureSpec) -> list[str]:
    """Read the id of each track of a file with features, once, in the order of the rows.

    Raises
    ------
    DatasetError
        If a column is missing, or a track's segments don't stand there whole, together and in order.
    """
    with pq.ParquetFile(file) as parquet:
        for column in (*row_columns(spec), spec.name):
            if column not in parquet.schema_arrow.names:
                raise DatasetError(f"{file}: column {column!r} is missing; extract the dataset again")
        return whole_tracks(parquet.read(columns=row_columns(spec)), spec.segments, file)


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
    columns = pa.Table.from_pylist(tracks, schema=ROW_SCHEMA)
    segments = common_segments(specs)
    if segments is None:
        tensors = [tensor_column([of_track[spec.name] for of_track in arrays], spec) for spec in specs]
        return pa.Table.from_arrays([*columns.columns, *tensors], schema=feature_schema(specs))
    columns = columns.take(np.repeat(np.arange(len(tracks)), segments.count))
    numbers = np.tile(np.arange(segments.count, dtype=np.int32), len(tracks))
    starts_s = np.tile(np.array(specs[0].segment_starts_s), len(tracks))
    tensors = [tensor_column([part for of_track in arrays for part in of_track[spec.name]], spec) for spec in specs]
    return pa.Table.from_arrays(
        [*columns.columns, pa.array(numbers), pa.array(starts_s), *tensors], schema=feature_schema(specs)
    )


def tensor_column(arrays: Sequence[np.ndarray], spec: FeatureSpec) -> pa.ListArray:
    """Pack arrays `[shape=spec.shape]` into a `list<float>` column, one row each."""
    size = math.prod(spec.shape)
    offsets = np.arange(len(arrays) + 1, dtype=np.int32) * size
    values = np.stack(arrays).astype(np.float32, copy=False).reshape(-1) if arrays else np.empty(0, np.float32)
    return pa.ListArray.from_arrays(
        pa.array(offsets), pa.array(values), type=pa.list_(pa.field("element", pa.float32()))
    )


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
