"""What a Spark task of an extraction does: some tracks in, one Parquet file with features and one with errors out.

Python workers write the files themselves and Spark carries only a receipt: half-megabyte tensors that pass through the
JVM cost several times as much as the features.
"""

import functools
import gc
import resource
import uuid
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from genre_spark.dataset.identity import content_hash
from genre_spark.dataset.isolation import IsolatedProcess
from genre_spark.dataset.progress import Receipt, WrittenFile
from genre_spark.dataset.rows import ERROR_SCHEMA, ERRORS, FEATURES, feature_schema, feature_table
from genre_spark.errors import AudioError, DatasetError, EnvironmentSetupError, FeatureSpecError, GenreSparkError
from genre_spark.features.source_name import source_name
from genre_spark.features.spec import FeatureSpec
from genre_spark.files import printable
from genre_spark.folders import Folder
from genre_spark.settings_sections import AudioSettings

# Plan files hold this many tasks each: every task reads the footer of its own.
TASKS_PER_PLAN = 256


@dataclass(frozen=True)
class Part:
    """What all tasks of a job share; travels to the workers.

    Parameters
    ----------
    work : str
        Folder of the job, a path or an address that all workers see: `plan-*.parquet` in it, one row group for each
        task. The files are written into its `features` and `errors`.
    specs : sequence of FeatureSpec
        What is computed.
    audio : AudioSettings
        Limits on what is decoded.
    tracks_per_row_group : int
        Of the files.
    by_hash : bool
        Note the hash of each file's bytes, and compute only where it isn't what the plan knows.
    """

    work: str
    specs: Sequence[FeatureSpec]
    audio: AudioSettings
    tracks_per_row_group: int
    by_hash: bool = False

    def __call__(self, task: int) -> Receipt:
        """Compute one task, and say what was written.

        Raises
        ------
        GenreSparkError
            If the plan can't be read or the files can't be written; what is wrong with a track is an error row.
        """
        process = _process_for(tuple(self.specs), self.audio, self.by_hash)
        cpu_s = _cpu_s() + process.cpu_s
        folder = Folder(self.work, DatasetError)
        tracks = _planned(folder, task)
        # A task that runs twice (a retry, a speculative copy) writes files of its own.
        name = f"{task:07d}-{uuid.uuid4().hex[:12]}.parquet"
        with ExitStack() as files:
            features = _FeatureFile(folder, f"{FEATURES}/{name}", self, files)
            errors: list[dict[str, Any]] = []
            unchanged = 0
            for track in tracks.to_pylist():
                try:
                    facts, arrays = process.call([track["uri"], track["audio_hash"]], name=source_name(track["uri"]))
                except AudioError as error:
                    errors.append(_error_row(track, type(error).__name__, str(error)))
                except GenreSparkError:
                    raise
                except Exception as error:
                    # Whatever a library makes of a rotten file costs one track, never the job.
                    errors.append(_error_row(track, AudioError.__name__, f"{type(error).__name__}: {error}"))
                else:
                    if arrays:
                        features.add(track | facts, arrays)
                    else:
                        unchanged += 1
            features.flush()
        written = [*features.written(), *_write_errors(folder, f"{ERRORS}/{name}", errors)]
        kinds: dict[str, int] = {}
        for row in errors:
            kinds[row["error"]] = kinds.get(row["error"], 0) + 1
        return Receipt(
            task=task,
            files=written,
            tracks=tracks.num_rows,
            unchanged=unchanged,
            errors=kinds,
            core_s=_cpu_s() + process.cpu_s - cpu_s,
            audio_bytes=sum(size or 0 for size in tracks["audio_bytes"].to_pylist()),
        )

    def schema(self) -> pa.Schema:
        """Columns of the rows that are written."""
        return feature_schema(self.specs)

    def table(self, rows: Sequence[Mapping[str, Any]], arrays: Sequence[Mapping[str, np.ndarray]]) -> pa.Table:
        """Make rows of tracks and their features."""
        return feature_table(rows, arrays, self.specs)


