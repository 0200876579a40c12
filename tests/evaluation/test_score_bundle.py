"""A bundle held against datasets that it was not trained on; what has to come out is worked out without a model."""

import json
import shutil
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import classification_report, confusion_matrix

from genre_spark.dataset.store import Dataset
from genre_spark.errors import DatasetError, RunError
from genre_spark.evaluation.confused import read_confused
from genre_spark.evaluation.judgement import judge_bundle
from genre_spark.evaluation.metrics_file import read_evaluation, read_metrics
from genre_spark.evaluation.report import build_report
from genre_spark.evaluation.score import check_out, evaluate_bundle
from genre_spark.features.spec import Segments
from genre_spark.models.bundle import read_description
from genre_spark.settings import EvaluateSettings
from tests.evaluation.known_answers import softmax, spec_of, write_bundle, write_dataset

# "Polka" never occurs, and nothing is taken for "Ska": a genre may be never true or never predicted.
LABELS = ["Folk", "Pop", "Rock", "Polka", "Ska"]
UNSEEN = {"Techno": 4, "[red]Hip-Hop[/]": 2}
UNLABELLED = 3


@dataclass(frozen=True)
class Case:
    """A dataset, a model of its tensors, and the evaluation of the one by the other."""

    run: Path
    bundle: Path
    dataset: Dataset
    tracks: pd.DataFrame
    tensors: np.ndarray

    @property
    def evaluation(self) -> Path:
        return self.run / "evaluation"

    @property
    def metrics(self) -> dict[str, Any]:
        return json.loads((self.evaluation / "metrics.json").read_text(encoding="utf-8"))

    @property
    def predictions(self) -> pd.DataFrame:
        return pd.read_parquet(self.evaluation / "predictions.parquet").sort_values("track_id", ignore_index=True)

    @property
    def judged(self) -> pd.DataFrame:
        return self.predictions.query("part == 'all'")


def tracks_of(genres: list[str | None], artists: int) -> list[dict[str, Any]]:
    return [
        {
            "track_id": f"track {number:04d}", "genre": genre, "pcm_hash": f"{number:032x}",
            # One tagger writes it so, another one so: one artist. Of some nothing is known.
            "artist": None if number % 10 == 9 else f"{('Artist', 'artist')[number % 2]} {number % artists}",
        }
        for number, genre in enumerate(genres)
    ]  # fmt: skip


