"""The Spark job that audits a corpus: track table -> what is wrong with which track.

    OUT/
      audit.parquet    the track's columns, `genre_spark.features.measure`'s, and what is judged from them; one row per
                       track, sorted by track_id
      summary.json     see `genre_spark.dataset.audit_summary`
      summary.md       the same for readers

The rows are small, so Spark itself carries and writes them; the driver sees counts and a few examples only.
"""

import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from genre_spark.corpora.tracks import TRACK_SCHEMA, tracks_digest
from genre_spark.dataset.audit_counts import summarise
from genre_spark.dataset.audit_summary import (
    PROBLEMS,
    SUMMARY,
    SUMMARY_TEXT,
    AuditSummary,
    read_summary,
    render_summary,
)  # fmt: skip
from genre_spark.dataset.isolation import IsolatedProcess
from genre_spark.dataset.tasks import spread_tracks, track_counter, tracks_done
from genre_spark.errors import AudioError, CorpusError
from genre_spark.features.measure import MEASUREMENT_SCHEMA, Measurement, measure_file
from genre_spark.features.source_name import source_name
from genre_spark.files import replace_folder, staging_folder
from genre_spark.provenance import now, versions_of
from genre_spark.settings import AuditSettings, Settings
from genre_spark.spark import watch

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame, SparkSession

__all__ = [
    "AUDIT",
    "AUDIT_SCHEMA",
    "SUMMARY",
    "SUMMARY_TEXT",
    "AuditSummary",
    "clean_tracks",
    "validate",
    "with_pcm_hashes",
]

AUDIT = "audit.parquet"
_PROGRESS = "progress"
_PARTS = "parts"

_ROWS_PER_PARTITION = 50_000
_TRACKS_PER_TASK = 32

LIBRARIES = ("numpy", "pyarrow", "pyspark", "soundfile", "xxhash")

# Tracks that can't be used at all; the others are for a person to judge.
USELESS = ("broken", "too_short", "silent")

# The signal's hash is measured: what the track table says of it is not repeated.
_MEASURED_SCHEMA = pa.schema([*(field for field in TRACK_SCHEMA if field.name != "pcm_hash"), *MEASUREMENT_SCHEMA])
# `duplicate_group` is the first track_id of those with the same signal (the same bytes, where they can't be decoded),
# null for a track without a copy; `duplicate_of` is the same and null for the first one too.
AUDIT_SCHEMA = pa.schema(
    [
        *_MEASURED_SCHEMA,
        pa.field("duplicate_group", pa.string()),
        pa.field("duplicate_of", pa.string()),
        pa.field("problems", pa.list_(pa.field("element", pa.string(), nullable=False))),
    ]
)


def validate(
    spark: "SparkSession",
    tracks: pa.Table,
    out: Path,
    settings: Settings,
    *,
    overwrite: bool = False,
    on_tracks: Callable[[int], None] | None = None,
) -> AuditSummary:
    """Read every track of a corpus and write down what is wrong with it: one row per track, whatever its state.

    Parameters
    ----------
    spark : SparkSession
        Where the work is done; its workers must see `out` and the tracks.
    tracks : pa.Table
        A track table.
    out : Path
        Folder of the audit.
    settings : Settings
        `audit`, `audio` and `extract.tracks_per_task` are used.
    overwrite : bool
        Replace an audit that stands there.
    on_tracks : callable, optional
        Called from a thread with the number of tracks done so far.

    Returns
    -------
    AuditSummary
        As `summary.json` holds it.

    Raises
    ------
    CorpusError
        If `out` holds something else, or an audit and `overwrite` is not given, or can't be written.
    """
    out = out.resolve()
    _check_place(out, overwrite=overwrite)
    started = time.monotonic()
    with staging_folder(out, CorpusError) as staging:
        progress = staging / _PROGRESS
        progress.mkdir()
        audited = (
            spread_tracks(spark, tracks, min(_TRACKS_PER_TASK, settings.extract.tracks_per_task))
            .mapInArrow(_measurer(progress, settings), _spark_schema(_MEASURED_SCHEMA))
            .transform(lambda measured: _with_copies(measured, _partitions(spark, tracks.num_rows)))
            .transform(lambda measured: _with_problems(measured, settings.audit))
            .select(AUDIT_SCHEMA.names)
            # Kept, because they are counted from several sides: no file shall be read twice.
            .persist()
        )
        try:
            with watch(lambda: tracks_done(progress, tracks.num_rows), on_tracks):
                rows = audited.count()
            if rows != tracks.num_rows:
                raise CorpusError(f"{out}: {tracks.num_rows} tracks gave {rows} rows: Spark lost some; run it again")
            _write_rows(audited, staging)
            summary = AuditSummary(
                **summarise(audited),
                limits=settings.audit.model_dump(),
                tracks_digest=tracks_digest(tracks),
                versions=versions_of(LIBRARIES),
                created=now(),
                wall_s=round(time.monotonic() - started, 3),
            )
        finally:
            audited.unpersist()
        (staging / SUMMARY).write_text(summary.model_dump_json(indent=2) + "\n", encoding="utf-8")
        (staging / SUMMARY_TEXT).write_text(render_summary(summary), encoding="utf-8")
        shutil.rmtree(progress)
        replace_folder(staging, out)
    return summary


