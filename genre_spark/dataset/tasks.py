"""How a job over tracks is cut into Spark tasks, and how it tells track by track what is done."""

import contextlib
import os
import re
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from genre_spark import errors
from genre_spark.dataset.progress import TaskCounts
from genre_spark.errors import GenreSparkError
from genre_spark.spark import watch
from genre_spark.spark_failures import explained

if TYPE_CHECKING:
    from pyspark import SparkContext
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


def run_tasks(
    spark: "SparkSession",
    work: Callable[[Any], Any],
    items: Sequence[Any],
    what: str,
    on_done: Callable[[list[Any], TaskCounts], None] | None = None,
) -> list[Any]:
    """Run a function on each of some items, one Spark task each, and return the results in their order.

    By way of an RDD: a DataFrame's planner and code generator take seconds to start, and have nothing to plan here.

    Parameters
    ----------
    spark : SparkSession
        Where the work is done.
    work : callable
        Travels to the workers.
    items : sequence
        Numbers or small objects.
    what : str
        Shown in Spark's UI.
    on_done : callable, optional
        Called from a thread now and then: with the results that came since the last call, and what Spark's tasks do.

    Raises
    ------
    GenreSparkError
        What a task raised, if it is one of ours, or what is known of Spark's failure.
    """
    context = spark.sparkContext
    done: Any = context.accumulator({}, _results())
    is_told = on_done is not None

    def run(numbered: tuple[int, Any]) -> tuple[int, Any]:
        number, item = numbered
        result = work(item)
        if is_told:
            done.add({number: result})
        return number, result

    group = f"genre_spark-{uuid.uuid4().hex[:12]}"

    def read() -> tuple[list[Any], TaskCounts]:
        # Taken out, so that the driver holds each result once. Spark adds each task once, also one that ran twice.
        so_far: dict[int, Any] = done.value
        new = []
        while so_far:
            new.append(so_far.popitem()[1])
        return new, _task_counts(context, group)

    outer_group = context.getLocalProperty("spark.jobGroup.id")
    context.setJobGroup(group, what)
    try:
        with watch(read, None if on_done is None else lambda state: on_done(*state)):
            results = dict(context.parallelize(list(enumerate(items)), max(1, len(items))).map(run).collect())
    except Exception as error:
        raise (error_of_worker(error) or explained(error) or error) from None
    finally:
        context.setJobDescription("")
        context.setLocalProperty("spark.jobGroup.id", outer_group)  # type: ignore[arg-type]
    return [results[number] for number in range(len(items))]


def error_of_worker(error: BaseException) -> GenreSparkError | None:
    """Find the error of ours that a task ended with: Spark wraps its line in pages of traceback.

    Parameters
    ----------
    error : BaseException
        What a Spark call raised.

    Returns
    -------
    GenreSparkError or None
        None where a task ended with something else, or the driver failed.
    """
    raised = re.findall(r"^(?:genre_spark\.errors\.)(\w+): (.+)$", str(error), re.MULTILINE)
    kind = getattr(errors, raised[-1][0], None) if raised else None
    return kind(raised[-1][1].strip()) if kind is not None else None


def _task_counts(context: "SparkContext", group: str) -> TaskCounts:
    counts = TaskCounts()
    # Whoever asks while Spark ends gets an answer all the same: nothing depends on these numbers.
    with contextlib.suppress(Exception):
        tracker = context.statusTracker()
        jobs = [tracker.getJobInfo(job) for job in tracker.getJobIdsForGroup(group)]
        for stage in [tracker.getStageInfo(number) for job in jobs if job for number in job.stageIds]:
            if stage is not None:
                of_stage = (stage.numActiveTasks, stage.numCompletedTasks, stage.numFailedTasks)
                counts = TaskCounts(*map(sum, zip(counts, of_stage, strict=True)))
    return counts


def _results() -> Any:
    from pyspark.accumulators import AccumulatorParam

    class Results(AccumulatorParam[dict[int, Any]]):
        """Adds up results of tasks by position, so that a task that ran twice stands there once."""

        def zero(self, value: dict[int, Any]) -> dict[int, Any]:
            return {}

        def addInPlace(self, value1: dict[int, Any], value2: dict[int, Any]) -> dict[int, Any]:  # noqa: N802
            value1.update(value2)
            return value1

    return Results()


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