Write = Callable[..., Dataset]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a small dataset with these genres."""

    def written(genres: list[str | None], **options: Any) -> Dataset:
        spec = options.pop("spec", spec_of(len(LABELS)))
        tensors = np.zeros((len(genres), *spec.shape), np.float32)
        return write_dataset(tmp_path / "dataset", tracks_of(genres, 3), tensors, spec=spec, **options)

    return written


@pytest.fixture(scope="module")
def case(spark: Any, tmp_path_factory: pytest.TempPathFactory) -> Case:
    folder, random = tmp_path_factory.mktemp("bundle"), np.random.default_rng(3)
    known = random.choice(["Folk", "Pop", "Rock", "Ska"], 240, p=[0.4, 0.3, 0.2, 0.1]).tolist()
    genres = [*known, *(genre for genre, n in UNSEEN.items() for _ in range(n)), *[None] * UNLABELLED]
    random.shuffle(genres)
    tensors = random.uniform(-1, 1, (len(genres), len(LABELS))).astype(np.float32)
    for row, genre in enumerate(genres):
        if genre in LABELS and random.random() < 0.5:
            tensors[row, LABELS.index(genre)] += 1
    tensors[:, LABELS.index("Ska")] = -3
    tensors[:20] = tensors[0]  # tracks of which the model says the same
    tracks = tracks_of(genres, 31)
    bundle = write_bundle(folder / "bundle", LABELS)
    dataset = write_dataset(folder / "dataset", tracks, tensors, spec=spec_of(len(LABELS)))
    evaluate_bundle(spark, bundle, dataset.path, folder / "evaluation", EvaluateSettings(batch_size=7))
    return Case(folder, bundle, dataset, pd.DataFrame(tracks), tensors)


def test_each_track_is_predicted_once_with_the_probabilities_that_its_tensor_tells(case: Case) -> None:
    found, expected = case.predictions, softmax(case.tensors)
    assert found["track_id"].tolist() == case.tracks["track_id"].tolist()
    np.testing.assert_allclose(np.stack(found["probabilities"]), expected, atol=1e-6)
    assert found["predicted"].tolist() == [LABELS[best] for best in expected.argmax(axis=1)]


def test_all_tracks_of_known_genres_are_judged_and_no_others(case: Case) -> None:
    known = case.tracks["genre"].isin(LABELS)
    assert case.metrics["part"] == "all"
    assert case.metrics["n"] == known.sum() == 240
    assert case.metrics["parts"] == {"all": {"accuracy": case.metrics["accuracy"], "n": 240}}
    assert case.predictions["part"].notna().tolist() == known.tolist()
    # Whatever its part, a track keeps its genre.
    assert case.predictions["genre"].fillna("").tolist() == case.tracks["genre"].fillna("").tolist()


def test_unseen_genres_and_tracks_without_one_are_counted_apart(case: Case) -> None:
    assert case.metrics["unseen"] == UNSEEN
    assert list(case.metrics["unseen"]) == ["Techno", "[red]Hip-Hop[/]"], "most tracks first"
    assert case.metrics["unlabelled"] == UNLABELLED


def test_the_metrics_say_what_was_held_against_what(case: Case) -> None:
    assert case.metrics["dataset"] == str(case.dataset.path)
    assert (case.metrics["model"], case.metrics["feature"]) == ("linear518", "mfcc_mean")
    assert case.metrics["bundle"] == json.loads((case.bundle / "bundle.json").read_text())["digest"]


def test_all_figures_are_scikit_learns_on_the_same_predictions(case: Case) -> None:
    metrics, judged = case.metrics, case.judged
    true, predicted = judged["genre"], judged["predicted"]
    np.testing.assert_array_equal(metrics["confusion"], confusion_matrix(true, predicted, labels=LABELS))
    report = classification_report(true, predicted, labels=LABELS, output_dict=True, zero_division=0)
    for genre in LABELS:
        for ours, theirs in (
            ("precision", "precision"),
            ("recall", "recall"),
            ("f1", "f1-score"),
            ("support", "support"),
        ):
            assert metrics["per_genre"][genre][ours] == pytest.approx(report[genre][theirs]), (genre, ours)
    occurring = [genre for genre in LABELS if genre in set(true)]
    assert occurring != LABELS
    assert metrics["macro_f1"] == pytest.approx(np.mean([report[genre]["f1-score"] for genre in occurring]))
    # With labels that nothing is of, scikit-learn calls the accuracy a micro average of all answers.
    assert metrics["accuracy"] == pytest.approx(np.mean(true == predicted))
    assert metrics["per_genre"]["Polka"]["support"] == 0
    assert metrics["per_genre"]["Ska"]["precision"] == 0 < metrics["per_genre"]["Ska"]["support"]


def test_the_counts_are_those_that_the_tensors_tell(case: Case) -> None:
    answers = [LABELS[best] for best in softmax(case.tensors).argmax(axis=1)]
    counts = Counter(zip(case.tracks["genre"], answers, strict=True))
    expected = [[counts[true, predicted] for predicted in LABELS] for true in LABELS]
    assert case.metrics["confusion"] == expected


def test_the_interval_by_artist_is_near_that_of_drawing_artists_with_all_their_tracks(case: Case) -> None:
    judged = case.judged.drop(columns="artist").merge(case.tracks[["track_id", "artist"]], on="track_id")
    artist = judged["artist"].str.lower().fillna(judged["track_id"])
    of_artist = (judged["genre"] == judged["predicted"]).groupby(artist).agg(["sum", "count"]).to_numpy()
    assert case.metrics["artists"] == judged["artist"].str.lower().nunique() < len(of_artist)
    random = np.random.default_rng(99)
    drawn = of_artist[random.integers(0, len(of_artist), (4_000, len(of_artist)))].sum(axis=1)
    expected = np.percentile(drawn[:, 0] / drawn[:, 1], [2.5, 97.5])
    np.testing.assert_allclose(case.metrics["accuracy_interval_by_artist"], expected, atol=0.02)


def test_the_confused_tracks_are_those_of_a_direct_search_in_the_predictions(case: Case) -> None:
    judged = case.judged.drop(columns="artist").merge(case.tracks[["track_id", "artist"]], on="track_id")
    wrong = judged[judged["genre"] != judged["predicted"]].copy()
    p = np.stack(wrong["probabilities"])
    every = np.arange(len(wrong))
    wrong["p_true"] = p[every, [LABELS.index(genre) for genre in wrong["genre"]]]
    wrong["p_predicted"] = p[every, [LABELS.index(genre) for genre in wrong["predicted"]]]
    pairs = sorted(wrong.groupby(["genre", "predicted"]).size().items(), key=lambda item: (-item[1], item[0]))
    expected = []
    for (true, predicted), count in pairs[:10]:
        of_pair = wrong[(wrong["genre"] == true) & (wrong["predicted"] == predicted)]
        of_pair = of_pair.sort_values(["p_predicted", "track_id"], ascending=[False, True]).head(5)
        expected += [
            (true, predicted, count, rank, row.track_id, f"file:///{row.track_id}.mp3", row.artist, row.p_true,
             row.p_predicted)
            for rank, row in enumerate(of_pair.itertuples(), start=1)
        ]  # fmt: skip
    found = read_confused(case.run)
    assert found is not None
    assert [tuple(row.values()) for row in found.to_pylist()] == expected
    assert any(row[6] is None for row in expected) or found["artist"].null_count == 0


def test_an_evaluation_reads_back_as_that_of_a_run_does(case: Case) -> None:
    assert read_metrics(case.run) == case.metrics


def test_a_second_evaluation_replaces_the_first_and_gives_the_same(case: Case, spark: Any, tmp_path: Path) -> None:
    for _ in range(2):
        evaluate_bundle(spark, case.bundle, case.dataset.path, tmp_path / "out", EvaluateSettings())
        assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]
    for name in ("metrics.json", "confusion.csv", "confusion.png"):
        assert (tmp_path / "out" / name).read_bytes() == (case.evaluation / name).read_bytes()


@pytest.mark.parametrize("content", ["a.txt", "metrics.json and a.txt", "predictions.parquet"])
def test_a_folder_with_anything_else_is_not_replaced(case: Case, spark: Any, tmp_path: Path, content: str) -> None:
    for name in content.split(" and "):
        (tmp_path / name).write_text("mine")
    with pytest.raises(RunError, match=r"so it is no evaluation that may be replaced; name another --out"):
        evaluate_bundle(spark, case.bundle, case.dataset.path, tmp_path, EvaluateSettings())
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == dict.fromkeys(content.split(" and "), "mine")


def test_a_file_is_not_replaced(case: Case, spark: Any, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    with pytest.raises(RunError, match="out: can't be taken for an evaluation"):
        evaluate_bundle(spark, case.bundle, case.dataset.path, tmp_path / "out", EvaluateSettings())


def test_a_folder_in_a_run_is_the_runs_own(case: Case, spark: Any, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{}")
    (tmp_path / "elsewhere").symlink_to(tmp_path / "evaluation")
    for out in (tmp_path / "evaluation", tmp_path / "elsewhere", f"file://{tmp_path}/evaluation"):
        with pytest.raises(RunError, match="lies in the run folder .*; name another --out"):
            evaluate_bundle(spark, case.bundle, case.dataset.path, out, EvaluateSettings())
    assert not (tmp_path / "evaluation").exists()


@pytest.mark.parametrize("out", ["12:30", "s3:/x", "./..//{at}/a b", "file://{here}/%C3%BC%25"])
def test_predictions_are_where_they_were_asked_for(
    case: Case, write: Write, spark: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, out: str
) -> None:
    """Hadoop takes what stands before a colon for a file system, and a relative path for one below its own folder."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    dataset = write(["Folk", "Pop"], files=1)
    out = out.format(here=tmp_path / "here", at="here")
    evaluate_bundle(spark, case.bundle, dataset.path, out, EvaluateSettings())
    expected = tmp_path / "here" / ("ü%" if out.startswith("file:") else out)
    assert len(pd.read_parquet(expected / "predictions.parquet")) == 2
    assert read_evaluation(expected)["n"] == 2
    assert len(list((tmp_path / "here").iterdir())) == 1


