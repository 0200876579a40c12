"""The twelve semitones of the octave: filters, normalisation, CENS and the tonal centroids."""

import functools
from typing import Literal

import numpy as np

from genre_spark.features.stft import window_of


@functools.lru_cache(maxsize=256)
def chroma_bank(sample_rate: float, n_fft: int, n_chroma: int, tuning: float) -> np.ndarray:
    """Weights of the bins' power in each chroma (Ellis, 2007): `librosa.filters.chroma`.

    Returns
    -------
    np.ndarray [shape=(n_chroma, 1 + n_fft // 2), dtype=float32]
        Gaussians around the semitones, columns of norm 1, and softly limited to the octaves around C5.
    """
    hz = np.linspace(0, sample_rate, n_fft, endpoint=False)[1:]
    a440 = 440.0 * 2.0 ** (tuning / n_chroma)
    bins = n_chroma * np.log2(hz / (a440 / 16))
    # 0 Hz has no logarithm: an octave and a half below the first bin.
    bins = np.concatenate(([bins[0] - 1.5 * n_chroma], bins))
    widths = np.concatenate((np.maximum(np.diff(bins), 1.0), [1]))
    half = np.round(n_chroma / 2)
    distances = bins - np.arange(n_chroma)[:, None]
    distances = np.remainder(distances + half + 10 * n_chroma, n_chroma) - half
    weights = np.exp(-0.5 * (2 * distances / widths) ** 2)
    weights = normalise(weights, 2, axis=0)
    weights *= np.exp(-0.5 * (((bins / n_chroma - 5.0) / 2.0) ** 2))
    # The scale begins with C, the formula with A.
    weights = np.roll(weights, -3 * (n_chroma // 12), axis=0)
    bank = np.ascontiguousarray(weights[:, : 1 + n_fft // 2], np.float32)
    bank.flags.writeable = False
    return bank


@functools.lru_cache(maxsize=64)
def chroma_of_bins(n_bins: int, bins_per_octave: int, n_chroma: int, fmin: float) -> np.ndarray:
    """Which bins of a constant-Q transform make up a chroma: `librosa.filters.cq_to_chroma`.

    Returns
    -------
    np.ndarray [shape=(n_chroma, n_bins), dtype=float32]
        Zeros and ones.
    """
    merged = bins_per_octave // n_chroma
    octave = np.roll(np.repeat(np.eye(n_chroma, dtype=np.float32), merged, axis=1), -(merged // 2), axis=1)
    octaves = np.tile(octave, -(-n_bins // bins_per_octave))[:, :n_bins]
    midi = 12 * (np.log2(fmin) - np.log2(440.0)) + 69
    return np.roll(octaves, int(np.round(np.mod(midi, 12) * (n_chroma / 12.0))), axis=0)


def normalise(values: np.ndarray, norm: Literal["max", 1, 2], axis: int) -> np.ndarray:
    """Divide by the norm along an axis, but not by one that is all but zero: `librosa.util.normalize`."""
    magnitudes = np.abs(values).astype(np.float64)
    if norm == "max":
        length = magnitudes.max(axis=axis, keepdims=True)
    elif norm == 1:
        length = magnitudes.sum(axis=axis, keepdims=True)
    else:
        length = np.sqrt(np.square(magnitudes).sum(axis=axis, keepdims=True))
    length[length < np.finfo(values.dtype).tiny] = 1.0
    return (values / length).astype(values.dtype)


def cens(chroma: np.ndarray, win_len_smooth: int) -> np.ndarray:
    """Chroma energy, quantised and smoothed (Müller and Ewert, 2011): `librosa.feature.chroma_cens`.

    Parameters
    ----------
    chroma : np.ndarray [shape=(n_chroma, t), dtype=float32]
        Not normalised.
    win_len_smooth : int
        Length of the smoothing window in frames.

    Returns
    -------
    np.ndarray [shape=(n_chroma, t), dtype=float32]
        Columns of norm 1.
    """
    chroma = normalise(chroma, 1, axis=0)
    quantised = sum((chroma > step).astype(np.float32) * np.float32(0.25) for step in (0.4, 0.2, 0.1, 0.05))
    window = window_of("hann", win_len_smooth + 2, periodic=False)
    window = window / window.sum()
    # librosa's centre of an even window lies one frame to the left of ndimage's.
    middle = len(window) // 2
    smooth = [np.convolve(row, window)[middle : middle + chroma.shape[1]] for row in np.asarray(quantised)]
    return normalise(np.array(smooth, np.float32), 2, axis=0)


@functools.cache
def _tonal_axes(n_chroma: int) -> np.ndarray:
    """Coordinates of the chroma on the circles of fifths, minor and major thirds [shape=(6, n_chroma)]."""
    angles = np.multiply.outer(
        [7.0 / 6, 7.0 / 6, 3.0 / 2, 3.0 / 2, 2.0 / 3, 2.0 / 3], np.linspace(0, 12, n_chroma, endpoint=False)
    )
    # Each pair is a sine and a cosine.
    angles[::2] -= 0.5
    return np.array([1, 1, 1, 1, 0.5, 0.5])[:, None] * np.cos(np.pi * angles)


def tonnetz(chroma: np.ndarray) -> np.ndarray:
    """Tonal centroids (Harte, Sandler and Gasser, 2006) of a chromagram: `librosa.feature.tonnetz` [shape=(6, t)]."""
    return _tonal_axes(len(chroma)) @ normalise(chroma, 1, axis=0)
