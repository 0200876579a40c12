"""The Spark job: track table x specs -> a dataset, computed once and then kept up to date.

What is missing or changed is computed (`ledger`), by tasks that write files of their own (`part`); small files are
joined and rows that no longer hold are dropped (`rewrite`); all becomes part of the dataset in one step (`commit`).
"""

import itertools
import logging
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from genre_spark.corpora.tracks import stream_tracks
from genre_spark.dataset.commit import WORK, begin_attempt, commit, finish_commits, is_list, left_files
from genre_spark.dataset.lease import leased
from genre_spark.dataset.ledger import PLAN_SCHEMA, Ledger, rows_of
from genre_spark.dataset.part import TASKS_PER_PLAN
from genre_spark.dataset.product import Features
from genre_spark.dataset.progress import Progress, Receipt, Tally, WrittenFile
from genre_spark.dataset.rewrite import Group, Rewriting, grouped
from genre_spark.dataset.store import (
    ERRORS,
    FEATURES,
    FILES_SCHEMA,
    FORMAT_VERSION,
    INSTALL_NEWER,
    MANIFEST,
    Dataset,
    Manifest,
    open_dataset,
    read_rows,
)
from genre_spark.dataset.tasks import run_tasks
from genre_spark.errors import DatasetError, ExtractionFailed
from genre_spark.features.spec import FeatureSpec
from genre_spark.filesystems import masked
from genre_spark.folders import Folder
from genre_spark.provenance import now, versions_of
from genre_spark.settings import ExtractSettings, Settings

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    SparkSource = SparkSession | Callable[[], SparkSession]

logger = logging.getLogger(__name__)

# What decides the numbers, and so stands in the manifest.
LIBRARIES = ("librosa", "numpy", "scipy", "soundfile", "soxr", "pyspark", "pyarrow")

# A job of enough tracks is cut into so many tasks at least, that the last ones don't let most of a cluster wait.
_TASKS = 128
# Below that a task isn't worth its start.
_FEWEST_TRACKS = 4


@dataclass(frozen=True)
class _Job:
    """One change of a dataset on its way."""

    folder: Folder
    before: Dataset | None
    work: str
    product: Features
    settings: Settings
    spark: "SparkSource"
    tally: Tally


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
    _standing(folder, product, settings, overwrite=overwrite)
    source = str(tracks) if isinstance(tracks, Path) else "the track table"
    pieces = stream_tracks(tracks, source)
    first = next(pieces)  # what is no track table is refused before anything is written
    if settings.extract.wait_s:
        tally.set(phase="waiting")
    with leased(folder, wait_s=settings.extract.wait_s) as lease, Ledger(by_hash=_by_hash(settings)) as ledger:
        tally.set(phase="planning")
        # Another job may have been at work until now.
        finish_commits(folder)
        before = _standing(folder, product, settings, overwrite=overwrite)
        job = _Job(folder, before, f"{WORK}/{uuid.uuid4().hex[:12]}", product, settings, spark, tally)
        _warn_of_versions(before)
        count = ledger.add_tracks(_told(itertools.chain([first], pieces), tally), source)
        kept = before if before is not None and not overwrite else None
        if kept is not None:
            ledger.add_dataset(kept)
        fingerprint = _fingerprint(product, settings)
        found: Counter[str] = Counter()
        for table, name, rows in left_files(folder, fingerprint):
            ledger.add_found(table, name, rows)
            found[table] += rows.num_rows
        last = {"tracks": found.total(), "features": found[FEATURES], "errors": found[ERRORS]}
        if kept is not None:
            last = kept.manifest.counts
        again = retry_errors or (last["tracks"] > 0 and _has_failed(last, settings))
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
            folder.delete_folder(WORK)
            tally.set(phase="done")
            dataset = kept
        else:
            dataset = _committed(job, ledger, kept, written, lease.check)
            tally.set(phase="done")
    if _has_failed(dataset.manifest.counts, settings):
        raise _failed(str(dataset), dataset.manifest.counts, dataset.errors(), settings)
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


def _fingerprint(product: Features, settings: Settings) -> dict[str, Any]:
    """What two jobs must have in common for the one to go on with what the other computed."""
    return {
        "format_version": FORMAT_VERSION,
        "digests": {spec.name: spec.digest for spec in product.specs},
        "predictor": product.predictor.model_dump() if product.predictor is not None else None,
        "audio": settings.audio.decoding(),
        "changed_by": settings.extract.changed_by,
        "versions": versions_of(LIBRARIES),
    }


