"""A corpus cut into segments through all stages: extracted, trained on, evaluated, and predicted file by file."""

import json
import shutil
from dataclasses import asdict
from itertools import groupby
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from genre_spark.cli.predictions import print_predictions
from genre_spark.corpora.splits import read_split
from genre_spark.corpora.tracks import TRACK_SCHEMA, read_tracks
from genre_spark.dataset.extract import extract
from genre_spark.dataset.store import Dataset
from genre_spark.errors import DatasetError
from genre_spark.features import FeatureSpec, Segments, extract_file, resolve_specs
from genre_spark.models.bundle import Bundle, load_bundle
from genre_spark.models.predict import Failure, SegmentedPrediction, predict_files
from genre_spark.models.run import RunRecord, read_run_record
from genre_spark.settings import Settings, load_settings

STARTS_S = [0.0, 1.1, 2.2]  # the last segment ends behind the clip of 3 s


@pytest.fixture(scope="module")
def specs(tmp_path_factory: pytest.TempPathFactory) -> list[FeatureSpec]:
    file = tmp_path_factory.mktemp("conf") / "segments.yaml"
    file.write_text(
        "features:\n"
        "  mfcc_mean: {kind: mfcc, sample_rate: 22050, n_mfcc: 20, summary: mean,\n"
        "              segments: {count: 3, length_s: 1.2, overlap_s: 0.1}}\n"
    )
    return resolve_specs(["mfcc_mean"], load_settings([file], []).features)


@pytest.fixture(scope="module")
def dataset(
    spark: object, corpus: Path, specs: list[FeatureSpec], settings: Settings, tmp_path_factory: pytest.TempPathFactory
) -> Dataset:
    return extract(spark, read_tracks(corpus), specs, tmp_path_factory.mktemp("segments") / "dataset", settings)