def with_pcm_hashes(tracks: pa.Table, audit: Path) -> pa.Table:
    """Fill in `pcm_hash` from an audit: null for tracks that it found broken or digitally silent.

    Parameters
    ----------
    tracks : pa.Table
        The track table that was audited, or a part of it.
    audit : Path
        Folder of the audit.

    Returns
    -------
    pa.Table
        The same rows in the same order.

    Raises
    ------
    CorpusError
        If there is no audit, or it says nothing of a track.
    """
    return _with_hashes(tracks, _audited(tracks, audit))


def clean_tracks(tracks: pa.Table, audit: Path) -> pa.Table:
    """Leave out the tracks that an audit calls broken, too short or silent, and fill in `pcm_hash`.

    Parameters
    ----------
    tracks : pa.Table
        The track table that was audited, or a part of it.
    audit : Path
        Folder of the audit.

    Returns
    -------
    pa.Table
        The other rows in the same order.

    Raises
    ------
    CorpusError
        If there is no audit, it says nothing of a track, or no track is left.
    """
    audited = _audited(tracks, audit)
    usable = [not any(problem in USELESS for problem in problems) for problems in audited["problems"].to_pylist()]
    if not any(usable):
        raise CorpusError(f"{audit}: all tracks are {', '.join(USELESS)}: nothing is left; see its {SUMMARY_TEXT}")
    return _with_hashes(tracks, audited).filter(pa.array(usable))


def _audited(tracks: pa.Table, audit: Path) -> pa.Table:
    """Rows of an audit for `tracks`, in their order."""
    read_summary(audit)
    try:
        # By its file: a folder above that looks like `key=value` would become a column.
        audited = pq.ParquetFile(audit / AUDIT).read(["track_id", "uri", "pcm_hash", "problems"])
    except (pa.ArrowException, OSError) as error:
        raise CorpusError(f"{audit / AUDIT}: can't be read: {' '.join(str(error).split())}; validate again") from None
    rows = audited.take(pc.index_in(tracks["track_id"], audited["track_id"]))
    # Null where the audit lacks the track: then it lacks the address too.
    is_known = pc.fill_null(pc.equal(rows["uri"], tracks["uri"]), False)
    if not pc.all(is_known).as_py():
        unknown = tracks.filter(pc.invert(is_known))["track_id"][0].as_py()
        raise CorpusError(f"{audit}: says nothing of track {unknown!r} at its address; validate this track table")
    return rows


def _with_hashes(tracks: pa.Table, audited: pa.Table) -> pa.Table:
    position = tracks.schema.get_field_index("pcm_hash")
    return tracks.set_column(position, TRACK_SCHEMA.field("pcm_hash"), audited["pcm_hash"])


def _check_place(out: Path, *, overwrite: bool) -> None:
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not (out / SUMMARY).is_file() or not (out / AUDIT).is_file():
        raise CorpusError(f"{out}: exists and is no audit; name another folder for --out")
    if not overwrite:
        raise CorpusError(f"{out}: holds an audit already; replace it with --overwrite")


