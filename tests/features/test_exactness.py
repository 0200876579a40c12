"""Every kind of feature against librosa called the plain way on the same PCM."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from genre_spark.features import FeatureSpec, Pcm, compute_features, decode, fft
from genre_spark.features.fma_518 import COLUMNS
from genre_spark.features.spec import REGISTRY, build_spec
from tests.features.plain_librosa import librosa_features

# Largest difference by kind, in the feature's unit. librosa transforms in double precision and keeps single: so do we
# for all but the MFCCs, whose tolerance is what single precision costs.
TOLERANCE = {
    "mfcc": 2e-3,
    "mfcc_delta": 2e-3,
    "mel_spectrogram": 1e-3,  # dB
    "chroma_stft": 1e-3,
    "chroma_cqt": 1e-3,
    "chroma_cens": 1e-5,
    "tonnetz": 1e-3,
    "spectral_centroid": 0.01,  # Hz
    "spectral_bandwidth": 0.01,  # Hz
    "spectral_contrast": 1e-3,  # dB
    "spectral_rolloff": 1e-3,  # Hz: the very bin
    "spectral_flatness": 1e-5,
    "rms": 1e-6,
    "zero_crossing_rate": 1e-7,  # exact, rounded to float32
    "onset_strength": 1e-3,
    "tempogram": 1e-3,
}
SHORT = {"sample_rate": 22_050, "n_samples": 22_050}
SPECS = [build_spec(kind, {"kind": kind, **SHORT}) for kind in TOLERANCE]
OTHERS = [
    build_spec("mfcc_b", {"kind": "mfcc", "sample_rate": 16_000, "n_fft": 512, "win_length": 400, "hop_length": 160,
                          "n_mels": 40, "n_mfcc": 13, "fmin": 20, "fmax": 7_600, "window": "hamming", "n_frames": 90}),
    build_spec("mel_b", {"kind": "mel_spectrogram", "sample_rate": 8_000, "n_fft": 256, "n_mels": 20, "hop_length": 100,
                         "window": "blackman", "summary": ["mean", "std", "min", "max", "median"]}),
    build_spec("delta_b", {"kind": "mfcc_delta", "sample_rate": 22_050, "order": 2, "width": 5, "summary": "mean"}),
    build_spec("chroma_b", {"kind": "chroma_stft", "sample_rate": 44_100, "n_chroma": 24, "tuning": 0.1, "n_fft": 4096,
                            "summary": "mean"}),
    build_spec("cqt_b", {"kind": "chroma_cqt", "sample_rate": 44_100, "n_octaves": 5, "fmin": 65.4, "hop_length": 256,
                         "bins_per_octave": 24, "tuning": 0.0, "summary": "mean"}),
    build_spec("cens_b", {"kind": "chroma_cens", "sample_rate": 22_050, "win_len_smooth": 10, "n_frames": 60}),
    build_spec("tonnetz_b", {"kind": "tonnetz", "sample_rate": 22_050, "bins_per_octave": 12, "summary": "mean"}),
    build_spec("contrast_b", {"kind": "spectral_contrast", "sample_rate": 16_000, "fmin": 100, "n_bands": 5,
                              "quantile": 0.1, "summary": "mean"}),
    build_spec("rolloff_b", {"kind": "spectral_rolloff", "sample_rate": 32_000, "roll_percent": 0.5, "n_frames": 60}),
    build_spec("onset_b", {"kind": "onset_strength", "sample_rate": 22_050, "lag": 2, "max_size": 3, "n_mels": 64,
                           "hop_length": 441, "n_frames": 50}),
    build_spec("tempogram_b", {"kind": "tempogram", "sample_rate": 22_050, "win_length": 100, "summary": "max"}),
    build_spec("rms_b", {"kind": "rms", "sample_rate": 48_000, "frame_length": 1000, "hop_length": 300,
                         "summary": "mean"}),
    build_spec("zcr_b", {"kind": "zero_crossing_rate", "sample_rate": 48_000, "frame_length": 1000, "hop_length": 300,
                         "n_frames": 100}),
]  # fmt: skip


def assert_like_librosa(pcm: Pcm, specs: list[FeatureSpec]) -> None:
    features = compute_features(pcm, specs)
    for spec in specs:
        expected = librosa_features(pcm, spec)
        assert features[spec.name].dtype == np.float32
        assert features[spec.name].shape == expected.shape == spec.shape
        # A mean of many values that are each within 2e-3 is nearer than they.
        tolerance = 1e-3 if spec.kind == "mfcc" and spec.summary == ("mean",) else TOLERANCE[spec.kind]
        np.testing.assert_allclose(features[spec.name], expected, rtol=1e-6, atol=tolerance, err_msg=spec.name)


def signal(name: str, rate: int, seconds: float) -> Pcm:
    random = np.random.default_rng(0)
    time = np.arange(round(seconds * rate)) / rate
    samples = {
        "music": 0.3 * np.sin(2 * np.pi * 220 * time) * (time % 0.5 < 0.3) + 0.02 * random.standard_normal(len(time)),
        "silence": np.zeros(len(time)),
        "impulses": (np.arange(len(time)) % 7_000 == 0).astype(float),
        "constant": np.ones(len(time)),
        "square": np.where(np.arange(len(time)) // 50 % 2, 1.0, -1.0),
        "faint noise": 1e-5 * random.standard_normal(len(time)),
        "chirp": np.sin(2 * np.pi * time * (20 + 1_000 * time)),
        "begins late": np.where(time < seconds / 2, 0, np.sin(2 * np.pi * 440 * time)),
    }[name]
    return Pcm(samples.astype(np.float32), rate)


@pytest.mark.parametrize(
    "name", ["music", "silence", "impulses", "constant", "square", "faint noise", "chirp", "begins late"]
)
def test_every_kind_has_librosas_values_on_every_sort_of_signal(name: str) -> None:
    assert_like_librosa(signal(name, 44_100, 1.5), [*SPECS, *OTHERS])


@pytest.mark.parametrize("name", ["music", "square", "begins late"])
def test_every_kind_has_librosas_values_where_mkl_is_not_installed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fft, "mkl_fft", None)
    assert_like_librosa(signal(name, 44_100, 1.5), [*SPECS, *OTHERS])


@pytest.mark.parametrize(("rate", "seconds"), [(48_000, 2.0), (32_000, 0.1), (22_050, 1.0), (8_000, 0.7)])
def test_every_kind_has_librosas_values_whatever_the_files_rate_and_length(rate: int, seconds: float) -> None:
    assert_like_librosa(signal("music", rate, seconds), [*SPECS, *OTHERS])


@pytest.mark.parametrize(("rate", "channels"), [(44_100, 6), (48_000, 2), (8_000, 1)])
def test_a_file_of_any_channels_has_librosas_values(write_clip: Callable[..., Path], rate: int, channels: int) -> None:
    pcm = decode(write_clip(rate=rate, channels=channels, seconds=0.5))
    assert_like_librosa(pcm, [*SPECS[:3], *OTHERS[:3]])


@given(
    rate=st.sampled_from([48_000, 44_100, 32_000, 22_050, 8_000]),
    n=st.integers(1, 20_000),
    level=st.sampled_from([0.0, 1e-8, 1e-4, 1.0]),
    tone=st.floats(0, 4_000),
    offset=st.sampled_from([0.0, 0.5]),
    seed=st.integers(0, 100),
)
@example(rate=44_100, n=1, level=0.0, tone=0.0, offset=0.0, seed=0)
@settings(max_examples=25)
def test_the_study_s_kinds_have_librosas_values_on_any_signal(
    rate: int, n: int, level: float, tone: float, offset: float, seed: int
) -> None:
    time = np.arange(n) / rate
    noise = level * np.random.default_rng(seed).uniform(-1, 1, n)
    samples = np.clip(np.sin(2 * np.pi * tone * time) * 0.5 + noise + offset, -1, 1).astype(np.float32)
    assert_like_librosa(Pcm(samples, rate), [*SPECS[:3], *OTHERS[:2]])


def test_real_clips_have_librosas_values(music: Path) -> None:
    paths = [*sorted(music.glob("fma/fma_small/*/*.mp3"))[:1], *sorted(music.glob("emotify/pop/*.mp3"))[:1]]
    specs = [spec for spec in REGISTRY.values() if spec.kind != "fma_518"]
    for path in paths:
        assert_like_librosa(decode(path), specs)


def test_fma_s_columns_are_what_its_program_gives(music: Path) -> None:
    spec = REGISTRY["fma_518"]
    pcm = decode(sorted(music.glob("fma/fma_small/*/*.mp3"))[1])
    assert_fma_like(compute_features(pcm, [spec])["fma_518"], librosa_features(pcm, spec))


def test_fma_s_columns_are_what_its_program_gives_for_a_written_clip() -> None:
    spec = REGISTRY["fma_518"]
    pcm = signal("music", 44_100, 3.0)
    assert_fma_like(compute_features(pcm, [spec])["fma_518"], librosa_features(pcm, spec))


def assert_fma_like(columns: np.ndarray, expected: np.ndarray) -> None:
    assert columns.shape == expected.shape == (518,)
    kinds = {"rmse": "rms", "zcr": "zero_crossing_rate"}
    for (family, statistic, number), ours, theirs in zip(COLUMNS, columns, expected, strict=True):
        tolerance = 1e-3 if statistic in ("skew", "kurtosis") else TOLERANCE[kinds.get(family, family)]
        assert ours == pytest.approx(theirs, rel=1e-5, abs=tolerance), (family, statistic, number)
