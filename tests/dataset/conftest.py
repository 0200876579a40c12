"""Small datasets in the layout of `genre_spark.dataset.store`."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from genre_spark.dataset.part import feature_writer
from genre_spark.dataset.rows import FEATURES, feature_schema, feature_table
from genre_spark.dataset.store import FILES_SCHEMA, FORMAT_VERSION, MANIFEST, Dataset, Manifest, open_dataset
from genre_spark.features.spec import FeatureSpec, Segments

SPECS = [
    FeatureSpec(name="melgram", kind="mel_spectrogram", sample_rate=8_000, n_mels=3, n_frames=5),
    # A name that begins like the other one's, and one value per band.
    FeatureSpec(name="melgram_mean", kind="mel_spectrogram", sample_rate=8_000, n_mels=4, summary="mean"),
]


class SmallDatasets:
    """Datasets of tracks 0, 1, ... whose tensors say whose they are.

    The first value is the track's number, plus a thousand times the segment's where there are segments.
    """

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
        segments: Segments | None = None,
    ) -> Dataset:
        """Write one file for each item of `layout`, with row groups of as many tracks as the numbers in it say."""
        path = path or self._new_folder() / "dataset"
        tensor = tensor or self.tensor
        specs = [spec.model_copy(update={"segments": segments}) for spec in SPECS]
        schema = feature_schema(specs)

        def features(n: int, spec: FeatureSpec) -> np.ndarray:
            if segments is None:
                return tensor(n, spec)
            return np.stack([tensor(n + 1_000 * segment, spec) for segment in range(segments.count)])

        (path / FEATURES).mkdir(parents=True)
        number = 0
        listed: list[dict[str, object]] = []
        for part, sizes in enumerate(layout):
            name = f"{FEATURES}/part-{part:05d}.parquet"
            with pa.OSFile(str(path / name), "wb") as file, feature_writer(file, schema) as writer:
                for size in sizes:
                    numbers = range(number, number + size)
                    number += size
                    rows = [
                        {"track_id": self.track_id(n), "uri": f"{n}.mp3", "genre": ("Folk", "Rock")[n % 2]}
                        for n in numbers
                    ]
                    arrays = [{spec.name: features(n, spec) for spec in specs} for n in numbers]
                    writer.write_table(feature_table(rows, arrays, specs))
            size = (path / name).stat().st_size
            listed.append(
                {"table": FEATURES, "name": name, "rows": pq.read_metadata(path / name).num_rows, "bytes": size}
            )
        pq.write_table(pa.Table.from_pylist(listed, schema=FILES_SCHEMA), path / "files-00001.parquet")
        manifest = Manifest(
            format_version=FORMAT_VERSION,
            commit=1,
            files="files-00001.parquet",
            specs=specs,
            digests={spec.name: spec.digest for spec in specs},
            counts={
                "tracks": number,
                "features": number,
                "errors": 0,
                "rows": number * (segments.count if segments else 1),
            },
            errors={},
            versions={},
            audio={},
            created="2026-01-01T00:00:00+00:00",
            changed="2026-01-01T00:00:00+00:00",
            wall_s=0.0,
        )
        (path / MANIFEST).write_text(manifest.model_dump_json(), encoding="utf-8")
        return open_dataset(path)


@pytest.fixture(scope="session")
def small_datasets(tmp_path_factory: pytest.TempPathFactory) -> SmallDatasets:
    return SmallDatasets(lambda: tmp_path_factory.mktemp("small"))
