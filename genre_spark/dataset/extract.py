"""The Spark job: track table x specs -> a dataset.

Python workers write the Parquet files themselves and Spark carries only a manifest, one row per file: half-megabyte
tensors that pass through the JVM cost several times as much as the features. All files are written into a folder of the
job's own beside the dataset and take their final names in one rename at the end: what a killed job or a task that ran
twice leaves behind is never read.
"""

import logging
import shutil
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from genre_spark.corpora.tracks import TRACK_SCHEMA, tracks_digest
from genre_spark.dataset.isolation import IsolatedProcess
from genre_spark.dataset.segments import common_segments
from genre_spark.dataset.store import (
    ERROR_SCHEMA,
    ERRORS,
    FEATURES,
    FORMAT_VERSION,
    MANIFEST,
    Dataset,
    Manifest,
    feature_schema,
    feature_table,
    open_dataset,
)  # fmt: skip
from genre_spark.dataset.tasks import spread_tracks, track_counter, tracks_done
from genre_spark.errors import AudioError, DatasetError, ExtractionFailed
from genre_spark.features.audio import decode
from genre_spark.features.measure import pcm_hash
from genre_spark.features.spec import FeatureSpec
from genre_spark.files import printable, replace_folder, staging_folder
from genre_spark.filesystems import masked
from genre_spark.provenance import now, versions_of
from genre_spark.settings import Settings
from genre_spark.spark import watch

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

logger = logging.getLogger(__name__)

# What decides the numbers, and so stands in the manifest.
LIBRARIES = ("librosa", "numpy", "scipy", "soundfile", "soxr", "pyspark", "pyarrow")

PROGRESS = "progress"

WRITTEN_SCHEMA = pa.schema([("partition", pa.int64()), ("table", pa.string()), ("file", pa.string())])


def extract(
    spark: "SparkSession",
    tracks: pa.Table,
    specs: Sequence[FeatureSpec],
    out: Path,
    settings: Settings,
    *,
    overwrite: bool = False,
    on_tracks: Callable[[int], None] | None = None,
) -> Dataset:
    """Extract features of every track into a dataset: one row, or one per segment, or one error row per track.

    Parameters
    ----------
    spark : SparkSession
        Where the work is done.
    tracks : pa.Table
        A track table.
    specs : sequence of FeatureSpec
        One tensor column each; all with the same segments, or all without.
    out : Path
        Folder of the dataset. One that holds the same tracks and specs already is left as it is.
    settings : Settings
        `extract` and `audio` are used.
    overwrite : bool
        Replace a dataset of other tracks or specs.
    on_tracks : callable, optional
        Called from a thread with the number of tracks done so far.

    Returns
    -------
    Dataset
        Opened anew from the disk.

    Raises
    ------
    DatasetError
        If `out` holds something else, or the specs cut clips in different ways.
    ExtractionFailed
        If no track could be read, or more failed than the settings allow. What was computed is written by then: to
        `out`, or beside it (`<out>.failed`) where a dataset would be lost.
    """
    common_segments(specs)
    out = out.resolve()
    if _is_there(out, tracks, specs, settings, overwrite=overwrite):
        logger.warning("%s holds these tracks and features already: nothing was computed (--overwrite does)", out)
        return open_dataset(out)
    started = time.monotonic()
    with staging_folder(out, DatasetError) as staging:
        for name in (FEATURES, ERRORS, PROGRESS):
            (staging / name).mkdir()
        written = _run_job(spark, tracks, specs, staging, settings, on_tracks)
        _give_final_names(staging, written)
        manifest = _write_manifest(staging, tracks, specs, settings, time.monotonic() - started)
        failed = _has_failed(manifest, settings)
        target = out.with_name(f"{out.name}.failed") if failed and _stands(out, settings) else out
        replace_folder(staging, target)
    dataset = open_dataset(target)
    if failed:
        counts, first = manifest.counts, dataset.errors().slice(0, 1).to_pylist()[0]
        raise ExtractionFailed(
            f"{target}: {counts['errors']} of {counts['tracks']} tracks failed (the first: {first['detail']}), more "
            f"than extract.max_error_fraction={settings.extract.max_error_fraction:g} allows; see its {ERRORS}/ table"
        )
    return dataset


def _has_failed(manifest: Manifest, settings: Settings) -> bool:
    share = manifest.counts["errors"] / manifest.counts["tracks"]
    return not manifest.counts["features"] or share > settings.extract.max_error_fraction


def _stands(out: Path, settings: Settings) -> bool:
    """Tell whether `out` is a dataset that didn't fail."""
    return (out / MANIFEST).is_file() and not _has_failed(open_dataset(out).manifest, settings)


