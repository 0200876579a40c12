import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.calibration import calibration_curve
from sklearn.metrics import classification_report, confusion_matrix

from genre_spark.corpora.splits import read_split, split_digest, write_split
from genre_spark.dataset.scaler import Scaler
from genre_spark.dataset.store import Dataset, open_dataset
from genre_spark.errors import BundleError, DatasetError, RunError
from genre_spark.evaluation.confused import read_confused
from genre_spark.evaluation.judgement import judge_bundle, judge_run
from genre_spark.evaluation.score import evaluate, evaluate_bundle
from genre_spark.models.bundle import load_bundle, read_description, save_bundle
from genre_spark.models.calibration import Calibration
from genre_spark.models.predict import Prediction, predict_files
from genre_spark.models.run import read_run_record
from genre_spark.models.train import train
from genre_spark.settings import Settings
from tests.evaluation.known_answers import write_dataset


def predictions(run: Path) -> pd.DataFrame:
    return pd.read_parquet(run / "evaluation" / "predictions.parquet")


def metrics(run: Path) -> dict:
    return json.loads((run / "evaluation" / "metrics.json").read_text())


def test_every_track_of_the_dataset_is_predicted_once(run: Path, dataset: Dataset) -> None:
    assert sorted(predictions(run)["track_id"]) == dataset.tracks()["track_id"].to_pylist()


def test_predictions_tell_of_no_segments_where_there_are_none(run: Path) -> None:
    assert predictions(run)["segments"].isna().all()


def test_predictions_carry_the_splits_part_and_genre(run: Path) -> None:
    split = {row["track_id"]: (row["part"], row["genre"]) for row in read_split(run / "split.parquet").to_pylist()}
    for row in predictions(run).itertuples():
        assert (row.part, row.genre) == split[row.track_id]


def test_predictions_carry_the_artist_which_tells_what_is_right_or_wrong_together(run: Path, dataset: Dataset) -> None:
    artists = {row["track_id"]: row["artist"] for row in dataset.tracks().to_pylist()}
    table = predictions(run)
    assert table["artist"].tolist() == [artists[track_id] for track_id in table["track_id"]]


def test_the_confusion_matrix_is_scikit_learns_rows_true_columns_predicted(run: Path) -> None:
    judged = predictions(run).query("part == 'test'")
    found = metrics(run)
    assert found["part"] == "test"
    expected = confusion_matrix(judged["genre"], judged["predicted"], labels=found["labels"])
    np.testing.assert_array_equal(found["confusion"], expected)
    by_pandas = pd.read_csv(run / "evaluation" / "confusion.csv", index_col=0)
    np.testing.assert_array_equal(by_pandas.to_numpy(), expected)
    assert list(by_pandas.columns) == list(by_pandas.index) == found["labels"]


def test_the_figures_are_those_of_scikit_learns_report(run: Path) -> None:
    judged = predictions(run).query("part == 'test'")
    found = metrics(run)
    report = classification_report(
        judged["genre"], judged["predicted"], labels=found["labels"], output_dict=True, zero_division=0
    )
    assert found["n"] == len(judged)
    assert found["accuracy"] == pytest.approx((judged["genre"] == judged["predicted"]).mean())
    for genre, values in found["per_genre"].items():
        for name, other in {
            "precision": "precision",
            "recall": "recall",
            "f1": "f1-score",
            "support": "support",
        }.items():
            assert values[name] == pytest.approx(report[genre][other])


def test_each_part_has_its_accuracy(run: Path) -> None:
    table = predictions(run)
    for part, found in metrics(run)["parts"].items():
        rows = table[table["part"] == part]
        assert found == {"accuracy": pytest.approx((rows["genre"] == rows["predicted"]).mean()), "n": len(rows)}


def test_the_spark_job_and_predict_give_the_same_probabilities(run: Path, dataset: Dataset) -> None:
    uris = {row["track_id"]: row["uri"] for row in dataset.tracks().to_pylist()}
    table = predictions(run).head(6)
    answers = predict_files(load_bundle(run / "bundle"), [uris[track_id] for track_id in table["track_id"]])
    for row, answer in zip(table.itertuples(), answers, strict=True):
        assert isinstance(answer, Prediction)
        np.testing.assert_allclose(row.probabilities, list(answer.probabilities.values()), atol=1e-6)
        assert row.predicted == answer.genre


