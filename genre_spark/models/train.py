"""Fit a model on one part of a dataset and leave a run folder."""

import logging
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

from genre_spark.corpora.leaks import LeakAudit, assert_no_leak, audit_leaks, crossing_tracks
from genre_spark.corpora.splits import GROUPED, Scheme, audio_digest, make_split, split_digest, write_split
from genre_spark.dataset.feed import Feed, open_feed
from genre_spark.dataset.scaler import Scaler, fit_scaler, load_fitted
from genre_spark.dataset.store import Dataset
from genre_spark.errors import ModelError, SplitError
from genre_spark.features.spec import FeatureSpec
from genre_spark.files import replace_folder
from genre_spark.models.architectures import find_architecture, trainable_parameters
from genre_spark.models.backend import keras
from genre_spark.models.bundle import FORMAT_VERSION as BUNDLE_VERSION
from genre_spark.models.bundle import BundleDescription, save_bundle
from genre_spark.models.callbacks_tracking import check_mlflow, tracked
from genre_spark.models.checkpoints import SCALER, STATE, save_plan
from genre_spark.models.checkpoints_folder import LOCK, is_finished, unfinished_run
from genre_spark.models.fitting import Fitted, Parts, fit
from genre_spark.models.run import (
    BUNDLE,
    CHECKPOINT,
    HISTORY,
    RUN_RECORD,
    SPLIT,
    RunRecord,
    write_crossing,
    write_history,
    write_run_record,
)  # fmt: skip
from genre_spark.provenance import now, versions_of
from genre_spark.settings import ModelSettings, Settings

# What decides a run's numbers, and so stands in its record.
LIBRARIES = ("keras", "numpy", "petastorm", "pyarrow", "scikit-learn")

# Settings that change how fast and where a training runs, or how often it is written down, and not what it computes.
_OPERATIONAL = frozenset({
    "cache_mb", "reader_threads", "disk_cache_mb", "scaler", "devices", "on_device",
    "checkpoint_epochs", "mlflow_experiment",
})  # fmt: skip

logger = logging.getLogger(__name__)

OnEpoch = Callable[[Mapping[str, float]], None]


def train(
    dataset: Dataset,
    model_name: str,
    scheme: Scheme,
    run: Path,
    settings: Settings,
    *,
    overwrite: bool = False,
    resume: bool = False,
    on_epoch: OnEpoch | None = None,
) -> RunRecord:
    """Train one model and write its run folder.

    Parameters
    ----------
    dataset : Dataset
        From `open_dataset`.
    model_name : {"dnn", "cnn1d", "cnn2d"}
        An architecture.
    scheme : {"study", "official", "artist", "artist-kfold"}
        How tracks are split into parts. The model is fitted, and the scaler too, on `training` alone. Whatever the
        scheme, the run tells which artists, albums and recordings stand in more than one part.
    run : Path
        Folder to write. It appears when the training is done; until then nothing in its place is touched, and the
        training's checkpoints stand in `<run>.unfinished` beside it.
    settings : Settings
        `models.<name>`, `split` and `train` are used.
    overwrite : bool
        Replace a run, and forget one that was stopped.
    resume : bool
        Go on with a training that was stopped, or that was interrupted and left a run; begin where there is none. On a
        CPU it ends as if it had never been stopped.
    on_epoch : callable, optional
        Called after each epoch with its row of the history.

    Returns
    -------
    RunRecord
        As it stands in `run.json`.

    Raises
    ------
    ModelError, DatasetError, SplitError, FeedError
        If the model, the feature, the split or the data are not what is asked for, or the training diverges.
    RunError
        If the folder holds a run, or something else, or can't be written.
    EnvironmentSetupError
        If MLflow is asked for and not installed.
    KeyboardInterrupt
        As it was raised. A training that was interrupted, or diverged, after its first checkpoint leaves a run with
        what it had reached, unless a finished run stands there already.
    """
    check_mlflow(settings.train.mlflow_experiment)
    task = _task(dataset, model_name, scheme, settings)
    plan = _plan(task, settings)
    with (
        unfinished_run(run, plan, overwrite=overwrite, resume=resume) as work,
        tracked(settings.train.mlflow_experiment, run.name) as mlflow,
    ):
        tellers = [on_epoch] if on_epoch else []
        if mlflow:
            mlflow.params({key: value for key, value in plan.items() if key != "labels"})
            tellers.append(mlflow.epoch)
        with (
            _feed(dataset, task, "training", settings) as training,
            _feed(dataset, task, "validation", settings) as validation,
        ):
            scaler = _scaler(training, work, plan, task, settings)
            counts = [task.per_label[label] for label in task.labels]
            fitted = fit(model_name, Parts(training, validation), scaler, counts, settings, work, tellers)
        if fitted.stopped_by and is_finished(run):
            raise _stopped(fitted, f"{run} is what it was") from None
        record = _record(dataset, task, fitted, settings)
        _write_contents(work, task, fitted, scaler, record)
        _put_in_place(work, run, keeps_checkpoint=record.interrupted)
        if mlflow:
            mlflow.files([run / RUN_RECORD, run / HISTORY])
        if fitted.stopped_by:
            raise _stopped(fitted, f"{run} holds what was reached") from None
    return record