def test_the_folder_that_one_is_in_and_a_mounted_one_are_not_taken_away(
    case: Case, spark: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for out in (".", tmp_path, "../" + tmp_path.name):
        with pytest.raises(RunError, match="is the folder that you are in, and can't be replaced as a whole"):
            evaluate_bundle(spark, case.bundle, case.dataset.path, out, EvaluateSettings())
    assert check_out("below") == tmp_path / "below"
    assert tmp_path.is_dir()


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("s3://user:secret@bucket/out", r"s3://\*\*\*@bucket/out: an evaluation needs a local folder"),
        ("hdfs://node/out", "an evaluation needs a local folder"),
        ("file://elsewhere/out", "must be a file on this machine"),
        ("file:///tmp/a?b", "holds \\? or #"),
        ("file:///tmp/a%00b", "must be UTF-8 and hold no null character"),
        ("file:///tmp/a%FFb", "must be UTF-8 and hold no null character"),
        ("a" * 300, "can't be taken for an evaluation: File name too long"),
    ],
)
def test_an_out_that_is_no_folder_of_this_machine_is_refused(out: str, message: str) -> None:
    with pytest.raises(RunError, match=message) as refusal:
        check_out(out)
    assert "secret" not in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_too_few_artists_that_are_known_give_no_interval(case: Case, tmp_path: Path) -> None:
    """One track of a hundred that names an artist would make each of the others an artist of its own."""
    random = np.random.default_rng(0)
    tensors = random.uniform(-1, 1, (100, len(LABELS))).astype(np.float32)
    for named in (89, 90):
        tracks = tracks_of(["Folk"] * 100, 5)
        for number, track in enumerate(tracks):
            track["artist"] = f"Artist {number % 30}" if number < named else None
        dataset = write_dataset(tmp_path / str(named), tracks, tensors, spec=spec_of(len(LABELS)))
        judged = judge_bundle(case.bundle, read_description(case.bundle), dataset)
        assert (judged.artists, judged.knows_artists) == (30, named == 90)


