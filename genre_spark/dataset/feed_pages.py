"""Tensor columns straight from the pages of a Parquet file.

pyarrow puts a list together value by value, because any value of it could be missing: for a mel spectrogram of 131,136
values that takes 1.4 ms, where copying its bytes takes 0.1 ms. Our tensor columns are uncompressed, without a
dictionary, and have no gaps: their values stand in the pages as they are in memory. Here that is checked, and then they
are copied. Whatever is written otherwise is left to pyarrow.

The format is that of https://parquet.apache.org/docs/file-format/ (pages, the RLE and bit-packing hybrid of levels) and
of Thrift's compact protocol (headers of pages).
"""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from genre_spark.errors import DatasetError
from genre_spark.filesystems import open_address

# Numbers of the format: parquet.thrift, PageType and Encoding.
_DATA_PAGE, _PLAIN, _RLE = 0, 0, 3
_MOST_VALUES = 2**31 - 1  # that offsets of 32 bits reach
# Bytes of a page of pyarrow's size that hold its header and levels: of rows of a thousand values and more, and of
# others, with a bit for each value. A page with more of them is left to pyarrow.
_HEAD, _LONG_HEAD = 2**13, 2**16


class _Other(Exception):
    """The pages are not of the kind that is read here."""


# Where the tensors of rows belong, given their other columns: an array of all their values, or None for a new one.
Room = Callable[[pa.Table], np.ndarray | None]


def read_row_group(file: str, row_group: int, columns: Iterable[str], room: Room | None = None) -> pa.Table:
    """Read columns of a row group of a file at a path or an address; the values of a list column into its room."""
    filesystem, path = open_address(file, DatasetError)
    with ExitStack() as files:
        opened = files.enter_context(filesystem.open_input_file(path))
        parquet = files.enter_context(pq.ParquetFile(opened))
        descriptor = None
        if isinstance(filesystem, pafs.LocalFileSystem) and hasattr(os, "preadv"):
            descriptor = files.enter_context(Path(path).open("rb", buffering=0)).fileno()

        def by_pyarrow(names: set[str]) -> pa.Table:
            return parquet.read_row_group(row_group, columns=sorted(names)) if names else None

        lists = {name for name in columns if pa.types.is_list(parquet.schema_arrow.field(name).type)}
        others = by_pyarrow(set(columns) - lists)
        into = room(others) if room is not None and others is not None and len(lists) == 1 else None
        found: dict[str, pa.Array | pa.ChunkedArray] = {}
        for name in lists:
            tensors = list_column(opened, parquet.metadata, row_group, name, descriptor, into)
            if tensors is not None:
                found[name] = tensors
        for table in (others, by_pyarrow(lists.difference(found))):
            found |= dict(zip(table.column_names, table.columns, strict=True)) if table is not None else {}
    return pa.table(found)


