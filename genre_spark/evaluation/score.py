"""The Spark job: dataset x bundle -> predictions, confusion matrices, and the tracks behind the worst confusions.

Only predictions pass through Spark, which joins them with what is known of the tracks, counts, and writes. What comes
back to the driver are counts; no prediction of a track does.

An evaluation gives the same counts each time. Probabilities agree to 1e-6 where other rows went through the model
together (another batch size, other files), not bit for bit.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genre_spark.dataset.store import Dataset, open_dataset
from genre_spark.dataset.tasks import error_of_worker
from genre_spark.errors import DatasetError, GenreSparkError, RunError
from genre_spark.evaluation.confused import CONFUSED, confused_pairs, confused_tracks
from genre_spark.evaluation.counts import count_answers, count_groups, count_reliability
from genre_spark.evaluation.figures import confusion_figure, save_png
from genre_spark.evaluation.judgement import Judgement, judge_bundle, judge_run, part_to_judge
from genre_spark.evaluation.metrics import build_metrics
from genre_spark.evaluation.metrics_file import CONFUSION, METRICS, write_metrics
from genre_spark.evaluation.scoring import scored
from genre_spark.files import is_leftover, replace_folder, staging_folder
from genre_spark.filesystems import is_remote, local_path, masked
from genre_spark.models.bundle import read_description
from genre_spark.models.run import BUNDLE, EVALUATION, RUN_RECORD, RunRecord, read_run_record
from genre_spark.settings import EvaluateSettings
from genre_spark.spark import watch
from genre_spark.spark_failures import explained

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

PREDICTIONS = "predictions.parquet"
_COLUMNS = ("track_id", "part", "genre", "artist", "predicted", "probabilities", "segments")
CONFUSION_PICTURE = "confusion.png"
# All that an evaluation writes.
CONTENTS = frozenset({PREDICTIONS, CONFUSED, METRICS, CONFUSION, CONFUSION_PICTURE})


@dataclass(frozen=True)
class _Work:
    """What is to be scored, and where it goes."""

    spark: "SparkSession"
    settings: EvaluateSettings
    out: Path
    on_tracks: Callable[[int], None] | None


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
        Size of the batches: how many rows at least go through the model at a time. Of small tensors more do.
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
    part = part_to_judge(run, record)
    description = read_description(run / BUNDLE)
    dataset = _dataset_of(run, record) if dataset_path is None else open_dataset(dataset_path)
    judgement = judge_run(run, record, description, dataset, part)
    # Absolute: in a relative path Hadoop takes what stands before a colon for the name of a file system.
    out = Path(os.path.realpath(run / EVALUATION))
    return _carried_out(judgement, _Work(spark, settings, out, on_tracks))


def _dataset_of(run: Path, record: RunRecord) -> Dataset:
    try:
        return open_dataset(record.dataset)
    except DatasetError as error:
        raise DatasetError(f"{error}; or, if the dataset of {run} was moved, say where it is with --dataset") from None


def evaluate_bundle(
    spark: "SparkSession",
    bundle: Path,
    dataset_path: str | Path,
    out: str | Path,
    settings: EvaluateSettings,
    *,
    on_tracks: Callable[[int], None] | None = None,
) -> dict[str, Any]:
    """Hold a bundle against a dataset, whatever it was trained on, and write to `OUT` what a run has in `evaluation/`.

    All tracks whose genre the model knows are judged, as the part "all". Tracks of other genres, and tracks without
    one, are predicted and counted apart.

    Parameters
    ----------
    spark : SparkSession
        Where the work is done; its workers must see the dataset under this path.
    bundle : Path
        A bundle folder.
    dataset_path : str or Path
        A folder, or an address such as `s3://bucket/dataset`; it must have the bundle's feature.
    out : str or Path
        Folder of this machine to write, as a path or `file://` address; an earlier evaluation in it is replaced.
    settings : EvaluateSettings
        Size of the batches: how many rows at least go through the model at a time. Of small tensors more do.
    on_tracks : callable, optional
        Called from a thread with the number of tracks scored so far.

    Returns
    -------
    dict
        As `metrics.json` holds it, with `dataset`, `bundle` (its digest), `model` (its architecture), `feature`,
        `heard` (how many of the judged tracks the model was trained on; None where the bundle doesn't lie in its run),
        `unseen` and `unlabelled`.

    Raises
    ------
    BundleError, DatasetError
        If bundle or dataset is missing, the dataset lacks the feature or has it with other parameters, holds a track
        twice, or the model knows none of its genres.
    RunError
        If `out` is no local folder or lies in a run, holds something else than an evaluation, or can't be written.
    """
    folder = check_out(out)
    dataset = open_dataset(dataset_path)
    judgement = judge_bundle(bundle, read_description(bundle), dataset)
    return _carried_out(
        judgement,
        _Work(spark, settings, folder, on_tracks),
        dataset=masked(dataset.folder.address),
        bundle=judgement.description.digest,
        model=judgement.description.architecture,
        feature=judgement.description.spec.name,
        heard=judgement.heard,
    )


def check_out(out: str | Path) -> Path:
    """Find the folder for the evaluation of a bundle, and refuse one that can't be written or holds anything else.

    Parameters
    ----------
    out : str or Path
        A path or a `file://` address.

    Returns
    -------
    Path
        Absolute, and with all links followed: the folder is replaced as a whole.

    Raises
    ------
    RunError
        If it is an address of another machine, a file, a folder with other contents, one that can't be replaced, or one
        in a run folder.
    """
    name = masked(out)
    if is_remote(out):
        raise RunError(f"{name}: an evaluation needs a local folder; name one with --out, and copy it there afterwards")
    folder = Path(os.path.realpath(_encoded(local_path(out, RunError))))
    if os.path.exists(folder.parent / RUN_RECORD):  # noqa: PTH110 - Path's own raises where it may not look
        raise RunError(
            f"{name}: lies in the run folder {folder.parent}, which holds what the run itself reached; name another "
            "--out"
        )
    try:
        found = {member.name for member in folder.iterdir() if not is_leftover(member.name)}
    except FileNotFoundError:
        return folder
    except OSError as error:
        raise RunError(f"{name}: can't be taken for an evaluation: {error.strerror}; name another --out") from None
    if found and (METRICS not in found or not found <= CONTENTS):
        other = min(found - CONTENTS, default=min(found))
        raise RunError(f"{name}: holds {other!r}, so it is no evaluation that may be replaced; name another --out")
    if folder.is_mount() or folder.samefile("."):
        what = "is mounted" if folder.is_mount() else "is the folder that you are in"
        raise RunError(f"{name}: {what}, and can't be replaced as a whole; name a folder in it with --out")
    return folder


def _encoded(path: Path) -> Path:
    """Refuse a path that neither Java nor a file system takes."""
    try:
        if "\0" not in str(path) and str(path).encode("utf-8"):
            return path
    except UnicodeEncodeError:
        pass
    raise RunError(f"{str(path)!r}: must be UTF-8 and hold no null character; name another --out")


def _carried_out(judgement: Judgement, work: _Work, **known: Any) -> dict[str, Any]:
    context = work.spark.sparkContext
    done = context.accumulator(0)
    files = {file.name: file.read_bytes() for file in judgement.bundle.iterdir() if file.is_file()}
    bundle = context.broadcast(files)
    key = judgement.description.model_dump_json()
    spec, batch_size = judgement.description.spec, work.settings.batch_size
    tracks = scored(work.spark, judgement.dataset, spec, bundle, key, batch_size, done.add)
    # Kept, because they are written and counted.
    predictions = _with_truth(work.spark, tracks, judgement).persist()
    try:
        with staging_folder(work.out, RunError) as staging:
            with watch(lambda: done.value, work.on_tracks):
                predictions.select(*_COLUMNS).write.parquet(str(staging / PREDICTIONS))
            metrics = _judged(predictions, judgement, staging, known)
            replace_folder(staging, work.out)
    except GenreSparkError:
        raise
    except Exception as error:
        raise (error_of_worker(error) or explained(error) or error) from None
    finally:
        predictions.unpersist()
        bundle.unpersist()
    return metrics


def _judged(predictions: "DataFrame", judgement: Judgement, staging: Path, known: dict[str, Any]) -> dict[str, Any]:
    """Count, and write all but the predictions."""
    labels = judgement.description.labels
    judged = predictions.where(predictions["part"] == judgement.part)
    counted = count_answers(predictions, labels)
    judgement.check_complete(counted)
    confusion = counted.confusions[judgement.part]
    metrics = build_metrics(
        counted.confusions,
        labels,
        judgement.part,
        reliability=count_reliability(judged),
        groups=count_groups(judged) if judgement.knows_artists else None,
        artists=judgement.artists or None,
    )
    if known:
        metrics |= {**known, "unseen": dict(counted.unseen), "unlabelled": counted.unlabelled}
    write_metrics(staging, metrics)
    save_png(confusion_figure(confusion, labels, title=judgement.title), staging / CONFUSION_PICTURE)
    confused_tracks(judged, confused_pairs(confusion, labels), labels).write.parquet(str(staging / CONFUSED))
    return metrics


def _with_truth(spark: "SparkSession", tracks: "DataFrame", judgement: Judgement) -> "DataFrame":
    """Join predictions with genre, part and group; they are null for tracks that stand in no part."""
    # Not by Spark's own reader, which takes brackets and stars in a path for a pattern.
    return tracks.join(spark.createDataFrame(judgement.truth), on="track_id", how="left")