def test_the_bins_are_those_of_a_direct_count_on_the_predictions(run: Path) -> None:
    found = metrics(run)
    judged = predictions(run).query("part == 'test'")
    p = np.stack(judged["probabilities"])
    confidence, hits = p.max(axis=1).astype(np.float64), (judged["genre"] == judged["predicted"]).to_numpy()
    accuracy, mean = calibration_curve(hits, confidence, n_bins=15, strategy="uniform", pos_label=True)
    counts, edges = np.histogram(confidence, np.linspace(0, 1, 16))
    filled = counts > 0
    table = pd.DataFrame(found["reliability"])
    assert table["n"].tolist() == counts[filled].tolist()
    assert table["n"].sum() == found["n"]
    np.testing.assert_allclose(table["confidence"], mean, atol=1e-9)
    np.testing.assert_allclose(table["accuracy"], accuracy)
    np.testing.assert_allclose(table["low"], edges[:-1][filled])
    np.testing.assert_allclose(table["high"], edges[1:][filled])
    assert found["ece"] == pytest.approx((counts[filled] * np.abs(accuracy - mean)).sum() / counts.sum(), abs=1e-9)


def rewrite_bundle(folder: Path, changes: dict[str, object]) -> None:
    scaler, bundle = Scaler.load(folder / "scaler.npz"), load_bundle(folder)
    save_bundle(folder, bundle.model, scaler, bundle.description.model_copy(update=changes))


def warmed(run: Path, path: Path, **calibration: object) -> Path:
    """The same run, whose bundle has a calibration."""
    again = Path(shutil.copytree(run, path))
    chosen = Calibration.model_validate({"n": 100, "ece_before": 0.2, "ece_after": 0.1, **calibration})
    rewrite_bundle(again / "bundle", {"calibration": chosen})
    return again


def test_a_temperature_changes_the_probabilities_and_no_answer_in_the_job_and_in_predict_alike(
    run: Path, dataset: Dataset, spark: object, settings: Settings, tmp_path: Path
) -> None:
    warm = warmed(run, tmp_path / "run", temperature=2.0)
    found = evaluate(spark, warm, settings.evaluate)
    assert found["confusion"] == metrics(run)["confusion"]
    before, after = (predictions(path).set_index("track_id").sort_index() for path in (run, warm))
    assert before["predicted"].tolist() == after["predicted"].tolist()
    root = np.sqrt(np.stack(before["probabilities"]))
    np.testing.assert_allclose(np.stack(after["probabilities"]), root / root.sum(axis=1, keepdims=True), atol=1e-6)
    uris = {row["track_id"]: row["uri"] for row in dataset.tracks().to_pylist()}
    table = after.head(4)
    answers = predict_files(load_bundle(warm / "bundle"), [uris[track_id] for track_id in table.index])
    for row, answer in zip(table.itertuples(), answers, strict=True):
        assert isinstance(answer, Prediction)
        np.testing.assert_allclose(row.probabilities, list(answer.probabilities.values()), atol=1e-6)
        assert row.predicted == answer.genre


def test_the_confused_tracks_are_wrong_ones_of_the_judged_part_with_where_they_lie(run: Path, dataset: Dataset) -> None:
    judged = predictions(run).query("part == 'test'").set_index("track_id")
    labels, of_track = metrics(run)["labels"], {row["track_id"]: row for row in dataset.tracks().to_pylist()}
    found = read_confused(run)
    assert found is not None
    wrong = judged[judged["genre"] != judged["predicted"]]
    # There are few enough of them that all have a place.
    assert set(found["track_id"].to_pylist()) == set(wrong.index)
    for row in found.to_pylist():
        track, said = of_track[row["track_id"]], wrong.loc[row["track_id"]]
        assert (row["true"], row["predicted"]) == (said["genre"], said["predicted"])
        assert (row["uri"], row["artist"]) == (track["uri"], track["artist"])
        assert row["p_true"] == said["probabilities"][labels.index(said["genre"])]
        assert row["p_predicted"] == max(said["probabilities"])
    counts = pd.crosstab(wrong["genre"], wrong["predicted"])
    assert all(row["pair_count"] == counts.loc[row["true"], row["predicted"]] for row in found.to_pylist())


def test_few_artists_in_the_judged_part_are_counted_and_give_no_interval(run: Path, dataset: Dataset) -> None:
    judged = predictions(run).query("part == 'test'")["track_id"].tolist()
    artists = {row["artist"] for row in dataset.tracks().to_pylist() if row["track_id"] in judged}
    assert metrics(run)["artists"] == len(artists) < 10
    assert metrics(run)["accuracy_interval_by_artist"] is None


def with_parts(run: Path, path: Path, part_of: Callable[[str, str], str]) -> Path:
    """The same run, whose split has other parts; `part_of` gets the id of a track and its genre."""
    again = Path(shutil.copytree(run, path))
    split = read_split(run / "split.parquet")
    parts = [part_of(row["track_id"], row["genre"]) for row in split.to_pylist()]
    changed = split.set_column(2, split.schema.field(2), [parts])
    write_split(changed, again / "split.parquet")
    named = {"split_digest": split_digest(changed)}
    record = json.loads((again / "run.json").read_text()) | {"tracks": dict(Counter(parts))} | named
    (again / "run.json").write_text(json.dumps(record))
    rewrite_bundle(again / "bundle", named)
    return again