def _computed(
    specs: Sequence[FeatureSpec], audio: AudioSettings, by_hash: bool, asked: list[str | None]
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Facts and features of a file, in a process of their own; nothing where it is what it was."""
    from genre_spark.features.audio import decode
    from genre_spark.features.compute import finite_features
    from genre_spark.features.measure import pcm_hash

    uri, known_hash = asked
    assert uri is not None
    facts: dict[str, Any] = {}
    if by_hash:
        facts["audio_hash"] = content_hash(uri)
        if facts["audio_hash"] == known_hash:
            return facts, {}
    pcm = decode(uri, **audio.decoding())
    facts |= {"pcm_hash": pcm_hash(pcm.samples), "shortened_s": pcm.shortened_s or None}
    return facts, finite_features(pcm, specs, uri)


# The process that reads files for this Python worker, by what it was made for. Spark uses workers again, and the first
# track costs a new process twice the time of the others: its tasks share one.
_PROCESSES: dict[tuple[tuple[FeatureSpec, ...], AudioSettings, bool], IsolatedProcess] = {}


def _process_for(specs: tuple[FeatureSpec, ...], audio: AudioSettings, by_hash: bool) -> IsolatedProcess:
    key = (specs, audio, by_hash)
    if key not in _PROCESSES:
        for process in _PROCESSES.values():
            process.close()
        _PROCESSES.clear()
        _prepare(specs)
        # Spark's worker collects garbage after each task, which takes it 80 ms with all that is imported by now.
        gc.collect()
        gc.freeze()
        _PROCESSES[key] = IsolatedProcess(
            functools.partial(_computed, *key), timeout_s=audio.max_decode_s, max_memory_mb=audio.max_memory_mb
        )
    return _PROCESSES[key]


def _prepare(specs: tuple[FeatureSpec, ...]) -> None:
    """Compute the features of silence before the process is forked.

    What is imported and kept (filters, windows, tables of transforms) is then there for whatever process follows it;
    and a library that isn't installed, or a feature that can't be computed, is no fault of the first track.

    Raises
    ------
    FeatureSpecError
        If a feature can't be computed of anything; the message names it.
    EnvironmentSetupError
        If a library can't be imported.
    """
    try:
        from genre_spark.features import measure, sound_file  # noqa: F401
        from genre_spark.features.audio import Pcm
        from genre_spark.features.compute import compute_features

        silence = Pcm(np.zeros(44_100, np.float32), 44_100)
        for spec in specs:
            # The first segment needs whatever the others need.
            one = spec.segments and spec.segments.model_copy(update={"count": 1})
            try:
                compute_features(silence, [spec.model_copy(update={"segments": one})])
            except ImportError:
                raise
            except Exception as error:
                why = " ".join(f"{type(error).__name__}: {error}".split())
                raise FeatureSpecError(f"features.{spec.name}: can't be computed, even of silence: {why}") from None
    except ImportError as error:
        raise EnvironmentSetupError(f"{error}; install genre-spark[features] on every worker") from None


class _FeatureFile:
    """The file with features; it is begun with the first track that has some."""

    def __init__(self, folder: Folder, name: str, part: Part, files: ExitStack) -> None:
        self._folder = folder
        self._name = name
        self._part = part
        self._files = files
        self._schema = part.schema()
        self._writer: pq.ParquetWriter | None = None
        self._rows: list[dict[str, Any]] = []
        self._arrays: list[dict[str, np.ndarray]] = []
        self._written = 0

    def add(self, row: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        self._rows.append(row)
        self._arrays.append(arrays)
        if len(self._rows) == self._part.tracks_per_row_group:
            self.flush()

    def flush(self) -> None:
        if not self._rows:
            return
        if self._writer is None:
            file = self._files.enter_context(self._folder.created(self._name))
            self._writer = self._files.enter_context(feature_writer(file, self._schema))
        table = self._part.table(self._rows, self._arrays)
        self._writer.write_table(table)
        self._written += table.num_rows
        self._rows.clear()
        self._arrays.clear()

    def written(self) -> list[WrittenFile]:
        """Tell of the file once it is closed; nothing where no track had features."""
        if self._writer is None:
            return []
        return [WrittenFile(FEATURES, self._name, self._written, size_of(self._folder, self._name))]


def feature_writer(file: pa.NativeFile, schema: pa.Schema) -> pq.ParquetWriter:
    """Open the writer that all files with features are written with."""
    # Tensors of floats hardly compress (snappy: by one per cent): that, a dictionary, and the least and greatest value
    # of them only cost.
    names = [field.name for field in schema if not pa.types.is_list(field.type)]
    return pq.ParquetWriter(
        file, schema, compression=dict.fromkeys(names, "snappy"), use_dictionary=names, write_statistics=names
    )


def size_of(folder: Folder, name: str) -> int:
    """Bytes of a file."""
    size: int = folder.filesystem.get_file_info(folder.path(name)).size
    return size


def _planned(folder: Folder, task: int) -> pa.Table:
    with folder.opened(f"plan-{task // TASKS_PER_PLAN:05d}.parquet") as file, pq.ParquetFile(file) as plan:
        return plan.read_row_group(task % TASKS_PER_PLAN)


def _write_errors(folder: Folder, name: str, errors: list[dict[str, Any]]) -> list[WrittenFile]:
    if not errors:
        return []
    with folder.created(name) as file:
        pq.write_table(pa.Table.from_pylist(errors, schema=ERROR_SCHEMA), file)
    return [WrittenFile(ERRORS, name, len(errors), size_of(folder, name))]


def _error_row(track: dict[str, Any], error: str, detail: str) -> dict[str, Any]:
    known = {name: track[name] for name in ("track_id", "uri", "audio_bytes", "audio_modified")}
    return known | {"error": error, "detail": printable(detail)}


def _cpu_s() -> float:
    """Processor time of this process and of its children that have ended, in seconds."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)
