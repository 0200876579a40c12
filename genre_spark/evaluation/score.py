"""The Spark job: dataset x bundle -> predictions and confusion matrices.

A task is one Parquet file: its Python worker reads the one column that the model needs, and only predictions pass
through Spark, which joins them with the split and counts. No track's row comes to the driver. Where a row is a segment,
the worker joins those of a track, which stand together, by a soft vote: whoever reads predictions sees tracks.
"""

import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from genre_spark.corpora.splits import audio_digest, read_split
from genre_spark.dataset.rows import tensors_of
from genre_spark.dataset.segments import row_columns, whole_tracks
from genre_spark.dataset.store import open_dataset, open_parquet
from genre_spark.errors import RunError
from genre_spark.evaluation.figures import confusion_figure, save_png
from genre_spark.evaluation.metrics import build_metrics, write_metrics
from genre_spark.files import replace_folder, staging_folder
from genre_spark.models.bundle import Bundle, load_bundle, read_description
from genre_spark.models.reliability import BINS, ReliabilityBin
from genre_spark.models.run import BUNDLE, EVALUATION, SPLIT, RunRecord, read_run_record
from genre_spark.settings import EvaluateSettings
from genre_spark.spark import watch

if TYPE_CHECKING:
    from pyspark.core.broadcast import Broadcast
    from pyspark.sql import DataFrame, SparkSession

PREDICTIONS = "predictions.parquet"
CONFUSION_PICTURE = "confusion.png"

# A model is judged on the part that nothing was chosen on; the study's split has none, and is judged as the study did.
JUDGED_FIRST = ("test", "validation")

# `probabilities` are calibrated; `segments` holds the raw ones of each segment in order, and is null where the dataset
# has none.
PREDICTED_SCHEMA = pa.schema(
    [
        ("track_id", pa.string()),
        ("predicted", pa.string()),
        ("probabilities", pa.list_(pa.float32())),
        ("segments", pa.list_(pa.list_(pa.float32()))),
    ]
)


def evaluate(
    spark: "SparkSession",
    run: Path,
    settings: EvaluateSettings,
    *,
    dataset_path: str | Path | None = None,
    on_tracks: Callable[[int], None] | None = None,
) -> dict[str, Any]:
    """Score every track of a run's dataset and write `RUN/evaluation/`.

    Parameters
    ----------
    spark : SparkSession
        Where the work is done; its workers must see the dataset under the path that the run names.
    run : Path
        A finished run.
    settings : EvaluateSettings
        Size of the batches: rows that go through the model at a time.
    dataset_path : str or Path, optional
        Where the run's dataset is now, if it was moved.
    on_tracks : callable, optional
        Called from a thread with the number of tracks scored so far.

    Returns
    -------
    dict
        As `metrics.json` holds it: see `genre_spark.evaluation.metrics.build_metrics`.

    Raises
    ------
    RunError, BundleError, DatasetError
        If the run, its bundle or its dataset is missing, they don't belong together, or no track was kept back.
    """
    record = read_run_record(run)
    judged = next((part for part in JUDGED_FIRST if record.tracks.get(part)), None)
    if judged is None:
        raise RunError(
            f"{run}: the {record.split} split left no tracks to judge it on; evaluate a run with the same settings on "
            "another --split"
        )
    description = read_description(run / BUNDLE)
    labels = description.labels
    dataset = open_dataset(dataset_path or record.dataset)
    spec = dataset.spec(record.feature)
    if spec.digest != record.spec_digest:
        raise RunError(f"{dataset}: {spec.name} was extracted anew with other numbers; train {run} again")
    if audio_digest(dataset.tracks(), read_split(run / SPLIT)) != record.tracks_digest:
        raise RunError(f"{dataset}: holds other tracks than {run} was trained on, or others' audio; train again")
    done = spark.sparkContext.accumulator(0)
    bundle = spark.sparkContext.broadcast(
        {file.name: file.read_bytes() for file in (run / BUNDLE).iterdir() if file.is_file()}
    )
    score_files = _file_scorer(bundle, description.model_dump_json(), settings.batch_size, done.add)
    files = pa.table({"file": dataset.files()})
    scored = (
        spark.createDataFrame(files)
        .repartitionByRange(files.num_rows, "file")
        .mapInArrow(
            score_files,
            "track_id string, predicted string, probabilities array<float>, segments array<array<float>>",
        )
    )
    # Kept, because they are written and counted.
    predictions = _with_truth(spark, scored, run).persist()
    try:
        with staging_folder(run / EVALUATION, RunError) as staging:
            with watch(lambda: done.value, on_tracks):
                predictions.write.parquet(str(staging / PREDICTIONS))
            confusions = _confusions(predictions, labels)
            _check_complete(confusions, record, run)
            metrics = build_metrics(confusions, labels, judged, reliability=_reliability(predictions, judged))
            write_metrics(staging, metrics)
            title = f"{record.model}: {metrics['part']} part of the {record.split} split"
            save_png(confusion_figure(confusions[metrics["part"]], labels, title=title), staging / CONFUSION_PICTURE)
            replace_folder(staging, run / EVALUATION)
    finally:
        predictions.unpersist()
        bundle.unpersist()
    return metrics


