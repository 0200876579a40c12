import csv
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import accuracy_score, f1_score

from genre_spark.corpora.tracks import read_tracks
from genre_spark.dataset.extract import extract
from genre_spark.dataset.store import Dataset
from genre_spark.errors import ExperimentError, ModelError
from genre_spark.experiments import protocol
from genre_spark.experiments.plan import Cell, Experiment
from genre_spark.experiments.protocol import RUNS, run_experiment
from genre_spark.experiments.results import COMPARISONS, PAGE, RESULTS, Results
from genre_spark.features import resolve_specs
from genre_spark.settings import Settings

WANTED = Experiment(models=("svm:mfcc_mean", "majority", "dnn"), splits=("artist-kfold",), seeds=(0, 1), reference=None)


@pytest.fixture(scope="module")
def small(settings: Settings) -> Settings:
    models = settings.models.model_copy(update={"dnn": settings.models.dnn.model_copy(update={"epochs": 1})})
    split = settings.split.model_copy(update={"folds": 3})
    return settings.model_copy(update={"models": models, "split": split})


RMS = {"kind": "rms", "sample_rate": 22_050, "summary": ["mean", "std"]}


@pytest.fixture(scope="module")
def made(
    spark: object, dataset: Dataset, small: Settings, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Results]:
    out = tmp_path_factory.mktemp("experiment") / "out"
    return out, run_experiment(WANTED, [dataset], small, out, lambda: spark)


def read(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as lines:
        return list(csv.DictReader(lines))


def test_every_model_is_judged_on_the_same_tracks_of_each_split(made: tuple[Path, Results]) -> None:
    out, results = made
    assert [(row.split, row.model) for row in results.rows] == [
        (split, model) for split in WANTED.splits for model in WANTED.models
    ]
    assert {row.n for row in results.rows} == {23}, "each track once, over the folds"
    assert [(row["model"], row["split"]) for row in read(out / RESULTS)] == [(r.model, r.split) for r in results.rows]
    assert [row["verdict"] for row in read(out / COMPARISONS)] == [each.verdict for each in results.comparisons]
    assert all(row.model in (out / PAGE).read_text() for row in results.rows)


@pytest.mark.parametrize("model", ["svm:mfcc_mean", "dnn"])
def test_the_table_has_scikit_learns_numbers_of_the_runs_predictions(made: tuple[Path, Results], model: str) -> None:
    out, results = made
    row = next(row for row in results.rows if (row.split, row.model) == ("artist-kfold", model))
    accuracies, f1s = [], []
    for seed in (0, 1) if model == "dnn" else (0,):
        folds = [Cell(model, "artist-kfold", seed, fold).name for fold in range(3)]
        tables = [pq.read_table(out / RUNS / name / "evaluation" / "predictions.parquet") for name in folds]
        tested = [each for table in tables for each in table.to_pylist() if each["part"] == "test"]
        true, said = [each["genre"] for each in tested], [each["predicted"] for each in tested]
        accuracies.append(accuracy_score(true, said))
        f1s.append(f1_score(true, said, average="macro"))
    assert row.accuracy.value == pytest.approx(sum(accuracies) / len(accuracies))
    assert row.macro_f1.value == pytest.approx(sum(f1s) / len(f1s))
    assert row.accuracy.low <= row.accuracy.value <= row.accuracy.high


def test_what_is_finished_is_not_computed_again(
    made: tuple[Path, Results], dataset: Dataset, small: Settings, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(made[0], out)
    # As after a kill: one run is gone, and one was not judged yet.
    shutil.rmtree(out / RUNS / "majority-artist-kfold-fold1-seed0")
    told: list[str] = []
    again = run_experiment(
        WANTED, [dataset], small, out, lambda: pytest.fail("nothing is left to judge"),
        on_cell=lambda what, cell, *_: told.append(f"{what} {cell.name}"),
    )  # fmt: skip
    assert told == [f"{what} majority-artist-kfold-fold1-seed0" for what in ("training", "judging")]
    assert again.comparisons == made[1].comparisons


def test_a_training_that_fails_leaves_what_was_finished(
    spark: object, dataset: Dataset, small: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = Experiment(models=("majority", "dnn"), splits=("artist",), seeds=(0, 1))
    first, second = (tmp_path / RUNS / f"dnn-artist-seed{seed}" for seed in (0, 1))
    real, trained = protocol.train, []

    def killed_the_second_time(*arguments: object, **options: object) -> None:
        if trained:
            raise ModelError("the loss is nan")
        trained.append(real(*arguments, **options))

    with monkeypatch.context() as patch:
        patch.setattr(protocol, "train", killed_the_second_time)
        with pytest.raises(ModelError, match=f"dnn-artist-seed1: the loss is nan; .* remove {second} and {second}.unf"):
            run_experiment(experiment, [dataset], small, tmp_path, lambda: spark)
    # Nothing was judged: a training was left.
    assert [folder.name for folder in (tmp_path / RUNS).iterdir()] == [first.name]
    assert not (first / "evaluation").exists()
    before = (first / "run.json").read_bytes()
    results = run_experiment(experiment, [dataset], small, tmp_path, lambda: spark)
    assert [row.trainings for row in results.rows] == [1, 2]
    assert (first / "run.json").read_bytes() == before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"split": {"seed": 5}}, "split_digest="),
        ({"models": {"dnn": {"learning_rate": 0.5}}}, "models.dnn.learning_rate=0.001, not 0.5"),
        ({"models": {"dnn": {"epochs": 2}}}, "models.dnn.epochs=1, not 2"),
    ],
)
def test_a_run_that_was_made_otherwise_is_not_taken(
    made: tuple[Path, Results], dataset: Dataset, small: Settings, changes: dict[str, dict], message: str
) -> None:
    dumped = small.model_dump()
    for section, values in changes.items():
        for key, value in values.items():
            dumped[section][key] = dumped[section][key] | value if isinstance(value, dict) else value
    with pytest.raises(ExperimentError, match=f"was trained with {message}.*take another --out"):
        run_experiment(WANTED, [dataset], Settings(**dumped), made[0], pytest.fail)


