"""The layout of a dataset on disk or on an object store, and what is there already.

    DATASET/
      extraction.json                what it is, how it was made, and the name of its list of files
      files-<commit>.parquet         the list: `table` (features or errors), `name`, `rows`, `bytes`
      features/part-*.parquet        the track's columns and one tensor column per feature, one row per track or segment
      errors/part-*.parquet          track_id, uri, error (a class name of `genre_spark.errors`), detail

What the list names is the dataset, and nothing else: `extraction.json` is replaced in one step, so a reader sees all of
a commit or nothing of it. Names that begin with `_` are of jobs at work.

A tensor column is an ordinary `list<float>`: pandas, DuckDB and Spark read it. Its shape, spec and digest stand in the
schema's metadata under `genre_spark.dataset.rows.TENSORS_KEY` as JSON.

Where the specs cut clips into segments, a row is a segment: `segment` (its number, from 0) and `start_s` stand before
the tensors, and the rows of a track stand together, in order, in one row group.
"""

import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from genre_spark.corpora.tracks import TRACK_SCHEMA
from genre_spark.dataset.rows import ERROR_SCHEMA, ERRORS, FEATURES
from genre_spark.dataset.segments import SEGMENT_SCHEMA, common_segments, whole_tracks
from genre_spark.errors import INSTALL_NEWER, DatasetError
from genre_spark.features.spec import FeatureSpec, Segments
from genre_spark.filesystems import masked
from genre_spark.folders import Folder

FORMAT_VERSION = 3
MANIFEST = "extraction.json"

FILES_SCHEMA = pa.schema(
    [
        pa.field("table", pa.string(), nullable=False),
        pa.field("name", pa.string(), nullable=False),
        pa.field("rows", pa.int64(), nullable=False),
        pa.field("bytes", pa.int64(), nullable=False),
    ]
)


class Predictor(BaseModel):
    """The model whose predictions a dataset holds in place of features.

    Attributes
    ----------
    architecture, feature : str
    labels : list of str
        What the probabilities of a row are of, in their order.
    digest : str
        Of its bundle.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    architecture: str
    feature: str
    labels: list[str]
    digest: str


class Manifest(BaseModel):
    """`extraction.json`: what a dataset holds and how it was made.

    `counts` are of tracks: all (`tracks`), those with features and with errors; and of the `rows` in `features/`.
    `commit` counts the changes, `files` names the list of files, `wall_s` is the time of the last change.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format_version: int
    commit: int = Field(ge=1)
    files: str = Field(pattern=r"^[\w.-]+\.parquet$")
    specs: list[FeatureSpec] = Field(min_length=1)
    digests: dict[str, str]
    counts: dict[str, int]
    errors: dict[str, int]
    versions: dict[str, str]
    audio: dict[str, float | str]
    created: str
    changed: str
    wall_s: float
    predictor: Predictor | None = None