def test_a_test_part_of_one_genre_is_judged(run: Path, settings: Settings, spark: object, tmp_path: Path) -> None:
    genre = metrics(run)["labels"][1]
    again = with_parts(run, tmp_path / "run", lambda _, of: "test" if of == genre else "training")
    found = evaluate(spark, again, settings.evaluate)
    hits = predictions(run).query("genre == @genre and predicted == @genre")
    assert found["accuracy"] == found["per_genre"][genre]["recall"] == len(hits) / found["n"]
    others = [values for name, values in found["per_genre"].items() if name != genre]
    assert all(values["support"] == 0 and values["recall_interval"] == [0.0, 1.0] for values in others)


def test_a_test_part_of_one_track_is_judged(run: Path, settings: Settings, spark: object, tmp_path: Path) -> None:
    chosen = read_split(run / "split.parquet")["track_id"][0].as_py()
    again = with_parts(run, tmp_path / "run", lambda track_id, _: "test" if track_id == chosen else "training")
    found = evaluate(spark, again, settings.evaluate)
    assert found["n"] == 1
    assert found["accuracy_interval"][1] - found["accuracy_interval"][0] > 0.75


def test_tracks_are_cut_among_tasks_so_that_each_is_scored_once(
    run: Path, settings: Settings, spark: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    again = Path(shutil.copytree(run, tmp_path / "run"))
    # Of files with two or three row groups of four tracks, one becomes more slices than it has groups.
    monkeypatch.setattr("genre_spark.evaluation.scoring._BYTES_PER_TASK", 80 * 4 * 3)
    assert evaluate(spark, again, settings.evaluate) == metrics(run)


def test_a_bundle_that_is_held_against_its_own_dataset_is_said_to_know_it(
    run: Path, dataset: Dataset, settings: Settings, spark: object, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    found = evaluate_bundle(spark, run / "bundle", dataset.path, tmp_path / "out", settings.evaluate)
    n_training = metrics(run)["parts"]["training"]["n"]
    assert (
        f"of {found['n']} judged tracks, {n_training} have the track_id of one that the model was trained on"
        in caplog.text
    )
    assert found["heard"] == n_training
    assert found["n"] == sum(part["n"] for part in metrics(run)["parts"].values())
    assert found["unseen"] == {}
    hits = sum(part["accuracy"] * part["n"] for part in metrics(run)["parts"].values())
    assert found["accuracy"] == pytest.approx(hits / found["n"])


def test_single_tracks_of_the_training_in_another_dataset_are_counted(
    run: Path, dataset: Dataset, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The whole split is not there: its digest would say that this is another dataset."""
    split = {row["track_id"]: row["part"] for row in read_split(run / "split.parquet").to_pylist()}
    spec, chosen = dataset.spec("mfcc_mean"), dataset.tracks().slice(2, 9).to_pylist()
    heard = sum(split.get(track["track_id"]) == "training" for track in chosen)
    assert 0 < heard < 9
    tensors = np.zeros((9, *spec.shape), np.float32)
    other = write_dataset(tmp_path / "dataset", chosen, tensors, spec=spec)
    bundle, description = run / "bundle", read_description(run / "bundle")
    assert judge_bundle(bundle, description, other).heard == heard
    assert f"of 9 judged tracks, {heard} have the track_id of one that the model was trained on" in caplog.text
    caplog.clear()
    strangers = [track | {"track_id": f"other {number}"} for number, track in enumerate(chosen)]
    other = write_dataset(tmp_path / "strangers", strangers, tensors, spec=spec)
    assert judge_bundle(bundle, description, other).heard == 0
    assert not caplog.records
    alone = Path(shutil.copytree(bundle, tmp_path / "bundle"))
    assert judge_bundle(alone, description, other).heard is None, "without its run nobody knows"


def test_artists_are_artists_whatever_the_split_was_grouped_by(run: Path, dataset: Dataset, tmp_path: Path) -> None:
    record = json.loads((run / "run.json").read_text())
    for by in (["album", "pcm"], None):
        again = Path(shutil.copytree(run, tmp_path / f"grouped by {by}"))
        record["settings"]["split"]["group_by"] = by
        if by is None:
            del record["settings"]["split"]["group_by"]  # an earlier version's
        (again / "run.json").write_text(json.dumps(record))
        judged = judge_run(again, read_run_record(again), read_description(again / "bundle"), dataset, "test")
        assert judged.artists == metrics(run)["artists"]


def test_a_run_in_a_relative_path_and_a_moved_dataset_may_have_odd_names(
    run: Path, dataset: Dataset, settings: Settings, spark: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hadoop takes what stands before a colon for a file system, and brackets and stars for patterns."""
    moved = "12:30 [1] * ü"
    shutil.copytree(run, tmp_path / moved)
    elsewhere = Path(shutil.copytree(dataset.path, tmp_path / "data {a,b}"))
    monkeypatch.chdir(tmp_path)
    shutil.rmtree(f"{moved}/evaluation")
    assert evaluate(spark, Path(moved), settings.evaluate, dataset_path=elsewhere) == metrics(run)
    assert len(predictions(tmp_path / moved)) == len(predictions(run))


def test_the_confusion_matrix_comes_as_a_picture(run: Path) -> None:
    assert (run / "evaluation" / "confusion.png").read_bytes().startswith(b"\x89PNG")


def test_the_studys_split_has_no_test_part_and_is_judged_on_validation(
    dataset: Dataset, settings: Settings, spark: object, tmp_path: Path
) -> None:
    train(dataset, "dnn", "study", tmp_path / "run", settings)
    found = evaluate(spark, tmp_path / "run", settings.evaluate)
    assert found["part"] == "validation"
    assert set(found["parts"]) == {"training", "validation"}


def test_a_second_evaluation_replaces_the_first(run: Path, settings: Settings, spark: object, tmp_path: Path) -> None:
    again = Path(shutil.copytree(run, tmp_path / "run"))
    (again / "evaluation" / "metrics.json").write_text("{}")
    assert evaluate(spark, again, settings.evaluate) == metrics(run)
    assert not list(again.glob(".*"))


def test_a_run_that_was_never_finished_is_named(spark: object, settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="make one with `genre-spark train"):
        evaluate(spark, tmp_path / "nowhere", settings.evaluate)


def test_an_altered_bundle_is_refused(run: Path, settings: Settings, spark: object, tmp_path: Path) -> None:
    broken = Path(shutil.copytree(run, tmp_path / "run"))
    with (broken / "bundle" / "model.weights.h5").open("ab") as file:
        file.write(b"x")
    with pytest.raises(BundleError, match=r"model\.weights\.h5 is not the file that was written"):
        evaluate(spark, broken, settings.evaluate)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"split_digest": "0" * 16}, "its split is '0000000000000000', the run's '"),
        ({"architecture": "linear518"}, "its model is 'linear518', the run's 'dnn'"),
        ({"labels": ["a", "b", "c"]}, r"its labels is \['a', 'b', 'c'\], the run's \['Folk'"),
    ],
)
def test_the_bundle_of_another_run_is_refused(
    run: Path, dataset: Dataset, changes: dict[str, object], message: str
) -> None:
    """It may have been trained on the very tracks that this run kept back."""
    description = read_description(run / "bundle").model_copy(update=changes)
    with pytest.raises(RunError, match=f"bundle: is the bundle of another run: {message}"):
        judge_run(run, read_run_record(run), description, dataset, "test")


