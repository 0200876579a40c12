from collections.abc import Callable
from pathlib import Path

import librosa
import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from genre_spark.errors import AudioNotFinite, FeatureSpecError
from genre_spark.features import FeatureSpec, Pcm, compute_features, extract_file, resolve_specs


def plain_librosa(path: Path) -> dict[str, np.ndarray]:
    """The study's features as a user would write them: one `librosa.load` per rate."""
    y, _ = librosa.load(path, sr=44_100)
    shortest = 2_499 * 512
    padded = librosa.util.fix_length(y, size=max(len(y), shortest))
    low, _ = librosa.load(path, sr=12_000)
    power = librosa.feature.melspectrogram(
        y=librosa.util.fix_length(low, size=349_440), sr=12_000, n_fft=512, hop_length=256, n_mels=96
    )
    return {
        "mfcc_mean": np.mean(librosa.feature.mfcc(y=y, sr=44_100, n_mfcc=80), axis=1),
        "mfcc": librosa.feature.mfcc(y=padded, sr=44_100, n_mfcc=80)[:, :2_500],
        "melgram": librosa.power_to_db(power),
    }


def assert_like_librosa(features: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    for name, tolerance in {"mfcc_mean": 1e-3, "mfcc": 2e-3, "melgram": 2e-3}.items():
        assert features[name].dtype == np.float32
        assert features[name].shape == expected[name].shape
        np.testing.assert_allclose(features[name], expected[name], rtol=0, atol=tolerance, err_msg=name)


def test_real_clips_have_librosas_values(music: Path) -> None:
    for path in [*sorted(music.glob("fma/fma_small/*/*.mp3"))[:3], *sorted(music.glob("emotify/pop/*.mp3"))[:1]]:
        assert_like_librosa(extract_file(path), plain_librosa(path))


@pytest.mark.parametrize(("rate", "channels", "seconds"), [(44_100, 2, 31.0), (48_000, 1, 3.0), (22_050, 6, 0.1)])
def test_clips_of_any_rate_and_length_have_librosas_values_and_one_shape(
    write_clip: Callable[..., Path], rate: int, channels: int, seconds: float
) -> None:
    path = write_clip(rate=rate, channels=channels, seconds=seconds)
    features = extract_file(path)
    assert {name: array.shape for name, array in features.items()} == {
        "mfcc_mean": (80,),
        "mfcc": (80, 2_500),
        "melgram": (96, 1_366),
    }
    assert_like_librosa(features, plain_librosa(path))


@given(n=st.integers(1, 30_000), level=st.sampled_from([0.0, 1e-6, 0.5, 1.0]), seed=st.integers(0, 5))
@settings(max_examples=15, deadline=None)
def test_any_signal_gives_finite_features_of_the_shape_that_the_spec_says(n: int, level: float, seed: int) -> None:
    specs = [
        FeatureSpec(name="a", kind="mfcc", sample_rate=22_050, n_mfcc=20, summary="mean"),
        FeatureSpec(name="b", kind="mfcc", sample_rate=22_050, n_mfcc=13, n_frames=30),
        FeatureSpec(name="c", kind="mel_spectrogram", sample_rate=16_000, n_mels=40, n_samples=16_000, hop_length=160),
    ]
    samples = (level * np.random.default_rng(seed).uniform(-1, 1, n)).astype(np.float32)
    features = compute_features(Pcm(samples, 22_050), specs)
    for spec in specs:
        assert features[spec.name].shape == spec.shape
        assert np.isfinite(features[spec.name]).all()


def test_a_feature_is_the_same_alone_and_among_others(write_clip: Callable[..., Path]) -> None:
    path = write_clip(seconds=2.0)
    together = extract_file(path)
    for name, array in together.items():
        np.testing.assert_array_equal(extract_file(path, [name])[name], array)


def test_a_clip_and_its_start_share_their_first_frames(write_clip: Callable[..., Path]) -> None:
    spec = FeatureSpec(name="m", kind="mel_spectrogram", sample_rate=44_100, n_frames=100)
    path = write_clip(seconds=3.0)
    samples = soundfile.read(path, dtype="float32")[0]
    soundfile.write(path.with_name("longer.wav"), np.concatenate([samples, samples]), 44_100)
    np.testing.assert_allclose(
        extract_file(path, [spec])["m"], extract_file(path.with_name("longer.wav"), [spec])["m"], atol=1e-3
    )


def test_samples_so_large_that_features_overflow_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "loud.wav"
    soundfile.write(path, np.full(44_100, 1e30, np.float32), 44_100, subtype="FLOAT")
    with pytest.raises(AudioNotFinite, match=r"loud\.wav: feature mfcc_mean"):
        extract_file(path, ["mfcc_mean"])


def test_an_unknown_feature_names_the_known_ones(write_clip: Callable[..., Path]) -> None:
    with pytest.raises(FeatureSpecError, match="unknown feature 'chroma'; known are melgram, mfcc, mfcc_mean"):
        extract_file(write_clip(), ["chroma"])
    assert [spec.name for spec in resolve_specs(["melgram", "mfcc"])] == ["melgram", "mfcc"]
