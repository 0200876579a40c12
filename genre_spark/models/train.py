"""Fit a model on one part of a dataset and leave a run folder."""

import logging
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa

from genre_spark.corpora.splits import Scheme, assert_no_leak, make_split, split_digest, write_split
from genre_spark.dataset.feed import Batch, Feed, open_feed
from genre_spark.dataset.scaler import fit_scaler
from genre_spark.dataset.store import Dataset
from genre_spark.errors import RunError
from genre_spark.models.architectures import build_model, find_architecture, trainable_parameters
from genre_spark.models.backend import keras
from genre_spark.models.bundle import FORMAT_VERSION as BUNDLE_VERSION
from genre_spark.models.bundle import BundleDescription, save_bundle
from genre_spark.models.run import BUNDLE, RUN_RECORD, SPLIT, RunRecord, write_history, write_run_record
from genre_spark.provenance import now, versions_of
from genre_spark.settings import ModelSettings, Settings

logger = logging.getLogger(__name__)

# What decides a run's numbers, and so stands in its record.
LIBRARIES = ("keras", "numpy", "petastorm", "pyarrow", "scikit-learn")

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
    scheme : {"study", "official", "artist"}
        How tracks are split into parts. The model is fitted, and the scaler too, on `training` alone.
    run : Path
        Folder to write. An unfinished run there is replaced.
    settings : Settings
        `models.<name>`, `split` and `train` are used.
    overwrite : bool
        Replace a finished run.
    on_epoch : callable, optional
        Called after each epoch with its row of the history.

    Returns
    -------
    RunRecord
        As it stands in `run.json`.

    Raises
    ------
    ModelError, DatasetError, SplitError, FeedError
        If the model, the feature, the split or the data are not what is asked for.
    RunError
        If the folder holds a finished run, or something else.
    """
    architecture = find_architecture(model_name)
    spec = dataset.spec(architecture.feature)
    chosen: ModelSettings = getattr(settings.models, model_name)
    tracks = dataset.tracks()
    split = make_split(tracks, scheme, settings.split)
    if scheme == "artist":
        assert_no_leak(tracks, split)
    labels = sorted(set(split["genre"].to_pylist()))

    keras.utils.set_random_seed(settings.train.seed)
    with (
        _feed(dataset, spec.name, split, "training", labels, chosen, settings) as training,
        _feed(dataset, spec.name, split, "validation", labels, chosen, settings) as validation,
    ):
        _make_room(run, overwrite=overwrite)
        write_split(split, run / SPLIT)
        scaler = fit_scaler(training)
        model = build_model(model_name, spec.shape, len(labels), scaler, batch_norm_momentum=chosen.batch_norm_momentum)
        model.compile(
            optimizer=keras.optimizers.Adam(chosen.learning_rate),
            loss="sparse_categorical_crossentropy",
            metrics=["accuracy"],
        )
        history = _History(run, on_epoch)
        started = time.monotonic()
        model.fit(
            _FeedForKeras(training),
            validation_data=_FeedForKeras(validation),
            epochs=chosen.epochs,
            callbacks=[history],
            shuffle=False,  # the feed does it
            verbose=0,
        )
        training_s = time.monotonic() - started

    versions = versions_of(LIBRARIES) | {"backend": keras.backend.backend()}
    digest = split_digest(split)
    description = BundleDescription(
        format_version=BUNDLE_VERSION,
        architecture=model_name,
        spec=spec,
        spec_digest=spec.digest,
        labels=labels,
        split_digest=digest,
        versions=versions,
    )
    save_bundle(run / BUNDLE, model, scaler, description)
    record = RunRecord(
        model=model_name,
        feature=spec.name,
        split=scheme,
        dataset=str(dataset.path),
        settings=settings.model_dump(mode="json"),
        spec_digest=spec.digest,
        split_digest=digest,
        tracks={part: count for part, count in _counts(split).items() if count},
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
    write_run_record(run, record)
    return record


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
    """Writes `history.csv` anew after each epoch, so that a run that is stopped keeps what it has."""

    def __init__(self, run: Path, on_epoch: OnEpoch | None) -> None:
        super().__init__()
        self._run = run
        self._on_epoch = on_epoch
        self._rows: list[dict[str, float]] = []
        self._started = 0.0

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        self._started = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        row = {"epoch": epoch + 1, **(logs or {}), "seconds": round(time.monotonic() - self._started, 3)}
        self._rows.append(row)
        write_history(self._run, self._rows)
        if self._on_epoch is not None:
            self._on_epoch(row)


def _make_room(run: Path, *, overwrite: bool) -> None:
    if run.exists() and not run.is_dir():
        raise RunError(f"{run}: is a file; name a folder for --run")
    if run.is_dir() and any(run.iterdir()):
        if (run / RUN_RECORD).is_file():
            if not overwrite:
                raise RunError(f"{run}: holds a finished run; replace it with --overwrite, or name another folder")
        elif not (run / SPLIT).is_file():
            raise RunError(f"{run}: exists and is no run folder; name another one for --run")
        shutil.rmtree(run)
    try:
        run.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"{run}: can't be written: {error.strerror}") from None


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


def _counts(split: pa.Table) -> dict[str, int]:
    return {row["values"]: row["counts"] for row in split["part"].value_counts().to_pylist()}
