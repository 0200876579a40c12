"""The Spark job: track table x specs -> a dataset, computed once and then kept up to date.

What is missing or changed is computed (`ledger`), by tasks that write files of their own (`part`); small files are
joined and rows that no longer hold are dropped (`rewrite`); all becomes part of the dataset in one step (`commit`).
"""

import itertools
import logging
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from genre_spark.corpora.tracks import stream_tracks
from genre_spark.dataset.assembly import committed
from genre_spark.dataset.commit import WORK, begin_attempt, finish_commits, left_files
from genre_spark.dataset.job import Job, failure, fingerprint_of, has_failed, standing_dataset, warn_of_versions
from genre_spark.dataset.lease import leased
from genre_spark.dataset.ledger import PLAN_SCHEMA, Ledger
from genre_spark.dataset.part import TASKS_PER_PLAN
from genre_spark.dataset.product import Features
from genre_spark.dataset.progress import Progress, Receipt, Tally, WrittenFile
from genre_spark.dataset.rows import ERRORS, FEATURES
from genre_spark.dataset.store import (
    Dataset,
)
from genre_spark.dataset.tasks import run_tasks
from genre_spark.dataset.track_rows import rows_of
from genre_spark.errors import DatasetError
from genre_spark.features.spec import FeatureSpec
from genre_spark.filesystems import masked
from genre_spark.folders import Folder
from genre_spark.settings import ExtractSettings, Settings

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    SparkSource = SparkSession | Callable[[], SparkSession]

logger = logging.getLogger(__name__)

# A task shall be worth its start (some 50 ms), a job have so many that the last ones don't let most of a cluster wait,
# and the driver not have to look after too many.
_FEWEST_TRACKS, _GOOD_TRACKS = 4, 32
_FEWEST_TASKS, _MANY_TASKS = 64, 4_096
# So many come in halves at the end, for the cores to finish together.
_LAST_TASKS = 8


def extract(
    spark: "SparkSource",
    tracks: pa.Table | Path,
    specs: Sequence[FeatureSpec],
    out: str | Path,
    settings: Settings,
    *,
    overwrite: bool = False,
    retry_errors: bool = False,
    prune: bool = False,
    on_progress: Callable[[Progress], None] | None = None,
) -> Dataset:
    """Bring a dataset up to date with a track table: one row, or one per segment, or one error row per track.

    Computed is what the dataset lacks, and what has another audio file now (`extract.changed_by`). What a job left
    that was stopped is taken over. Where nothing is to be computed, no audio is read and no Spark is needed.

    Parameters
    ----------
    spark : SparkSession, or callable that returns one
        Where the work is done; a callable is called when there is something to do.
    tracks : pa.Table or Path
        A track table, or the file that holds one, which is read piece by piece.
    specs : sequence of FeatureSpec
        One tensor column each; all with the same segments, or all without.
    out : str or Path
        The dataset: a folder, or an address such as `s3://bucket/dataset`. Workers must see it under this name.
    settings : Settings
        `extract` and `audio` are used.
    overwrite : bool
        Replace a dataset of other specs or settings, and compute all tracks anew.
    retry_errors : bool
        Try tracks again that are error rows though their files are as they were. A dataset whose last extraction
        failed is always tried again.
    prune : bool
        Remove the rows of tracks that the track table lacks.
    on_progress : callable, optional
        Called from a thread now and then; the last call is the summary.

    Returns
    -------
    Dataset
        Opened anew.

    Raises
    ------
    DatasetError
        If `out` holds something else, another job works on it, it can't be written, or the specs cut clips in
        different ways.
    ExtractionFailed
        If no track could be read, or more failed than the settings allow. What was computed is committed by then;
        where that would replace a dataset that didn't fail (`overwrite`), it is kept beside it for the next try.
    """
    return bring_up_to_date(
        spark, tracks, Features(specs), out, settings,
        overwrite=overwrite, retry_errors=retry_errors, prune=prune, on_progress=on_progress,
    )  # fmt: skip


