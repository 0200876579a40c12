"""What a reader thread makes of a row group: a table, its rows in an order that repeats, and arrays of its columns."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa


def steady_worker(base: Any) -> type:
    """Worker in place of arrow_reader_worker.py:113, reading in place of :352."""

    class SteadyWorker(base):
        """Rows of a row group in an order that follows from the seed, the epoch and the row group's number."""

        def process(
            self, piece_index: int, worker_predicate: Any, shuffle_row_drop_partition: Any, order: list[int]
        ) -> None:
            self._order = [*order, piece_index]
            super().process(piece_index, worker_predicate, shuffle_row_drop_partition)

        def _read_with_shuffle_row_drop(self, piece: Any, file: Any, columns: set[str], drop: tuple[int, int]) -> Any:
            # petastorm draws anew for each part of a row group, so that rows are lost and doubled, and takes all rows
            # in their own order where none are to be shuffled: a fourth of the time.
            table = piece.read(columns)
            if self._shuffle_rows:
                table = table.take(np.random.default_rng(self._order).permutation(table.num_rows))
            part, parts = drop
            first, end = (table.num_rows * number // parts for number in (part, part + 1))
            return table if parts == 1 else table.slice(first, end - first)

    return SteadyWorker


def arrays_of(petastorms_own: Callable[..., dict[str, Any]], table: pa.Table, schema: Any) -> dict[str, Any]:
    """Columns as arrays: those of lists without a copy, where petastorm makes two (arrow_reader_worker.py:34-81)."""
    arrays = {}
    for name, column in zip(table.column_names, table.columns, strict=True):
        matrix = _matrix_of(column)
        if matrix is not None:
            shape = schema.fields[name].shape
            arrays[name] = matrix.reshape(-1, *shape) if len(shape) > 1 else matrix
    others = [name for name in table.column_names if name not in arrays]
    return arrays | (petastorms_own(table.select(others), schema) if others else {})


def _matrix_of(column: pa.ChunkedArray) -> np.ndarray | None:
    """Numbers of a list column `[shape=(rows, size)]`, or None if they don't lie in memory like that."""
    kind = column.type
    if not pa.types.is_list(kind) or column.num_chunks != 1 or column.null_count or not len(column):
        return None
    lists = column.chunk(0)
    sizes, values = np.diff(lists.offsets.to_numpy()), lists.flatten()
    is_number = pa.types.is_integer(kind.value_type) or pa.types.is_floating(kind.value_type)
    if not is_number or values.null_count or not sizes[0] or (sizes != sizes[0]).any():
        return None
    return values.to_numpy().reshape(len(lists), sizes[0])
