"""Specs: their shapes, what their digests depend on, and what is refused."""

import librosa
import numpy as np
import pytest
import yaml
from pydantic import ValidationError

from genre_spark.corpora.tracks import TRACK_SCHEMA
from genre_spark.errors import FeatureSpecError
from genre_spark.features.families import PARAMETERS
from genre_spark.features.spec import FRAME_SPECS, REGISTRY, STUDY_SPECS, FeatureSpec, build_spec, resolve_specs

MFCC = {"kind": "mfcc", "sample_rate": 22_050, "n_mfcc": 20, "summary": "mean"}
MEL = {"kind": "mel_spectrogram", "sample_rate": 22_050, "n_frames": 100}
DELTA = {**MFCC, "kind": "mfcc_delta"}
CONTRAST = {"kind": "spectral_contrast", "sample_rate": 22_050, "summary": "mean"}
CQT = {"kind": "chroma_cqt", "sample_rate": 22_050, "summary": "mean"}


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
        "mfcc_mean": "a0dc1b4b395390eb",
        "mfcc": "8736433a79cbd200",
        "melgram": "98e48ddc74934bca",
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
        {"summary": ["mean", "std"]},
        {"win_length": 1024},
        {"window": "hamming"},
        {"segments": {}},
        {"segments": {"count": 3}},
        {"segments": {"length_s": 4}},
        {"segments": {"overlap_s": 0}},
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
        ({"kind": "chroma"}, "kind='chroma': Input should be 'mfcc', 'mfcc_delta', 'mel_spectrogram'"),
        ({"hop": 3}, "hop=3 is not a parameter of kind=mfcc; it takes n_fft, win_length, window, n_mels, fmin, fmax"),
        ({"htk": True}, "htk=True is not a parameter of kind=mfcc; it takes n_fft"),
        ({1: 2}, "1=2 is not a parameter of kind=mfcc; it takes n_fft"),
        ({"kind": ["mfcc"]}, "kind=['mfcc']: Input should be 'mfcc'"),
        ({"name": "other"}, "name='other' must be left out: 'mine' is its name"),
        ({"n_mfcc": 129}, "n_mfcc=129 must be at most n_mels=128"),
        (
            {"kind": "mel_spectrogram"},
            "n_mfcc=20 is not a parameter of kind=mel_spectrogram; it takes n_fft, win_length",
        ),
        ({"roll_percent": 0.5}, "roll_percent=0.5 is not a parameter of kind=mfcc; it takes n_fft"),
        ({"n_fft": 1}, "n_fft=1 must be an even number, 2 or more"),
        ({"n_fft": 1025}, "n_fft=1025 must be an even number, 2 or more"),
        ({"win_length": 4096}, "win_length=4096 must be at most n_fft=2048"),
        ({"window": "kaiser"}, "window='kaiser': Input should be 'hann'"),
        ({"summary": ["mean", "mode"]}, "summary.1='mode': Input should be 'mean', 'std'"),
        ({"summary": ["mean", "mean"]}, "summary=['mean', 'mean'] names a statistic twice"),
        ({"summary": []}, "summary=[]: Tuple should have at least 1 item"),
        ({"segments": {"count": 0}}, "segments.count=0: Input should be greater than 0"),
        ({"segments": {"overlap_s": 5}}, "segments: overlap_s=5.0 must be below length_s=5.0"),
        ({"segments": {"parts": 5}}, "segments: parts=5 is no parameter; it takes count, length_s, overlap_s"),
        ({"fmax": 11_026.0}, "fmax=11026.0 must be above fmin=0.0 and at most 11025.0 Hz"),
        ({"fmax": float("nan")}, "fmax=nan: Input should be a finite number"),
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


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({**DELTA, "width": 4}, "width=4 must be an odd number, 3 or more"),
        ({**DELTA, "width": 1}, "width=1 must be an odd number, 3 or more"),
        ({**DELTA, "summary": None, "n_frames": 7}, "width=9 must be at most the number of frames, 7"),
        ({**DELTA, "summary": None, "n_samples": 4095}, "width=9 must be at most the number of frames, 8"),
        ({**DELTA, "order": 3}, "order=3: Input should be less than or equal to 2"),
        (
            {**CONTRAST, "n_bands": 7},
            "n_bands=7 octaves from fmin=200.0 reach 12800 Hz, they must end below 11025.0 Hz",
        ),
        ({**CONTRAST, "fmin": 0}, "fmin=0.0 must be above 0 Hz for kind=spectral_contrast"),
        ({**CONTRAST, "n_fft": 64}, "n_fft=64 must be larger: the band from 0 to 200 Hz holds no bin"),
        ({**CONTRAST, "quantile": 1.0}, "quantile=1.0: Input should be less than 1"),
        ({**CQT, "n_octaves": 9}, "n_octaves=9 from fmin=32.7032 reach"),
        ({**CQT, "sample_rate": 8_000}, "they must end below 4000.0 Hz (Nyquist)"),
        ({**CQT, "fmin": 0.0}, "fmin=0.0 must be above 0 Hz for kind=chroma_cqt"),
        ({**CQT, "bins_per_octave": 30}, "bins_per_octave=30 must be a multiple of 12 chroma"),
        ({**CQT, "tuning": 0.7}, "tuning=0.7: Input should be less than or equal to 0.5"),
        ({**CQT, "kind": "tonnetz", "n_chroma": 24}, "n_chroma=24 is not a parameter of kind=tonnetz"),
        ({"kind": "rms", "sample_rate": 8_000, "summary": "mean", "frame_length": 3}, "frame_length=3 must be an even"),
        ({"kind": "fma_518", "sample_rate": 44_100, "summary": "mean"}, "summary is not a parameter of kind=fma_518"),
        ({"kind": "fma_518", "sample_rate": 44_100, "n_fft": 2048}, "n_fft=2048 is not a parameter of kind=fma_518"),
        ({"kind": "fma_518", "sample_rate": 44_100, "hop_length": 256}, "hop_length=256 is not a parameter of kind"),
        ({"kind": "fma_518", "sample_rate": 8_000}, "sample_rate=8000 must be at least"),
    ],
)
def test_a_kind_refuses_what_is_impossible_for_it(parameters, message):
    with pytest.raises(FeatureSpecError) as caught:
        build_spec("mine", parameters)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["norm", "top_db", "htk", "n_ffft", "n_chroma", "frame_length"])
