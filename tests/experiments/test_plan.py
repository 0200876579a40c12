from pathlib import Path

import pytest
import yaml

from genre_spark.errors import ExperimentError
from genre_spark.experiments.plan import Experiment, cells_of, overrides_of, read_experiment
from genre_spark.settings import load_settings

CONTENT = {"models": ["majority", "svm:fma_518", "dnn"], "splits": ["artist", "artist-kfold"], "seeds": [0, 1]}


def written(path: Path, **changes: object) -> Path:
    file = path / "experiment.yaml"
    file.write_text(yaml.safe_dump(CONTENT | changes))
    return file


def test_every_model_meets_every_split_and_fold_and_seed_once(tmp_path: Path) -> None:
    cells = cells_of(read_experiment(written(tmp_path)), folds=3)
    names = [cell.name for cell in cells]
    assert len(set(names)) == len(names) == (1 + 3) * (1 + 1 + 2)
    assert {"dnn-artist-seed1", "dnn-artist-kfold-fold2-seed0", "svm-fma_518-artist-seed0"} <= set(names)
    assert "svm-fma_518-artist-seed1" not in names, "nothing about it is random"


def test_a_cell_has_its_own_seed_and_fold() -> None:
    settings = load_settings()
    cell = next(each for each in cells_of(Experiment(**CONTENT), 5) if each.fold == 3 and each.seed == 1)
    own = cell.settings(settings)
    assert (own.train.seed, own.split.fold) == (1, 3)
    assert own.models == settings.models


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"models": ["resnet"]}, "unknown model 'resnet'; known are dnn, .*majority, logistic:FEATURE, .*svm:FEATURE"),
        ({"models": ["forest:fma_518"]}, "unknown method 'forest'.*known are majority"),
        ({"models": ["svm"]}, "model 'svm': write svm:FEATURE"),
        ({"models": ["majority:fma_518"]}, "write majority"),
        ({"models": []}, "models"),
        ({"models": ["dnn", "dnn"]}, "models: 'dnn' stands there twice"),
        ({"splits": ["by moonlight"]}, "splits.0: .*not 'by moonlight'"),
        ({"seeds": [0, 0]}, "seeds: 0 stands there twice"),
        ({"seeds": [-1]}, "seeds.0"),
        ({"reference": "cnn1d"}, "reference: 'cnn1d' is none of the models"),
        ({"models": "dnn"}, r"models: must be a list, not 'dnn'; write models: \[dnn\]"),
        ({"seeds": 2}, r"seeds: must be a list, not 2; write seeds: \[2\]"),
        ({"model": ["dnn"]}, r"unknown key 'model'; did you mean models\?"),
        (
            {"settings_of": {"dnn": {"epochs": 3}}},
            r"dnn\.epochs: must be .*{dnn: {models: {dnn: {epochs: 3}}}}",
        ),
        ({"epochs": 3}, "unknown key 'epochs'; known are models, reference"),
    ],
)
def test_what_is_wrong_in_a_file_is_named(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    file = written(tmp_path, **changes)
    with pytest.raises(ExperimentError, match=message) as caught:
        read_experiment(file)
    assert str(caught.value).startswith(str(file))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [("- a", "must be a mapping"), ("a: [", "not YAML"), ("\x00", "not YAML"), (None, "can't be read")],
)
def test_a_file_that_is_no_experiment_is_refused(tmp_path: Path, text: str | None, message: str) -> None:
    file = tmp_path / "x.yaml"
    if text is not None:
        file.write_text(text)
    with pytest.raises(ExperimentError, match=message):
        read_experiment(file)


def test_an_experiment_without_models_is_told_what_it_needs(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text("splits: [artist]")
    with pytest.raises(ExperimentError, match="models is missing; an experiment needs models and splits"):
        read_experiment(tmp_path / "x.yaml")


def test_settings_of_an_experiment_are_overrides() -> None:
    tree = {
        "train": {"schedule": "cosine", "restore_best": False, "scaler": None},
        "models": {"dnn": {"learning_rate": 1e-4, "epochs": 3}},
        "split": {"group_by": ["artist", "pcm"]},
    }
    settings = load_settings([], overrides_of(tree))
    assert (settings.train.schedule, settings.train.restore_best, settings.train.scaler) == ("cosine", False, None)
    assert (settings.models.dnn.learning_rate, settings.models.dnn.epochs) == (1e-4, 3)
    assert settings.split.group_by == ("artist", "pcm")
