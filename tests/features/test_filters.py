"""Windows, filter banks and the study's kinds against independent sources: formulas written anew, SciPy, librosa."""

import librosa
import numpy as np
import pytest
import scipy.fft
import scipy.signal

from genre_spark.features import FeatureSpec, Pcm, compute_features
from genre_spark.features.chroma import chroma_bank, chroma_of_bins
from genre_spark.features.mel import delta, mel_bank
from genre_spark.features.notes import C1
from genre_spark.features.stft import Framing, window_of


@pytest.mark.parametrize("name", ["boxcar", "hann", "hamming", "blackman", "blackmanharris", "nuttall"])
@pytest.mark.parametrize("length", [2, 399, 400, 2048])
def test_a_window_is_scipys(name: str, length: int) -> None:
    np.testing.assert_array_equal(window_of(name, length), scipy.signal.get_window(name, length))
    symmetric = scipy.signal.get_window(name, length, fftbins=False)
    np.testing.assert_array_equal(window_of(name, length, periodic=False), symmetric)
    np.testing.assert_array_equal(
        window_of(name, length, 4096), librosa.util.pad_center(scipy.signal.get_window(name, length), size=4096)
    )


@pytest.mark.parametrize(
    ("rate", "n_fft", "n_mels", "fmin", "fmax"),
    [(44_100, 2048, 128, 0.0, None), (12_000, 512, 96, 0.0, None), (22_050, 2048, 40, 20.0, 8_000.0),
     (8_000, 1024, 20, 1_500.0, None), (16_000, 400, 80, 0.0, 7_600.0)],
)  # fmt: skip
def test_mel_filters_have_librosas_bits(rate: int, n_fft: int, n_mels: int, fmin: float, fmax: float | None) -> None:
    expected = librosa.filters.mel(sr=rate, n_fft=n_fft, n_mels=n_mels, fmin=fmin, fmax=fmax)
    np.testing.assert_array_equal(mel_bank(rate, n_fft, n_mels, fmin, fmax), expected)


@pytest.mark.parametrize("tuning", [0.0, 0.17, -0.5])
@pytest.mark.parametrize("n_chroma", [12, 24])
def test_chroma_filters_have_librosas_bits(tuning: float, n_chroma: int) -> None:
    expected = librosa.filters.chroma(sr=22_050, n_fft=2048, tuning=tuning, n_chroma=n_chroma)
    np.testing.assert_array_equal(chroma_bank(22_050, 2048, n_chroma, tuning), expected)


@pytest.mark.parametrize(
    ("n_bins", "per_octave", "n_chroma", "fmin"), [(252, 36, 12, C1), (84, 12, 12, 65.4), (120, 24, 24, 55)]
)
def test_bins_are_merged_to_chroma_as_librosa_does(n_bins: int, per_octave: int, n_chroma: int, fmin: float) -> None:
    expected = librosa.filters.cq_to_chroma(n_bins, bins_per_octave=per_octave, n_chroma=n_chroma, fmin=fmin)
    np.testing.assert_array_equal(chroma_of_bins(n_bins, per_octave, n_chroma, fmin), expected)


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("width", [3, 9, 29])
def test_a_delta_is_the_derivative_of_a_fitted_polynomial(order: int, width: int) -> None:
    rows = np.random.default_rng(0).standard_normal((4, 30))
    expected = np.empty_like(rows)
    for row, target in zip(rows, expected, strict=True):
        for frame in range(30):
            middle = min(max(frame, width // 2), 29 - width // 2)
            near = row[middle - width // 2 : middle + width // 2 + 1]
            target[frame] = np.polynomial.Polynomial.fit(np.arange(width), near, order).convert().deriv(order).coef[0]
    np.testing.assert_allclose(delta(rows, width, order), expected, atol=1e-9)


@pytest.mark.parametrize(("n", "hop"), [(1, 512), (511, 512), (512, 512), (100_000, 160)])
def test_a_signal_has_as_many_frames_as_librosa_gives_it(n: int, hop: int) -> None:
    assert Framing(hop_length=hop).n_frames(n) == librosa.stft(np.ones(2048 + n)[:n], hop_length=hop).shape[1]


def slaney_mel_db(samples: np.ndarray, rate: int, n_fft: int, hop: int, n_mels: int) -> np.ndarray:
    """Mel spectrogram in dB from its textbook definition, filter by filter and frame by frame [shape=(n_mels, t)]."""

    def to_mel(hz: float) -> float:
        return 3 * hz / 200 if hz < 1_000 else 15 + 27 * np.log(hz / 1_000) / np.log(6.4)

    def to_hz(mel: float) -> float:
        return 200 * mel / 3 if mel < 15 else 1_000 * 6.4 ** ((mel - 15) / 27)

    edges = [to_hz(mel) for mel in np.linspace(0, to_mel(rate / 2), n_mels + 2)]
    bins = np.arange(n_fft // 2 + 1) * rate / n_fft
    padded = np.concatenate([np.zeros(n_fft // 2), samples, np.zeros(n_fft // 2)])
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n_fft) / n_fft)
    frames = [padded[start : start + n_fft] * window for start in range(0, len(samples) + 1, hop)]
    power = np.abs(np.fft.rfft(frames, axis=1)) ** 2
    energies = np.empty((n_mels, len(frames)))
    for band, (low, peak, high) in enumerate(zip(edges, edges[1:], edges[2:], strict=False)):
        triangle = np.interp(bins, [low, peak, high], [0, 2 / (high - low), 0])
        energies[band] = power @ triangle
    decibels = 10 * np.log10(np.maximum(energies, 1e-10))
    return np.maximum(decibels, decibels.max() - 80)


def test_mfcc_and_mel_spectrogram_have_the_values_of_their_definitions() -> None:
    random = np.random.default_rng(7)
    time = np.arange(30_000) / 22_050
    samples = (0.4 * np.sin(2 * np.pi * 523.25 * time) + 0.01 * random.standard_normal(len(time))).astype(np.float32)
    specs = [
        FeatureSpec(name="mel", kind="mel_spectrogram", sample_rate=22_050, n_samples=30_000),
        FeatureSpec(name="mfcc", kind="mfcc", sample_rate=22_050, n_mfcc=80, n_samples=30_000),
    ]
    features = compute_features(Pcm(samples, 22_050), specs)
    decibels = slaney_mel_db(samples, 22_050, 2048, 512, 128)
    np.testing.assert_allclose(features["mel"], decibels, rtol=0, atol=2e-3)
    coefficients = scipy.fft.dct(decibels, axis=0, norm="ortho")[:80]
    np.testing.assert_allclose(features["mfcc"], coefficients, rtol=0, atol=2e-3)
