"""How a job over tracks is cut into Spark tasks, and how it tells track by track what is done."""

import contextlib
import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession


def spread_tracks(spark: "SparkSession", tracks: pa.Table, tracks_per_task: int) -> "DataFrame":
    """Cut a track table into tasks of about equal size, in an order that doesn't depend on the cores.

    Parameters
    ----------
    spark : SparkSession
        Where the work will be done.
    tracks : pa.Table
        A track table.
    tracks_per_task : int
        Fewer where cores would idle: a small library shall use all of them, a few tracks each, as a worker takes
        seconds to start.
    """
    from pyspark.sql import functions as F  # noqa: N812 (everyone's name for it)

    tasks = max(
        -(-tracks.num_rows // tracks_per_task),
        min(tracks.num_rows // 4, spark.sparkContext.defaultParallelism),
        1,
    )
    # Ranges of a hash mix long and short clips.
    return (
        spark.createDataFrame(tracks)
        .repartitionByRange(tasks, F.xxhash64("track_id"), "track_id")
        .sortWithinPartitions(F.xxhash64("track_id"), "track_id")
    )


@contextlib.contextmanager
def track_counter(folder: Path) -> Iterator[Callable[[], None]]:
    """Give a task of a worker what it calls after each track.

    Each task adds a byte a track to a file of its own in `folder`: an accumulator would tell only when a whole task is
    done.
    """
    with (folder / uuid.uuid4().hex).open("ab", buffering=0) as file:

        def count() -> None:
            file.write(b".")

        yield count


def tracks_done(folder: Path, all_tracks: int) -> int:
    """Count what the tasks have told so far; a task that was tried twice counts twice, but never beyond all."""
    return min(all_tracks, sum(entry.stat().st_size for entry in os.scandir(folder)))