def list_column(
    file: pa.NativeFile,
    metadata: pq.FileMetaData,
    row_group: int,
    name: str,
    descriptor: int | None = None,
    into: np.ndarray | None = None,
) -> pa.ListArray | None:
    """Read a column of lists of floats, all of one length, from a row group.

    Parameters
    ----------
    file : pa.NativeFile
    metadata : pq.FileMetaData
        Of this file.
    row_group : int
    name : str
    descriptor : int, optional
        Of the same file, where it is one of this machine.
    into : np.ndarray [shape=(n,), dtype=float32], optional
        Takes the values if there are as many, and is what the list holds then.

    Returns
    -------
    pa.ListArray or None
        None if it is another kind of column, or is written in another way: pyarrow can read it.
    """
    group = metadata.row_group(row_group)
    paths = [group.column(number).path_in_schema for number in range(group.num_columns)]
    # NAME.list.element, or as other programs call these two; a name may hold dots as well.
    leaves = [number for number, path in enumerate(paths) if path.rsplit(".", 2)[0] == name]
    if len(leaves) != 1:
        return None
    column, leaf = group.column(leaves[0]), metadata.schema.column(leaves[0])
    is_plain = (
        column.physical_type == "FLOAT"
        and column.compression == "UNCOMPRESSED"
        and column.dictionary_page_offset is None
        and set(column.encodings) <= {"PLAIN", "RLE"}
        and leaf.max_repetition_level == 1
        and 0 < group.num_rows <= column.num_values <= _MOST_VALUES
        and column.num_values % group.num_rows == 0
    )
    if not is_plain:
        return None
    pages = _Pages(file, descriptor, column.data_page_offset, column.total_compressed_size)
    if into is None or into.shape != (column.num_values,):
        into = np.empty(column.num_values, np.float32)
    values = into
    try:
        _copy_pages(pages, values, column.num_values // group.num_rows, leaf.max_definition_level)
    except (_Other, LookupError, ValueError, TypeError):
        return None
    offsets = np.arange(group.num_rows + 1, dtype=np.int32) * (column.num_values // group.num_rows)
    buffers = [pa.Array.from_buffers(pa.int32(), len(offsets), [None, pa.py_buffer(offsets)])]
    buffers.append(pa.Array.from_buffers(pa.float32(), len(values), [None, pa.py_buffer(values)]))
    return pa.ListArray.from_arrays(*buffers)


def _copy_pages(pages: "_Pages", values: np.ndarray, size: int, depth: int) -> None:
    """Copy all values of a column chunk if no level says anything else than `size` values to each row."""
    at = done = 0
    raw = memoryview(values.view(np.uint8).data)
    while done < len(values):
        content = pages.head(at, _HEAD if size >= 1_000 else _LONG_HEAD)
        header, start = _struct(content, 0)
        page = header.get(5)
        if header.get(1) != _DATA_PAGE or page is None or (page[2], page[3], page[4]) != (_PLAIN, _RLE, _RLE):
            raise _Other
        count, length = page[1], header[3]
        if not 0 < count <= len(values) - done or header[2] != length:
            raise _Other
        start_of_page, start = start, _check_starts(content, start, count, -done % size, size)
        start = _check_whole(content, start, count, depth)
        if start_of_page + length - start != 4 * count:
            raise _Other
        pages.copy(at + start, raw[4 * done : 4 * (done + count)])
        at, done = at + start_of_page + length, done + count
    if at != pages.length:
        raise _Other


class _Pages:
    """The bytes of a column chunk: of a local file they are read where they belong, of another one all at once.

    A request to a store takes as long as some megabytes.
    """

    def __init__(self, file: pa.NativeFile, descriptor: int | None, offset: int, length: int) -> None:
        self.length = length
        self._descriptor = descriptor
        self._offset = offset
        self._content = memoryview(b"" if descriptor is not None else file.read_at(length, offset))

    def head(self, at: int, length: int) -> memoryview:
        """The first bytes of a page, so many or more: its header and levels."""
        if self._descriptor is None:
            return self._content[at:]
        return memoryview(os.pread(self._descriptor, min(length, self.length - at), self._offset + at))

    def copy(self, at: int, target: memoryview) -> None:
        """Fill a target with the bytes from there on."""
        if self._descriptor is None:
            target[:] = self._content[at : at + len(target)]
        elif os.preadv(self._descriptor, [target], self._offset + at) != len(target):
            raise _Other


def _check_starts(content: memoryview, at: int, count: int, first: int, size: int) -> int:
    """Make sure that rows start at `first` and every `size` values after it; return where the levels end."""
    starts: list[np.ndarray] = []
    done = 0
    at, end = _levels(content, at)
    for n_levels, levels in _runs(content[at:end], 1, count):
        if not isinstance(levels, int):
            starts.append(np.flatnonzero(levels == 0) + done)
        elif not levels:
            starts.append(np.arange(done, done + n_levels))
        done += n_levels
    found = np.concatenate(starts) if starts else np.empty(0, np.int64)
    if not np.array_equal(found, np.arange(first, count, size)):
        raise _Other
    return end


def _check_whole(content: memoryview, at: int, count: int, depth: int) -> int:
    """Make sure that no list and no value is missing."""
    at, end = _levels(content, at)
    for _, levels in _runs(content[at:end], depth.bit_length(), count):
        if np.any(levels != depth):
            raise _Other
    return end


def _levels(content: memoryview, at: int) -> tuple[int, int]:
    length = int.from_bytes(content[at : at + 4], "little")
    return at + 4, at + 4 + length


def _runs(content: memoryview, width: int, count: int) -> Iterator[tuple[int, int | np.ndarray]]:
    """Yield how many levels of `width` bits follow, and which: one for all of them, or each one."""
    at = done = 0
    while done < count:
        header, at = _varint(content, at)
        if header & 1:
            n_bytes = (header >> 1) * width
            bits = np.unpackbits(np.frombuffer(content[at : at + n_bytes], np.uint8), bitorder="little")
            # The last group of eight is filled up.
            levels = (bits.reshape(-1, width) @ (1 << np.arange(width)))[: count - done]
            n_levels, at = len(levels), at + n_bytes
            yield n_levels, levels
        else:
            n_levels = min(header >> 1, count - done)
            yield n_levels, content[at]
            at += 1
        if not n_levels:
            raise _Other
        done += n_levels


def _struct(content: memoryview, at: int) -> tuple[dict[int, Any], int]:
    """Read a struct: its fields by number, texts as None."""
    fields: dict[int, Any] = {}
    number = 0
    while True:
        byte, at = content[at], at + 1
        if not byte:
            return fields, at
        if byte >> 4:
            number += byte >> 4
        else:
            number, at = _zigzag(content, at)
        kind = byte & 15
        if kind in (1, 2):
            fields[number] = kind == 1
        elif kind in (4, 5, 6):
            fields[number], at = _zigzag(content, at)
        elif kind == 8:
            length, at = _varint(content, at)
            fields[number], at = None, at + length
        elif kind == 12:
            fields[number], at = _struct(content, at)
        else:
            raise _Other


def _zigzag(content: memoryview, at: int) -> tuple[int, int]:
    value, at = _varint(content, at)
    return (value >> 1) ^ -(value & 1), at


def _varint(content: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte, at = content[at], at + 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7
        if shift > 63:
            raise _Other
