"""The Spark job that predicts the genres of a library: track table x bundle -> rows of predictions.

It works as extraction does, and on the same terms: a dataset that is brought up to date, resumed and committed, whose
rows hold predictions in place of features. The features themselves are computed on the way and let go.
"""

import hashlib
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from genre_spark.dataset.extract import bring_up_to_date
from genre_spark.dataset.part import Part
from genre_spark.dataset.product import Features
from genre_spark.dataset.progress import Progress, Receipt
from genre_spark.dataset.rows import ROW_SCHEMA
from genre_spark.dataset.store import Dataset, Predictor
from genre_spark.models.bundle import Bundle, BundleDescription, load_bundle, read_description
from genre_spark.settings import Settings

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

# `probabilities` in the order of the manifest's labels, calibrated; `segments` holds the raw ones of each segment, and
# is null where the model reads whole clips.
PREDICTION_SCHEMA = pa.schema(
    [
        *ROW_SCHEMA,
        pa.field("predicted", pa.string(), nullable=False),
        pa.field("probabilities", pa.list_(pa.field("element", pa.float32())), nullable=False),
        pa.field("segments", pa.list_(pa.field("element", pa.list_(pa.field("element", pa.float32()))))),
    ]
)


@dataclass(frozen=True)
class PredictionPart(Part):
    """A task that hands the features of its tracks to a model; the bundle's files travel with it."""

    bundle: tuple[tuple[str, bytes], ...] = ()

    def __call__(self, task: int) -> Receipt:
        """Compute one task; the model is loaded first, because its absence is no fault of a track."""
        _loaded(self.bundle)
        return super().__call__(task)

    def schema(self) -> pa.Schema:
        """Columns of the rows that are written."""
        return PREDICTION_SCHEMA

    def table(self, rows: Sequence[Mapping[str, Any]], arrays: Sequence[Mapping[str, np.ndarray]]) -> pa.Table:
        """Predict, and make rows of it."""
        from genre_spark.models.architectures import probabilities
        from genre_spark.models.calibration import track_probabilities

        bundle = _loaded(self.bundle)
        spec, labels = bundle.description.spec, bundle.description.labels
        x = np.stack([of_track[spec.name] for of_track in arrays]).reshape(-1, *spec.shape)
        of_segments = probabilities(bundle.model, x).reshape(len(rows), -1, len(labels))
        p = track_probabilities(of_segments, bundle.description.calibration)
        answers = [
            {
                "predicted": labels[int(of_track.argmax())],
                "probabilities": of_track,
                "segments": list(segments) if spec.segments else None,
            }
            for of_track, segments in zip(p, of_segments, strict=True)
        ]
        return pa.Table.from_pylist(
            [dict(row) | answer for row, answer in zip(rows, answers, strict=True)], schema=PREDICTION_SCHEMA
        )


@lru_cache(maxsize=1)
def _loaded(files: tuple[tuple[str, bytes], ...]) -> Bundle:
    """Load the bundle once per Python worker: Spark uses workers again, and TensorFlow takes seconds to start."""
    with tempfile.TemporaryDirectory(prefix="genre_spark-bundle-") as folder:
        for name, content in files:
            (Path(folder) / name).write_bytes(content)
        return load_bundle(Path(folder))


@dataclass(frozen=True)
class Predictions(Features):
    """Rows with a model's predictions, one per track.

    Parameters
    ----------
    description : BundleDescription
    files : tuple of (str, bytes)
        The bundle's.
    """

    description: BundleDescription
    files: tuple[tuple[str, bytes], ...]

    @property
    def predictor(self) -> Predictor:
        """Model whose predictions the rows hold."""
        sums = "".join(f"{name} {hashlib.sha256(content).hexdigest()}\n" for name, content in self.files)
        return Predictor(
            architecture=self.description.architecture,
            feature=self.description.spec.name,
            labels=self.description.labels,
            digest=hashlib.sha256(sums.encode()).hexdigest()[:16],
        )

    @property
    def rows_per_track(self) -> int:
        """Rows of a track that could be read: segments have voted."""
        return 1

    @property
    def bytes_per_track(self) -> int:
        """Bytes of the numbers of a track."""
        segments = len(self.description.spec.segment_starts_s) if self.description.spec.segments else 0
        return 4 * len(self.description.labels) * (1 + segments)

    def schema(self) -> pa.Schema:
        """Columns of the rows."""
        return PREDICTION_SCHEMA

    def part(self, work: str, settings: Settings) -> Part:
        """Make the function of the tasks that work in the folder `work`."""
        return PredictionPart(**vars(super().part(work, settings)), bundle=self.files)


def predict_library(
    spark: "SparkSession | Callable[[], SparkSession]",
    tracks: pa.Table | Path,
    bundle: Path,
    out: str | Path,
    settings: Settings,
    *,
    overwrite: bool = False,
    retry_errors: bool = False,
    prune: bool = False,
    on_progress: Callable[[Progress], None] | None = None,
) -> Dataset:
    """Bring the predictions for a library up to date: one row, or one error row, per track.

    Parameters
    ----------
    bundle : Path
        A run's bundle, which the driver reads and hands to the workers.
    spark, tracks, out, settings, overwrite, retry_errors, prune, on_progress
        As `genre_spark.dataset.extract.extract` takes them. `overwrite` replaces predictions of another model.

    Returns
    -------
    Dataset
        Its files have the columns of `PREDICTION_SCHEMA`.

    Raises
    ------
    BundleError
        If it is no bundle, or one whose feature this version computes otherwise.
    DatasetError, ExtractionFailed
        As `extract` raises them.
    """
    description = read_description(bundle)
    files = tuple((file.name, file.read_bytes()) for file in sorted(bundle.iterdir()) if file.is_file())
    return bring_up_to_date(
        spark, tracks, Predictions([description.spec], description, files), out, settings,
        overwrite=overwrite, retry_errors=retry_errors, prune=prune, on_progress=on_progress,
    )  # fmt: skip