def test_a_track_that_is_there_twice_is_named(case: Case, spark: Any, tmp_path: Path) -> None:
    """Of a known genre or not: it would be judged twice."""
    for genres in (["Folk"] * 4, ["Folk", "Ska", None, "Techno"]):
        tracks = tracks_of(genres, 3)
        tracks[3]["track_id"], tracks[2]["track_id"] = tracks[1]["track_id"], tracks[0]["track_id"]
        folder = tmp_path / str(genres[1])
        tensors = np.zeros((4, len(LABELS)), np.float32)
        dataset = write_dataset(folder / "dataset", tracks, tensors, spec=spec_of(len(LABELS)))
        with pytest.raises(DatasetError, match="dataset: holds 'track 0000' more than once"):
            evaluate_bundle(spark, case.bundle, dataset.path, folder / "out", EvaluateSettings())
        assert not (folder / "out").exists()


def test_segments_vote_by_track(spark: Any, tmp_path: Path) -> None:
    spec = spec_of(3, segments=Segments(count=3, length_s=1.0, overlap_s=0.0))
    labels, genres = ["a", "b", "c"], ["a", "b", "c", None, "other"]
    tensors = np.random.default_rng(0).uniform(-3, 3, (5, 3, 3)).astype(np.float32)
    dataset = write_dataset(tmp_path / "dataset", tracks_of(genres, 5), tensors, spec=spec)
    bundle = write_bundle(tmp_path / "bundle", labels, spec=spec)
    found = evaluate_bundle(spark, bundle, dataset.path, tmp_path / "out", EvaluateSettings(batch_size=2))
    table = pd.read_parquet(tmp_path / "out" / "predictions.parquet").sort_values("track_id")
    of_segments = softmax(tensors)
    np.testing.assert_allclose([[list(p) for p in row] for row in table["segments"]], of_segments, atol=1e-6)
    np.testing.assert_allclose(np.stack(table["probabilities"]), of_segments.mean(axis=1), atol=1e-6)
    answers = of_segments.mean(axis=1).argmax(axis=1)
    assert np.array(found["confusion"]).tolist() == confusion_matrix([0, 1, 2], answers[:3], labels=range(3)).tolist()
    assert (found["n"], found["unseen"], found["unlabelled"]) == (3, {"other": 1}, 1)


