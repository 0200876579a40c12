"""The layout of a dataset on disk, and what is there already.

    DATASET/
      extraction.json           what it is and how it was made; written last, so a folder without it is no dataset
      features/part-*.parquet   the track's columns and one tensor column per feature, one row per track
      errors/part-*.parquet     track_id, uri, error (a class name of `genre_spark.errors`), detail

A tensor column is an ordinary `list<float>`: pandas, DuckDB and Spark read it. Its shape, spec and digest stand in the
schema's metadata under `TENSORS_KEY` as JSON.
"""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.dataset
from pydantic import BaseModel, ConfigDict, ValidationError

from genre_spark.corpora.tracks import TRACK_SCHEMA
from genre_spark.errors import DatasetError
from genre_spark.features.spec import FeatureSpec

FORMAT_VERSION = 1
MANIFEST = "extraction.json"
FEATURES = "features"
ERRORS = "errors"
TENSORS_KEY = b"genre_spark.tensors"

ERROR_SCHEMA = pa.schema(
    [
        pa.field("track_id", pa.string(), nullable=False),
        pa.field("uri", pa.string(), nullable=False),
        pa.field("error", pa.string(), nullable=False),
        pa.field("detail", pa.string(), nullable=False),
    ]
)


class Manifest(BaseModel):
    """`extraction.json`: what a dataset holds and how it was made."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format_version: int
    specs: list[FeatureSpec]
    digests: dict[str, str]
    tracks_digest: str
    counts: dict[str, int]
    errors: dict[str, int]
    versions: dict[str, str]
    audio: dict[str, float]
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
        expected = self.manifest.counts["features"]
        if not expected:
            raise DatasetError(f"{self.path}: no track has features; see its {ERRORS}/ table, and extract again")
        try:
            table = pyarrow.dataset.dataset(self.files(), schema=TRACK_SCHEMA).to_table()
        except (pa.ArrowException, OSError) as error:
            raise DatasetError(
                f"{self.path}: can't be read: {' '.join(str(error).split())}; extract it again"
            ) from None
        if table.num_rows != expected:
            raise DatasetError(
                f"{self.path}: holds {table.num_rows} tracks where {expected} were written; extract it again"
            )
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


def feature_schema(specs: Sequence[FeatureSpec]) -> pa.Schema:
    """Schema of a feature table: the track's columns and a `list<float>` per spec."""
    tensors = {
        spec.name: {"shape": list(spec.shape), "dtype": "float32", "digest": spec.digest, "spec": spec.model_dump()}
        for spec in specs
    }
    fields = [pa.field(spec.name, pa.list_(pa.field("element", pa.float32())), nullable=False) for spec in specs]
    return pa.schema([*TRACK_SCHEMA, *fields], metadata={TENSORS_KEY: json.dumps(tensors).encode()})


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