@pytest.fixture(scope="module")
def run(spark: object, dataset: Dataset, settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from genre_spark.evaluation.score import evaluate
    from genre_spark.models.train import train

    path = tmp_path_factory.mktemp("runs") / "dnn"
    train(dataset, "dnn", "artist", path, settings)
    evaluate(spark, path, settings.evaluate.model_copy(update={"batch_size": 7}))
    return path


@pytest.fixture(scope="module")
def record(run: Path) -> RunRecord:
    return read_run_record(run)


@pytest.fixture(scope="module")
def bundle(run: Path) -> Bundle:
    return load_bundle(run / "bundle")


def predictions(run: Path) -> pd.DataFrame:
    return pd.read_parquet(run / "evaluation" / "predictions.parquet").sort_values("track_id", ignore_index=True)


def nested(column: pd.Series) -> np.ndarray:
    return np.array([[list(segment) for segment in track] for track in column], np.float32)


def test_an_empty_mapping_in_yaml_is_the_studys_six_segments_of_five_seconds(tmp_path: Path) -> None:
    file = tmp_path / "my.yaml"
    file.write_text("features: {mfcc_mean: {kind: mfcc, sample_rate: 22050, n_mfcc: 20, summary: mean, segments: {}}}")
    (spec,) = resolve_specs(["mfcc_mean"], load_settings([file], []).features)
    assert spec.segments == Segments(count=6, length_s=5.0, overlap_s=0.01)


def test_tracks_are_counted_as_tracks_and_rows_as_rows(dataset: Dataset, corpus: Path) -> None:
    assert dataset.manifest.counts == {"tracks": 24, "features": 23, "errors": 1, "rows": 69}
    assert dataset.tracks().schema.names == TRACK_SCHEMA.names
    everybody = [*dataset.tracks()["track_id"].to_pylist(), *dataset.errors()["track_id"].to_pylist()]
    assert sorted(everybody) == sorted(read_tracks(corpus)["track_id"].to_pylist())


def test_each_segment_is_a_row_with_the_bits_of_a_direct_call(dataset: Dataset, specs: list[FeatureSpec]) -> None:
    table = pd.concat(pd.read_parquet(file) for file in dataset.files())
    assert len(table) == 69
    for _, rows in table.groupby("track_id"):
        expected = extract_file(rows["uri"].iloc[0], specs)["mfcc_mean"]
        assert expected.shape == (3, 20)
        np.testing.assert_array_equal(np.stack(rows["mfcc_mean"]), expected)
        assert rows["segment"].tolist() == [0, 1, 2]
        np.testing.assert_allclose(rows["start_s"], STARTS_S)


def test_a_row_group_holds_whole_tracks_as_many_as_the_settings_say(dataset: Dataset) -> None:
    for file in dataset.files():
        with pq.ParquetFile(file) as parquet:
            groups = [parquet.read_row_group(n)["track_id"].to_pylist() for n in range(parquet.num_row_groups)]
        assert all(len(set(group)) == 4 for group in groups[:-1])
        for group in groups:
            assert {len(list(rows)) for _, rows in groupby(group)} == {3}
        assert len({track_id for group in groups for track_id in group}) == sum(map(len, groups)) // 3


def test_duckdb_finds_a_segment_by_its_start(dataset: Dataset) -> None:
    query = f"select count(*), min(segment), max(segment) from '{dataset.path}/features/*.parquet' where start_s > 1"
    with duckdb.connect() as connection:
        assert connection.execute(query).fetchone() == (46, 1, 2)


def test_features_cut_in_different_ways_are_refused_before_anything_is_computed(
    spark: object, corpus: Path, specs: list[FeatureSpec], settings: Settings, tmp_path: Path
) -> None:
    with pytest.raises(DatasetError, match="'mfcc_mean' has segments of 3 x 1.2 s .*, 'melgram' has no segments"):
        extract(spark, read_tracks(corpus), [*specs, *resolve_specs(["melgram"])], tmp_path / "d", settings)
    assert not list(tmp_path.iterdir())


def test_a_second_extraction_changes_nothing_and_other_segments_need_overwrite(
    spark: object, dataset: Dataset, corpus: Path, specs: list[FeatureSpec], settings: Settings
) -> None:
    before = [Path(file).stat().st_mtime_ns for file in dataset.files()]
    extract(spark, read_tracks(corpus), specs, dataset.path, settings)
    others = [specs[0].model_copy(update={"segments": Segments(count=2, length_s=1.2, overlap_s=0.1)})]
    with pytest.raises(DatasetError, match="another spec of 'mfcc_mean' .*replace it with --overwrite"):
        extract(spark, read_tracks(corpus), others, dataset.path, settings)
    assert [Path(file).stat().st_mtime_ns for file in dataset.files()] == before


def test_a_run_splits_and_counts_tracks(run: Path, record: RunRecord, dataset: Dataset) -> None:
    split = read_split(run / "split.parquet")
    assert sorted(split["track_id"].to_pylist()) == dataset.tracks()["track_id"].to_pylist()
    assert sum(record.tracks.values()) == 23
    # 20 x 256 + 256, 256 x 256 + 256, 256 x 3 + 3
    assert record.trainable_parameters == 5_376 + 65_792 + 771


def test_the_scaler_saw_every_segment_of_the_training_part(run: Path, record: RunRecord, dataset: Dataset) -> None:
    table = pd.concat(pd.read_parquet(file) for file in dataset.files())
    split = read_split(run / "split.parquet").to_pylist()
    training = {row["track_id"] for row in split if row["part"] == "training"}
    x = np.stack(table[table["track_id"].isin(training)]["mfcc_mean"]).astype(np.float64)
    with np.load(run / "bundle" / "scaler.npz") as scaler:
        assert scaler["n_samples"] == len(x) == 3 * record.tracks["training"]
        np.testing.assert_allclose(scaler["mean"], x.mean(axis=0), rtol=1e-5)
        np.testing.assert_allclose(scaler["variance"], x.var(axis=0), rtol=1e-5)


def test_a_track_is_one_prediction_the_mean_of_its_segments(run: Path, dataset: Dataset, bundle: Bundle) -> None:
    found = predictions(run)
    assert found["track_id"].tolist() == dataset.tracks()["track_id"].to_pylist()
    table = pd.concat(pd.read_parquet(file) for file in dataset.files()).sort_values(["track_id", "segment"])
    of_rows = bundle.model.predict(np.stack(table["mfcc_mean"]), verbose=0)
    expected = of_rows.reshape(23, 3, 3)
    np.testing.assert_allclose(nested(found["segments"]), expected, atol=1e-6)
    p = np.stack(found["probabilities"])
    np.testing.assert_allclose(p, sum(expected[:, segment] for segment in range(3)) / 3, atol=1e-6)
    assert found["predicted"].tolist() == [bundle.description.labels[genre] for genre in np.argmax(p, axis=1)]


def test_the_judgement_counts_tracks(run: Path, record: RunRecord) -> None:
    metrics = json.loads((run / "evaluation" / "metrics.json").read_text())
    found = predictions(run)
    judged = found[found["part"] == "test"]
    assert metrics["n"] == len(judged) == record.tracks["test"]
    assert {part: values["n"] for part, values in metrics["parts"].items()} == record.tracks
    assert metrics["accuracy"] == pytest.approx((judged["genre"] == judged["predicted"]).mean())


def test_the_size_of_the_batches_changes_no_prediction(
    run: Path, spark: object, settings: Settings, tmp_path: Path
) -> None:
    from genre_spark.evaluation.score import evaluate

    again = Path(shutil.copytree(run, tmp_path / "run"))
    evaluate(spark, again, settings.evaluate.model_copy(update={"batch_size": 1}))
    one, two = predictions(run), predictions(again)
    np.testing.assert_allclose(nested(one["segments"]), nested(two["segments"]), atol=1e-6)
    assert one["predicted"].tolist() == two["predicted"].tolist()


def test_predict_says_of_a_file_what_evaluation_says_of_the_track(
    run: Path, dataset: Dataset, bundle: Bundle, tmp_path: Path
) -> None:
    uris = dataset.tracks()["uri"].to_pylist()[:5]
    bad = tmp_path / "bad.mp3"
    bad.write_bytes(b"no audio" * 100)
    *results, failure = predict_files(bundle, [*uris, bad], batch_size=7)
    assert isinstance(failure, Failure)
    for row, result in zip(predictions(run).itertuples(), results, strict=False):
        assert isinstance(result, SegmentedPrediction)
        assert result.genre == row.predicted
        np.testing.assert_allclose(list(result.probabilities.values()), row.probabilities, atol=1e-6)
        for segment, start_s, p in zip(result.segments, STARTS_S, row.segments, strict=True):
            assert segment.start_s == pytest.approx(start_s)
            assert list(segment.probabilities) == bundle.description.labels
            np.testing.assert_allclose(list(segment.probabilities.values()), p, atol=1e-6)


def test_the_answer_in_json_tells_the_segments_too(
    dataset: Dataset, bundle: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    results = list(predict_files(bundle, dataset.tracks()["uri"].to_pylist()[:1]))
    print_predictions(results, "json")
    (answer,) = json.loads(capsys.readouterr().out)
    assert answer == asdict(results[0])
    assert list(answer) == ["path", "genre", "probabilities", "segments"]
    assert [list(segment) for segment in answer["segments"]] == [["start_s", "probabilities"]] * 3
    for form in ("csv", "table"):
        print_predictions(results, form)
        assert answer["genre"] in capsys.readouterr().out
