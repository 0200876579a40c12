"""Settings: what wins over what, and that every refusal names the key and the value."""

import os
import threading
from pathlib import Path

import pytest
import yaml

from genre_spark.errors import SettingsError
from genre_spark.settings import Settings, load_settings

BASE = Path(__file__).parents[1] / "conf" / "base.yaml"


@pytest.fixture
def write(tmp_path):
    def write_file(text, name="mine.yaml"):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write_file


def refusal(files=(), overrides=()):
    with pytest.raises(SettingsError) as caught:
        load_settings(files, overrides)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_the_base_file_spells_out_the_defaults():
    assert load_settings([BASE]) == Settings() == load_settings()


def test_the_base_file_leaves_no_setting_out():
    def keys(tree, prefix=()):
        for key, value in tree.items():
            yield from keys(value, (*prefix, key)) if isinstance(value, dict) and value else [(*prefix, key)]

    assert set(keys(yaml.safe_load(BASE.read_text()))) == set(keys(Settings().model_dump()))


def test_a_later_file_wins_key_by_key(write):
    first = write("split: {seed: 1, study_training: 0.8}", "first.yaml")
    second = write("split: {seed: 2}", "second.yaml")
    assert load_settings([first, second]).split.model_dump() == {
        **Settings().split.model_dump(),
        "seed": 2,
        "study_training": 0.8,
    }
    assert load_settings([second, first]).split.seed == 1


def test_set_wins_over_all_files_and_the_last_set_over_the_first(write):
    file = write("split: {seed: 1}\nmodels: {dnn: {epochs: 7}}")
    settings = load_settings([file], ["split.seed=3", "models.dnn.batch_size=16", "split.seed=4"])
    assert settings.split.seed == 4
    assert (settings.models.dnn.epochs, settings.models.dnn.batch_size) == (7, 16)


def test_one_key_of_a_model_leaves_its_other_defaults(write):
    models = load_settings([write("models: {dnn: {batch_size: 8}}")]).models
    assert models.dnn == Settings().models.dnn.model_copy(update={"batch_size": 8})
    assert models.cnn2d == Settings().models.cnn2d


def test_an_empty_file_changes_nothing(write):
    assert load_settings([write("# nothing yet\n")]) == Settings()


def test_the_environment_changes_nothing(monkeypatch):
    monkeypatch.setenv("SPLIT", '{"seed": 7}')
    monkeypatch.setenv("SPARK", "/opt/spark")
    assert Settings().split.seed == load_settings().split.seed == 0


def test_settings_can_not_be_changed():
    with pytest.raises(ValueError, match="frozen"):
        Settings().split.seed = 1


def test_spark_properties_keep_the_dots_in_their_names(write):
    file = write("spark: {conf: {spark.sql.shuffle.partitions: 8, spark.ui.enabled: false, spark.app.name: a b}}")
    settings = load_settings([file], ["spark.conf.spark.sql.shuffle.partitions=4", "spark.conf.spark.x=0"])
    assert settings.spark.conf == {
        "spark.sql.shuffle.partitions": "4",
        "spark.ui.enabled": "false",
        "spark.app.name": "a b",
        "spark.x": "0",
    }


@pytest.mark.parametrize("value", ["true", "010", "10:30", "a=b", "", "1e3", "org.x:y:1,org.z:w:2", "{"])
def test_a_spark_property_from_set_is_passed_on_as_it_stands(value):
    assert load_settings(overrides=[f"spark.conf.spark.x={value}"]).spark.conf == {"spark.x": value}


