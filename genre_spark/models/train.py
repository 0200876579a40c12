"""Fit a model on one part of a dataset and leave a run folder."""

import logging
import math
import shutil
import tempfile
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Literal

from genre_spark.corpora.splits import GROUPED, Scheme, write_split
from genre_spark.dataset.feed import Feed, open_feed
from genre_spark.dataset.scaler import Scaler, fit_scaler, load_fitted
from genre_spark.dataset.store import Dataset
from genre_spark.errors import ModelError
from genre_spark.files import replace_folder
from genre_spark.models.architectures import find_architecture, trainable_parameters
from genre_spark.models.backend import keras
from genre_spark.models.bundle import FORMAT_VERSION as BUNDLE_VERSION
from genre_spark.models.bundle import BundleDescription, save_bundle
from genre_spark.models.calibration import Calibration, fit_calibration
from genre_spark.models.callbacks_tracking import check_mlflow, tracked
from genre_spark.models.checkpoints import STATE, begun_scaler, save_plan
from genre_spark.models.checkpoints_folder import LOCK, is_finished, unfinished_run
from genre_spark.models.fitting import Fitted, Parts, check_without_validation, fit
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
from genre_spark.models.training_plan import Task, make_task, training_plan
from genre_spark.provenance import now, versions_of
from genre_spark.settings import ModelSettings, Settings

# What decides a run's numbers, and so stands in its record.
LIBRARIES = ("keras", "numpy", "petastorm", "pyarrow", "scikit-learn")

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
    model_name : str
        Name of an architecture.
    scheme : {"study", "official", "artist", "artist-kfold", "all"}
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
    feature = find_architecture(model_name).feature
    task = make_task(dataset, model_name, feature, scheme, settings.split)
    has_validation = bool(task.counts.get("validation"))
    if not has_validation:
        check_without_validation(settings.train)
    plan = training_plan(task, settings)
    chosen: ModelSettings = getattr(settings.models, model_name)
    with (
        unfinished_run(run, plan, chosen.epochs, overwrite=overwrite, resume=resume) as work,
        tracked(settings.train.mlflow_experiment, run.name) as mlflow,
    ):
        tellers = [on_epoch] if on_epoch else []
        if mlflow:
            mlflow.params({key: value for key, value in plan.items() if key != "labels"})
            tellers.append(mlflow.epoch)
        with (
            _feed(dataset, task, "training", settings) as training,
            _feed(dataset, task, "validation", settings) if has_validation else nullcontext() as validation,
        ):
            scaler, source = _scaler(training, work, plan, task, settings)
            settings = settings.model_copy(update={"train": settings.train.model_copy(update={"scaler": source})})
            counts = [task.per_label[label] for label in task.labels]
            fitted = fit(model_name, Parts(training, validation), scaler, counts, settings, work, tellers)
        if fitted.stopped_by and is_finished(run):
            raise _stopped(fitted, f"{run} is what it was") from None
        calibration: Calibration | None = None
        if has_validation:
            # Once more from the start: the feed that the training read may be closed.
            with _feed(dataset, task, "validation", settings) as validation:
                calibration = fit_calibration(fitted.model, scaler, validation)
        record = _record(dataset, task, fitted, settings)
        _write_contents(work, task, fitted, scaler, record, calibration)
        _put_in_place(work, run, keeps_checkpoint=record.interrupted)
        if mlflow:
            mlflow.files([run / RUN_RECORD, run / HISTORY])
        if fitted.stopped_by:
            raise _stopped(fitted, f"{run} holds what was reached") from None
    return record


def _feed(dataset: Dataset, task: Task, part: Literal["training", "validation"], settings: Settings) -> Feed:
    index = {label: position for position, label in enumerate(task.labels)}
    return open_feed(
        dataset,
        task.spec.name,
        {row["track_id"]: index[row["genre"]] for row in task.split.to_pylist() if row["part"] == part},
        batch_size=getattr(settings.models, task.model).batch_size,
        cache_bytes=settings.train.cache_mb * 2**20 // 2,
        cache_dir=Path(tempfile.gettempdir()) if settings.train.disk_cache_mb else None,
        disk_cache_bytes=settings.train.disk_cache_mb * 2**20 // 2,
        seed=settings.train.seed if part == "training" else None,
        reader_threads=settings.train.reader_threads,
    )


def _scaler(
    training: Feed, work: Path, plan: Mapping[str, Any], task: Task, settings: Settings
) -> tuple[Scaler, Path | None]:
    """Take the scaler that the training was begun with, or one that was fitted before; or fit it. Tell its source."""
    folder, wanted, per = work / CHECKPOINT, settings.train.scaler, settings.train.standardise
    if (folder / STATE).exists():
        scaler, source = begun_scaler(folder, wanted)
        if source != wanted:
            logger.warning(
                "train.scaler=%s is ignored: the training goes on with the scaler that it was begun with "
                "(train.scaler=%s)",
                "null" if wanted is None else wanted,
                "null" if source is None else source,
            )
        return scaler, source
    scaler = load_fitted(wanted, task.spec, task.split_digest, per) if wanted else fit_scaler(training, per)
    save_plan(folder, plan, scaler, wanted)
    return scaler, wanted


def _record(dataset: Dataset, task: Task, fitted: Fitted, settings: Settings) -> RunRecord:
    chosen: ModelSettings = getattr(settings.models, task.model)
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
        epochs=chosen.epochs,
        epochs_run=len(fitted.rows),
        best_epoch=fitted.best_epoch,
        interrupted=fitted.stopped_by is not None,
        batch_size=chosen.batch_size,
        learning_rate=chosen.learning_rate,
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


def _write_contents(
    work: Path, task: Task, fitted: Fitted, scaler: Scaler, record: RunRecord, calibration: Calibration | None
) -> None:
    write_split(task.split, work / SPLIT)
    write_crossing(work, task.crossing)
    write_history(work, fitted.rows)
    of_epoch = fitted.rows[fitted.best_epoch - 1]
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
        settings=record.settings["models"][task.model],
        metrics={name: value for name, value in of_epoch.items() if name.startswith("val_") and math.isfinite(value)},
        created=record.created,
        calibration=calibration,
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
