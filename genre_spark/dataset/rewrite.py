"""Parquet files made of others: small ones joined, rows dropped, tracks told otherwise; no feature is computed anew.

Both at once: what an increment touches is read and written once.
"""

import itertools
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from genre_spark.dataset.ledger import CHANGE_SCHEMA
from genre_spark.dataset.part import feature_writer, size_of
from genre_spark.dataset.progress import WrittenFile
from genre_spark.dataset.rows import ERROR_SCHEMA, FEATURES
from genre_spark.errors import DatasetError
from genre_spark.folders import Folder


@dataclass(frozen=True)
class Group:
    """Files that become one.

    Parameters
    ----------
    table : str
    names : list of str
        Below the dataset's folder, in the order that their rows come in.
    changes : str, optional
        File with the changes to their rows, below the dataset's folder; None where there are none.
    """

    table: str
    names: list[str]
    changes: str | None


@dataclass(frozen=True)
class Rewriting:
    """What all tasks of a rewriting share; travels to the workers.

    Parameters
    ----------
    dataset : str
        Its folder.
    work : str
        The job's folder below it, by its name there.
    schema : pa.Schema
        Of the table with features.
    rows_per_group : int
        Of its row groups.
    """

    dataset: str
    work: str
    schema: pa.Schema
    rows_per_group: int

    def __call__(self, group: Group) -> list[WrittenFile]:
        """Write one file of a group, or none where no row is left; its name is relative to the dataset's folder.

        Raises
        ------
        DatasetError
            If a file can't be read or written.
        """
        folder = Folder(self.dataset, DatasetError)
        changes = CHANGE_SCHEMA.empty_table()
        if group.changes is not None:
            with folder.opened(group.changes) as file:
                changes = pq.read_table(file)
        # Not beside the tasks' files: a job that goes on with those must not find their rows here a second time.
        name = f"{self.work}/rewritten/{group.table}-{uuid.uuid4().hex[:12]}.parquet"
        schema, rows_per_group = ERROR_SCHEMA, 0
        if group.table == FEATURES:
            schema, rows_per_group = self.schema, self.rows_per_group
        written = 0
        pieces = _regrouped(self._pieces(folder, group, schema, changes), rows_per_group)
        first = next(pieces, None)
        if first is None:
            return []
        writer_of = feature_writer if group.table == FEATURES else pq.ParquetWriter
        with folder.created(name) as file, writer_of(file, schema) as writer:
            for piece in itertools.chain([first], pieces):
                writer.write_table(piece)
                written += piece.num_rows
        return [WrittenFile(group.table, name, written, size_of(folder, name))]

    def _pieces(self, folder: Folder, group: Group, schema: pa.Schema, changes: pa.Table) -> Iterator[pa.Table]:
        for name in group.names:
            of_file = changes.filter(pc.equal(changes["file"], name))
            try:
                with folder.opened(name) as file, pq.ParquetFile(file) as parquet:
                    for number in range(parquet.num_row_groups):
                        yield from _changed(parquet.read_row_group(number).select(schema.names).cast(schema), of_file)
            except (FileNotFoundError, pa.ArrowException) as error:
                raise DatasetError(
                    f"{folder}: {name} can't be read: {' '.join(str(error).split())}; extract again with --overwrite"
                ) from None


def _changed(rows: pa.Table, changes: pa.Table) -> Iterator[pa.Table]:
    """Drop rows of a file and set what tracks are told to be; nothing where none is left."""
    dropped = changes.filter(changes["dropped"])["track_id"].combine_chunks()
    told = changes.filter(pc.invert(changes["dropped"]))
    kept = rows.filter(pc.invert(pc.is_in(rows["track_id"], dropped))) if len(dropped) else rows
    at = pc.index_in(kept["track_id"], told["track_id"].combine_chunks()) if len(told) else None
    if at is not None and at.null_count < len(at):
        is_told = pc.is_valid(at)
        for name in CHANGE_SCHEMA.names[3:]:
            number = kept.schema.get_field_index(name)
            if number >= 0:
                column = pc.if_else(is_told, told[name].take(at), kept[name])
                kept = kept.set_column(number, kept.schema.field(number), column)
    if len(kept):
        yield kept


def _regrouped(pieces: Iterator[pa.Table], rows: int) -> Iterator[pa.Table]:
    """Cut tables anew, into row groups of `rows` rows; as they are where that is 0."""
    held: list[pa.Table] = []
    count = 0
    for piece in pieces:
        if not rows:
            yield piece
            continue
        held.append(piece)
        count += piece.num_rows
        while count >= rows:
            table = pa.concat_tables(held)
            yield table.slice(0, rows)
            held, count = [table.slice(rows)], count - rows
    if count:
        yield pa.concat_tables(held)


def grouped(sizes: Sequence[tuple[str, int]], smallest: int, largest: int) -> list[list[str]]:
    """Group consecutive files so that those smaller than `smallest` bytes end in larger ones.

    Parameters
    ----------
    sizes : sequence of (str, int)
        Name and bytes of each file.
    smallest, largest : int
        Band of the sizes that are aimed at. A group ends when it has `smallest` bytes.

    Returns
    -------
    list of list of str
        Groups of two files or more: all small ones but one that is alone.
    """
    groups: list[list[str]] = []
    held: list[str] = []
    bytes_held = 0
    for name, size in sizes:
        if size >= smallest:
            continue
        if held and bytes_held + size > largest:
            groups.append(held)
            held, bytes_held = [], 0
        held.append(name)
        bytes_held += size
        if bytes_held >= smallest:
            groups.append(held)
            held, bytes_held = [], 0
    if held:
        groups.append(held)
    return [group for group in groups if len(group) > 1]