def test_a_name_that_a_kind_does_not_take_is_refused_without_a_value_too(name):
    with pytest.raises(
        FeatureSpecError, match=rf"^features.mine: {name}=null is not a parameter of kind=mfcc; it takes"
    ):
        build_spec("mine", {**MFCC, name: None})


@pytest.mark.parametrize("kind", PARAMETERS)
def test_null_is_taken_where_it_is_the_default_and_nowhere_else(kind):
    alone = {"kind": kind, "sample_rate": 44_100, "summary": "mean"}
    if kind == "fma_518":
        del alone["summary"]
    digest = build_spec("mine", alone).digest
    for name, default in {**PARAMETERS[kind], "hop_length": 512, "n_samples": None, "segments": None}.items():
        if default is None:
            assert build_spec("mine", {**alone, name: None}).digest == digest
            continue
        with pytest.raises(FeatureSpecError) as caught:
            build_spec("mine", {**alone, name: None})
        assert (
            str(caught.value)
            == f"features.mine: {name}=null means nothing for kind={kind}; leave it out for {default!r}"
        )
    with pytest.raises(FeatureSpecError, match="sample_rate=null: it must be given"):
        build_spec("mine", {**alone, "sample_rate": None})


# As YAML gives them: `true`, "40", 40.0.
@pytest.mark.parametrize("value", [True, "40", 40.0], ids=repr)
@pytest.mark.parametrize("name", ["sample_rate", "hop_length", "n_fft", "win_length", "n_mels", "n_mfcc", "count"])
def test_what_is_no_whole_number_is_none(name, value):
    change = {"segments": {"count": value}} if name == "count" else {name: value}
    with pytest.raises(FeatureSpecError) as caught:
        build_spec("mine", {**MFCC, **change})
    assert str(caught.value).endswith(f"{name}={value!r}: Input should be a valid integer")


