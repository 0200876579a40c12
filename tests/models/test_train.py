import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.preprocessing import StandardScaler

from genre_spark.corpora.splits import Scheme, read_split
from genre_spark.dataset.rows import tensors_of
from genre_spark.dataset.scaler import Scaler
from genre_spark.dataset.store import Dataset, open_dataset
from genre_spark.errors import DatasetError, ModelError, RunError, SplitError
from genre_spark.models.backend import keras
from genre_spark.models.bundle import load_bundle
from genre_spark.models.fitting import _warn_of_few_steps
from genre_spark.models.run import read_history, read_run_record
from genre_spark.models.train import train
from genre_spark.settings import ModelSettings, Settings


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


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Our warnings; TensorFlow has some of its own after many trainings in one process.

    That 7 validation tracks are too few for a calibration is so in each of these trainings.
    """
    ours = [record for record in caplog.records if record.name.startswith("genre_spark")]
    return [record.getMessage() for record in ours if record.name != "genre_spark.models.calibration"]


def test_a_run_folder_holds_record_split_history_and_bundle(run: Path) -> None:
    names = ["bundle", "history.csv", "leaks.parquet", "run.json", "split.parquet", "tensorboard", "train.log"]
    assert sorted(path.name for path in run.iterdir()) == names
    record = read_run_record(run)
    assert (record.model, record.feature, record.split) == ("dnn", "mfcc_mean", "study")
    assert record.labels == ["Folk", "Hip-Hop", "Rock"]
    assert record.tracks == {"training": 16, "validation": 7}
    # 80 x 256 + 256, 256 x 256 + 256, 256 x 3 + 3
    assert record.trainable_parameters == 20_736 + 65_792 + 771


def test_the_history_has_a_row_per_epoch(run: Path) -> None:
    history = read_history(run)
    assert history["epoch"] == [1, 2, 3]
    assert all(np.isfinite(values).all() for values in history.values())


def test_the_scaler_is_scikit_learns_over_the_training_part_alone(run: Path, dataset: Dataset) -> None:
    rows = tensors(dataset, "mfcc_mean")
    split = read_split(run / "split.parquet").to_pylist()
    training = np.stack([rows[row["track_id"]] for row in split if row["part"] == "training"])
    reference = StandardScaler().fit(training.astype(np.float64))
    scaler = Scaler.load(run / "bundle" / "scaler.npz")
    np.testing.assert_allclose(scaler.mean, reference.mean_, rtol=1e-6)
    np.testing.assert_allclose(scaler.variance, reference.var_, rtol=1e-6)
    everything = StandardScaler().fit(np.stack(list(rows.values())).astype(np.float64))
    assert np.abs(scaler.mean - everything.mean_).max() > 0.01


def test_the_best_epochs_validation_accuracy_is_that_of_the_saved_model(run: Path, dataset: Dataset) -> None:
    bundle = load_bundle(run / "bundle")
    rows = tensors(dataset, "mfcc_mean")
    validation = [row for row in read_split(run / "split.parquet").to_pylist() if row["part"] == "validation"]
    p = np.asarray(bundle.model.predict_on_batch(np.stack([rows[row["track_id"]] for row in validation])))
    hits = [bundle.description.labels[i] == row["genre"] for i, row in zip(p.argmax(axis=1), validation, strict=True)]
    history, best = read_history(run), read_run_record(run).best_epoch
    assert history["val_loss"][best - 1] == min(history["val_loss"])
    assert history["val_accuracy"][best - 1] == pytest.approx(np.mean(hits), abs=1e-6)


def test_the_same_seed_gives_the_same_run_and_another_seed_another(
    run: Path, dataset: Dataset, settings: Settings, tmp_path: Path
) -> None:
    train(dataset, "dnn", "study", tmp_path / "again", settings)
    np.testing.assert_allclose(read_history(tmp_path / "again")["loss"], read_history(run)["loss"], rtol=1e-5)
    other = settings.model_copy(update={"train": settings.train.model_copy(update={"seed": 1})})
    train(dataset, "dnn", "study", tmp_path / "other", other)
    assert not np.allclose(read_history(tmp_path / "other")["loss"], read_history(run)["loss"], rtol=1e-3)


def test_reading_each_epoch_from_disk_trains_on_the_same_tracks_without_a_word(
    dataset: Dataset, settings: Settings, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    uncached = settings.model_copy(update={"train": settings.train.model_copy(update={"cache_mb": 0})})
    record = train(dataset, "dnn", "study", tmp_path / "run", uncached)
    assert record.tracks == {"training": 16, "validation": 7}
    assert not said(caplog)


@pytest.mark.parametrize("model", ["cnn1d", "cnn2d"])
def test_the_convolutional_models_train_too_and_warn_of_few_steps_for_their_batch_norm(
    dataset: Dataset, settings: Settings, tmp_path: Path, caplog: pytest.LogCaptureFixture, model: str
) -> None:
    record = train(dataset, model, "artist", tmp_path / model, settings)
    assert set(record.tracks) == {"training", "validation", "test"}
    assert (tmp_path / model / "bundle" / "model.weights.h5").is_file()
    (message,) = said(caplog)
    assert message.startswith(f"1 training steps are few for BatchNorm (models.{model}.batch_norm_momentum=0.99 wants")


@pytest.mark.parametrize(
    ("momentum", "advice"),
    [(0.99, "set it to 0.9, or take more epochs or"), (0.9, "take more epochs or"), (0.5, "take more epochs or")],
)
def test_a_momentum_that_is_quick_already_is_not_to_be_set_again(
    caplog: pytest.LogCaptureFixture, momentum: float, advice: str
) -> None:
    model = keras.Sequential([keras.Input((4,)), keras.layers.BatchNormalization()], name="cnn1d")
    _warn_of_few_steps(model, ModelSettings(epochs=1, batch_norm_momentum=momentum), 1)
    (message,) = said(caplog)
    assert message.endswith(f"its statistics lag behind; {advice} a smaller batch_size")


def test_a_run_is_kept_unless_overwrite_is_said(run: Path, dataset: Dataset, settings: Settings) -> None:
    before = (run / "run.json").read_bytes()
    with pytest.raises(RunError, match="holds a run; replace it with --overwrite"):
        train(dataset, "dnn", "study", run, settings)
    assert (run / "run.json").read_bytes() == before


def test_a_training_that_is_stopped_leaves_the_run_that_it_was_to_replace(
    run: Path, dataset: Dataset, settings: Settings, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def stop(row: object) -> None:
        raise KeyboardInterrupt

    old = Path(shutil.copytree(run, tmp_path / "old"))
    with pytest.raises(KeyboardInterrupt):
        train(dataset, "dnn", "study", old, settings, overwrite=True, on_epoch=stop)
    assert load_bundle(old / "bundle").description.architecture == "dnn"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["old", "old.unfinished"]
    assert said(caplog) == [f"stopped after epoch 1; {old} is what it was, --resume goes on"]
    with pytest.raises(RunError, match=r"old\.unfinished: holds a training that was stopped; go on with --resume, or"):
        train(dataset, "dnn", "study", old, settings)
    train(dataset, "dnn", "artist", old, settings, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["old"]
    assert read_run_record(old).split == "artist"


def test_a_folder_that_holds_anything_else_is_never_replaced(
    run: Path, dataset: Dataset, settings: Settings, tmp_path: Path
) -> None:
    mine = Path(shutil.copytree(run, tmp_path / "mine"))
    (mine / "thesis.txt").write_text("mine")
    with pytest.raises(RunError, match=r"holds 'thesis\.txt', which is no part of a run"):
        train(dataset, "dnn", "study", mine, settings, overwrite=True)
    assert (mine / "thesis.txt").read_text() == "mine"


def test_what_a_killed_evaluation_left_behind_is_no_hindrance(
    run: Path, dataset: Dataset, settings: Settings, tmp_path: Path
) -> None:
    killed = Path(shutil.copytree(run, tmp_path / "run"))
    (killed / ".evaluation.0123abcd.partial").mkdir()
    train(dataset, "dnn", "study", killed, settings, overwrite=True)
    assert not list(killed.glob(".*"))


def test_a_run_says_how_many_tracks_name_no_artist(
    run: Path, dataset: Dataset, settings: Settings, tmp_path: Path
) -> None:
    assert read_run_record(run).leaks.tracks_without_artist == 0
    folder = Path(shutil.copytree(dataset.path, tmp_path / "dataset"))
    for file in (folder / "features").iterdir():
        table = pq.read_table(file)
        artists = [
            None if genre == "Rock" else artist
            for genre, artist in zip(table["genre"].to_pylist(), table["artist"].to_pylist(), strict=True)
        ]
        pq.write_table(
            table.set_column(table.column_names.index("artist"), "artist", pa.array(artists, pa.string())), file
        )
    record = train(open_dataset(folder), "dnn", "artist", tmp_path / "run", settings)
    assert record.leaks.tracks_without_artist == dataset.tracks()["genre"].to_pylist().count("Rock")


def test_a_run_tells_which_artists_stand_on_both_sides(run: Path, dataset: Dataset) -> None:
    artist_of = dict(zip(*(dataset.tracks()[name].to_pylist() for name in ("track_id", "artist")), strict=True))
    parts: dict[str, set[str]] = {}
    for row in read_split(run / "split.parquet").to_pylist():
        parts.setdefault(artist_of[row["track_id"]], set()).add(row["part"])
    crossing = {artist for artist, found in parts.items() if len(found) > 1}
    assert crossing
    leaks = read_run_record(run).leaks
    assert leaks.judged == "validation"
    assert leaks.kinds["artist"].crossing == len(crossing)
    rows = [row for row in pq.read_table(run / "leaks.parquet").to_pylist() if row["kind"] == "artist"]
    assert {row["value"] for row in rows} == crossing
    assert len(rows) == leaks.kinds["artist"].tracks


@pytest.mark.parametrize("scheme", ["artist", "artist-kfold"])
def test_a_run_on_whole_groups_of_tracks_tells_that_nothing_crosses(
    dataset: Dataset, settings: Settings, tmp_path: Path, scheme: Scheme
) -> None:
    three = settings.model_copy(update={"split": settings.split.model_copy(update={"folds": 3, "fold": 1})})
    record = train(dataset, "dnn", scheme, tmp_path / "run", three)
    assert set(record.tracks) == {"training", "validation", "test"}
    assert record.settings["split"]["fold"] == 1
    assert all(leak.crossing == 0 for leak in record.leaks.kinds.values())
    assert pq.read_table(tmp_path / "run" / "leaks.parquet").num_rows == 0


def test_a_training_that_diverges_says_what_to_lower(dataset: Dataset, settings: Settings, tmp_path: Path) -> None:
    dnn = settings.models.dnn.model_copy(update={"learning_rate": 1e30})
    wild = settings.model_copy(update={"models": settings.models.model_copy(update={"dnn": dnn})})
    with pytest.raises(ModelError, match=r"loss is (nan|inf) in epoch \d; lower models\.dnn\.learning_rate=1e\+30"):
        train(dataset, "dnn", "study", tmp_path / "run", wild)
    assert not list(tmp_path.iterdir())


def test_a_split_without_validation_tracks_is_named(dataset: Dataset, settings: Settings, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(dataset.path, tmp_path / "dataset"))
    for file in (folder / "features").iterdir():
        table = pq.read_table(file)
        parts = ["test" if part == "validation" else part for part in table["split"].to_pylist()]
        position = table.column_names.index("split")
        pq.write_table(table.set_column(position, "split", pa.array(parts, pa.string())), file)
    with pytest.raises(SplitError, match="the official split has no validation tracks; take another --split"):
        train(open_dataset(folder), "dnn", "official", tmp_path / "run", settings)


def test_an_unknown_model_is_named(dataset: Dataset, settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="unknown model 'resnet'"):
        train(dataset, "resnet", "study", tmp_path / "run", settings)


def test_a_dataset_without_the_models_feature_says_how_to_get_it(
    dataset: Dataset, settings: Settings, tmp_path: Path
) -> None:
    poor = Path(shutil.copytree(dataset.path, tmp_path / "poor"))
    manifest = json.loads((dataset.path / "extraction.json").read_text())
    manifest["specs"] = [spec for spec in manifest["specs"] if spec["name"] != "melgram"]
    (poor / "extraction.json").write_text(json.dumps(manifest))
    with pytest.raises(DatasetError, match="has no feature 'melgram'.*--features mfcc_mean,mfcc,melgram"):
        train(open_dataset(poor), "cnn2d", "study", tmp_path / "run", settings)
    assert not (tmp_path / "run").exists()
