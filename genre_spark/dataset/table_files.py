"""The files of a dataset's tables, one at a time: what they say of their tracks."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from genre_spark.dataset.rows import ERROR_SCHEMA, FEATURES, ROW_SCHEMA
from genre_spark.dataset.segments import row_columns, whole_tracks
from genre_spark.errors import DatasetError
from genre_spark.features.spec import FeatureSpec
from genre_spark.filesystems import masked, open_address
from genre_spark.folders import Folder


@contextmanager
def open_parquet(file: str | Path) -> Iterator[pq.ParquetFile]:
    """Open a dataset's file at the path or address that `Dataset.files` gives."""
    filesystem, path = open_address(file, DatasetError)
    with filesystem.open_input_file(path) as opened, pq.ParquetFile(opened) as parquet:
        yield parquet


def read_rows(folder: Folder, table: str, name: str) -> pa.Table:
    """Read what a file says of its tracks: one row for each track, without tensors.

    Raises
    ------
    DatasetError
        If it is missing, or can't be read.
    """
    wanted = [field.name for field in (ROW_SCHEMA if table == FEATURES else ERROR_SCHEMA)]
    try:
        with folder.opened(name) as file, pq.ParquetFile(file) as parquet:
            there = [field.name for field in parquet.schema_arrow]
            rows = parquet.read([name for name in (*wanted, "segment") if name in there])
    except (FileNotFoundError, pa.ArrowException) as error:
        raise DatasetError(
            f"{masked(folder.join(name))}: can't be read: {' '.join(str(error).split())}; extract it again"
        ) from None
    if "segment" in rows.column_names:
        rows = rows.filter(pc.field("segment") == 0)
    return rows.select([name for name in wanted if name in there])


def read_track_ids(file: str | Path, spec: FeatureSpec) -> list[str]:
    """Read the id of each track of a file with features, once, in the order of the rows.

    Raises
    ------
    DatasetError
        If a column is missing, or a track's segments don't stand there whole, together and in order.
    """
    with open_parquet(file) as parquet:
        for column in (*row_columns(spec), spec.name):
            if column not in parquet.schema_arrow.names:
                raise DatasetError(f"{masked(file)}: column {column!r} is missing; extract the dataset again")
        return whole_tracks(parquet.read(columns=row_columns(spec)), spec.segments, masked(file))