def _is_there(
    out: Path, tracks: pa.Table, specs: Sequence[FeatureSpec], settings: Settings, *, overwrite: bool
) -> bool:
    """Tell whether `out` is the wanted dataset already; refuse to replace anything that isn't to be replaced."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return False
    if not (out / MANIFEST).is_file():
        raise DatasetError(f"{out}: exists and is no dataset; name another folder for --out")
    if overwrite:
        return False
    manifest = open_dataset(out).manifest
    wanted = {spec.name: spec.digest for spec in specs}
    same = (manifest.digests, manifest.tracks_digest, manifest.audio) == (
        wanted, tracks_digest(tracks), settings.audio.decoding()
    )  # fmt: skip
    if same and _has_failed(manifest, settings):
        return False  # perhaps a disk was not mounted: nothing of use is lost by another try
    if not same:
        raise DatasetError(f"{out}: holds a dataset of other tracks, features or settings; replace it with --overwrite")
    return True


def _run_job(
    spark: "SparkSession",
    tracks: pa.Table,
    specs: Sequence[FeatureSpec],
    staging: Path,
    settings: Settings,
    on_tracks: Callable[[int], None] | None,
) -> list[dict[str, Any]]:
    """Run the tasks, each of which writes its own files; return the rows of the manifest."""
    write_part = _part_writer(specs, staging, settings)

    def done() -> int:
        return tracks_done(staging / PROGRESS, tracks.num_rows)

    with watch(done, on_tracks):
        return [
            row.asDict()
            for row in spread_tracks(spark, tracks, settings.extract.tracks_per_file)
            .mapInArrow(write_part, "partition long, table string, file string")
            .collect()
        ]


def _part_writer(
    specs: Sequence[FeatureSpec], staging: Path, settings: Settings
) -> Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """Make the function of one task: tracks in, files written, one manifest row per file out."""
    rows_per_group = settings.extract.tracks_per_row_group
    audio = settings.audio

    def write_part(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        from pyspark import TaskContext

        # Imported before the first track: a library that isn't installed is no fault of the track.
        from genre_spark.features.compute import finite_features

        def read(uri: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
            pcm = decode(uri, **audio.decoding())
            facts = {"pcm_hash": pcm_hash(pcm.samples), "shortened_s": pcm.shortened_s or None}
            return facts, finite_features(pcm, specs, uri)

        context = TaskContext.get()
        partition = context.partitionId() if context else 0
        # A task that runs twice (a retry, a speculative copy) writes files of its own.
        name = f"{partition}-{uuid.uuid4().hex}.parquet"
        schema = feature_schema(specs)
        rows: list[dict[str, Any]] = []
        arrays: list[dict[str, Any]] = []
        errors: list[dict[str, str]] = []
        writer: pq.ParquetWriter | None = None

        def flush() -> None:
            nonlocal writer
            if not rows:
                return
            # Float tensors hardly compress and a dictionary of them only costs.
            writer = writer or pq.ParquetWriter(
                staging / FEATURES / name, schema, compression="snappy", use_dictionary=TRACK_SCHEMA.names
            )
            writer.write_table(feature_table(rows, arrays, specs))
            rows.clear()
            arrays.clear()

        with (
            track_counter(staging / PROGRESS) as count,
            IsolatedProcess(read, timeout_s=audio.max_decode_s, max_memory_mb=audio.max_memory_mb) as process,
        ):
            for batch in batches:
                for track in batch.to_pylist():
                    try:
                        facts, features = process.call(track["uri"], name=masked(track["uri"]))
                    except AudioError as error:
                        errors.append(_error_row(track, type(error).__name__, str(error)))
                    except Exception as error:
                        # Whatever a library makes of a rotten file costs one track, never the job.
                        errors.append(_error_row(track, AudioError.__name__, f"{type(error).__name__}: {error}"))
                    else:
                        rows.append(track | facts)
                        arrays.append(features)
                        if len(rows) == rows_per_group:
                            flush()
                    count()
        flush()
        written = []
        if writer is not None:
            writer.close()
            written.append({"partition": partition, "table": FEATURES, "file": name})
        if errors:
            pq.write_table(pa.Table.from_pylist(errors, schema=ERROR_SCHEMA), staging / ERRORS / name)
            written.append({"partition": partition, "table": ERRORS, "file": name})
        yield pa.RecordBatch.from_pylist(written, schema=WRITTEN_SCHEMA)

    return write_part


def _error_row(track: dict[str, Any], error: str, detail: str) -> dict[str, str]:
    return {"track_id": track["track_id"], "uri": track["uri"], "error": error, "detail": printable(detail)}


def _give_final_names(staging: Path, written: list[dict[str, Any]]) -> None:
    """Rename the files that the job reported; remove those of tasks that died or ran twice."""
    for table in (FEATURES, ERRORS):
        reported = sorted((row for row in written if row["table"] == table), key=lambda row: row["partition"])
        for number, row in enumerate(reported):
            (staging / table / row["file"]).rename(staging / table / f"part-{number:05d}.parquet")
        for file in (staging / table).iterdir():
            if not file.name.startswith("part-"):
                file.unlink()
    shutil.rmtree(staging / PROGRESS)


def _write_manifest(
    staging: Path, tracks: pa.Table, specs: Sequence[FeatureSpec], settings: Settings, wall_s: float
) -> Manifest:
    """Write `extraction.json` from what is on the disk, and check that every track is there once."""
    rows = sum(pq.read_metadata(file).num_rows for file in (staging / FEATURES).iterdir())
    per_track = len(specs[0].segment_starts_s)
    features = rows // per_track
    kinds: Counter[str] = Counter()
    for file in (staging / ERRORS).iterdir():
        kinds.update(pq.read_table(file, columns=["error"])["error"].to_pylist())
    if rows % per_track or features + kinds.total() != tracks.num_rows:
        raise DatasetError(
            f"{staging}: {tracks.num_rows} tracks gave {rows} rows ({per_track} each) and {kinds.total()} errors: "
            "the folder is not the same for all workers, or a disk lost files"
        )
    manifest = Manifest(
        format_version=FORMAT_VERSION,
        specs=list(specs),
        digests={spec.name: spec.digest for spec in specs},
        tracks_digest=tracks_digest(tracks),
        counts={"tracks": tracks.num_rows, "features": features, "errors": kinds.total(), "rows": rows},
        errors=dict(kinds.most_common()),
        versions=versions_of(LIBRARIES),
        audio=settings.audio.decoding(),
        created=now(),
        wall_s=round(wall_s, 3),
    )
    (staging / MANIFEST).write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")
    return manifest