def test_a_model_whose_feature_no_dataset_has_is_named(dataset: Dataset, small: Settings, tmp_path: Path) -> None:
    experiment = Experiment(models=("majority", "svm:fma_518"), splits=("artist",))
    with pytest.raises(ExperimentError, match="model svm:fma_518: no dataset has its feature 'fma_518'"):
        run_experiment(experiment, [dataset], small, tmp_path, pytest.fail)
    with pytest.raises(ExperimentError, match=r"melgram is of shape \(96, 1366\).*want a summary"):
        run_experiment(Experiment(models=("svm:melgram",), splits=("artist",)), [dataset], small, tmp_path, pytest.fail)


def test_a_genre_with_a_single_track_is_refused(spark: object, corpus: Path, small: Settings, tmp_path: Path) -> None:
    tracks = read_tracks(corpus)
    genres = pa.array(["Polka", *tracks["genre"].to_pylist()[1:]])
    alone = tracks.set_column(tracks.schema.get_field_index("genre"), "genre", genres)
    polka = extract(spark, alone, resolve_specs(["mfcc_mean"]), tmp_path / "dataset", small)
    with pytest.raises(ExperimentError, match="genre 'Polka' has a single track"):
        run_experiment(
            Experiment(models=("majority",), splits=("study",)), [polka], small, tmp_path / "out", pytest.fail
        )


def test_datasets_that_hold_different_tracks_are_refused_before_anything_is_trained(
    spark: object, dataset: Dataset, corpus: Path, small: Settings, tmp_path: Path
) -> None:
    tracks = read_tracks(corpus)
    fewer = tracks.filter(pc.not_equal(tracks["track_id"], dataset.tracks()["track_id"][0]))
    other = extract(spark, fewer, resolve_specs(["rms"], {"rms": RMS}), tmp_path / "dataset", small)
    experiment = Experiment(models=("svm:mfcc_mean", "svm:rms"), splits=("study",))
    with pytest.raises(ExperimentError, match="svm:rms and svm:mfcc_mean would be judged on different tracks"):
        run_experiment(experiment, [dataset, other], small, tmp_path / "out", pytest.fail)
    assert not (tmp_path / "out").exists()