def _file_scorer(
    files: "Broadcast[dict[str, bytes]]", key: str, batch_size: int, on_scored: Callable[[int], None]
) -> Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """Make the function of one task: names of Parquet files in, predictions out; `key` tells bundles apart."""

    def score_files(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for path in batch["file"].to_pylist():
                bundle = _bundle_in_worker(key, files.value)
                spec = bundle.description.spec
                per_track = len(spec.segment_starts_s)
                # Whole tracks, as many as fit into a batch: a file holds nothing else.
                size = max(1, batch_size // per_track) * per_track
                with open_parquet(path) as parquet:
                    for rows in parquet.iter_batches(size, columns=[*row_columns(spec), spec.name]):
                        predicted = _predicted(bundle, whole_tracks(rows, spec.segments, path), rows[spec.name])
                        on_scored(predicted.num_rows)
                        yield predicted

    return score_files


def _predicted(bundle: Bundle, track_ids: list[str], column: pa.Array) -> pa.RecordBatch:
    """Predictions for tracks whose tensors, or those of their segments, stand in `column`."""
    from genre_spark.models.architectures import probabilities
    from genre_spark.models.calibration import track_probabilities

    spec, labels = bundle.description.spec, bundle.description.labels
    of_rows = probabilities(bundle.model, tensors_of(column, spec))
    of_segments = of_rows.reshape(len(track_ids), len(spec.segment_starts_s), len(labels))
    p = track_probabilities(of_segments, bundle.description.calibration)
    columns = {
        "track_id": track_ids,
        "predicted": [labels[genre] for genre in p.argmax(axis=1)],
        "probabilities": list(p),
        "segments": of_segments.tolist() if spec.segments else [None] * len(p),
    }
    return pa.RecordBatch.from_pydict(columns, schema=PREDICTED_SCHEMA)


# The bundle that this Python worker has loaded: Spark reuses workers, and TensorFlow takes seconds to start.
_LOADED: dict[str, Bundle] = {}


def _bundle_in_worker(key: str, files: dict[str, bytes]) -> Bundle:
    if key not in _LOADED:
        with tempfile.TemporaryDirectory(prefix="genre_spark-bundle-") as folder:
            for name, content in files.items():
                (Path(folder) / name).write_bytes(content)
            _LOADED.clear()
            _LOADED[key] = load_bundle(Path(folder))
    return _LOADED[key]


def _with_truth(spark: "SparkSession", scored: "DataFrame", run: Path) -> "DataFrame":
    """Join predictions with genre and part; both are null for tracks that stand in no part."""
    # Not by Spark's own reader, which takes brackets and stars in a path for a pattern.
    split = spark.createDataFrame(read_split(run / SPLIT))
    return scored.join(split, on="track_id", how="left").select(
        "track_id", "part", "genre", "predicted", "probabilities", "segments"
    )


def _confusions(predictions: "DataFrame", labels: Sequence[str]) -> dict[str, np.ndarray]:
    """Count `[shape=(genres, genres)]` per part, rows true, columns predicted."""
    index = {label: position for position, label in enumerate(labels)}
    confusions: dict[str, np.ndarray] = {}
    counts = predictions.where("part is not null").groupBy("part", "genre", "predicted").count()
    for part, genre, predicted, count in counts.collect():
        confusion = confusions.setdefault(part, np.zeros((len(labels), len(labels)), np.int64))
        confusion[index[genre], index[predicted]] = count
    return confusions


def _reliability(predictions: "DataFrame", part: str) -> list[ReliabilityBin]:
    """Count as `genre_spark.models.reliability.reliability_table` does, with Spark; at most `BINS` rows come back."""
    from pyspark.sql import functions as F  # noqa: N812 - as everybody calls it

    bins = (
        predictions.where(F.col("part") == part)
        # A softmax in float32 may give a hair more than 1.
        .selectExpr("least(double(array_max(probabilities)), 1d) as confidence", "int(genre = predicted) as hit")
        .groupBy(F.expr(f"greatest(ceil(confidence * {BINS}) - 1, 0)").alias("number"))
        # Decimals add up to the same sum in every order, so that an evaluation gives the same numbers each time.
        .agg(F.expr("count(*)"), F.expr("sum(cast(confidence as decimal(11, 10)))"), F.expr("sum(hit)"))
        .orderBy("number")
    )
    return [
        ReliabilityBin(
            low=number / BINS, high=(number + 1) / BINS, n=n, confidence=float(confidence / n), accuracy=hits / n
        )
        for number, n, confidence, hits in bins.collect()
    ]


def _check_complete(confusions: dict[str, np.ndarray], record: RunRecord, run: Path) -> None:
    found = {part: int(confusion.sum()) for part, confusion in confusions.items()}
    if found != record.tracks:
        raise RunError(
            f"{record.dataset}: gave predictions for {found}, but the split of {run} has {record.tracks} tracks: "
            "the dataset was replaced; train again"
        )
