"""The calibration that a training leaves in its bundle, against one of the finished bundle's own probabilities."""

import logging
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest
from scipy.special import softmax

from genre_spark.corpora.splits import read_split
from genre_spark.dataset.feed import Batch
from genre_spark.dataset.rows import tensors_of
from genre_spark.dataset.scaler import Scaler
from genre_spark.dataset.store import Dataset
from genre_spark.errors import RunError
from genre_spark.evaluation.score import evaluate
from genre_spark.features.spec import FeatureSpec, Segments
from genre_spark.models import calibration as calibration_module
from genre_spark.models.architectures import build_model, probabilities
from genre_spark.models.bundle import load_bundle, read_description
from genre_spark.models.calibration import calibrate, fit_calibration
from genre_spark.models.train import train
from genre_spark.settings import Settings


@pytest.fixture
def few_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """The corpus of the tests has 7 validation tracks."""
    monkeypatch.setattr(calibration_module, "FEWEST_TRACKS", 5)
    monkeypatch.setattr(calibration_module, "FEWEST_ANSWERS", 2)


def of_validation(run: Path, dataset: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of the finished bundle for the validation tracks, and their true genres."""
    bundle = load_bundle(run / "bundle")
    spec, labels = bundle.description.spec, bundle.description.labels
    genres = {
        row["track_id"]: labels.index(row["genre"])
        for row in read_split(run / "split.parquet").to_pylist()
        if row["part"] == "validation"
    }
    table = pq.read_table(dataset.files(), columns=["track_id", spec.name])
    rows = dict(zip(table["track_id"].to_pylist(), tensors_of(table[spec.name], spec), strict=True))
    p = probabilities(bundle.model, np.stack([rows[track_id] for track_id in genres]))
    return p, np.array(list(genres.values()))


def assert_is_of_the_bundle(run: Path, dataset: Dataset) -> None:
    p, labels = of_validation(run, dataset)
    found, wanted = read_description(run / "bundle").calibration, calibrate(p, labels)
    assert found is not None
    assert found.n == len(labels) == 7
    assert found.temperature == pytest.approx(wanted.temperature, rel=1e-3)
    assert found.temperature != 1.0
    assert found.ece_before == pytest.approx(wanted.ece_before, abs=1e-4)
    assert [t.precision for t in found.thresholds] == [t.precision for t in wanted.thresholds]
    assert [t.coverage for t in found.thresholds] == [t.coverage for t in wanted.thresholds]


@pytest.mark.parametrize("on_device", ["off", "on"])
@pytest.mark.parametrize("mixed_precision", ["off", "on"])
def test_a_bundle_is_calibrated_as_it_will_be_loaded(
    dataset: Dataset, settings: Settings, tmp_path: Path, few_are_enough: None, on_device: str, mixed_precision: str
) -> None:
    chosen = settings.train.model_copy(update={"on_device": on_device, "mixed_precision": mixed_precision})
    train(dataset, "dnn", "study", tmp_path / "run", settings.model_copy(update={"train": chosen}))
    assert_is_of_the_bundle(tmp_path / "run", dataset)


def test_a_run_that_was_interrupted_is_calibrated_with_the_weights_that_it_has(
    dataset: Dataset, settings: Settings, tmp_path: Path, few_are_enough: None
) -> None:
    def stop(row: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(dataset, "dnn", "study", tmp_path / "run", settings, on_epoch=stop)
    assert_is_of_the_bundle(tmp_path / "run", dataset)


def test_without_a_validation_part_there_is_no_calibration_and_nothing_to_judge(
    dataset: Dataset, settings: Settings, tmp_path: Path
) -> None:
    steered = {"early_stopping_patience": 0, "restore_best": False, "schedule": "constant"}
    blind = settings.model_copy(update={"train": settings.train.model_copy(update=steered)})
    train(dataset, "dnn", "all", tmp_path / "run", blind)
    assert load_bundle(tmp_path / "run" / "bundle").description.calibration is None
    with pytest.raises(RunError, match="the all split left no tracks to judge it on; evaluate a run with the same"):
        evaluate(None, tmp_path / "run", settings.evaluate)  # type: ignore[arg-type]


def test_a_training_with_too_few_validation_tracks_says_so_and_changes_no_probability(
    dataset: Dataset, settings: Settings, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, logger="genre_spark.models.calibration"):
        train(dataset, "dnn", "study", tmp_path / "run", settings)
    messages = [record.getMessage() for record in caplog.records if "calibrat" in record.getMessage()]
    assert messages == [
        "7 validation tracks are too few to calibrate the probabilities (at least 20): they stay as they are"
    ]
    found = read_description(tmp_path / "run" / "bundle").calibration
    assert found is not None
    assert (found.temperature, found.n, found.thresholds) == (1.0, 7, [])


def test_the_segments_of_a_track_vote_before_the_temperature_is_fitted() -> None:
    n, size = 40, 6
    spec = FeatureSpec(
        name="mfcc_mean", kind="mfcc", sample_rate=22_050, n_mfcc=size, summary=("mean",),
        segments=Segments(count=3, length_s=1.0),
    )  # fmt: skip
    random = np.random.default_rng(0)
    labels = random.integers(2, size=n).astype(np.int32)
    x = random.normal(labels[:, None, None], 1.5, (n, 3, size)).astype(np.float32)
    scaler = Scaler(np.zeros(size, np.float32), np.ones(size, np.float32), 1)
    model = build_model("dnn", (size,), 2, scaler)
    # Rows in any order and in batches that cut through tracks.
    order = random.permutation(3 * n)

    def epoch(index: int) -> Iterator[Batch]:
        for rows in np.array_split(order, 7):
            yield Batch([f"{row // 3:03}" for row in rows], x.reshape(-1, size)[rows], labels[rows // 3])

    found = fit_calibration(model, scaler, SimpleNamespace(spec=spec, n_tracks=n, epoch=epoch))  # type: ignore[arg-type]
    logits = np.log(probabilities(model, x.reshape(-1, size)))
    wanted = calibrate(softmax(logits, axis=1).reshape(n, 3, 2).mean(axis=1), labels)
    assert found.n == n
    assert found.temperature == pytest.approx(wanted.temperature, rel=1e-3)
    assert found.ece_before == pytest.approx(wanted.ece_before, abs=1e-5)