def test_a_feature_with_other_parameters_is_refused_with_both_digests(case: Case, write: Write, spark: Any) -> None:
    other = spec_of(len(LABELS), hop_length=256)
    dataset = write(["Folk", "Pop"], spec=other)
    with pytest.raises(DatasetError) as refusal:
        evaluate_bundle(spark, case.bundle, dataset.path, dataset.path.parent / "out", EvaluateSettings())
    assert other.digest in str(refusal.value)
    assert spec_of(len(LABELS)).digest in str(refusal.value)
    assert str(dataset.path) in str(refusal.value)


def test_a_dataset_without_the_feature_is_refused_by_name(case: Case, write: Write, spark: Any) -> None:
    dataset = write(["Folk", "Pop"], spec=spec_of(5, name="mine"))
    with pytest.raises(DatasetError, match="has no feature 'mfcc_mean', only mine"):
        evaluate_bundle(spark, case.bundle, dataset.path, dataset.path.parent / "out", EvaluateSettings())


def test_a_dataset_of_unknown_genres_is_refused_with_both_lists(case: Case, write: Write, spark: Any) -> None:
    dataset = write(["folk", "Techno\x1b[31m", None, *(f"genre {number:03d}" for number in range(100))])
    with pytest.raises(DatasetError) as refusal:
        evaluate_bundle(spark, case.bundle, dataset.path, dataset.path.parent / "out", EvaluateSettings())
    assert "The dataset has 'Techno\\x1b[31m', 'folk', 'genre 000'" in str(refusal.value)
    assert "and 92 more; the model knows 'Folk', 'Pop', 'Rock', 'Polka', 'Ska'" in str(refusal.value)
    assert not (dataset.path.parent / "out").exists()


def test_a_dataset_without_genres_is_refused(case: Case, write: Write, spark: Any) -> None:
    dataset = write([None, None])
    with pytest.raises(DatasetError, match="none of its tracks has a genre"):
        evaluate_bundle(spark, case.bundle, dataset.path, dataset.path.parent / "out", EvaluateSettings())


def test_a_single_track_is_judged_and_its_intervals_say_how_little_that_tells(
    case: Case, write: Write, spark: Any
) -> None:
    dataset = write(["Pop"], files=1)
    out = dataset.path.parent / "evaluation"
    found = evaluate_bundle(spark, case.bundle, dataset.path, out, EvaluateSettings())
    # Of equal probabilities the first genre's is taken.
    assert found["confusion"][LABELS.index("Pop")] == [1, 0, 0, 0, 0]
    assert (found["n"], found["accuracy"], found["accuracy_interval_by_artist"]) == (1, 0.0, None)
    low, high = found["accuracy_interval"]
    assert (low, high) == (0.0, pytest.approx(0.7935, abs=1e-4))
    confused = read_confused(out.parent)
    assert confused is not None
    assert confused.select(["true", "predicted", "track_id", "rank"]).to_pylist() == [
        {"true": "Pop", "predicted": "Folk", "track_id": "track 0000", "rank": 1}
    ]


def test_a_model_without_a_mistake_leaves_an_empty_table_of_confused_tracks(
    case: Case, write: Write, spark: Any
) -> None:
    dataset = write(["Folk", "Folk", "Folk"])
    out = dataset.path.parent / "evaluation"
    found = evaluate_bundle(spark, case.bundle, dataset.path, out, EvaluateSettings())
    assert found["accuracy"] == 1.0
    confused = read_confused(out.parent)
    assert confused is not None
    assert confused.num_rows == 0