@dataclass(frozen=True, eq=False)
class _Task:
    """What is to be learnt from what."""

    model: str
    scheme: Scheme
    spec: FeatureSpec
    split: pa.Table
    crossing: pa.Table
    leaks: LeakAudit
    counts: dict[str, int]  # tracks of each part
    labels: list[str]
    per_label: dict[str, int]  # training tracks of each label
    split_digest: str
    tracks_digest: str
    chosen: ModelSettings


def _task(dataset: Dataset, model_name: str, scheme: Scheme, settings: Settings) -> _Task:
    architecture = find_architecture(model_name)
    spec = dataset.spec(architecture.feature)
    tracks = dataset.tracks()
    split = make_split(tracks, scheme, settings.split)
    if scheme in GROUPED:
        assert_no_leak(tracks, split, settings.split.group_by)
    counts = {row["values"]: row["counts"] for row in split["part"].value_counts().to_pylist()}
    for part in ("training", "validation"):
        if not counts.get(part):
            raise SplitError(f"{dataset}: the {scheme} split has no {part} tracks; take another --split")
    labels = sorted(set(split["genre"].to_pylist()))
    if len(labels) < 2:
        raise SplitError(f"{dataset}: all tracks are {labels[0]!r}, there is nothing to tell apart; add other genres")
    per_label = Counter(row["genre"] for row in split.to_pylist() if row["part"] == "training")
    for label in labels:
        if not per_label[label]:
            raise SplitError(
                f"{dataset}: genre {label!r} has no training tracks in the {scheme} split; take another --split or "
                "split.seed, or leave the genre out"
            )
    return _Task(
        model=model_name,
        scheme=scheme,
        spec=spec,
        split=split,
        crossing=crossing_tracks(tracks, split, settings.split.group_by),
        leaks=audit_leaks(tracks, split, settings.split.group_by),
        counts=counts,
        labels=labels,
        per_label=per_label,
        split_digest=split_digest(split),
        tracks_digest=audio_digest(tracks, split),
        chosen=getattr(settings.models, model_name),
    )


def _plan(task: _Task, settings: Settings) -> dict[str, Any]:
    """What a training that is resumed must have in common with the one that was stopped."""
    chosen = task.chosen.model_dump(mode="json")
    if settings.train.schedule != "cosine":
        del chosen["epochs"]  # more of them can be added
    train = settings.train.model_dump(mode="json", exclude=set(_OPERATIONAL))
    return {
        "model": task.model,
        "split": task.scheme,
        "backend": keras.backend.backend(),
        "spec_digest": task.spec.digest,
        "split_digest": task.split_digest,
        "tracks_digest": task.tracks_digest,
        "labels": task.labels,
        **{f"models.{task.model}.{key}": value for key, value in chosen.items()},
        **{f"train.{key}": value for key, value in train.items()},
    }


