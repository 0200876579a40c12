"""Specs: their shapes, what their digests depend on, and what is refused."""

import librosa
import numpy as np
import pytest
import yaml
from pydantic import ValidationError

from genre_spark.corpora.tracks import TRACK_SCHEMA
from genre_spark.errors import FeatureSpecError
from genre_spark.features.spec import STUDY_SPECS, FeatureSpec, build_spec, resolve_specs

MFCC = {"kind": "mfcc", "sample_rate": 22_050, "n_mfcc": 20, "summary": "mean"}
MEL = {"kind": "mel_spectrogram", "sample_rate": 22_050, "n_frames": 100}


def test_the_study_has_three_specs_of_known_shapes():
    shapes = {name: spec.shape for name, spec in STUDY_SPECS.items()}
    assert shapes == {"mfcc_mean": (80,), "mfcc": (80, 2500), "melgram": (96, 1366)}


@pytest.mark.parametrize("n_samples", [2048, 2049, 44_100, 44_101])
@pytest.mark.parametrize("hop_length", [256, 512, 441])
def test_a_shape_is_the_one_that_librosa_gives_for_that_many_samples(n_samples, hop_length):
    spec = build_spec("mel", {**MEL, "n_frames": None, "n_samples": n_samples, "hop_length": hop_length, "n_mels": 8})
    mel = librosa.feature.melspectrogram(
        y=np.zeros(n_samples, np.float32), sr=spec.sample_rate, n_fft=spec.n_fft, hop_length=hop_length, n_mels=8
    )
    assert spec.shape == mel.shape


def test_a_summary_leaves_one_number_per_row_and_n_frames_gives_that_many():
    assert build_spec("a", {"kind": "mel_spectrogram", "sample_rate": 8_000, "summary": "mean"}).shape == (128,)
    assert build_spec("a", MEL).shape == (128, 100)


def test_digests_of_the_study_are_stable():
    # A dataset on disk is recognised by them: a change here makes people compute everything again.
    assert {name: spec.digest for name, spec in STUDY_SPECS.items()} == {
        "mfcc_mean": "9fe2d8cd5ce02cb9",
        "mfcc": "a52653798d02e8b9",
        "melgram": "de3011c6d917fcc1",
    }


def test_a_digest_does_not_depend_on_the_name_nor_on_how_a_number_is_written():
    assert build_spec("a", MFCC).digest == build_spec("b", MFCC).digest
    assert build_spec("a", {**MFCC, "fmin": 0}).digest == build_spec("a", {**MFCC, "fmin": 0.0}).digest
    assert build_spec("a", {**MFCC, "n_mels": 128}).digest == build_spec("a", MFCC).digest


@pytest.mark.parametrize(
    "change",
    [
        {"sample_rate": 44_100},
        {"n_fft": 1024},
        {"hop_length": 256},
        {"n_mels": 64},
        {"n_mfcc": 13},
        {"fmin": 20.0},
        {"fmax": 8_000.0},
        {"summary": None, "n_frames": 10},
        {"summary": None, "n_samples": 10},
    ],
    ids=str,
)
def test_every_parameter_changes_the_digest(change):
    assert build_spec("a", {**MFCC, **change}).digest != build_spec("a", MFCC).digest


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hop_length": 0}, "hop_length=0: Input should be greater than 0"),
        ({"n_fft": -1}, "n_fft=-1: Input should be greater than 0"),
        ({"sample_rate": 22_050.5}, "sample_rate=22050.5: Input should be a valid integer"),
        ({"kind": "chroma"}, "kind='chroma': Input should be 'mfcc' or 'mel_spectrogram'"),
        ({"hop": 3}, "hop=3: Extra inputs are not permitted"),
        ({"n_mfcc": 129}, "n_mfcc=129 must be at most n_mels=128"),
        ({"n_mfcc": None}, "n_mfcc=None must be given for kind=mfcc"),
        ({"kind": "mel_spectrogram"}, "n_mfcc=20 must be given for kind=mfcc, and only for it"),
        ({"fmax": 11_026.0}, "fmax=11026.0 must be above fmin=0.0 and at most 11025.0 Hz"),
        ({"fmax": float("nan")}, "fmax=nan must be above"),
        ({"fmin": 300.0, "fmax": 300.0}, "fmax=300.0 must be above fmin=300.0"),
        ({"fmin": 11_025.0}, "fmin=11025.0 must be below 11025.0 Hz"),
        ({"fmin": -1.0}, "fmin=-1.0: Input should be greater than or equal to 0"),
        ({"summary": None}, "exactly one of n_samples, n_frames and summary"),
        ({"n_frames": 5}, "exactly one of n_samples, n_frames and summary"),
    ],
)
def test_an_impossible_value_is_refused_with_the_value_and_the_rule(change, message):
    with pytest.raises(FeatureSpecError) as caught:
        build_spec("mine", {**MFCC, **change})
    assert str(caught.value).startswith("features.mine: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_parameter_is_named():
    with pytest.raises(FeatureSpecError, match=r"^features.mine: sample_rate must be given$"):
        build_spec("mine", {"kind": "mfcc", "n_mfcc": 20, "summary": "mean"})


@pytest.mark.parametrize("name", ["Mfcc", "2d", "a-b", "", "a b", "a\n", *TRACK_SCHEMA.names])
def test_a_name_that_can_be_no_column_of_a_dataset_is_refused(name):
    with pytest.raises(FeatureSpecError, match="name="):
        build_spec(name, MFCC)


def test_a_spec_can_not_be_changed():
    with pytest.raises(ValidationError, match="frozen"):
        STUDY_SPECS["mfcc"].n_mfcc = 13


def test_a_spec_goes_through_a_manifest_unchanged():
    for spec in STUDY_SPECS.values():
        assert FeatureSpec.model_validate_json(spec.model_dump_json()) == spec


def test_specs_come_in_the_order_in_which_they_are_named():
    assert [spec.name for spec in resolve_specs(["melgram", "mfcc_mean"])] == ["melgram", "mfcc_mean"]


def test_a_spec_from_yaml_joins_the_study_s():
    features = yaml.safe_load("mfcc_20: {kind: mfcc, sample_rate: 22050, n_mfcc: 20, summary: mean, fmax: 8000}")
    mine, melgram = resolve_specs(["mfcc_20", "melgram"], features)
    assert (mine.name, mine.shape, mine.fmax) == ("mfcc_20", (20,), 8_000.0)
    assert melgram is STUDY_SPECS["melgram"]


def test_a_spec_of_the_user_s_wins_over_the_study_s_of_the_same_name():
    (spec,) = resolve_specs(["mfcc"], {"mfcc": MFCC})
    assert spec.shape == (20,)


def test_a_bad_spec_is_refused_even_when_it_is_not_asked_for():
    with pytest.raises(FeatureSpecError, match=r"features.broken: sample_rate=0"):
        resolve_specs(["mfcc"], {"broken": {**MFCC, "sample_rate": 0}})


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["mfc"], "unknown feature 'mfc'; known are melgram, mfcc, mfcc_mean"),
        (["mfcc", "melgram", "mfcc"], "feature 'mfcc' is named twice"),
        ([], "no feature is named; known are melgram, mfcc, mfcc_mean"),
    ],
)
def test_names_that_make_no_sense_are_refused(names, message):
    with pytest.raises(FeatureSpecError, match=message):
        resolve_specs(names)
