"""One thousand mel spectrograms, or as many as asked for, in every form that benchmarks/feed.py reads."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import tensorflow as tf

from genre_spark.dataset import petastorm_adapter  # noqa: F401 (petastorm imports only after it)
from genre_spark.dataset.part import feature_writer
from genre_spark.dataset.rows import FEATURES, feature_schema, feature_table
from genre_spark.dataset.store import FILES_SCHEMA, FORMAT_VERSION, MANIFEST, Dataset, Manifest, open_dataset
from genre_spark.features import resolve_specs

# isort: split
from petastorm.codecs import NdarrayCodec
from petastorm.unischema import UnischemaField

(SPEC,) = resolve_specs(["melgram"])
SIZE = int(np.prod(SPEC.shape))
N_FILES = 8


def track_id(number: int) -> str:
    return f"{number:06d}"


def label(number: int) -> int:
    return number % 8


class Corpus:
    """The same rows in every form that a way reads, below one folder."""

    def __init__(self, folder: Path, rows: int) -> None:
        self.folder = folder
        self.x = np.random.default_rng(0).standard_normal((rows, *SPEC.shape), np.float32)
        self.y = np.array([label(number) for number in range(rows)], np.int32)
        self.labels_of = {track_id(number): label(number) for number in range(rows)}
        self.parts = np.array_split(np.arange(rows), N_FILES)
        self.dataset = self._dataset()
        self.listed = self._in_groups("listed", lambda x: pa.array(list(x.reshape(len(x), -1))))
        for part, numbers in enumerate(self.parts):
            with tf.io.TFRecordWriter(f"{folder}/{part}.tfrecord") as writer:
                for number in numbers:
                    features = {
                        "x": tf.train.Feature(bytes_list=tf.train.BytesList(value=[self.x[number].tobytes()])),
                        "y": tf.train.Feature(int64_list=tf.train.Int64List(value=[self.y[number]])),
                    }
                    example = tf.train.Example(features=tf.train.Features(feature=features))
                    writer.write(example.SerializeToString())
        self.of_petastorm = self._in_groups("petastorm", self._encoded)

    def _dataset(self) -> Dataset:
        path, listed = self.folder / "dataset", []
        (path / FEATURES).mkdir(parents=True)
        schema = feature_schema([SPEC])
        for part, numbers in enumerate(self.parts):
            name = f"{FEATURES}/part-{part:05d}.parquet"
            with pa.OSFile(str(path / name), "wb") as file, feature_writer(file, schema) as writer:
                for group in np.array_split(numbers, -(-len(numbers) // 16)):
                    tracks = [{"track_id": track_id(n), "uri": "file:///nowhere"} for n in group]
                    writer.write_table(feature_table(tracks, [{SPEC.name: self.x[n]} for n in group], [SPEC]))
            size = (path / name).stat().st_size
            listed.append({"table": FEATURES, "name": name, "rows": len(numbers), "bytes": size})
        pq.write_table(pa.Table.from_pylist(listed, schema=FILES_SCHEMA), path / "files-00001.parquet")
        counts = {"tracks": len(self.x), "features": len(self.x), "errors": 0, "rows": len(self.x)}
        manifest = Manifest(
            format_version=FORMAT_VERSION, commit=1, files="files-00001.parquet", specs=[SPEC],
            digests={SPEC.name: SPEC.digest}, counts=counts, errors={}, versions={}, audio={},
            created="2026-01-01T00:00:00+00:00", changed="2026-01-01T00:00:00+00:00", wall_s=0.0,
        )  # fmt: skip
        (path / MANIFEST).write_text(manifest.model_dump_json(), encoding="utf-8")
        return open_dataset(path)

    @staticmethod
    def _encoded(x: np.ndarray) -> pa.Array:
        field = UnischemaField("x", np.float32, SPEC.shape, NdarrayCodec(), False)
        return pa.array([bytes(NdarrayCodec().encode(field, row)) for row in x], pa.binary())

    def _in_groups(self, name: str, column: Callable[[np.ndarray], pa.Array], rows: int = 16) -> list[Path]:
        """Write a label and a tensor column, with row groups of so many rows."""
        files = [self.folder / name / f"{part}.parquet" for part in range(N_FILES)]
        files[0].parent.mkdir()
        for file, numbers in zip(files, self.parts, strict=True):
            groups = [numbers[start : start + rows] for start in range(0, len(numbers), rows)]
            tables = [pa.table({"x": column(self.x[group]), "y": self.y[group]}) for group in groups]
            # Without pyarrow's own schema in the file, a column of fixed-size lists reads as one everywhere.
            with pq.ParquetWriter(
                file, tables[0].schema, compression="none", use_dictionary=["y"], write_statistics=["y"],
                store_schema=False,
            ) as writer:  # fmt: skip
                for table in tables:
                    writer.write_table(table)
        return files

    def layouts(self) -> dict[str, list[Path]]:
        """Files by the type of their tensor column and the rows of their row groups."""
        element = pa.field("element", pa.float32(), nullable=False)

        def lists(x: np.ndarray, field: Any = pa.float32()) -> pa.Array:  # noqa: B008
            offsets = np.arange(len(x) + 1, dtype=np.int32) * SIZE
            return pa.ListArray.from_arrays(pa.array(offsets), pa.array(x.reshape(-1)), type=pa.list_(field))

        columns: dict[str, Callable[[np.ndarray], pa.Array]] = {
            "list<float>": lists,
            "list<float not null>": lambda x: lists(x, element),
            "fixed_size_list<float>": lambda x: pa.FixedSizeListArray.from_arrays(pa.array(x.reshape(-1)), SIZE),
            "binary": lambda x: pa.array([row.tobytes() for row in x], pa.binary()),
            "fixed_size_binary": lambda x: pa.array([row.tobytes() for row in x], pa.binary(4 * SIZE)),
        }
        sizes = {"list<float>": (8, 16, 32, 64)}
        return {
            f"{name}, row groups of {rows}": self._in_groups(f"{name}-{rows}", column, rows)
            for name, column in columns.items()
            for rows in sizes.get(name, (16,))
        }
