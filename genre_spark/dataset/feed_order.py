"""Rows of a part in the order of an epoch, and where they wait until then: a shuffle buffer, memory, or a disk."""

import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from genre_spark.dataset.feed_copy import RowCopier
from genre_spark.dataset.feed_reading import Rows
from genre_spark.errors import FeedError


def shuffled(
    rows: Iterable[Rows], random: np.random.Generator, buffer: np.ndarray, copier: RowCopier
) -> Iterator[Rows]:
    """Send rows through a buffer `[shape=(n, size)]`: what comes in takes the places of what goes out, drawn by lot."""
    positions = np.empty(len(buffer), np.int64)
    held = 0
    for coming in rows:
        start = 0
        while start < len(coming.numbers):
            if held < len(buffer):
                chosen = slice(start, start + len(buffer) - held)
                slots = np.arange(held, held + len(coming.numbers[chosen]))
                held += len(slots)
            else:
                chosen = slice(start, start + held)
                slots = random.choice(held, len(coming.numbers[chosen]), replace=False)
                yield Rows(positions[slots], buffer, slots)
            copier.copy(buffer, slots, coming.source, coming.numbers[chosen])
            positions[slots] = coming.positions[chosen]
            start += len(slots)
    slots = random.permutation(held)
    yield Rows(positions[slots], buffer, slots)


def in_memory(n_rows: int, size: int) -> np.ndarray:
    """Array `[shape=(n_rows, size)]`, float32, to be filled."""
    return np.empty((n_rows, size), np.float32)


def on_disk(folder: Path, n_rows: int, size: int) -> np.ndarray:
    """Array `[shape=(n_rows, size)]`, float32, in a file without a name: nothing is left of it, however a process ends.

    Raises
    ------
    FeedError
        If the folder can't be written to, or lacks the space. That is known before the first row is written: to write
        through a map where there is no space kills a process.
    """
    n_bytes = 4 * n_rows * size
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            os.posix_fallocate(file.fileno(), 0, n_bytes)
            return np.asarray(np.memmap(file, np.float32, "r+", shape=(n_rows, size)))
    except OSError as error:
        raise FeedError(
            f"{folder}: a cache of {n_bytes / 2**20:.0f} MB can't be written: {error.strerror or error}; make space, "
            "name another cache_dir, or lower disk_cache_bytes"
        ) from None


def fill(cache: np.ndarray, rows: Iterable[Rows], copier: RowCopier) -> np.ndarray:
    """Write each row to its position, if it isn't there already."""
    for coming in rows:
        first, is_all = coming.positions[0], len(coming.positions) == len(coming.source)
        if not (is_all and coming.source.ctypes.data == cache[first : first + 1].ctypes.data):
            copier.copy(cache, coming.positions, coming.source, coming.numbers)
    return cache
