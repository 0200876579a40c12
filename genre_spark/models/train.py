"""Fit a model on one part of a dataset and leave a run folder."""

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa

from genre_spark.corpora.leaks import assert_no_leak, audit_leaks, crossing_tracks
from genre_spark.corpora.splits import GROUPED, Scheme, audio_digest, make_split, split_digest, write_split
from genre_spark.dataset.feed import Batch, Feed, open_feed
from genre_spark.dataset.scaler import Scaler, fit_scaler
from genre_spark.dataset.store import Dataset
from genre_spark.errors import ModelError, RunError, SplitError
from genre_spark.files import is_leftover, replace_folder, staging_folder
from genre_spark.models.architectures import Architecture, build_model, find_architecture, trainable_parameters
from genre_spark.models.backend import keras
from genre_spark.models.bundle import FORMAT_VERSION as BUNDLE_VERSION
from genre_spark.models.bundle import BundleDescription, save_bundle
from genre_spark.models.run import (
    BUNDLE,
    EVALUATION,
    HISTORY,
    LEAKS,
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
        Folder to write. It appears when the training is done; until then nothing in its place is touched.
    settings : Settings
        `models.<name>`, `split` and `train` are used.
    overwrite : bool
        Replace a run.
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
        If the folder holds a run, or something else.
    """
    architecture = find_architecture(model_name)
    spec = dataset.spec(architecture.feature)
    chosen: ModelSettings = getattr(settings.models, model_name)
    _refuse_occupied(run, overwrite=overwrite)
    tracks = dataset.tracks()
    split = make_split(tracks, scheme, settings.split)
    if scheme in GROUPED:
        assert_no_leak(tracks, split, settings.split.group_by)
    leaks = audit_leaks(tracks, split, settings.split.group_by)
    counts = {row["values"]: row["counts"] for row in split["part"].value_counts().to_pylist()}
    for part in ("training", "validation"):
        if not counts.get(part):
            raise SplitError(f"{dataset}: the {scheme} split has no {part} tracks; take another --split")
    labels = sorted(set(split["genre"].to_pylist()))
    with staging_folder(run, RunError) as staging:
        model, scaler, history, training_s = _fit(dataset, architecture, split, labels, settings, on_epoch)
        write_split(split, staging / SPLIT)
        write_crossing(staging, crossing_tracks(tracks, split, settings.split.group_by))
        write_history(staging, history)
        versions = versions_of([*LIBRARIES, keras.backend.backend()])
        record = RunRecord(
            model=model_name,
            feature=spec.name,
            split=scheme,
            dataset=dataset.folder.address,
            settings=settings.model_dump(mode="json"),
            spec_digest=spec.digest,
            split_digest=split_digest(split),
            tracks_digest=audio_digest(tracks, split),
            tracks=counts,
            leaks=leaks,
            labels=labels,
            trainable_parameters=trainable_parameters(model),
            epochs=chosen.epochs,
            batch_size=chosen.batch_size,
            learning_rate=chosen.learning_rate,
            seed=settings.train.seed,
            training_s=round(training_s, 3),
            versions=versions,
            created=now(),
        )
        description = BundleDescription(
            format_version=BUNDLE_VERSION,
            architecture=model_name,
            spec=spec,
            spec_digest=spec.digest,
            labels=labels,
            split_digest=record.split_digest,
            versions=versions,
        )
        save_bundle(staging / BUNDLE, model, scaler, description)
        write_run_record(staging, record)
        replace_folder(staging, run)
    return record


def _fit(
    dataset: Dataset,
    architecture: Architecture,
    split: pa.Table,
    labels: list[str],
    settings: Settings,
    on_epoch: OnEpoch | None,
) -> tuple[keras.Model, Scaler, list[dict[str, float]], float]:
    """Fit scaler and model on the training part; return them with the history and the seconds it took."""
    spec = dataset.spec(architecture.feature)
    chosen: ModelSettings = getattr(settings.models, architecture.name)
    keras.utils.set_random_seed(settings.train.seed)
    with (
        _feed(dataset, spec.name, split, "training", labels, chosen, settings) as training,
        _feed(dataset, spec.name, split, "validation", labels, chosen, settings) as validation,
    ):
        scaler = fit_scaler(training)
        model = build_model(
            architecture.name, spec.shape, len(labels), scaler, batch_norm_momentum=chosen.batch_norm_momentum
        )
        model.compile(
            optimizer=keras.optimizers.Adam(chosen.learning_rate),
            loss="sparse_categorical_crossentropy",
            metrics=["accuracy"],
        )
        _warn_of_few_steps(model, chosen, chosen.epochs * training.n_batches)
        history = _History(architecture.name, chosen, on_epoch)
        started = time.monotonic()
        model.fit(
            _FeedForKeras(training),
            validation_data=_FeedForKeras(validation),
            epochs=chosen.epochs,
            callbacks=[history],
            shuffle=False,  # the feed does it
            verbose=0,
        )
        return model, scaler, history.rows, time.monotonic() - started


def _warn_of_few_steps(model: keras.Model, chosen: ModelSettings, steps: int) -> None:
    # Ten times the memory of the moving averages: seen on 224 tracks, where below it a model that was right on every
    # training track while training was at chance on the same tracks afterwards.
    wanted = 10 / (1 - chosen.batch_norm_momentum)
    if steps < wanted and any(isinstance(layer, keras.layers.BatchNormalization) for layer in model.layers):
        logger.warning(
            "%d training steps are few for BatchNorm (models.%s.batch_norm_momentum=%g wants about %d): "
            "its statistics lag behind; set it to 0.9, or take more epochs or a smaller batch_size",
            steps, model.name, chosen.batch_norm_momentum, wanted,
        )  # fmt: skip


class _FeedForKeras(keras.utils.PyDataset):
    """A feed as Keras reads it: batch after batch, and from the first one again.

    A generator would not do: Keras starts it anew at each validation, and loses the batches that it had read ahead.
    """

    def __init__(self, feed: Feed) -> None:
        super().__init__()
        self._feed = feed
        self._epoch = 0
        self._batches: Iterator[Batch] = iter(())

    def __len__(self) -> int:
        return self._feed.n_batches

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        if index == 0:
            self._batches = self._feed.epoch(self._epoch)
            self._epoch += 1
        batch = next(self._batches)
        return batch.x, batch.y


class _History(keras.callbacks.Callback):
    """Collects the history's rows, and stops a training that diverged."""

    def __init__(self, model_name: str, chosen: ModelSettings, on_epoch: OnEpoch | None) -> None:
        super().__init__()
        self.rows: list[dict[str, float]] = []
        self._model_name = model_name
        self._chosen = chosen
        self._on_epoch = on_epoch
        self._started = 0.0

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        self._started = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        row = {"epoch": epoch + 1, **(logs or {}), "seconds": round(time.monotonic() - self._started, 3)}
        if not math.isfinite(row["loss"]):
            raise ModelError(
                f"model {self._model_name}: the loss is {row['loss']} in epoch {epoch + 1}; "
                f"lower models.{self._model_name}.learning_rate={self._chosen.learning_rate:g}"
            )
        self.rows.append(row)
        if self._on_epoch is not None:
            self._on_epoch(row)


def _refuse_occupied(run: Path, *, overwrite: bool) -> None:
    """Refuse a folder that is not to be replaced: only what a training writes may stand in it."""
    if run.exists() and not run.is_dir():
        raise RunError(f"{run}: is a file; name a folder for --run")
    names = {path.name for path in run.iterdir()} if run.is_dir() else set()
    foreign = {name for name in names if not is_leftover(name)} - {
        RUN_RECORD,
        SPLIT,
        LEAKS,
        HISTORY,
        BUNDLE,
        EVALUATION,
    }
    if foreign:
        raise RunError(f"{run}: exists and holds {min(foreign)!r}, which is no part of a run; name another folder")
    if names and not overwrite:
        raise RunError(f"{run}: holds a run; replace it with --overwrite, or name another folder for --run")


def _feed(
    dataset: Dataset,
    feature: str,
    split: pa.Table,
    part: Literal["training", "validation"],
    labels: list[str],
    chosen: ModelSettings,
    settings: Settings,
) -> Feed:
    index = {label: position for position, label in enumerate(labels)}
    labels_of = {row["track_id"]: index[row["genre"]] for row in split.to_pylist() if row["part"] == part}
    return open_feed(
        dataset,
        feature,
        labels_of,
        batch_size=chosen.batch_size,
        cache_bytes=settings.train.cache_mb * 2**20 // 2,
        seed=settings.train.seed if part == "training" else None,
    )