def test_features_of_the_user_s_are_kept_as_they_stand(write):
    features = {"mfcc_20": {"kind": "mfcc", "sample_rate": 22050, "n_mfcc": 20, "summary": "mean"}}
    assert load_settings([write(yaml.safe_dump({"features": features}))]).features == features


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("split.seed=-1", "setting split.seed=-1: Input should be greater than or equal to 0"),
        ("split.seed=4294967296", "setting split.seed=4294967296: Input should be less than 4294967296"),
        ("split.seed=abc", "setting split.seed='abc': Input should be a valid integer"),
        ("split.seed.x=1", "setting split.seed={'x': 1}: Input should be a valid integer"),
        ("split.study_training=1", "setting split.study_training=1: Input should be less than 1"),
        ("models.dnn.epochs=1.5", "setting models.dnn.epochs=1.5: Input should be a valid integer"),
        ("models.dnn.learning_rate=.nan", "setting models.dnn.learning_rate=nan: Input should be"),
        ("models.dnn.learning_rate=.inf", "setting models.dnn.learning_rate=inf: Input should be a finite number"),
        ("extract.tracks_per_task=0", "setting extract.tracks_per_task=0: Input should be greater than 0"),
        ("spark.driver_memory=2", "setting spark.driver_memory=2: String should match pattern"),
        ("split=3", "setting split=3: Input should be a valid dictionary"),
        ("features.mine=3", "setting features.mine=3: Input should be a valid dictionary"),
    ],
)
def test_a_wrong_value_is_refused_with_its_key(override, message):
    assert refusal(overrides=[override]).startswith(message)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("splt.seed=1", "unknown setting splt; did you mean split?"),
        ("split.sed=1", "unknown setting split.sed; did you mean split.seed?"),
        ("models.dnnn.epochs=1", "unknown setting models.dnnn; did you mean models.dnn?"),
        ("models.dnn.epoch=1", "unknown setting models.dnn.epoch; did you mean models.dnn.epochs?"),
        ("evaluate.epochs=1", "unknown setting evaluate.epochs; known are batch_size"),
    ],
)
def test_an_unknown_key_is_refused_with_a_suggestion(override, message):
    assert refusal(overrides=[override]) == message


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("split.seed", "--set split.seed: must read section.key=value"),
        ("=3", "--set =3: must read section.key=value"),
        ("split..seed=3", "--set split..seed=3: must read section.key=value"),
        ("split.seed={", "--set split.seed={: the value is not YAML"),
    ],
)
def test_an_override_that_can_not_be_read_is_refused_as_it_was_typed(override, message):
    assert refusal(overrides=[override]) == message


@pytest.mark.parametrize("wrong", ["train.epochs", "epochs", "train.learning_rate"])
def test_what_each_model_has_of_its_own_is_found_there(wrong):
    key = wrong.rpartition(".")[2]
    assert (
        refusal(overrides=[f"{wrong}=3"])
        == f"unknown setting {wrong}; it is one of each model: models.dnn.{key}, for instance"
    )


def test_a_word_where_a_list_belongs_is_refused_in_the_words_of_yaml():
    assert (
        refusal(overrides=["split.group_by=artist"])
        == "setting split.group_by='artist': must be a list; write [artist]"
    )


def test_an_override_below_a_plain_value_is_refused():
    assert "split was set to a value before" in refusal(overrides=["split=1", "split.seed=2"])


def test_a_wrong_value_in_a_file_is_refused_with_the_file(write):
    file = write("models:\n  dnn:\n    epochs: many\n")
    assert refusal([file]).startswith(f"setting models.dnn.epochs='many' (in {file} or --set)")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a\n- b\n", "settings must be a mapping, not list"),
        ("just words", "settings must be a mapping, not str"),
        ("split: [", "not YAML"),
        ("1: 2", "unknown setting 1; known are audio, audit, evaluate"),
        ("split: {seed: 1}\ntrain: {}\nsplit: {folds: 3}\n", "not YAML: key 'split' stands there twice"),
        ("split:\n  seed: 1\n  seed: 2\n", "not YAML: key 'seed' stands there twice in"),
        ("a: !!python/object/apply:os.getcwd []", "not YAML: could not determine a constructor"),
    ],
)
def test_a_file_that_holds_no_settings_is_refused_by_name(write, text, message):
    file = write(text)
    assert refusal([file]).startswith(f"{file}: {message}")


def test_a_missing_file_is_refused_by_name(tmp_path):
    assert (
        refusal([tmp_path / "no.yaml"]) == f"{tmp_path / 'no.yaml'}: settings can't be read: No such file or directory"
    )


def test_a_pipe_is_read_as_a_file_is(tmp_path):
    """As bash's `--config <(...)` gives one: it holds its text only once."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    threading.Thread(target=pipe.write_text, args=["split: {seed: 7}\n"]).start()
    assert load_settings([pipe]).split.seed == 7


def test_an_alias_may_be_merged_into_several_sections(write):
    file = write("models:\n  dnn: &few {epochs: 3, batch_size: 8}\n  cnn1d: {<<: *few, epochs: 4}\n")
    models = load_settings([file]).models
    assert (models.cnn1d.epochs, models.cnn1d.batch_size) == (4, 8)


def test_a_file_that_is_not_text_is_refused_by_name(tmp_path):
    file = tmp_path / "song.yaml"
    file.write_bytes(b"\xff\xfb\x90\x00")
    assert refusal([file]).startswith(f"{file}: not YAML")


def test_true_is_no_number_of_epochs():
    with pytest.raises(SettingsError, match="models.dnn.epochs=True"):
        load_settings([], ["models.dnn.epochs=true"])


def test_a_section_with_nothing_in_it_keeps_its_defaults(tmp_path):
    file = tmp_path / "empty.yaml"
    file.write_text("models:\nextract:\n  # tracks_per_task: 3\n")
    assert load_settings([file]) == Settings()