def _standing(folder: Folder, product: Features, settings: Settings, *, overwrite: bool) -> Dataset | None:
    """Open the dataset that is to be changed; refuse what is none, or a different one."""
    there = folder.names()
    names = [name for name in there if not name.startswith("_")]
    if not names:
        return None
    if MANIFEST not in names:
        if WORK in there and all(name in (FEATURES, ERRORS) or is_list(name) for name in names):
            return None  # files of a job that died before its first commit was complete
        raise DatasetError(f"{folder}: exists and is no dataset; name another folder for --out")
    try:
        dataset = open_dataset(folder.address)
    except DatasetError as error:
        if not overwrite or str(error).endswith(INSTALL_NEWER):
            raise
        return None
    if overwrite:
        return dataset
    manifest = dataset.manifest
    wanted = {spec.name: spec.digest for spec in product.specs}
    if manifest.predictor != product.predictor:
        then = f"predictions of another model ({manifest.predictor.digest})" if manifest.predictor else "features"
        raise DatasetError(f"{folder}: holds {then}; take another folder for --out, or replace it with --overwrite")
    if (manifest.digests, manifest.audio) != (wanted, settings.audio.decoding()):
        raise DatasetError(
            f"{folder}: holds a dataset of {_difference(manifest, wanted, settings)}; take another folder for --out, "
            "or replace it with --overwrite"
        )
    return dataset


def _warn_of_versions(dataset: Dataset | None) -> None:
    then = dataset.manifest.versions if dataset is not None else {}
    for name, version in versions_of(LIBRARIES).items():
        if dataset is not None and then.get(name) != version:
            logger.warning(
                "%s: was computed with %s %s, this is %s: the last bits of new rows may differ",
                dataset, name, then.get(name), version,
            )  # fmt: skip


def _difference(manifest: Manifest, wanted: dict[str, str], settings: Settings) -> str:
    if set(manifest.digests) != set(wanted):
        return f"other features ({', '.join(manifest.digests)})"
    for name, digest in wanted.items():
        if manifest.digests[name] != digest:
            return f"another spec of {name!r} (digest {manifest.digests[name]}, not {digest})"
    for key, value in settings.audio.decoding().items():
        if manifest.audio.get(key) != value:
            return f"audio.{key}={manifest.audio.get(key)}, not {value}"
    return "other settings"


def _compute(job: _Job, ledger: Ledger, to_compute: int) -> list[Receipt]:
    """Compute what is to be computed, into files of the job's folder."""
    if not to_compute:
        return []
    tracks_per_task = _tracks_per_task(to_compute, job.product.bytes_per_track, job.settings.extract)
    tasks = _write_plan(job, ledger.tasks(tracks_per_task))
    part = job.product.part(job.folder.join(job.work), job.settings)
    job.tally.set(phase="starting Spark")
    spark = _session(job)
    job.tally.set(phase="extracting")
    job.tally.add([])  # the start of Spark is no part of the rate
    receipts: list[Receipt] = run_tasks(
        spark, part, range(tasks), f"extract {masked(job.folder.address)}",
        job.tally.add,
    )  # fmt: skip
    return receipts


def _session(job: _Job) -> "SparkSession":
    return job.spark() if callable(job.spark) else job.spark