def _feed(dataset: Dataset, task: _Task, part: Literal["training", "validation"], settings: Settings) -> Feed:
    index = {label: position for position, label in enumerate(task.labels)}
    return open_feed(
        dataset,
        task.spec.name,
        {row["track_id"]: index[row["genre"]] for row in task.split.to_pylist() if row["part"] == part},
        batch_size=task.chosen.batch_size,
        cache_bytes=settings.train.cache_mb * 2**20 // 2,
        cache_dir=Path(tempfile.gettempdir()) if settings.train.disk_cache_mb else None,
        disk_cache_bytes=settings.train.disk_cache_mb * 2**20 // 2,
        seed=settings.train.seed if part == "training" else None,
        reader_threads=settings.train.reader_threads,
    )


def _scaler(training: Feed, work: Path, plan: Mapping[str, Any], task: _Task, settings: Settings) -> Scaler:
    """Take the scaler that the training was begun with, or one that was fitted before; or fit it."""
    folder = work / CHECKPOINT
    if (folder / STATE).exists():
        return Scaler.load(folder / SCALER)
    per = settings.train.standardise
    if settings.train.scaler is not None:
        scaler = load_fitted(settings.train.scaler, task.spec, task.split_digest, per)
    else:
        scaler = fit_scaler(training, per)
    save_plan(folder, plan, scaler)
    return scaler


def _record(dataset: Dataset, task: _Task, fitted: Fitted, settings: Settings) -> RunRecord:
    return RunRecord(
        model=task.model,
        feature=task.spec.name,
        split=task.scheme,
        dataset=dataset.folder.address,
        settings=settings.model_dump(mode="json"),
        spec_digest=task.spec.digest,
        split_digest=task.split_digest,
        tracks_digest=task.tracks_digest,
        tracks=task.counts,
        leaks=task.leaks,
        labels=task.labels,
        trainable_parameters=trainable_parameters(fitted.model),
        epochs=task.chosen.epochs,
        epochs_run=len(fitted.rows),
        best_epoch=fitted.best_epoch,
        interrupted=fitted.stopped_by is not None,
        batch_size=task.chosen.batch_size,
        learning_rate=task.chosen.learning_rate,
        class_weights=dict(zip(task.labels, fitted.class_weights, strict=True)) if fitted.class_weights else None,
        precision=fitted.precision,
        backend=keras.backend.backend(),
        device=fitted.devices.kind,
        devices=len(fitted.devices.names),
        seed=settings.train.seed,
        training_s=round(sum(row["seconds"] for row in fitted.rows), 3),
        versions=versions_of([*LIBRARIES, keras.backend.backend()]),
        created=now(),
    )


def _write_contents(work: Path, task: _Task, fitted: Fitted, scaler: Scaler, record: RunRecord) -> None:
    write_split(task.split, work / SPLIT)
    write_crossing(work, task.crossing)
    write_history(work, fitted.rows)
    description = BundleDescription(
        format_version=BUNDLE_VERSION,
        architecture=task.model,
        spec=task.spec,
        spec_digest=task.spec.digest,
        labels=task.labels,
        split_digest=task.split_digest,
        versions=record.versions,
        split=task.scheme,
        group_by=", ".join(record.settings["split"]["group_by"]) if task.scheme in GROUPED else "",
        tracks=task.counts,
        settings=task.chosen.model_dump(),
        metrics={name: value for name, value in fitted.rows[fitted.best_epoch - 1].items() if name.startswith("val_")},
        created=record.created,
    )
    save_bundle(work / BUNDLE, fitted.model, scaler, description)
    write_run_record(work, record)


def _put_in_place(work: Path, run: Path, *, keeps_checkpoint: bool) -> None:
    if not keeps_checkpoint:
        shutil.rmtree(work / CHECKPOINT)
    (work / LOCK).unlink()
    replace_folder(work, run)


def _stopped(fitted: Fitted, where: str) -> BaseException:
    """Say where a training that was stopped can be gone on with; return what is to be raised."""
    said = f"stopped after epoch {len(fitted.rows)}; {where}, --resume goes on"
    if isinstance(fitted.stopped_by, ModelError):
        return ModelError(f"{fitted.stopped_by} ({said})")
    logger.warning(said)
    return KeyboardInterrupt()
