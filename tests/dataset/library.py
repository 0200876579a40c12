"""A music library that changes, and what a dataset of it has to hold, worked out track by track without Spark."""

import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import soundfile
import xxhash

from genre_spark.corpora.tracks import TRACK_SCHEMA, track_table
from genre_spark.dataset.rows import ERRORS, FEATURES
from genre_spark.dataset.store import Dataset
from genre_spark.errors import AudioError
from genre_spark.features import FeatureSpec, Segments, decode, extract_file
from genre_spark.filesystems import local_path

SPECS = [
    FeatureSpec(name="mel", kind="mel_spectrogram", sample_rate=8_000, n_fft=256, hop_length=256, n_mels=4, n_frames=8),
    FeatureSpec(name="loud", kind="rms", sample_rate=8_000, frame_length=256, hop_length=256, summary="mean"),
]
# The third segment begins behind the end of a clip.
SEGMENTED = [spec.model_copy(update={"segments": Segments(count=3, length_s=0.2, overlap_s=0.05)}) for spec in SPECS]

Rows = list[dict[str, Any]]


class Library:
    """Clips of 0.3 s in a folder, and the rows of a track table."""

    def __init__(self, folder: Path, *, tracks: int = 0) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.rows: dict[str, dict[str, Any]] = {}
        self._names = 0
        self._changes = 0
        for _ in range(tracks):
            self.add()

    def add(self) -> str:
        """Put a new clip and its track in."""
        self._names += 1
        name = f"track {self._names:03d} ö"
        genre = ("Folk", "Rock")[self._names % 2]
        self.rows[name] = {"track_id": name, "uri": (self.folder / f"{name}.wav").as_uri(), "genre": genre}
        self.change(name)
        return name

    def path(self, name: str) -> Path:
        return local_path(self.rows[name]["uri"], AudioError)

    def change(self, name: str) -> None:
        """Give a track other audio of the same size."""
        self._changes += 1
        samples = np.random.default_rng(self._changes).integers(-9_000, 9_000, 2_400, dtype=np.int16)
        wave = io.BytesIO()  # as soundfile opens no name that isn't UTF-8
        soundfile.write(wave, samples, 8_000, format="WAV")
        self.path(name).write_bytes(wave.getvalue())
        self.touch(name)

    def spoil(self, name: str) -> None:
        """Make a track's file one that is no audio."""
        self.path(name).write_bytes(b"no audio at all" * 20)
        self.touch(name)

    def touch(self, name: str) -> None:
        """Give a track's file a time that no file had: two changes can be quicker than a file system's clock."""
        self._changes += 1
        os.utime(self.path(name), (1_700_000_000, 1_700_000_000 + self._changes))

    def move(self, name: str) -> None:
        """Give a track's file another name; its time stays."""
        self._changes += 1
        path = self.path(name)
        self.rows[name]["uri"] = path.rename(self.folder / f"moved {self._changes} % {name}.wav").as_uri()

    def table(self) -> pa.Table:
        return track_table(list(self.rows.values()), "library")

    def content(self, specs: Sequence[FeatureSpec] = SPECS, *, by_hash: bool = False) -> dict[str, Rows]:
        """What a dataset of it has to hold, as `content` gives it."""
        found: dict[str, Rows] = {FEATURES: [], ERRORS: []}
        for name in sorted(self.rows):
            table, rows = self._content_of(name, specs, by_hash=by_hash)
            found[table] += rows
        return found

    def _content_of(self, name: str, specs: Sequence[FeatureSpec], *, by_hash: bool) -> tuple[str, Rows]:
        row, path = self.rows[name], self.path(name)
        identity = {"audio_bytes": None, "audio_modified": None, "audio_hash": None}
        if path.exists():
            status = path.stat()
            identity |= {"audio_bytes": status.st_size, "audio_modified": status.st_mtime_ns / 1e9}
        try:
            samples, arrays = decode(row["uri"]).samples, extract_file(row["uri"], specs)
        except AudioError as error:
            reason = {"error": type(error).__name__, "detail": str(error)}
            return ERRORS, [{"track_id": name, "uri": row["uri"], **reason, **identity}]
        if by_hash:
            identity["audio_hash"] = xxhash.xxh3_128_hexdigest(path.read_bytes())
        known = {column: row.get(column) for column in TRACK_SCHEMA.names}
        known |= {"pcm_hash": xxhash.xxh3_128_hexdigest(samples.tobytes()), "shortened_s": None, **identity}
        if specs[0].segments is None:
            return FEATURES, [known | {name: array.tobytes().hex() for name, array in arrays.items()}]
        return FEATURES, [
            known
            | {"segment": number, "start_s": specs[0].segment_starts_s[number]}
            | {name: array[number].tobytes().hex() for name, array in arrays.items()}
            for number in range(specs[0].segments.count)
        ]


def content(dataset: Dataset) -> dict[str, Rows]:
    """All that a dataset's files say, in one order, tensors as the digits of their bytes."""
    found: dict[str, Rows] = {}
    for table in (FEATURES, ERRORS):
        found[table] = []
        for name in dataset.names(table):
            with dataset.folder.opened(name) as file:
                found[table] += pq.read_table(file).to_pylist()
        for row in found[table]:
            for column, value in row.items():
                if isinstance(value, list):
                    row[column] = np.array(value, np.float32).tobytes().hex()
        found[table].sort(key=lambda row: (row["track_id"], row.get("segment", 0)))
    return found


def assert_sound(dataset: Dataset, tracks_per_row_group: int) -> None:
    """Hold a dataset against its own manifest and list of files."""
    manifest, folder = dataset.manifest, dataset.folder
    kinds: dict[str, int] = {}
    rows = 0
    per_track = len(manifest.specs[0].segment_starts_s)
    for file in dataset.listed.to_pylist():
        with folder.opened(file["name"]) as opened, pq.ParquetFile(opened) as parquet:
            assert (parquet.metadata.num_rows, opened.size()) == (file["rows"], file["bytes"])
            groups = [parquet.metadata.row_group(number).num_rows for number in range(parquet.num_row_groups)]
            if file["table"] == FEATURES:
                assert max(groups) <= tracks_per_row_group * per_track
                assert all(size % per_track == 0 for size in groups), "a track's segments stand in one row group"
                rows += file["rows"]
            else:
                for kind in parquet.read(["error"])["error"].to_pylist():
                    kinds[kind] = kinds.get(kind, 0) + 1
    errors, features = sum(kinds.values()), rows // per_track
    assert manifest.errors == kinds
    assert manifest.counts == {"tracks": features + errors, "features": features, "errors": errors, "rows": rows}
    # Whoever reads the folders as plain Parquet sees no more than the list names.
    there = [file.name for table in (FEATURES, ERRORS) for file in folder.files(table)]
    assert sorted(there) == sorted(dataset.names(FEATURES) + dataset.names(ERRORS))
    left = [name for name in folder.names() if name.startswith(("_", "files-"))]
    assert left == [manifest.files], (left, folder.files("_lock"))
