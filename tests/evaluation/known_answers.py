"""A model whose answers stand in the dataset: its probabilities are the softmax of a track's tensor.

`linear518` with the identity for its weights takes a tensor within -3 and 3 as it is, so that a test writes down what
the model shall say, and works out what has to come of it without a model.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from genre_spark.corpora.tracks import TRACK_SCHEMA
from genre_spark.dataset.part import feature_writer
from genre_spark.dataset.rows import FEATURES, feature_schema, feature_table
from genre_spark.dataset.scaler import Scaler
from genre_spark.dataset.store import FILES_SCHEMA, FORMAT_VERSION, MANIFEST, Dataset, Manifest, open_dataset
from genre_spark.features.spec import FeatureSpec, Segments
from genre_spark.models.bundle import FORMAT_VERSION as BUNDLE_VERSION
from genre_spark.models.bundle import BundleDescription, save_bundle


def spec_of(size: int, *, segments: Segments | None = None, **changed: Any) -> FeatureSpec:
    """A feature of `size` numbers."""
    fields = {"name": "mfcc_mean", "kind": "mfcc", "sample_rate": 8_000, "n_mfcc": size, "summary": "mean"}
    return FeatureSpec(**fields | {"segments": segments} | changed)


def write_bundle(
    path: Path, labels: Sequence[str], *, spec: FeatureSpec | None = None, kernel: np.ndarray | None = None
) -> Path:
    """Write the model; `kernel` takes the place of the identity."""
    from genre_spark.models.architectures import build_model

    spec = spec or spec_of(len(labels))
    (size,) = spec.shape
    scaler = Scaler(np.zeros(size, np.float32), np.ones(size, np.float32), 1)
    model = build_model("linear518", spec.shape, len(labels), scaler)
    model.layers[-1].set_weights([np.eye(size) if kernel is None else kernel, np.zeros(len(labels))])
    description = BundleDescription(
        format_version=BUNDLE_VERSION, architecture="linear518", spec=spec, spec_digest=spec.digest,
        labels=list(labels), split_digest="0" * 16, versions={},
    )  # fmt: skip
    save_bundle(path, model, scaler, description)
    return path


def write_dataset(
    path: Path, tracks: Sequence[Mapping[str, Any]], tensors: np.ndarray, *, spec: FeatureSpec, files: int = 2
) -> Dataset:
    """Write rows of a track table with their tensors `[shape=(tracks, *shape)]`, or `(tracks, segments, *shape)`."""
    (path / FEATURES).mkdir(parents=True)
    listed = []
    for part, numbers in enumerate(np.array_split(np.arange(len(tracks)), files)):
        name = f"{FEATURES}/part-{part:05d}.parquet"
        rows = [
            dict.fromkeys(TRACK_SCHEMA.names) | {"uri": f"file:///{tracks[n]['track_id']}.mp3"} | dict(tracks[n])
            for n in numbers
        ]
        with pa.OSFile(str(path / name), "wb") as file, feature_writer(file, feature_schema([spec])) as writer:
            if rows:
                writer.write_table(feature_table(rows, [{spec.name: tensors[n]} for n in numbers], [spec]))
        n_rows = pq.read_metadata(path / name).num_rows
        listed.append({"table": FEATURES, "name": name, "rows": n_rows, "bytes": (path / name).stat().st_size})
    pq.write_table(pa.Table.from_pylist(listed, schema=FILES_SCHEMA), path / "files-00001.parquet")
    counts = {"tracks": len(tracks), "features": len(tracks), "errors": 0}
    manifest = Manifest(
        format_version=FORMAT_VERSION, commit=1, files="files-00001.parquet", specs=[spec],
        digests={spec.name: spec.digest}, counts=counts | {"rows": sum(file["rows"] for file in listed)},
        errors={}, versions={}, audio={}, created="2026-01-01T00:00:00+00:00", changed="2026-01-01T00:00:00+00:00",
        wall_s=0.0,
    )  # fmt: skip
    (path / MANIFEST).write_text(manifest.model_dump_json(), encoding="utf-8")
    return open_dataset(path)


def softmax(tensors: np.ndarray) -> np.ndarray:
    """What the model says of tensors, worked out in 64 bits."""
    powers = np.exp(tensors.astype(np.float64))
    return powers / powers.sum(axis=-1, keepdims=True)