def test_genres_named_like_markup_come_out_as_they_are(spark: Any, tmp_path: Path) -> None:
    labels = ["<script>alert(1)</script>", "[bold]R&B[/bold] $x^$", '"; DROP TABLE genres; -- `', "${jndi:x}\\"]
    genres = [*labels, labels[0], "[/red] unseen"]
    tensors = np.zeros((6, 4), np.float32)
    tensors[range(6), [0, 1, 2, 3, 1, 0]] = 2
    bundle = write_bundle(tmp_path / "bundle", labels)
    dataset = write_dataset(tmp_path / "dataset", tracks_of(genres, 2), tensors, spec=spec_of(4))
    found = evaluate_bundle(spark, bundle, dataset.path, tmp_path / "evaluation", EvaluateSettings())
    assert found == read_metrics(tmp_path)
    assert np.array(found["confusion"]).tolist() == [[1, 1, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
    assert found["unseen"] == {"[/red] unseen": 1}
    confused = read_confused(tmp_path)
    assert confused is not None
    assert [(row["true"], row["predicted"]) for row in confused.to_pylist()] == [(labels[0], labels[1])]


@pytest.mark.slow
def test_two_thousand_genres_take_neither_minutes_nor_gigabytes(spark: Any, tmp_path: Path) -> None:
    random, labels = np.random.default_rng(0), [f"genre {number:04d}" for number in range(2_000)]
    spec = spec_of(8)
    kernel = random.standard_normal((8, 2_000)).astype(np.float32)
    tensors = random.uniform(-3, 3, (600, 8)).astype(np.float32)
    best = (tensors @ kernel).argmax(axis=1)
    genres = [labels[index] if number % 2 else labels[number] for number, index in enumerate(best.tolist())]
    bundle = write_bundle(tmp_path / "bundle", labels, spec=spec, kernel=kernel)
    dataset = write_dataset(tmp_path / "dataset", tracks_of(genres, 50), tensors, spec=spec)
    started = time.perf_counter()
    found = evaluate_bundle(spark, bundle, dataset.path, tmp_path / "evaluation", EvaluateSettings())
    assert time.perf_counter() - started < 120
    assert found["n"] == 600
    assert 0.5 <= found["accuracy"] < 0.52
    assert sum((tmp_path / "evaluation" / name).stat().st_size for name in ("metrics.json", "confusion.csv")) < 40e6
    assert (tmp_path / "evaluation" / "confusion.png").stat().st_size < 2e6
    assert read_metrics(tmp_path)["confusion"] == found["confusion"]


def test_the_report_shows_what_the_job_wrote(case: Case, tmp_path: Path) -> None:
    build_report([], tmp_path / "report.html", evaluations=[case.evaluation])
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    for said in (f">{case.metrics['bundle']}<", f">{case.dataset.path}<", ">mfcc_mean<", "Not judged: 6 tracks"):
        assert said in html


def test_a_file_that_is_cut_off_is_named_as_one_that_cannot_be_read(case: Case, spark: Any, tmp_path: Path) -> None:
    shutil.copytree(case.dataset.path, tmp_path / "dataset")
    file = sorted((tmp_path / "dataset").rglob("part-*.parquet"))[-1]
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(DatasetError, match="can't be read: .*extract it again"):
        evaluate_bundle(spark, case.bundle, tmp_path / "dataset", tmp_path / "out", EvaluateSettings())
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_what_a_worker_finds_wrong_with_a_dataset_is_said_in_its_own_words(
    case: Case, spark: Any, tmp_path: Path
) -> None:
    shutil.copytree(case.dataset.path, tmp_path / "dataset")
    file = sorted((tmp_path / "dataset").rglob("part-*.parquet"))[-1]
    table = pq.read_table(file)
    place = table.schema.get_field_index("mfcc_mean")
    shorter = pa.array([row[1:] for row in table["mfcc_mean"].to_pylist()], table.schema.field(place).type)
    pq.write_table(table.set_column(place, table.schema.field(place), shorter), file)
    with pytest.raises(DatasetError) as refusal:
        evaluate_bundle(spark, case.bundle, tmp_path / "dataset", tmp_path / "out", EvaluateSettings())
    assert "column 'mfcc_mean' has rows that are not of shape (5,)" in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert list(tmp_path.iterdir()) == [tmp_path / "dataset"]


@pytest.mark.slow
def test_a_page_that_is_damaged_behind_a_sound_footer_is_named(case: Case, spark: Any, tmp_path: Path) -> None:
    shutil.copytree(case.dataset.path, tmp_path / "dataset")
    file = sorted((tmp_path / "dataset").rglob("part-*.parquet"))[-1]
    group = pq.read_metadata(file).row_group(0)
    (column,) = (c for c in map(group.column, range(group.num_columns)) if c.path_in_schema.startswith("mfcc_mean"))
    content = bytearray(file.read_bytes())
    content[column.data_page_offset : column.data_page_offset + 64] = b"\xff" * 64
    file.write_bytes(content)
    with pytest.raises(DatasetError, match=rf"{file.name}: can't be read: .*extract it again"):
        evaluate_bundle(spark, case.bundle, tmp_path / "dataset", tmp_path / "out", EvaluateSettings())
