from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from genre_spark.corpora.tracks import read_tracks
from genre_spark.dataset.progress import Progress
from genre_spark.dataset.scaler import Scaler
from genre_spark.dataset.store import Dataset
from genre_spark.errors import BundleError, DatasetError
from genre_spark.filesystems import local_path
from genre_spark.models.bundle import load_bundle, save_bundle
from genre_spark.models.calibration import Calibration
from genre_spark.models.library import PREDICTION_SCHEMA, predict_library
from genre_spark.models.predict import Failure, Prediction, predict_files
from genre_spark.settings import Settings


@pytest.fixture(scope="module")
def predictions(
    spark: object, run: Path, corpus: Path, settings: Settings, tmp_path_factory: pytest.TempPathFactory
) -> Dataset:
    return predict_library(spark, corpus, run / "bundle", tmp_path_factory.mktemp("library") / "predictions", settings)


def rows(predictions: Dataset) -> dict[str, dict]:
    table = pa.concat_tables(pq.read_table(file) for file in predictions.files())
    return {row["track_id"]: row for row in table.to_pylist()}


def test_every_track_of_the_library_is_one_prediction_or_one_error_row(predictions: Dataset, corpus: Path) -> None:
    ids = [*rows(predictions), *predictions.errors()["track_id"].to_pylist()]
    assert sorted(ids) == read_tracks(corpus)["track_id"].to_pylist()
    assert predictions.manifest.counts == {"tracks": 24, "features": 23, "errors": 1, "rows": 23}


def test_the_job_predicts_what_predict_does_with_the_same_files(predictions: Dataset, run: Path, corpus: Path) -> None:
    bundle = load_bundle(run / "bundle")
    found = rows(predictions)
    tracks = read_tracks(corpus)
    paths = [local_path(uri, DatasetError) for uri in tracks["uri"].to_pylist()]
    answers = dict(zip(tracks["track_id"].to_pylist(), predict_files(bundle, paths), strict=True))
    assert sum(isinstance(answer, Failure) for answer in answers.values()) == 1
    for track_id, answer in answers.items():
        if isinstance(answer, Prediction):
            assert found[track_id]["predicted"] == answer.genre
            p = [answer.probabilities[label] for label in predictions.manifest.predictor.labels]
            # Batches of another size may add up in another order.
            np.testing.assert_allclose(found[track_id]["probabilities"], p, atol=1e-6)


def test_the_job_gives_calibrated_probabilities_as_predict_does(
    predictions: Dataset, spark: object, run: Path, corpus: Path, settings: Settings, tmp_path: Path
) -> None:
    bundle = load_bundle(run / "bundle")
    calibration = Calibration(temperature=3.0, n=100, ece_before=0.2, ece_after=0.1)
    description = bundle.description.model_copy(update={"calibration": calibration})
    save_bundle(tmp_path / "bundle", bundle.model, Scaler.load(run / "bundle" / "scaler.npz"), description)
    tracks = read_tracks(corpus).slice(10, 3)
    warm = rows(predict_library(spark, tracks, tmp_path / "bundle", tmp_path / "p", settings))
    paths = [local_path(uri, DatasetError) for uri in tracks["uri"].to_pylist()]
    answers = predict_files(load_bundle(tmp_path / "bundle"), paths)
    for track_id, answer in zip(tracks["track_id"].to_pylist(), answers, strict=True):
        assert isinstance(answer, Prediction)
        np.testing.assert_allclose(warm[track_id]["probabilities"], list(answer.probabilities.values()), atol=1e-6)
        raw = np.cbrt(rows(predictions)[track_id]["probabilities"])
        np.testing.assert_allclose(warm[track_id]["probabilities"], raw / raw.sum(), atol=1e-6)
        assert warm[track_id]["predicted"] == rows(predictions)[track_id]["predicted"] == answer.genre


def test_columns_are_those_of_the_schema_and_name_the_track(predictions: Dataset, corpus: Path) -> None:
    assert pq.read_schema(predictions.files()[0]).equals(PREDICTION_SCHEMA)
    artists = dict(zip(*read_tracks(corpus).select(["track_id", "artist"]).to_pydict().values(), strict=True))
    assert all(row["artist"] == artists[track_id] for track_id, row in rows(predictions).items())


def test_only_new_tracks_are_predicted_the_next_time(
    spark: object, run: Path, corpus: Path, settings: Settings, tmp_path: Path
) -> None:
    tracks = read_tracks(corpus)
    predict_library(spark, tracks.slice(10, 6), run / "bundle", tmp_path / "p", settings)
    told: list[Progress] = []
    again = predict_library(
        spark, tracks.slice(10, 8), run / "bundle", tmp_path / "p", settings, on_progress=told.append
    )
    assert told[-1].done == 2
    assert sorted(rows(again)) == tracks["track_id"].to_pylist()[10:18]


def test_another_models_predictions_are_never_mixed_with_these(
    predictions: Dataset, spark: object, run: Path, corpus: Path, settings: Settings, tmp_path: Path
) -> None:
    from genre_spark.models.train import train

    other = settings.model_copy(update={"train": settings.train.model_copy(update={"seed": 5})})
    from genre_spark.dataset.store import open_dataset
    from genre_spark.models.run import read_run_record

    train(open_dataset(read_run_record(run).dataset), "dnn", "artist", tmp_path / "other", other)
    with pytest.raises(DatasetError, match=r"holds predictions of another model \(\w+\); .* --overwrite"):
        predict_library(spark, corpus, tmp_path / "other" / "bundle", predictions.path, settings)


def test_predictions_are_no_features_and_features_no_predictions(
    predictions: Dataset, dataset: Dataset, spark: object, run: Path, corpus: Path, settings: Settings
) -> None:
    with pytest.raises(DatasetError, match="holds predictions, no features"):
        predictions.spec("mfcc_mean")
    with pytest.raises(DatasetError, match="holds features; take another folder"):
        predict_library(spark, corpus, run / "bundle", dataset.path, settings)


def test_what_is_no_bundle_is_refused_before_anything_is_written(
    spark: object, corpus: Path, settings: Settings, tmp_path: Path
) -> None:
    (tmp_path / "bundle").mkdir()
    with pytest.raises(BundleError, match="no bundle"):
        predict_library(spark, corpus, tmp_path / "bundle", tmp_path / "p", settings)
    assert not (tmp_path / "p").exists()
