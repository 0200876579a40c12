"""Mel filters, cepstral coefficients and their changes."""

import functools
import math

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

# Slaney's mel scale (Auditory Toolbox, 1998): linear up to 1 kHz, which is 15 mels; from there on 27 mels multiply the
# frequency by 6.4.
_HZ_PER_MEL = 200.0 / 3
_CORNER_HZ = 1_000.0
_CORNER_MEL = _CORNER_HZ / _HZ_PER_MEL
_LOG_STEP = np.log(6.4) / 27.0


def _mel(hz: float) -> float:
    if hz < _CORNER_HZ:
        return hz / _HZ_PER_MEL
    return float(_CORNER_MEL + np.log(hz / _CORNER_HZ) / _LOG_STEP)


def _hz(mels: np.ndarray) -> np.ndarray:
    return np.where(
        mels < _CORNER_MEL,
        mels * _HZ_PER_MEL,
        _CORNER_HZ * np.exp(_LOG_STEP * (np.maximum(mels, _CORNER_MEL) - _CORNER_MEL)),
    )


@functools.lru_cache(maxsize=32)
def mel_bank(sample_rate: int, n_fft: int, n_mels: int, fmin: float, fmax: float | None) -> np.ndarray:
    """Triangular filters of equal area on Slaney's scale: `librosa.filters.mel`.

    Returns
    -------
    np.ndarray [shape=(n_mels, 1 + n_fft // 2), dtype=float32]
        Weights of the bins' power.
    """
    bins = np.fft.rfftfreq(n_fft, 1.0 / sample_rate)
    edges = _hz(np.linspace(_mel(fmin), _mel(sample_rate / 2 if fmax is None else fmax), n_mels + 2))
    widths = np.diff(edges)[:, None]
    ramps = edges[:, None] - bins
    rising, falling = -ramps[:-2] / widths[:-1], ramps[2:] / widths[1:]
    bank = np.maximum(0, np.minimum(rising, falling)).astype(np.float32)
    bank *= (2.0 / (edges[2:] - edges[:-2]))[:, None]
    bank.flags.writeable = False
    return bank


@functools.lru_cache(maxsize=32)
def _dct_matrix(n_mfcc: int, n_mels: int) -> np.ndarray:
    """First rows of the orthonormal DCT-II [shape=(n_mfcc, n_mels), dtype=float32]."""
    matrix = np.cos(np.pi * np.outer(np.arange(n_mfcc), np.arange(n_mels) + 0.5) / n_mels) * np.sqrt(2 / n_mels)
    return matrix.astype(np.float32)


def cepstrum(mel_db: np.ndarray, n_mfcc: int) -> np.ndarray:
    """Cepstral coefficients of a mel spectrogram in dB: `librosa.feature.mfcc`.

    Parameters
    ----------
    mel_db : np.ndarray [shape=(t, n_mels), dtype=float32]
        Frames are rows.
    n_mfcc : int
        Coefficients to keep.

    Returns
    -------
    np.ndarray [shape=(n_mfcc, t), dtype=float32]
    """
    n_mels = mel_db.shape[1]
    coefficients = _dct_matrix(n_mfcc, n_mels) @ mel_db.T
    # The matrix product adds one band after the other, which costs the largest coefficient three digits; a sum in pairs
    # doesn't.
    coefficients[0] = mel_db.sum(axis=1) / np.float32(np.sqrt(n_mels))
    return coefficients


def delta(rows: np.ndarray, width: int, order: int) -> np.ndarray:
    """Derivative of a polynomial of degree `order` through `width` frames: `librosa.feature.delta`.

    Parameters
    ----------
    rows : np.ndarray [shape=(d, t)]
        At least `width` frames.
    width, order : int
        Frames (odd), and order of the derivative and degree of the polynomial.

    Returns
    -------
    np.ndarray [shape=(d, t)]
        At both ends, where the frames don't suffice, the polynomial of the outermost `width` frames: its derivative
        of that order is one number.
    """
    times = np.arange(width) - width // 2
    coefficients = np.linalg.pinv(np.vander(times, order + 1, increasing=True))[order] * math.factorial(order)
    inner = sliding_window_view(rows, width, axis=-1) @ coefficients
    return np.pad(inner, ((0, 0), (width // 2, width // 2)), mode="edge")
