"""Tensor columns straight from the pages of a Parquet file.

pyarrow puts a list together value by value, because any value of it could be missing: for a mel spectrogram of 131,136
values that takes 1.4 ms, where copying its bytes takes 0.1 ms. Our tensor columns are uncompressed, without a
dictionary, and have no gaps: their values stand in the pages as they are in memory. Here that is checked, and then they
are copied. Whatever is written otherwise is left to pyarrow.

The format is that of https://parquet.apache.org/docs/file-format/ (pages, the RLE and bit-packing hybrid of levels) and
of Thrift's compact protocol (headers of pages).
"""

import threading
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from genre_spark.errors import DatasetError
from genre_spark.filesystems import open_address

# Numbers of the format: parquet.thrift, PageType and Encoding.
_DATA_PAGE, _PLAIN, _RLE = 0, 0, 3
_MOST_VALUES = 2**31 - 1  # that offsets of 32 bits reach


# Each thread's room for a column's pages: fresh memory for every row group costs as much as copying it.
_room = threading.local()


class _Other(Exception):
    """The pages are not of the kind that is read here."""


def read_row_group(file: str, row_group: int, columns: Iterable[str]) -> pa.Table:
    """Read columns of a row group of a file at a path or an address."""
    filesystem, path = open_address(file, DatasetError)
    found: dict[str, pa.Array | pa.ChunkedArray] = {}
    with filesystem.open_input_file(path) as opened, pq.ParquetFile(opened) as parquet:
        for name in columns:
            if not pa.types.is_list(parquet.schema_arrow.field(name).type):
                continue
            tensors = list_column(opened, parquet.metadata, row_group, name)
            if tensors is not None:
                found[name] = tensors
        others = sorted(set(columns).difference(found))
        if others:
            table = parquet.read_row_group(row_group, columns=others)
            found |= dict(zip(table.column_names, table.columns, strict=True))
    return pa.table(found)


def list_column(file: pa.NativeFile, metadata: pq.FileMetaData, row_group: int, name: str) -> pa.ListArray | None:
    """Read a column of lists of floats, all of one length, from a row group.

    Parameters
    ----------
    file : pa.NativeFile
    metadata : pq.FileMetaData
        Of this file.
    row_group : int
    name : str

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
    content = _content(file, column.data_page_offset, column.total_compressed_size)
    values = np.empty(column.num_values, np.float32)
    try:
        _copy_pages(content, values, column.num_values // group.num_rows, leaf.max_definition_level)
    except (_Other, LookupError, ValueError, TypeError):
        return None
    offsets = np.arange(group.num_rows + 1, dtype=np.int32) * (column.num_values // group.num_rows)
    buffers = [pa.Array.from_buffers(pa.int32(), len(offsets), [None, pa.py_buffer(offsets)])]
    buffers.append(pa.Array.from_buffers(pa.float32(), len(values), [None, pa.py_buffer(values)]))
    return pa.ListArray.from_arrays(*buffers)


def _content(file: pa.NativeFile, offset: int, length: int) -> memoryview:
    if len(getattr(_room, "bytes", b"")) < length:
        _room.bytes = bytearray(length)
    content = memoryview(_room.bytes)[:length]
    file.seek(offset)
    return content[: file.readinto(content)]


def _copy_pages(content: memoryview, values: np.ndarray, size: int, depth: int) -> None:
    """Copy all values of a column chunk if no level says anything else than `size` values to each row."""
    at = done = 0
    while done < len(values):
        header, at = _struct(content, at)
        page = header.get(5)
        if header.get(1) != _DATA_PAGE or page is None or (page[2], page[3], page[4]) != (_PLAIN, _RLE, _RLE):
            raise _Other
        count, end = page[1], at + header[3]
        if not 0 < count <= len(values) - done or header[2] != header[3] or end > len(content):
            raise _Other
        at = _check_starts(content, at, count, -done % size, size)
        at = _check_whole(content, at, count, depth)
        if end - at != 4 * count:
            raise _Other
        values[done : done + count] = np.frombuffer(content[at:end], "<f4")
        at, done = end, done + count
    if at != len(content):
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
