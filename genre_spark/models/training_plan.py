"""What is to be learnt from what, and what decides a training's numbers."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from genre_spark.corpora.leaks import LeakAudit, assert_no_leak, audit_leaks, crossing_tracks
from genre_spark.corpora.splits import GROUPED, Scheme, audio_digest, make_split, split_digest
from genre_spark.dataset.store import Dataset
from genre_spark.errors import SplitError
from genre_spark.features.spec import FeatureSpec
from genre_spark.models.backend import keras
from genre_spark.models.run import RunRecord
from genre_spark.settings import Settings, SplitSettings

# Settings that change how fast and where a training runs, or how often it is written down, and not what it computes.
_OPERATIONAL = frozenset({
    "cache_mb", "reader_threads", "disk_cache_mb", "scaler", "devices", "on_device",
    "checkpoint_epochs", "mlflow_experiment",
})  # fmt: skip


@dataclass(frozen=True, eq=False)
class Task:
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


def make_task(dataset: Dataset, model: str, feature: str, scheme: Scheme, settings: SplitSettings) -> Task:
    """Split a dataset's tracks for a training, and see what the split shares.

    Raises
    ------
    DatasetError, SplitError
        If the dataset lacks the feature; or a part has no tracks, or training none of a genre.
    """
    spec = dataset.spec(feature)
    tracks = dataset.tracks()
    split = make_split(tracks, scheme, settings)
    if scheme in GROUPED:
        assert_no_leak(tracks, split, settings.group_by)
    counts = {row["values"]: row["counts"] for row in split["part"].value_counts().to_pylist()}
    for part in ("training",) if scheme == "all" else ("training", "validation"):
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
    return Task(
        model=model,
        scheme=scheme,
        spec=spec,
        split=split,
        crossing=crossing_tracks(tracks, split, settings.group_by),
        leaks=audit_leaks(tracks, split, settings.group_by),
        counts=counts,
        labels=labels,
        per_label=per_label,
        split_digest=split_digest(split),
        tracks_digest=audio_digest(tracks, split),
    )


def training_plan(task: Task, settings: Settings) -> dict[str, Any]:
    """What a training that is resumed must have in common with the one that was stopped."""
    return _plan(
        task.model,
        task.scheme,
        keras.backend.backend(),
        (task.spec.digest, task.split_digest, task.tracks_digest, task.labels),
        settings.model_dump(mode="json"),
    )


def plan_of_run(record: RunRecord) -> dict[str, Any]:
    """The plan that a finished run had, as `training_plan` gives it."""
    data = (record.spec_digest, record.split_digest, record.tracks_digest, record.labels)
    return _plan(record.model, record.split, record.backend, data, record.settings)


def _plan(
    model: str, split: str, backend: str, data: tuple[str, str, str, list[str]], settings: Mapping[str, Any]
) -> dict[str, Any]:
    chosen = dict(settings["models"][model])
    if settings["train"]["schedule"] != "cosine":
        del chosen["epochs"]  # more of them can be added
    train = {key: value for key, value in settings["train"].items() if key not in _OPERATIONAL}
    spec_digest, digest_of_split, tracks_digest, labels = data
    return {
        "model": model,
        "split": split,
        "backend": backend,
        "spec_digest": spec_digest,
        "split_digest": digest_of_split,
        "tracks_digest": tracks_digest,
        "labels": labels,
        **{f"models.{model}.{key}": value for key, value in chosen.items()},
        **{f"train.{key}": value for key, value in train.items()},
    }
