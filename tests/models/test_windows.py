import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from genre_spark.features import FeatureSpec, Segments
from genre_spark.features.audio import Pcm
from genre_spark.features.compute import compute_features
from genre_spark.features.spec import STUDY_SPECS
from genre_spark.models.windows import seconds_read, usual_hop_s, window_s, window_starts

LENGTHS = st.integers(1, 5_000)


@given(n=LENGTHS, size=LENGTHS, hop=LENGTHS)
def test_windows_lie_in_the_signal_one_hop_apart_up_to_its_end(n: int, size: int, hop: int) -> None:
    starts = list(window_starts(n, size, hop))
    assert starts[0] == 0
    assert all(start + size <= n for start in starts) or starts == [0]
    steps = np.diff(starts)
    assert (steps[:-1] == hop).all()
    assert (steps > 0).all()
    # What is left behind the last one is less than a tenth of a window.
    assert n - (starts[-1] + size) < 0.1 * size


def test_a_rest_of_a_tenth_of_a_window_gets_a_window_and_a_shorter_one_gets_none() -> None:
    assert list(window_starts(109, 100, 100)) == [0]
    assert list(window_starts(110, 100, 100)) == [0, 10]


SPECS = {
    "samples": FeatureSpec(name="f", kind="mel_spectrogram", sample_rate=8_000, n_samples=24_000),
    "frames": FeatureSpec(name="f", kind="mfcc", sample_rate=8_000, n_frames=60),
    "segments": FeatureSpec(
        name="f", kind="mfcc", sample_rate=8_000, summary="mean", segments=Segments(count=2, length_s=1.7)
    ),
}


@pytest.mark.parametrize("kind", SPECS)
def test_a_model_reads_so_much_of_a_file_and_no_more(kind: str) -> None:
    spec = SPECS[kind]
    read_s = seconds_read(spec)
    assert read_s is not None
    samples = np.random.default_rng(0).standard_normal(5 * 8_000).astype(np.float32)

    def features_with_silence(first_s: float, last_s: float) -> np.ndarray:
        changed = samples.copy()
        changed[round(first_s * 8_000) : round(last_s * 8_000)] = 0
        return compute_features(Pcm(changed, 8_000), [spec])[spec.name]

    whole = features_with_silence(0, 0)
    # The last frame looks half its length ahead.
    np.testing.assert_array_equal(features_with_silence(read_s + 0.13, 5), whole)
    assert not np.array_equal(features_with_silence(read_s - 0.3, read_s), whole)


def test_statistics_read_all() -> None:
    assert seconds_read(STUDY_SPECS["mfcc_mean"]) is None
    assert window_s(STUDY_SPECS["mfcc_mean"]) == 30


def test_the_studys_features_read_what_the_help_says() -> None:
    assert f"{window_s(STUDY_SPECS['melgram']):.1f} {window_s(STUDY_SPECS['mfcc']):.1f}" == "29.1 29.0"


def test_windows_follow_one_another_by_segments_but_not_by_next_to_nothing() -> None:
    def hop_s(**segments: float) -> float:
        given = FeatureSpec(name="f", kind="mfcc", sample_rate=8_000, summary="mean", segments=Segments(**segments))
        return usual_hop_s(given)

    assert hop_s() == pytest.approx(4.99)
    assert hop_s(count=6, length_s=5.0, overlap_s=4.9) == pytest.approx(0.6)
    assert hop_s(count=1, length_s=5.0, overlap_s=0.0) == 5
