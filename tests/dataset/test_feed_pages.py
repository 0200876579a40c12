from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from genre_spark.dataset.feed_pages import list_column, read_row_group
from genre_spark.dataset.part import feature_writer

FLOATS = pa.list_(pa.field("element", pa.float32()))


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("pages") / "part.parquet"


def by_our_own(file: Path, row_group: int = 0, name: str = "x") -> pa.ListArray | None:
    with pa.OSFile(str(file)) as opened, pq.ParquetFile(opened) as parquet, file.open("rb", buffering=0) as raw:
        at_once = list_column(opened, parquet.metadata, row_group, name)
        by_page = list_column(opened, parquet.metadata, row_group, name, raw.fileno())
    assert (at_once is None) == (by_page is None)
    if at_once is not None:
        assert at_once.flatten().buffers()[1].equals(by_page.flatten().buffers()[1])
    return by_page


def by_pyarrow(file: Path, row_group: int = 0, name: str = "x") -> pa.Array:
    with pq.ParquetFile(file) as parquet:
        return parquet.read_row_group(row_group, columns=[name])[name].combine_chunks()


PLAIN = {"compression": "none", "use_dictionary": False}


@given(
    n_rows=st.integers(1, 40),
    size=st.integers(1, 300),
    rows_per_group=st.integers(1, 40),
    page_bytes=st.integers(1, 5_000),
    write_batch=st.integers(1, 500),
    is_row_nullable=st.booleans(),
    is_value_nullable=st.booleans(),
    has_statistics=st.booleans(),
    seed=st.integers(0, 9),
)
def test_full_lists_come_as_pyarrow_reads_them_bit_for_bit(
    file,
    n_rows,
    size,
    rows_per_group,
    page_bytes,
    write_batch,
    is_row_nullable,
    is_value_nullable,
    has_statistics,
    seed,
):
    values = np.random.default_rng(seed).integers(0, 2**32, n_rows * size, dtype=np.uint32).view(np.float32)
    kind = pa.list_(pa.field("element", pa.float32(), nullable=is_value_nullable))
    column = pa.ListArray.from_arrays(
        pa.array(np.arange(n_rows + 1, dtype=np.int32) * size), pa.array(values), type=kind
    )
    schema = pa.schema([pa.field("before", pa.int64()), pa.field("x", kind, nullable=is_row_nullable)])
    table = pa.Table.from_arrays([pa.array(range(n_rows)), column], schema=schema)
    pq.write_table(
        table,
        file,
        row_group_size=rows_per_group,
        data_page_size=page_bytes,
        write_batch_size=write_batch,
        write_statistics=has_statistics,
        **PLAIN,
    )
    n_groups = -(-n_rows // rows_per_group)
    for row_group in range(n_groups):
        ours, theirs = by_our_own(file, row_group), by_pyarrow(file, row_group)
        assert ours is not None
        assert ours.offsets.to_pylist() == theirs.offsets.to_pylist()
        assert ours.values.to_numpy().tobytes() == theirs.values.to_numpy().tobytes()


ROWS = st.none() | st.lists(st.none() | st.floats(width=32, allow_nan=False), max_size=4)


@given(
    rows=st.lists(ROWS, min_size=1, max_size=12),
    page_bytes=st.integers(1, 100),
    version=st.sampled_from(["1.0", "2.0"]),
    compression=st.sampled_from(["none", "snappy", "zstd"]),
    use_dictionary=st.booleans(),
    encoding=st.sampled_from([None, "BYTE_STREAM_SPLIT"]),
)
def test_whatever_else_a_list_column_holds_is_left_to_pyarrow_or_read_the_same(
    file, rows, page_bytes, version, compression, use_dictionary, encoding
):
    table = pa.table({"x": pa.array(rows, FLOATS)})
    if encoding is not None:
        use_dictionary = False
    pq.write_table(
        table,
        file,
        data_page_size=page_bytes,
        write_batch_size=2,
        data_page_version=version,
        compression=compression,
        use_dictionary=use_dictionary,
        column_encoding=encoding,
    )
    ours = by_our_own(file)
    sizes = {None if row is None else len(row) for row in rows}
    is_ragged = len(sizes) > 1 or sizes & {None, 0} or any(value is None for row in rows for value in row or ())
    if is_ragged or version == "2.0" or compression != "none" or use_dictionary or encoding:
        assert ours is None
    else:
        assert ours.to_pylist() == by_pyarrow(file).to_pylist() == rows
    assert read_row_group(str(file), 0, {"x"})["x"].to_pylist() == by_pyarrow(file).to_pylist()


@pytest.mark.parametrize(
    "column",
    [
        pa.array([1.0, 2.0], pa.float32()),
        pa.array([[1.0], [2.0]], pa.list_(pa.float64())),
        pa.array([[1], [2]], pa.list_(pa.int32())),
        pa.array([[[1.0]], [[2.0]]], pa.list_(pa.list_(pa.float32()))),
        pa.array([{"a": 1.0}, {"a": 2.0}], pa.struct([("a", pa.float32())])),
        pa.array([{"a": [1.0]}, {"a": [2.0]}], pa.struct([("a", pa.list_(pa.float32()))])),
        pa.array(["a", "b"]),
        pa.array([[], []], FLOATS),
    ],
    ids=lambda column: str(column.type),
)
def test_columns_of_other_kinds_are_left_to_pyarrow(file, column):
    pq.write_table(pa.table({"x": column, "x.y": pa.array([[1.0]] * 2, FLOATS)}), file, **PLAIN)
    assert by_our_own(file) is None
    assert read_row_group(str(file), 0, {"x"})["x"].to_pylist() == column.to_pylist()


def test_the_tensors_of_a_dataset_are_read_from_its_pages(file):
    x = np.random.default_rng(0).standard_normal((20, 400_000), np.float32)
    schema = pa.schema([pa.field("track_id", pa.string()), pa.field("x", FLOATS, nullable=False)])
    with pa.OSFile(str(file), "wb") as opened, feature_writer(opened, schema) as writer:
        writer.write_table(pa.table([pa.array(map(str, range(20))), pa.array(list(x), FLOATS)], schema=schema))
    assert by_our_own(file) is not None
    table = read_row_group(str(file), 0, {"track_id", "x"})
    np.testing.assert_array_equal(table["x"].chunk(0).flatten().to_numpy().reshape(20, -1), x)
    assert table["track_id"].to_pylist() == [*map(str, range(20))]


@given(at=st.floats(0, 1, exclude_max=True), bits=st.integers(1, 255))
def test_a_damaged_page_is_left_to_pyarrow_or_changes_values_alone(file, at, bits):
    pq.write_table(pa.table({"x": pa.array([[0.0] * 7] * 9, FLOATS)}), file, data_page_size=64, **PLAIN)
    column = pq.read_metadata(file).row_group(0).column(0)
    content = bytearray(file.read_bytes())
    content[column.data_page_offset + int(at * column.total_compressed_size)] ^= bits
    file.write_bytes(content)
    ours = by_our_own(file)
    if ours is not None:
        assert len(ours) == 9
        assert np.count_nonzero(ours.values.to_numpy().view(np.uint32)) <= 1