@dataclass(frozen=True)
class Dataset:
    """A dataset as one commit left it, opened with `open_dataset`.

    Attributes
    ----------
    folder : Folder
        Where it lies.
    manifest : Manifest
    listed : pa.Table
        The list of its files, as `FILES_SCHEMA` says.
    """

    folder: Folder
    manifest: Manifest
    listed: pa.Table

    def __str__(self) -> str:
        return str(self.folder)

    @property
    def path(self) -> Path:
        """Folder of a dataset on this machine.

        Raises
        ------
        DatasetError
            If it lies elsewhere.
        """
        if self.folder.local is None:
            raise DatasetError(f"{self}: lies on another machine; copy it to a folder of this one first")
        return self.folder.local

    @property
    def segments(self) -> Segments | None:
        """How clips are cut, or None where a row is a whole clip."""
        return common_segments(self.manifest.specs)

    def names(self, table: str = FEATURES) -> list[str]:
        """Names of a table's files below the folder, sorted."""
        return sorted(self.listed.filter(pc.equal(self.listed["table"], table))["name"].to_pylist())

    def files(self, table: str = FEATURES) -> list[str]:
        """Paths or addresses of a table's files, in the order of their names: plain Parquet for any reader."""
        return [self.folder.join(name) for name in self.names(table)]

    def spec(self, name: str) -> FeatureSpec:
        """Spec of a feature.

        Raises
        ------
        DatasetError
            If the dataset lacks the feature; the message names those that it has.
        """
        if self.manifest.predictor is not None:
            raise DatasetError(f"{self}: holds predictions, no features; name the dataset that `extract` made")
        specs = {spec.name: spec for spec in self.manifest.specs}
        if name not in specs:
            wanted = ",".join([*specs, name])
            raise DatasetError(
                f"{self}: has no feature {name!r}, only {', '.join(specs)}; extract anew with "
                f"`genre-spark extract --tracks ... --features {wanted} --out {self} --overwrite`"
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
            raise DatasetError(f"{self}: no track has features; see its {ERRORS}/ table, and extract again")
        table = self.read(FEATURES, pa.schema([*TRACK_SCHEMA, *(SEGMENT_SCHEMA if segments else ())]))
        if table.num_rows != counts["rows"]:
            rows = "segments" if segments else "tracks"
            raise DatasetError(
                f"{self}: holds {table.num_rows} {rows} where {counts['rows']} were written; extract it again"
            )
        if segments:
            whole_tracks(table, segments, str(self))
            table = table.filter(pc.field("segment") == 0).select(TRACK_SCHEMA.names)
        return table.sort_by("track_id")

    def errors(self) -> pa.Table:
        """The error table, sorted by `track_id`."""
        return self.read(ERRORS, ERROR_SCHEMA).sort_by("track_id")

    def read(self, table: str, schema: pa.Schema) -> pa.Table:
        """Read some columns of a table whole.

        Raises
        ------
        DatasetError
            If a file is missing, or can't be read.
        """
        return pa.Table.from_batches(self.batches(table, schema), schema=schema)

    def batches(self, table: str, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        """Read some columns of a table, piece by piece; raises as `read` does."""
        import pyarrow.dataset  # imports pandas, which workers of a job never need

        names = self.names(table)
        if not names:
            return
        paths = [self.folder.path(name) for name in names]
        try:
            found = pyarrow.dataset.dataset(paths, schema=schema, filesystem=self.folder.filesystem, format="parquet")
            yield from found.to_batches(batch_readahead=1, fragment_readahead=4)
        except (pa.ArrowException, OSError) as error:
            raise DatasetError(f"{self}: {self._why_unread(error)}") from None

    def _why_unread(self, error: Exception) -> str:
        with suppress(DatasetError):
            if _read_manifest(self.folder).files != self.manifest.files:
                return "was changed while it was read; open it again"
        return f"can't be read: {masked(' '.join(str(error).split()))}; extract it again with --overwrite"


def open_dataset(path: str | Path) -> Dataset:
    """Open a finished dataset.

    Parameters
    ----------
    path : str or Path
        A folder, or an address such as `s3://bucket/dataset`.

    Raises
    ------
    DatasetError
        If there is none, or it is of another format version.
    """
    folder = Folder(path, DatasetError)
    tried = ""
    while True:
        manifest = _read_manifest(folder)
        try:
            with folder.opened(manifest.files) as file:
                listed = pq.read_table(file, schema=FILES_SCHEMA)
        except (FileNotFoundError, pa.ArrowException, DatasetError) as error:
            # Between two looks another job may have replaced both.
            if manifest.files != tried:
                tried = manifest.files
                continue
            reason = "is missing" if isinstance(error, FileNotFoundError) else "can't be read"
            raise DatasetError(
                f"{folder}: its list of files {manifest.files} {reason}; extract it again with --overwrite"
            ) from None
        return Dataset(folder, manifest, listed)


def _read_manifest(folder: Folder) -> Manifest:
    where = masked(folder.join(MANIFEST))
    try:
        content = json.loads(folder.read(MANIFEST))
    except (FileNotFoundError, NotADirectoryError):
        raise DatasetError(
            f"{folder}: no dataset ({MANIFEST} is missing); make one with `genre-spark extract --out {folder}`"
        ) from None
    except DatasetError:
        if folder.local is not None and folder.local.is_file():
            raise DatasetError(
                f"{folder}: is a file, not a dataset; if it is a track table, make a dataset of it with `genre-spark "
                f"extract --tracks {folder} --out DIR`"
            ) from None
        raise
    except ValueError as error:
        raise DatasetError(f"{where}: can't be read: {error}") from None
    version = content.get("format_version") if isinstance(content, dict) else None
    if version != FORMAT_VERSION:
        is_newer = isinstance(version, int) and version > FORMAT_VERSION
        advice = INSTALL_NEWER if is_newer else "extract it again with --overwrite"
        raise DatasetError(f"{where}: format_version={version!r}, this program reads {FORMAT_VERSION}; {advice}")
    try:
        return Manifest.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        at = ".".join(str(part) for part in first["loc"])
        raise DatasetError(f"{where}: {at}: {first['msg']}") from None
