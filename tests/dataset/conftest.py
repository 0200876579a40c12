"""Small datasets in the layout of `genre_spark.dataset.store`."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from genre_spark.corpora.tracks import TRACK_SCHEMA
from genre_spark.dataset.store import (
    FEATURES,
    FORMAT_VERSION,
    MANIFEST,
    Dataset,
    Manifest,
    feature_schema,
    open_dataset,
    tensor_column,
)
from genre_spark.features.spec import FeatureSpec

SPECS = [
    FeatureSpec(name="melgram", kind="mel_spectrogram", sample_rate=8_000, n_mels=3, n_frames=5),
    # A name that begins like the other one's, and one value per band.
    FeatureSpec(name="melgram_mean", kind="mel_spectrogram", sample_rate=8_000, n_mels=4, summary="mean"),
]


class SmallDatasets:
    """Datasets of tracks 0, 1, ... whose tensors say whose they are: the first value is the track's number."""

    def __init__(self, new_folder: Callable[[], Path]) -> None:
        self._new_folder = new_folder

    @staticmethod
    def track_id(number: int) -> str:
        return f"track {number:04d} ö"

    @staticmethod
    def tensor(number: int, spec: FeatureSpec) -> np.ndarray:
        return number + np.arange(np.prod(spec.shape), dtype=np.float32).reshape(spec.shape) / 64

    def write(
        self,
        layout: Sequence[Sequence[int]] = ((3, 5), (1,), (4, 4, 2)),
        *,
        path: Path | None = None,
        tensor: Callable[[int, FeatureSpec], np.ndarray] | None = None,
    ) -> Dataset:
        """Write one file for each item of `layout`, with row groups of the sizes in it."""
        path = path or self._new_folder() / "dataset"
        tensor = tensor or self.tensor
        schema = feature_schema(SPECS)
        (path / FEATURES).mkdir(parents=True)
        number = 0
        for part, sizes in enumerate(layout):
            with pq.ParquetWriter(path / FEATURES / f"part-{part:05d}.parquet", schema) as writer:
                for size in sizes:
                    numbers = range(number, number + size)
                    number += size
                    rows = [{"track_id": self.track_id(n), "uri": f"{n}.mp3", "genre": "Rock"} for n in numbers]
                    tracks = pa.Table.from_pylist(rows, schema=TRACK_SCHEMA).columns
                    columns = [tensor_column([tensor(n, spec) for n in numbers], spec) for spec in SPECS]
                    writer.write_table(pa.Table.from_arrays([*tracks, *columns], schema=schema))
        manifest = Manifest(
            format_version=FORMAT_VERSION,
            specs=SPECS,
            digests={spec.name: spec.digest for spec in SPECS},
            tracks_digest="0" * 16,
            counts={"tracks": number, "features": number, "errors": 0},
            errors={},
            versions={},
            audio={},
            created="2026-01-01T00:00:00+00:00",
            wall_s=0.0,
        )
        (path / MANIFEST).write_text(manifest.model_dump_json(), encoding="utf-8")
        return open_dataset(path)


@pytest.fixture(scope="session")
def small_datasets(tmp_path_factory: pytest.TempPathFactory) -> SmallDatasets:
    return SmallDatasets(lambda: tmp_path_factory.mktemp("small"))