def test_another_split_than_the_runs_is_refused(run: Path, dataset: Dataset, tmp_path: Path) -> None:
    other = Path(shutil.copytree(run, tmp_path / "run"))
    split = read_split(run / "split.parquet")
    parts = split["part"].to_pylist()
    swapped = [*parts[1:], parts[0]]
    assert swapped != parts
    write_split(split.set_column(2, split.schema.field(2), [swapped]), other / "split.parquet")
    with pytest.raises(RunError, match=r"split\.parquet: is not the split that .* was trained on"):
        judge_run(other, read_run_record(other), read_description(other / "bundle"), dataset, "test")


def test_other_tracks_under_the_same_name_are_refused(
    run: Path, dataset: Dataset, settings: Settings, spark: object, tmp_path: Path
) -> None:
    other = Path(shutil.copytree(dataset.path, tmp_path / "dataset"))
    file = Path(open_dataset(other).files()[0])
    table = pq.read_table(file)
    signals = pa.array(["0" * 32, *table["pcm_hash"].to_pylist()[1:]])
    pq.write_table(
        table.set_column(table.schema.names.index("pcm_hash"), table.schema.field("pcm_hash"), signals), file
    )
    with pytest.raises(RunError, match="holds other tracks than .* was trained on, or others. audio; train again"):
        evaluate(spark, run, settings.evaluate, dataset_path=other)


def test_a_dataset_that_is_gone_is_named(run: Path, settings: Settings, spark: object, tmp_path: Path) -> None:
    moved = Path(shutil.copytree(run, tmp_path / "run"))
    record = json.loads((moved / "run.json").read_text()) | {"dataset": str(tmp_path / "gone")}
    (moved / "run.json").write_text(json.dumps(record))
    with pytest.raises(DatasetError, match="gone: no dataset .* was moved, say where it is with --dataset"):
        evaluate(spark, moved, settings.evaluate)