def _spark_schema(schema: pa.Schema) -> Any:
    """Spark's type for an Arrow schema."""
    from pyspark.sql.pandas.types import from_arrow_schema

    return from_arrow_schema(schema)


def _measurer(progress: Path, settings: Settings) -> Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """Make the function of one task: tracks in, the same tracks with measurements out."""
    audio = settings.audio
    limits = audio.model_dump(include={"max_duration_s", "max_file_mb"})

    def measure(uri: str) -> tuple[dict[str, Any], dict[str, Any]]:
        return asdict(measure_file(uri, **limits)), {}

    def measure_part(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        with (
            track_counter(progress) as count,
            IsolatedProcess(measure, timeout_s=audio.max_decode_s, max_memory_mb=audio.max_memory_mb) as process,
        ):
            for batch in batches:
                rows = []
                for track in batch.to_pylist():
                    try:
                        facts, _ = process.call(track["uri"], name=source_name(track["uri"]))
                    except AudioError as error:
                        facts = asdict(Measurement(error=type(error).__name__, detail=str(error)))
                    rows.append(track | facts)
                    count()
                yield pa.RecordBatch.from_pylist(rows, schema=_MEASURED_SCHEMA)

    return measure_part


def _partitions(spark: "SparkSession", rows: int) -> int:
    """Choose how many partitions hold the rows: each is visited by half a dozen jobs, so that few of them are fast."""
    return max(-(-rows // _ROWS_PER_PARTITION), min(spark.sparkContext.defaultParallelism, -(-rows // 1_000)))


def _with_copies(measured: "DataFrame", partitions: int) -> "DataFrame":
    """Add `duplicate_group` and `duplicate_of`."""
    from pyspark.sql import Window
    from pyspark.sql import functions as F  # noqa: N812

    # Silence has no hash, an empty file no content, a missing one no bytes: each is a group of its own, or all of them
    # would end in one task.
    undecodable = F.when(F.col("error").isNotNull() & (F.col("size_bytes") > 0), F.col("file_sha256"))
    signal = F.coalesce(F.col("pcm_hash"), undecodable, F.concat(F.lit("track "), F.col("track_id")))
    group = Window.partitionBy("signal")
    first, copies = F.min("track_id").over(group), F.count("track_id").over(group)
    return (
        measured.withColumn("signal", signal)
        .repartition(partitions, "signal")
        .withColumn("duplicate_group", F.when(copies > 1, first))
        .withColumn("duplicate_of", F.when(F.col("duplicate_group") != F.col("track_id"), F.col("duplicate_group")))
    )


def _with_problems(measured: "DataFrame", limits: AuditSettings) -> "DataFrame":
    """Add `problems`, an array in the order of `PROBLEMS`; a fact that is unknown is no problem."""
    from pyspark.sql import functions as F  # noqa: N812

    conditions: dict[str, Column] = {
        "broken": F.col("error").isNotNull(),
        "too_short": F.col("decoded_s") < limits.min_duration_s,
        "shortened": F.col("error").isNull() & (F.col("announced_s") > F.col("decoded_s")),
        "silent": F.col("rms_dbfs") < limits.silent_dbfs,
        "clipped": F.col("clipped") > limits.max_clipped,
        "duplicate": F.col("duplicate_of").isNotNull(),
        "mislabelled_extension": F.col("mislabelled"),
    }
    named = [F.when(conditions[problem], F.lit(problem)) for problem in PROBLEMS]
    return measured.withColumn("problems", F.array_compact(F.array(*named)))


def _write_rows(audited: "DataFrame", staging: Path) -> None:
    """Write one file, which every reader takes by its name: a million rows are some hundred megabytes."""
    # With its scheme: a cluster's default file system may be another one.
    audited.repartition(1).sortWithinPartitions("track_id").write.parquet(f"file://{staging / _PARTS}")
    (part,) = (staging / _PARTS).glob("part-*.parquet")
    part.rename(staging / AUDIT)
    shutil.rmtree(staging / _PARTS)