def bring_up_to_date(
    spark: "SparkSource",
    tracks: pa.Table | Path,
    product: Features,
    out: str | Path,
    settings: Settings,
    *,
    overwrite: bool = False,
    retry_errors: bool = False,
    prune: bool = False,
    on_progress: Callable[[Progress], None] | None = None,
) -> Dataset:
    """Do what `extract` does, for any product."""
    folder = Folder(out, DatasetError)
    tally = Tally(on_progress)
    standing_dataset(folder, product, settings, overwrite=overwrite)
    source = str(tracks) if isinstance(tracks, Path) else "the track table"
    pieces = stream_tracks(tracks, source)
    first = next(pieces)  # what is no track table is refused before anything is written
    if settings.extract.wait_s:
        tally.set(phase="waiting")
    with leased(folder, wait_s=settings.extract.wait_s) as lease, Ledger(by_hash=_by_hash(settings)) as ledger:
        tally.set(phase="planning")
        # Another job may have been at work until now.
        finish_commits(folder)
        before = standing_dataset(folder, product, settings, overwrite=overwrite)
        job = Job(folder, before, f"{WORK}/{uuid.uuid4().hex[:12]}", product, settings, spark, tally)
        warn_of_versions(before)
        count = ledger.add_tracks(_told(itertools.chain([first], pieces), tally), source)
        kept = before if before is not None and not overwrite else None
        if kept is not None:
            ledger.add_dataset(kept)
        fingerprint = fingerprint_of(product, settings)
        found: Counter[str] = Counter()
        for table, name, rows in left_files(folder, fingerprint):
            ledger.add_found(table, name, rows)
            found[table] += rows.num_rows
        last = {"tracks": found.total(), "features": found[FEATURES], "errors": found[ERRORS]}
        if kept is not None:
            last = kept.manifest.counts
        again = retry_errors or (last["tracks"] > 0 and has_failed(last, settings))
        taken = ledger.plan(retry_errors=again)
        salvaged = ledger.salvaged
        to_compute = ledger.to_compute
        tally.set(
            tracks=count, to_compute=to_compute, salvaged=salvaged, up_to_date=count - to_compute - salvaged,
        )  # fmt: skip
        begin_attempt(folder, job.work, fingerprint)
        receipts = _compute(job, ledger, to_compute)
        written = [_as_written(folder, table, name) for table, name in taken]
        written += [file._replace(name=f"{job.work}/{file.name}") for receipt in receipts for file in receipt.files]
        _check_complete(job, ledger, receipts, written[len(taken) :])
        ledger.note_changes(prune=prune)
        changes = ledger.counts()
        unwanted = 0 if prune else changes["unwanted"]
        if unwanted:
            logger.warning("%s: keeps %d tracks that %s lacks (--prune removes them)", folder, unwanted, source)
        removed = changes["unwanted"] if prune else 0
        tally.set(removed=removed, told=changes["told"], unwanted=unwanted)
        if kept is not None and not written and not changes["dropped"] and not changes["told"]:
            lease.check()  # what lies there may be another job's by now
            folder.delete_folder(WORK)
            tally.set(phase="done")
            dataset = kept
        else:
            dataset = committed(job, ledger, kept, written, lease.check)
            tally.set(phase="done")
    if has_failed(dataset.manifest.counts, settings):
        raise failure(str(dataset), dataset.manifest.counts, dataset.errors(), settings)
    return dataset


def _told(pieces: Iterable[pa.Table], tally: Tally) -> Iterator[pa.Table]:
    """Tell how many tracks were taken in: with millions of files on a far store that alone takes a while."""
    count = 0
    for piece in pieces:
        yield piece
        count += len(piece)
        tally.set(tracks=count)


def _by_hash(settings: Settings) -> bool:
    return settings.extract.changed_by == "hash"


def _compute(job: Job, ledger: Ledger, to_compute: int) -> list[Receipt]:
    """Compute what is to be computed, into files of the job's folder."""
    if not to_compute:
        return []
    sizes = task_sizes(to_compute, job.product.bytes_per_track, job.settings.extract)
    tasks = _write_plan(job, ledger.tasks(sizes))
    part = job.product.part(job.folder.join(job.work), job.settings)
    job.tally.set(phase="starting Spark")
    spark = job.session()
    job.tally.set(phase="extracting")
    job.tally.add([])  # the start of Spark is no part of the rate
    receipts: list[Receipt] = run_tasks(
        spark, part, range(tasks), f"extract {masked(job.folder.address)}",
        job.tally.add,
    )  # fmt: skip
    return receipts


def task_sizes(tracks: int, bytes_per_track: int, settings: ExtractSettings) -> list[int]:
    """How many tracks each task, and so each file, has.

    It follows from the tracks and the settings alone, so that the same job gives the same files on any number of
    cores.
    """
    least = -(-settings.min_file_mb * 1_000_000 // bytes_per_track)  # or the file would be joined with others
    fewest = max(_FEWEST_TRACKS, least)
    fit = max(1, settings.max_file_mb * 1_000_000 // bytes_per_track)
    for_tasks = max(min(fewest, 2 * _FEWEST_TRACKS), -(-tracks // _FEWEST_TASKS))
    wanted = min(for_tasks, max(_GOOD_TRACKS, -(-tracks // _MANY_TASKS)))
    size = max(1, min(settings.tracks_per_task, fit, wanted))
    last = size // 2 if size // 2 >= fewest else size
    whole = max(0, tracks // size - _LAST_TASKS)
    halves, rest = divmod(tracks - whole * size, last)
    return [size] * whole + [last] * halves + [rest] * (rest > 0)


def _write_plan(job: Job, tasks: Iterable[pa.Table]) -> int:
    """Write which tracks each task has, one row group per task; return how many tasks there are."""
    count = 0
    waiting: list[pa.Table] = []

    def write() -> None:
        number = (count - 1) // TASKS_PER_PLAN
        with (
            job.folder.created(f"{job.work}/plan-{number:05d}.parquet") as file,
            pq.ParquetWriter(file, PLAN_SCHEMA) as writer,
        ):
            for task in waiting:
                writer.write_table(task)
        waiting.clear()

    for task in tasks:
        waiting.append(task)
        count += 1
        if len(waiting) == TASKS_PER_PLAN:
            write()
    if waiting:
        write()
    return count


def _as_written(folder: Folder, table: str, name: str) -> WrittenFile:
    with folder.opened(name) as file:
        return WrittenFile(table, name, pq.read_metadata(file).num_rows, file.size())


def _check_complete(job: Job, ledger: Ledger, receipts: Sequence[Receipt], written: Sequence[WrittenFile]) -> None:
    """Note what the job's files hold; refuse to commit if a track was lost or stands there twice."""
    job.tally.set(phase="checking files")
    for table, name, rows in rows_of(job.folder, [(file.table, file.name) for file in written]):
        ledger.add_fresh(table, name, rows["track_id"])
    twice, (missing, first) = ledger.twice(), ledger.missing()
    if twice or missing != sum(receipt.unchanged for receipt in receipts):
        what = f"track {twice!r} came twice" if twice else f"{missing} tracks such as {first!r} came to nothing"
        raise DatasetError(
            f"{job.folder}: {what}: the folder is not the same for all workers, or a disk lost files; the dataset is "
            "as it was"
        )
