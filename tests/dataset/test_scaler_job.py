"""The scalers that Spark fits, against scikit-learn's and against those of a feed."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.preprocessing import StandardScaler
from typer.testing import CliRunner

from genre_spark.cli import app
from genre_spark.corpora.splits import SPLIT_SCHEMA, make_split, read_split, split_digest, write_split
from genre_spark.dataset import scaler_job
from genre_spark.dataset.feed import open_feed
from genre_spark.dataset.rows import feature_schema
from genre_spark.dataset.scaler import fit_scaler, load_fitted
from genre_spark.dataset.scaler_job import fit_scalers
from genre_spark.errors import DatasetError
from genre_spark.features import Segments

LAYOUT = [[6, 9], [5], [3], [1, 1], [10, 5]]
SEGMENTS = Segments(count=3, length_s=0.1)
TRAINING = [number for number in range(40) if number % 3]


def features(number, spec):
    """Rows of very different levels and spreads, like MFCCs; row 1 is constant."""
    x = np.random.default_rng(number).normal(size=spec.shape)
    rows = (slice(None), *[None] * (len(spec.shape) - 1))
    scale = np.array([1e-3, 0, 30, 7])[: spec.shape[0]]
    level = np.array([500, 0.1, -200, 3])[: spec.shape[0]]
    return (level[rows] + scale[rows] * x).astype(np.float32)


def loud(number, spec):
    return features(number, spec) + np.float32(0 if number in TRAINING else 1e6)


@pytest.fixture(scope="module")
def dataset(small_datasets):
    return small_datasets.write(LAYOUT, tensor=features)


def ids(small_datasets, numbers=TRAINING):
    return [small_datasets.track_id(number) for number in numbers]


def reference(spec, per, numbers):
    tensors = np.stack([features(number, spec) for number in numbers]).astype(np.float64)
    if per == "band" and tensors.ndim == 3:
        tensors = np.moveaxis(tensors, 1, -1).reshape(-1, spec.shape[0])
    return StandardScaler().fit(tensors.reshape(len(tensors), -1))


@pytest.mark.parametrize("per", ["band", "cell"])
def test_all_features_are_fitted_in_one_job_as_scikit_learn_would(spark, dataset, small_datasets, per):
    scalers = fit_scalers(spark, dataset, ids(small_datasets), per=per)
    assert list(scalers) == ["melgram", "melgram_mean"]
    for name, scaler in scalers.items():
        spec = dataset.spec(name)
        wanted = reference(spec, per, TRAINING)
        np.testing.assert_allclose(scaler.mean.reshape(-1), wanted.mean_, rtol=1e-6)
        np.testing.assert_allclose(scaler.variance.reshape(-1), wanted.scale_**2, rtol=1e-6)
        assert scaler.n_samples == wanted.n_samples_seen_
        assert scaler.mean.shape == (spec.shape if per == "cell" else spec.shape[:1])


@pytest.mark.parametrize("segments", [None, SEGMENTS], ids=["clips", "segments"])
@pytest.mark.parametrize("per", ["band", "cell"])
def test_a_feed_gives_the_same_scaler(spark, small_datasets, per, segments):
    dataset = small_datasets.write(LAYOUT, tensor=features, segments=segments)
    scalers = fit_scalers(spark, dataset, ids(small_datasets), per=per)
    for name, scaler in scalers.items():
        with open_feed(dataset, name, dict.fromkeys(ids(small_datasets), 0), batch_size=4, seed=1) as feed:
            of_feed = fit_scaler(feed, per)
        np.testing.assert_allclose(scaler.mean, of_feed.mean, rtol=3e-7)
        np.testing.assert_allclose(scaler.variance, of_feed.variance, rtol=3e-7)
        assert scaler.n_samples == of_feed.n_samples


def bits(scalers):
    return {name: (scaler.mean.tobytes(), scaler.variance.tobytes()) for name, scaler in scalers.items()}


@pytest.mark.parametrize("per", ["band", "cell"])
def test_tracks_of_other_parts_change_not_a_bit(spark, dataset, small_datasets, per):
    other = small_datasets.write(LAYOUT, tensor=loud)
    first, second = (fit_scalers(spark, each, ids(small_datasets), per=per) for each in (dataset, other))
    assert bits(first) == bits(second)


@settings(max_examples=8)
@given(numbers=st.sets(st.integers(0, 39), min_size=1), seed=st.randoms())
def test_any_training_part_in_any_order_is_fitted_as_scikit_learn_would(numbers, seed, spark, dataset, small_datasets):
    chosen = ids(small_datasets, numbers)
    seed.shuffle(chosen)
    scaler = fit_scalers(spark, dataset, chosen, features=["melgram"])["melgram"]
    wanted = reference(dataset.spec("melgram"), "band", sorted(numbers))
    np.testing.assert_allclose(scaler.mean, wanted.mean_, rtol=1e-6)
    np.testing.assert_allclose(scaler.variance, wanted.scale_**2, rtol=1e-6)


def one_after_the_other(spark, work, items, what, on_done=None):
    return [work(item) for item in items]


def test_the_number_of_tasks_that_work_at_once_changes_not_a_bit(spark, dataset, small_datasets, monkeypatch):
    wanted = bits(fit_scalers(spark, dataset, ids(small_datasets)))
    monkeypatch.setattr(scaler_job, "run_tasks", one_after_the_other)
    assert bits(fit_scalers(spark, dataset, ids(small_datasets))) == wanted


def test_few_tasks_take_several_files_where_results_are_large(spark, dataset, small_datasets, monkeypatch):
    whole = fit_scalers(spark, dataset, ids(small_datasets), per="cell")
    monkeypatch.setattr(scaler_job, "_TASKS_PER_CELL", 2)
    grouped = fit_scalers(spark, dataset, ids(small_datasets), per="cell")
    for name in whole:
        np.testing.assert_allclose(grouped[name].variance, whole[name].variance, rtol=3e-7)


def test_what_is_done_is_told(spark, dataset, small_datasets):
    told = []
    fit_scalers(spark, dataset, ids(small_datasets), on_tracks=told.append)
    assert told[-1] == len(TRAINING)


# -- what is refused --------------------------------------------------------------------------------------------------


def test_a_track_that_the_dataset_lacks_is_named(spark, dataset, small_datasets):
    with pytest.raises(DatasetError, match=r"1 of 2 tracks have no features, among them 'nobody'; make the split"):
        fit_scalers(spark, dataset, [small_datasets.track_id(0), "nobody"])


def test_no_tracks_at_all_are_refused(spark, dataset):
    with pytest.raises(DatasetError, match="no track is asked for"):
        fit_scalers(spark, dataset, [])


def test_a_feature_that_the_dataset_lacks_is_named(spark, dataset, small_datasets):
    with pytest.raises(DatasetError, match="has no feature 'chroma'"):
        fit_scalers(spark, dataset, ids(small_datasets), features=["chroma"])


def test_a_track_that_stands_there_twice_is_named(spark, small_datasets):
    broken = small_datasets.write([[2], [3]], tensor=features)
    first, second = broken.files()
    pq.write_table(pa.concat_tables([pq.read_table(second), pq.read_table(first)]), second)
    with pytest.raises(DatasetError, match=r"track 'track 0001 ö' stands there twice"):
        fit_scalers(spark, broken, ids(small_datasets, [1, 2]))


@pytest.mark.parametrize("per", ["band", "cell"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_tensor_that_is_not_finite_is_named_with_file_and_track(spark, small_datasets, value, per, monkeypatch):
    if not np.isnan(value) or per == "cell":  # Spark tries each task again; that errors come through is seen once
        monkeypatch.setattr(scaler_job, "run_tasks", one_after_the_other)

    def tensor(number, spec):
        x = features(number, spec)
        x[-1] = value if number == 4 and spec.name == "melgram_mean" else x[-1]
        return x

    broken = small_datasets.write(LAYOUT, tensor=tensor)
    message = r"part-00000\.parquet: feature 'melgram_mean' of track 'track 0004 ö' holds NaN or infinity"
    with pytest.raises(DatasetError, match=message) as refusal:
        fit_scalers(spark, broken, ids(small_datasets), per=per)
    assert "\n" not in str(refusal.value)


def test_a_missing_column_a_ragged_tensor_and_a_damaged_file_are_named(spark, small_datasets, monkeypatch):
    monkeypatch.setattr(scaler_job, "run_tasks", one_after_the_other)

    def refused(change, message):
        broken = small_datasets.write([[3]], tensor=features)
        (file,) = broken.files()
        change(file)
        with pytest.raises(DatasetError, match=message) as refusal:
            fit_scalers(spark, broken, ids(small_datasets, [1]))
        assert "\n" not in str(refusal.value)

    def ragged(file):
        table = pq.read_table(file)
        column = pa.array([[1.0]] * 3, feature_schema(small_datasets.write([[1]]).manifest.specs).field("melgram").type)
        pq.write_table(table.set_column(table.schema.get_field_index("melgram"), "melgram", column), file)

    def cut(file):
        Path(file).write_bytes(Path(file).read_bytes()[:2_000])

    refused(lambda file: pq.write_table(pq.read_table(file).drop(["melgram"]), file), r"column 'melgram' is missing")
    refused(ragged, r"part-00000\.parquet: column 'melgram' has rows that are not of shape \(3, 5\)")
    refused(cut, r"part-00000\.parquet: can't be read")


# -- the command ------------------------------------------------------------------------------------------------------


def test_the_command_writes_a_file_per_feature_that_training_can_trust(
    spark, dataset, small_datasets, tmp_path, settings
):
    out = tmp_path / "scalers"
    arguments = ["fit-scaler", "--dataset", str(dataset.path), "--split", "study", "--out", str(out)]
    answer = CliRunner().invoke(app, arguments)
    assert answer.exit_code == 0, answer.output
    split = make_split(dataset.tracks(), "study", settings.split)
    assert split_digest(split) in answer.output
    training = [row["track_id"] for row in split.to_pylist() if row["part"] == "training"]
    wanted = fit_scalers(spark, dataset, training)
    for name in ("melgram", "melgram_mean"):
        scaler = load_fitted(out, dataset.spec(name), split_digest(split), "band")
        assert scaler.mean.tobytes() == wanted[name].mean.tobytes()
    again = CliRunner().invoke(app, arguments)
    assert again.exit_code == 1
    assert "melgram.npz: exists; replace it with --overwrite" in again.output


def test_the_command_takes_a_split_file_and_some_features(spark, dataset, small_datasets, tmp_path):
    rows = [
        {"track_id": small_datasets.track_id(number), "genre": "Folk", "part": "training" if number % 3 else "test"}
        for number in range(40)
    ]
    write_split(pa.Table.from_pylist(rows, SPLIT_SCHEMA), tmp_path / "split.parquet")
    arguments = ["--split", str(tmp_path / "split.parquet"), "--out", str(tmp_path / "scalers"), "--per", "cell"]
    answer = CliRunner().invoke(
        app, ["fit-scaler", "--dataset", str(dataset.path), "--features", "melgram", *arguments]
    )
    assert answer.exit_code == 0, answer.output
    assert [file.name for file in (tmp_path / "scalers").iterdir()] == ["melgram.npz"]
    digest = split_digest(read_split(tmp_path / "split.parquet"))
    scaler = load_fitted(tmp_path / "scalers", dataset.spec("melgram"), digest, "cell")
    with np.load(tmp_path / "scalers" / "melgram.npz", allow_pickle=False) as stored:
        assert json.loads(str(stored["fitted_on"]))["split_digest"] == digest
    assert scaler.n_samples == len(TRAINING)


def test_the_command_refuses_what_is_neither_scheme_nor_file(dataset, tmp_path):
    arguments = ["fit-scaler", "--dataset", str(dataset.path), "--split", "random", "--out", str(tmp_path / "out")]
    answer = CliRunner().invoke(app, arguments)
    assert answer.exit_code == 1
    assert "random: no split file, and no scheme; known are study" in answer.output
