"""Ways to train that the settings offer, and data that can't be trained on."""

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from genre_spark.corpora.splits import make_split, read_split, split_digest
from genre_spark.dataset.rows import tensors_of
from genre_spark.dataset.scaler import Scaler, fitted_file, save_fitted
from genre_spark.dataset.scaler_job import fit_scalers
from genre_spark.dataset.store import Dataset, open_dataset
from genre_spark.errors import BundleError, FeedError, ModelError, SplitError
from genre_spark.models.bundle import load_bundle
from genre_spark.models.run import read_history
from genre_spark.models.train import train
from genre_spark.settings import Settings


@pytest.fixture(scope="module")
def run(dataset: Dataset, settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runs") / "dnn"
    train(dataset, "dnn", "study", path, settings)
    return path


def tensors(dataset: Dataset, feature: str) -> dict[str, np.ndarray]:
    rows = {}
    for file in dataset.files():
        table = pq.read_table(file, columns=["track_id", feature])
        rows |= dict(zip(table["track_id"].to_pylist(), tensors_of(table[feature], dataset.spec(feature)), strict=True))
    return rows


def changed(settings: Settings, **train: object) -> Settings:
    return settings.model_copy(update={"train": settings.train.model_copy(update=train)})


def without(dataset: Dataset, folder: Path, name: str, of: list[str]) -> Dataset:
    """A copy of the dataset whose column is computed anew from each row's genre and split."""
    copy = Path(shutil.copytree(dataset.path, folder))
    for file in (copy / "features").iterdir():
        table = pq.read_table(file)
        column = pa.array([of[0] if genre == of[1] else part for genre, part in zip(
            table["genre"].to_pylist(), table[name].to_pylist(), strict=True)], pa.string())  # fmt: skip
        pq.write_table(table.set_column(table.column_names.index(name), name, column), file)
    return open_dataset(copy)


def test_a_genre_without_training_tracks_is_named(dataset: Dataset, settings: Settings, tmp_path: Path) -> None:
    poor = without(dataset, tmp_path / "dataset", "split", ["validation", "Rock"])
    with pytest.raises(SplitError, match="genre 'Rock' has no training tracks in the official split; take another"):
        train(poor, "dnn", "official", tmp_path / "run", settings)
    assert not (tmp_path / "run.unfinished").exists()


def test_a_nan_among_the_tensors_names_its_track_and_leaves_nothing(
    dataset: Dataset, settings: Settings, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(dataset.path, tmp_path / "dataset"))
    file = min((copy / "features").iterdir())
    table = pq.read_table(file)
    values = table["mfcc_mean"].combine_chunks()
    rotten = values.to_pylist()
    rotten[0][3] = float("nan")
    column = pa.array(rotten, table.schema.field("mfcc_mean").type)
    position = table.column_names.index("mfcc_mean")
    pq.write_table(table.set_column(position, table.schema.field("mfcc_mean"), column), file)
    with pytest.raises(FeedError, match=r"'mfcc_mean' of track .* holds NaN or infinity; extract the dataset again"):
        train(open_dataset(copy), "dnn", "study", tmp_path / "run", settings)
    assert [path.name for path in tmp_path.iterdir()] == ["dataset"]


def test_a_batch_may_be_larger_than_its_part(dataset: Dataset, settings: Settings, tmp_path: Path) -> None:
    dnn = settings.models.dnn.model_copy(update={"batch_size": 1_000})
    large = settings.model_copy(update={"models": settings.models.model_copy(update={"dnn": dnn})})
    assert train(dataset, "dnn", "study", tmp_path / "run", large).epochs_run == 3


def test_a_training_ends_early_with_the_best_weights_and_says_so(
    dataset: Dataset, settings: Settings, tmp_path: Path
) -> None:
    dnn = settings.models.dnn.model_copy(update={"learning_rate": 0.3, "epochs": 40})
    restless = settings.model_copy(update={"models": settings.models.model_copy(update={"dnn": dnn})})
    restless = changed(restless, early_stopping_patience=2, schedule="constant")
    record = train(dataset, "dnn", "study", tmp_path / "run", restless)
    history = read_history(tmp_path / "run")
    assert record.epochs_run == len(history["epoch"]) == record.best_epoch + 2 < record.epochs == 40
    assert history["val_loss"].index(min(history["val_loss"])) + 1 == record.best_epoch
    assert not record.interrupted


def test_the_log_has_a_line_per_epoch_and_no_control_characters(run: Path) -> None:
    text = (run / "train.log").read_text(encoding="utf-8")
    assert [line.split()[2] for line in text.splitlines() if line.split()[1] == "epoch"] == ["1/3", "2/3", "3/3"]
    assert all(character.isprintable() or character == "\n" for character in text)


def test_tensors_on_the_device_give_the_history_of_the_feed(
    run: Path, dataset: Dataset, settings: Settings, tmp_path: Path
) -> None:
    train(dataset, "dnn", "study", tmp_path / "run", changed(settings, on_device="on"))
    for name in ("loss", "accuracy", "val_loss", "val_accuracy"):
        np.testing.assert_allclose(read_history(tmp_path / "run")[name], read_history(run)[name], rtol=1e-5)


@pytest.mark.parametrize(("name", "precision"), [("dnn", "mixed_bfloat16"), ("cnn1d", "mixed_bfloat16")])
def test_mixed_precision_leaves_a_bundle_of_32_bits_that_judges_alike(
    dataset: Dataset, settings: Settings, tmp_path: Path, name: str, precision: str
) -> None:
    record = train(dataset, name, "study", tmp_path / "run", changed(settings, mixed_precision="on"))
    assert record.precision == precision
    bundle = load_bundle(tmp_path / "run" / "bundle")
    assert {weight.dtype for weight in bundle.model.weights} == {"float32"}
    rows = tensors(dataset, record.feature)
    split = read_split(tmp_path / "run" / "split.parquet").to_pylist()
    validation = [row for row in split if row["part"] == "validation"]
    p = np.asarray(bundle.model.predict_on_batch(np.stack([rows[row["track_id"]] for row in validation])))
    truth = [record.labels.index(row["genre"]) for row in validation]
    loss = -np.log(p[np.arange(len(truth)), truth]).mean()
    history = read_history(tmp_path / "run")
    # What Keras reports holds the L2 regulariser too.
    penalty = sum(float(np.asarray(extra)) for extra in bundle.model.losses)
    assert history["val_loss"][record.best_epoch - 1] == pytest.approx(loss + penalty, rel=0.05)


def test_too_little_memory_names_the_model_and_what_to_lower(
    dataset: Dataset, settings: Settings, tmp_path: Path
) -> None:
    def exhaust(row: object) -> None:
        raise MemoryError

    with pytest.raises(
        ModelError, match=r"model dnn: .*memory is too small for batches of 8; lower models\.dnn\.batch_"
    ):
        train(dataset, "dnn", "study", tmp_path / "run", settings, on_epoch=exhaust)


def test_a_scaler_that_was_fitted_before_is_taken_and_one_of_another_kind_or_split_refused(
    spark: object, dataset: Dataset, settings: Settings, tmp_path: Path
) -> None:
    split = make_split(dataset.tracks(), "study", settings.split)
    ids = [row["track_id"] for row in split.to_pylist() if row["part"] == "training"]
    spec = dataset.spec("mfcc")
    for per in ("band", "cell"):
        (scaler,) = fit_scalers(spark, dataset, ids, features=["mfcc"], per=per).values()
        save_fitted(fitted_file(tmp_path / per, "mfcc"), scaler, spec, split_digest(split))
        chosen = changed(settings, standardise=per, scaler=tmp_path / per)
        train(dataset, "cnn1d", "study", tmp_path / f"run-{per}", chosen)
        taken = Scaler.load(tmp_path / f"run-{per}" / "bundle" / "scaler.npz")
        np.testing.assert_array_equal(taken.mean, scaler.mean)
        assert taken.mean.shape == (spec.shape if per == "cell" else spec.shape[:1])
        fitted = train(dataset, "cnn1d", "study", tmp_path / f"fitted-{per}", changed(settings, standardise=per))
        again = Scaler.load(tmp_path / f"fitted-{per}" / "bundle" / "scaler.npz")
        np.testing.assert_allclose(again.mean, scaler.mean, rtol=1e-6, atol=1e-6)
        assert fitted.model == "cnn1d"
    with pytest.raises(BundleError, match="cell"):
        train(dataset, "cnn1d", "study", tmp_path / "x", changed(settings, scaler=tmp_path / "cell"))
    with pytest.raises(BundleError, match="split"):
        train(dataset, "cnn1d", "artist", tmp_path / "x", changed(settings, scaler=tmp_path / "band"))