@pytest.mark.parametrize("value", [True, "4"], ids=repr)
@pytest.mark.parametrize("name", ["fmin", "fmax", "tuning", "quantile", "roll_percent", "length_s", "overlap_s"])
def test_what_is_no_number_is_none(name, value):
    kind = {"tuning": "chroma_cqt", "quantile": "spectral_contrast", "roll_percent": "spectral_rolloff"}.get(
        name, "mfcc"
    )
    change = {"segments": {name: value}} if name.endswith("_s") else {name: value}
    with pytest.raises(FeatureSpecError) as caught:
        build_spec("mine", {"kind": kind, "sample_rate": 44_100, "summary": "mean", **change})
    assert str(caught.value).endswith(f"{name}={value!r}: Input should be a valid number")


def test_the_largest_spectral_contrast_and_constant_q_that_fit_are_what_librosa_takes_too():
    y = np.random.default_rng(0).uniform(-1, 1, 22_050).astype(np.float32)
    # librosa refuses 7 bands and 8 octaves at this rate.
    build_spec("a", {**CONTRAST, "n_bands": 6, "n_fft": 512})
    assert librosa.feature.spectral_contrast(y=y, sr=22_050, n_bands=6, n_fft=512).shape[0] == 7
    with pytest.raises(librosa.ParameterError):
        librosa.feature.spectral_contrast(y=y, sr=22_050, n_bands=7)
    build_spec("a", {**CQT, "n_octaves": 8, "tuning": 0.0})
    assert librosa.feature.chroma_cqt(y=y, sr=22_050, n_octaves=8, tuning=0.0).shape[0] == 12
    with pytest.raises(librosa.ParameterError):
        librosa.feature.chroma_cqt(y=y, sr=22_050, n_octaves=9, tuning=0.0)


def test_every_kind_stands_in_the_registry():
    assert {spec.kind for spec in REGISTRY.values()} == set(PARAMETERS)
    assert not set(STUDY_SPECS) & set(FRAME_SPECS)


def test_a_kind_has_librosas_defaults():
    spec = build_spec("mine", {"kind": "chroma_cens", "sample_rate": 22_050, "summary": "mean"})
    assert (spec.bins_per_octave, spec.n_octaves, spec.win_len_smooth, spec.tuning) == (36, 7, 41, None)
    assert spec.fmin == pytest.approx(librosa.note_to_hz("C1"))


def test_statistics_of_a_summary_follow_each_other_in_the_order_given():
    one = build_spec("a", MFCC)
    several = build_spec("a", {**MFCC, "summary": ["std", "mean"]})
    assert (one.summary, one.shape) == (("mean",), (20,))
    assert (several.summary, several.shape) == (("std", "mean"), (40,))
    assert build_spec("a", {**MFCC, "summary": ["mean"]}).digest == one.digest
    assert build_spec("a", {**MFCC, "summary": ["mean", "std"]}).digest != several.digest


def test_segments_are_the_study_s_unless_told_otherwise():
    spec = build_spec("a", {**MFCC, "segments": {}})
    assert spec.shape == (20,)
    assert spec.segment_starts_s == pytest.approx((0.0, 4.99, 9.98, 14.97, 19.96, 24.95))
    assert build_spec("a", MFCC).segment_starts_s == (0.0,)


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
    segmented = build_spec("s", {**MFCC, "summary": ["mean", "std"], "segments": {"count": 2}})
    for spec in [*REGISTRY.values(), segmented]:
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
        (["mfc"], "unknown feature 'mfc'; known are chroma_cens, .*, zero_crossing_rate"),
        (["mfcc", "melgram", "mfcc"], "feature 'mfcc' is named twice"),
        ([], "no feature is named; known are chroma_cens, .*, zero_crossing_rate"),
    ],
)
def test_names_that_make_no_sense_are_refused(names, message):
    with pytest.raises(FeatureSpecError, match=message):
        resolve_specs(names)
