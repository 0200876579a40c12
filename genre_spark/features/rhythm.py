"""Onsets, and how regularly they come."""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from genre_spark.features.chroma import normalise
from genre_spark.features.stft import window_of

# Frames of the tempogram that are transformed at once.
_BLOCK = 256


def onset_strength(mel_db: np.ndarray, *, lag: int, max_size: int, n_fft: int, hop_length: int) -> np.ndarray:
    """Mean rise of the mel bands: `librosa.onset.onset_strength` (Böck and Widmer, 2013).

    Parameters
    ----------
    mel_db : np.ndarray [shape=(t, n_mels), dtype=float32]
        Mel spectrogram in dB.
    lag : int
        Frames between the two that are compared.
    max_size : int
        Mel bands of the earlier frame whose loudest counts.
    n_fft, hop_length : int
        Of the frames: the curve is shifted to where they are centred.

    Returns
    -------
    np.ndarray [shape=(t,), dtype=float32]
    """
    earlier = mel_db
    if max_size > 1:
        before = max_size // 2
        widened = np.pad(mel_db, ((0, 0), (before, max_size - 1 - before)), mode="symmetric")
        earlier = sliding_window_view(widened, max_size, axis=1).max(axis=2)
    rise = np.maximum(mel_db[lag:] - earlier[:-lag], 0)
    strength = np.zeros(len(mel_db), np.float32)
    shift = lag + n_fft // (2 * hop_length)
    kept = max(0, len(mel_db) - shift)
    strength[shift:] = rise[:kept].mean(axis=1, dtype=np.float64)
    return strength


def tempogram(strength: np.ndarray, win_length: int) -> np.ndarray:
    """Local autocorrelation of the onsets (Grosche, Müller and Kurth, 2010): `librosa.feature.tempogram`.

    Parameters
    ----------
    strength : np.ndarray [shape=(t,)]
        Onset strength.
    win_length : int
        Frames around each that are compared, and number of lags.

    Returns
    -------
    np.ndarray [shape=(win_length, t), dtype=float32]
        Each column divided by its maximum.
    """
    padded = np.pad(strength, win_length // 2, mode="linear_ramp", end_values=0)
    frames = sliding_window_view(padded, win_length)[: len(strength)]
    window = window_of("hann", win_length)
    # Imported where it is needed: it takes a worker as long as a track.
    import scipy.fft

    size = scipy.fft.next_fast_len(2 * win_length - 1, real=True)
    rows = np.empty((win_length, len(strength)), np.float32)
    for start in range(0, len(frames), _BLOCK):
        spectrum = scipy.fft.rfft(frames[start : start + _BLOCK] * window, n=size, axis=1)
        power = np.square(spectrum.real) + np.square(spectrum.imag)
        correlation = scipy.fft.irfft(power, n=size, axis=1)[:, :win_length]
        rows[:, start : start + _BLOCK] = normalise(correlation, "max", axis=1).T
    return rows
