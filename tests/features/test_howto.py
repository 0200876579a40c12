"""The page on features names what there is, with its defaults, and what librosa has beside it."""

import inspect
import re
from collections.abc import Callable
from pathlib import Path

import librosa
import pytest
import yaml

from genre_spark.errors import FeatureSpecError
from genre_spark.features import bounds
from genre_spark.features.families import OF_EVERY_KIND, PARAMETERS
from genre_spark.features.spec import FeatureSpec, Segments, Statistic, Window, build_spec

PAGE = (Path(__file__).parents[2] / "docs" / "howto" / "features.md").read_text(encoding="utf-8")

# What takes the parameters of a kind.
MEL = (librosa.feature.melspectrogram, librosa.filters.mel, librosa.power_to_db)
FUNCTIONS: dict[str, tuple[Callable, ...]] = {
    "mfcc": (librosa.feature.mfcc, *MEL),
    "mfcc_delta": (librosa.feature.delta,),
    "mel_spectrogram": MEL,
    "chroma_stft": (librosa.feature.chroma_stft, librosa.filters.chroma),
    "onset_strength": (librosa.onset.onset_strength,),
    "fma_518": (),
}
# A signal or what was made of it, its rate, and where arrays lie.
OF_NO_SPEC = {"y", "sr", "S", "C", "data", "chroma", "onset_envelope", "kwargs", "axis", "dtype"}


def rows() -> dict[str, tuple[str, str]]:
    found = re.findall(r"^\| `(\w+)` \| (.+) \| (.+) \|$", PAGE.partition("### Parameters")[2], re.MULTILINE)
    return {kind: (parameters, fixed) for kind, parameters, fixed in found if kind in PARAMETERS}


def written(kind: str) -> dict[str, object]:
    text = rows()[kind][0]
    of_another = re.match(r"those of `(\w+)`", text)
    own = {name: yaml.safe_load(value) for name, value in re.findall(r"`(\w+): ([^`]+)`", text)}
    return (written(of_another[1]) if of_another else {}) | own


def test_the_page_has_every_kind() -> None:
    assert list(rows()) == list(PARAMETERS)


@pytest.mark.parametrize("kind", PARAMETERS)
def test_the_page_has_all_parameters_of_a_kind_with_their_defaults(kind: str) -> None:
    assert written(kind) == dict(PARAMETERS[kind])


@pytest.mark.parametrize("kind", PARAMETERS)
def test_what_librosa_takes_is_a_parameter_or_named_as_not_offered(kind: str) -> None:
    default = (getattr(librosa.feature, kind),) if hasattr(librosa.feature, kind) else ()
    taken = {
        name for function in FUNCTIONS.get(kind, default) for name in inspect.signature(function).parameters
    } - OF_NO_SPEC
    not_offered = taken - set(PARAMETERS[kind]) - set(OF_EVERY_KIND)
    assert not_offered <= set(re.findall(r"`(\w+)`", rows()[kind][1]))
    for name in not_offered:
        with pytest.raises(FeatureSpecError, match=rf"{name}=1 is not a parameter of kind={kind}; it takes"):
            build_spec("mine", {"kind": kind, "sample_rate": 44_100, name: 1})


@pytest.mark.parametrize("kind", PARAMETERS)
def test_what_the_page_says_a_kind_takes_can_be_given(kind: str) -> None:
    shape = {} if kind == "fma_518" else {"summary": "mean"}
    spec = {"kind": kind, "sample_rate": 44_100, **shape}
    assert build_spec("mine", {**spec, **written(kind)}).digest == build_spec("mine", spec).digest


def test_the_page_has_every_window_statistic_and_default_of_all_kinds() -> None:
    assert re.findall(r"`(\w+)`", re.search(r"`window` is one of (.+): no tuple", PAGE)[1]) == list(Window.__args__)
    assert re.findall(r"`(\w+)`", re.search(r"and `summary` \((.+?)\)", PAGE)[1]) == list(Statistic.__args__)
    assert f"`hop_length` ({FeatureSpec.model_fields['hop_length'].default})" in PAGE
    for name, field in Segments.model_fields.items():
        assert f"`{name}` ({field.default})" in PAGE
    assert f"`sample_rate` ({bounds.RATES[0]:,} to {bounds.RATES[-1]:,} Hz" in PAGE


def test_the_page_has_every_bound() -> None:
    lines = re.findall(r"^\| (.+) \| (\d+) \|$", PAGE.partition("| what | at most |")[2], re.MULTILINE)
    written: dict[str, int] = {}
    for names, value in lines:
        for name in re.findall(r"`([\w.]+)`", names):
            written.setdefault(name, int(value))  # products stand below
    assert dict(bounds.LARGEST).items() <= written.items()
    assert written["win_length"] == bounds.LARGEST_TEMPOGRAM
    assert written["segments.count"] == bounds.MOST_SEGMENTS
    values = [int(value) for _, value in lines]
    assert values[-4:] == [bounds.MOST_SAMPLES, bounds.MOST_PER_SECOND, bounds.MOST_WEIGHTS, bounds.MOST_WAVELETS]
    assert f"| {bounds.MOST_BYTES // 2**20} MiB |" in PAGE
    assert f"at least {bounds.LOWEST_CQT_HZ:g} Hz" in PAGE