def _tracks_per_task(tracks: int, bytes_per_track: int, settings: ExtractSettings) -> int:
    """How many tracks a task, and so a file, has.

    It follows from the tracks and the settings alone, so that the same job gives the same files on any number of
    cores.
    """
    fit = max(1, settings.max_file_mb * 1_000_000 // bytes_per_track)
    return max(1, min(settings.tracks_per_task, fit, max(_FEWEST_TRACKS, -(-tracks // _TASKS))))


def _write_plan(job: _Job, tasks: Iterable[pa.Table]) -> int:
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


def _check_complete(job: _Job, ledger: Ledger, receipts: Sequence[Receipt], written: Sequence[WrittenFile]) -> None:
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


def _committed(
    job: _Job, ledger: Ledger, kept: Dataset | None, written: list[WrittenFile], check_lease: Callable[[], None]
) -> Dataset:
    """Join small files, drop rows that no longer hold, and commit."""
    job.tally.set(phase="joining files")
    stays, written = _rewritten(job, ledger, kept, written)
    counts, kinds = _counted(job, stays, written)
    if counts["tracks"] != ledger.standing:
        raise DatasetError(
            f"{job.folder}: its new files hold {counts['tracks']} tracks where there are {ledger.standing}; the "
            "dataset is as it was"
        )
    before = job.before if kept is None else None
    replaces_a_good_one = before is not None and not _has_failed(before.manifest.counts, job.settings)
    if replaces_a_good_one and _has_failed(counts, job.settings):
        errors = [read_rows(job.folder, ERRORS, file.name) for file in written if file.table == ERRORS]
        place = f"{job.folder}: is as it was; {masked(job.folder.join(job.work))}"
        raise _failed(place, counts, pa.concat_tables(errors), job.settings)
    number = job.before.manifest.commit + 1 if job.before is not None else 1
    moment = now()
    manifest = Manifest(
        format_version=FORMAT_VERSION,
        commit=number,
        files=f"files-{number:05d}-{uuid.uuid4().hex[:8]}.parquet",
        specs=list(job.product.specs),
        digests={spec.name: spec.digest for spec in job.product.specs},
        counts=counts,
        errors=kinds,
        versions=versions_of(LIBRARIES),
        audio=job.settings.audio.decoding(),
        created=kept.manifest.created if kept is not None else moment,
        changed=moment,
        wall_s=round(job.tally.elapsed_s, 3),
        predictor=job.product.predictor,
    )
    check_lease()
    commit(job.folder, job.work, manifest, stays, written)
    return open_dataset(job.folder.address)


def _rewritten(
    job: _Job, ledger: Ledger, kept: Dataset | None, written: list[WrittenFile]
) -> tuple[pa.Table, list[WrittenFile]]:
    """Return the rows of the list of files that stay, and the new files, after small and changed ones are rewritten."""
    stays = kept.listed if kept is not None else FILES_SCHEMA.empty_table()
    changed = ledger.changed_files()
    settings = job.settings.extract
    smallest, largest = (mb * 1_000_000 for mb in (settings.min_file_mb, settings.max_file_mb))
    groups: list[Group] = []
    for table in (FEATURES, ERRORS):
        sizes = [(row["name"], row["bytes"]) for row in stays.to_pylist() if row["table"] == table]
        sizes = sorted(sizes) + [(file.name, file.bytes) for file in written if file.table == table]
        joined = grouped(sizes, smallest, largest)
        in_group = {name for group in joined for name in group}
        joined += [[name] for name, _ in sizes if name in changed and name not in in_group]
        for names in joined:
            changes = None
            if changed.intersection(names):
                changes = f"{job.work}/changes/{len(groups):06d}.parquet"
                with job.folder.created(changes) as file:
                    pq.write_table(ledger.changes_of(names), file)
            groups.append(Group(table, names, changes))
    if not groups:
        return stays, written
    rows_per_group = settings.tracks_per_row_group * job.product.rows_per_track
    rewriting = Rewriting(job.folder.address, job.work, job.product.schema(), rows_per_group)
    if len(groups) == 1:
        made = [rewriting(groups[0])]
    else:
        made = run_tasks(_session(job), rewriting, groups, f"join files of {masked(job.folder.address)}")
    gone = {name for group in groups for name in group.names}
    # A new file comes where the first one of its group was.
    made_of = {group.names[0]: files for group, files in zip(groups, made, strict=True)}
    old = stays.filter(pc.is_in(stays["name"], pa.array(sorted(gone), pa.string())))["name"].to_pylist()
    new = [file for name in sorted(old) for file in made_of.get(name, [])]
    for file in written:
        new += made_of.get(file.name, []) if file.name in gone else [file]
    stays = stays.filter(pc.invert(pc.is_in(stays["name"], pa.array(sorted(gone), pa.string()))))
    return stays, new


def _counted(job: _Job, stays: pa.Table, written: Sequence[WrittenFile]) -> tuple[dict[str, int], dict[str, int]]:
    """Count tracks and rows, and error rows by class, of what is to be committed."""
    files = [WrittenFile(**row) for row in stays.to_pylist()] + list(written)
    rows = sum(file.rows for file in files if file.table == FEATURES)
    kinds: Counter[str] = Counter()
    for file in files:
        if file.table == ERRORS:
            kinds.update(read_rows(job.folder, ERRORS, file.name)["error"].to_pylist())
    per_track = job.product.rows_per_track
    if rows % per_track:
        raise DatasetError(f"{job.folder}: {rows} rows are no whole tracks of {per_track}; the dataset is as it was")
    features, errors = rows // per_track, kinds.total()
    counts = {"tracks": features + errors, "features": features, "errors": errors, "rows": rows}
    return counts, dict(kinds.most_common())


def _has_failed(counts: dict[str, int], settings: Settings) -> bool:
    return not counts["features"] or counts["errors"] / counts["tracks"] > settings.extract.max_error_fraction


def _failed(place: str, counts: dict[str, int], errors: pa.Table, settings: Settings) -> ExtractionFailed:
    first = errors.sort_by("track_id").slice(0, 1).to_pylist()[0]
    return ExtractionFailed(
        f"{place}: {counts['errors']} of {counts['tracks']} tracks failed (the first: {first['detail']}), more "
        f"than extract.max_error_fraction={settings.extract.max_error_fraction:g} allows; see its {ERRORS}/ table"
    )
