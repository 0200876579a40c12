"""What asks for more than a job can give is refused before anything is made of it."""

import tracemalloc

import pytest

from genre_spark.errors import FeatureSpecError
from genre_spark.features.bounds import LARGEST, MOST_BYTES, RATES
from genre_spark.features.families import PARAMETERS
from genre_spark.features.sound_file import check_head
from genre_spark.features.spec import REGISTRY, build_spec

MEAN = {"sample_rate": 22_050, "summary": "mean"}
MFCC = {"kind": "mfcc", **MEAN}
FRAMES = {"kind": "mel_spectrogram", "sample_rate": 22_050}


def refusal(parameters):
    tracemalloc.start()
    with pytest.raises(FeatureSpecError) as caught:
        build_spec("mine", parameters)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2e6, "something was made of it"
    assert str(caught.value).startswith("features.mine: ")
    assert "\n" not in str(caught.value)
    return str(caught.value).removeprefix("features.mine: ")


@pytest.mark.parametrize("name", LARGEST)
@pytest.mark.parametrize("factor", [1, 10**9, 10**300])
def test_one_number_beyond_its_bound_is_refused_with_the_bound(name, factor):
    kind = next((kind for kind, taken in PARAMETERS.items() if name in taken), "mfcc")
    parameters = {"kind": kind, **MEAN} if name not in ("n_samples", "n_frames") else FRAMES
    # The next even number; a multiple of 12 for the chroma.
    value = LARGEST[name] * factor + 12
    assert refusal({**parameters, name: value}) == f"{name}={value} must be at most {LARGEST[name]}"


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({**MFCC, "sample_rate": 1}, "sample_rate=1 must be 2000 to 768000 Hz"),
        ({**MFCC, "sample_rate": 10**9}, "sample_rate=1000000000 must be 2000 to 768000 Hz"),
        ({**MFCC, "segments": {"count": 10**9}}, "segments.count=1000000000: Input should be less than or equal to"),
        (
            {**MFCC, "segments": {"length_s": 1e12}},
            "segments.length_s=1e+12 at sample_rate=22050 needs 2.2e+16 samples of a clip; it must be",
        ),
        ({**MFCC, "segments": {"length_s": 1e308}}, "segments.length_s=1e+308 at sample_rate=22050 needs inf samples"),
        (
            {**MFCC, "segments": {"length_s": 1e-9, "overlap_s": 0}},
            "segments.length_s=1e-09 holds no sample at sample_rate=22050",
        ),
        (
            {**FRAMES, "n_frames": 1_000_000},
            "n_frames=1000000 with hop_length=512 needs 5.12e+08 samples of a clip; it must be at most 268435456",
        ),
        (
            {**MFCC, "kind": "mfcc_delta", "width": 4_095, "hop_length": 10**6},
            "width=4095 with hop_length=1000000 needs 4.09e+09 samples of a clip",
        ),
        ({**FRAMES, "n_frames": 500_001, "n_mels": 256}, "256 x 500001 values are 488 MiB a track; it must be at most"),
        ({**FRAMES, "n_samples": 2**28, "n_mels": 129}, "129 x 524289 values are 258 MiB a track"),
        (
            {**FRAMES, "n_frames": 1_000, "segments": {"count": 1_000}},
            "1000 x 128 x 1000 values are 488 MiB a track; it must be at most 256 MiB",
        ),
        ({**MFCC, "n_mels": 256, "n_fft": 2**20}, "n_mels=256 times n_fft=1048576 must be at most 67108864"),
        ({"kind": "chroma_stft", **MEAN, "n_chroma": 1_200, "n_fft": 2**18}, "n_chroma=1200 times n_fft=262144"),
        (
            {**MFCC, "n_mels": 2_048, "hop_length": 1},
            "hop_length=1 at sample_rate=22050 makes 2048 rows of 22050 values a second; all together must be at most",
        ),
        ({"kind": "tempogram", **MEAN, "win_length": 16_385}, "win_length=16385 must be at most 16384 for kind="),
        ({"kind": "chroma_cqt", **MEAN, "fmin": 1e-300}, "fmin=1e-300 must be at least 1.0 Hz for kind=chroma_cqt"),
        (
            {"kind": "chroma_cqt", **MEAN, "bins_per_octave": 2_400, "hop_length": 441},
            "bins_per_octave=2400 from fmin=32.7032 at sample_rate=22050 with hop_length=441 needs wavelets of 2",
        ),
    ],
)  # fmt: skip
def test_numbers_that_together_ask_for_too_much_are_refused_with_the_rule(parameters, message):
    assert refusal(parameters).startswith(message)


@pytest.mark.parametrize(
    "parameters",
    [
        {**MFCC, "sample_rate": 192_000},
        {**MFCC, "n_fft": 65_536, "n_mels": 512},
        {**MFCC, "hop_length": 16},
        {**FRAMES, "n_samples": 3 * 3_600 * 22_050},
        {**FRAMES, "n_frames": 155_000},
        {**MFCC, "segments": {"count": 3_600, "length_s": 1, "overlap_s": 0}},
        {"kind": "chroma_cqt", **MEAN, "sample_rate": 44_100, "hop_length": 441, "bins_per_octave": 84},
    ],
)
def test_what_somebody_may_want_is_not_refused(parameters):
    build_spec("mine", parameters)


def test_the_largest_array_and_a_row_group_of_them_fit_the_offsets_of_parquets_lists():
    assert 16 * MOST_BYTES // 4 < 2**31


def test_a_clip_can_be_resampled_to_any_rate_that_it_may_have():
    assert check_head.__globals__["RATES"] is RATES
    assert all(spec.sample_rate in RATES for spec in REGISTRY.values())
