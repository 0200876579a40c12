"""One or a few numbers per frame, from the magnitudes of its bins or from its samples."""

import itertools
from collections.abc import Callable

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from genre_spark.features.bands import power_to_db


class PerFrame:
    """A consumer of magnitudes that keeps what a function makes of each frame.

    Parameters
    ----------
    function : callable
        Magnitudes `[shape=(b, 1 + n_fft // 2)]` to values `[shape=(rows, b)]`.
    rows, n_frames : int
        Shape of what will come.

    Attributes
    ----------
    values : np.ndarray [shape=(rows, n_frames), dtype=float64]
        Filled block by block.
    """

    def __init__(self, function: Callable[[np.ndarray], np.ndarray], rows: int, n_frames: int) -> None:
        self.values = np.zeros((rows, n_frames))
        self._function = function

    def add(self, start: int, block: np.ndarray) -> None:
        """Take the magnitudes of a block of frames."""
        self.values[:, start : start + len(block)] = self._function(block)


def centroid_and_bandwidth(sample_rate: float, n_fft: int) -> Callable[[np.ndarray], np.ndarray]:
    """Mean and standard deviation of the frequency in Hz: `spectral_centroid` and `spectral_bandwidth`."""
    hz = np.fft.rfftfreq(n_fft, 1.0 / sample_rate)
    moments = np.stack([np.ones_like(hz), hz, hz**2], axis=1)

    def function(magnitudes: np.ndarray) -> np.ndarray:
        # In double precision: the variance is a difference of large numbers.
        total, first, second = (magnitudes.astype(np.float64) @ moments).T
        total = np.where(total < np.finfo(np.float32).tiny, 1.0, total)
        centroid = first / total
        return np.stack([centroid, np.sqrt(np.maximum(second / total - centroid**2, 0))])

    return function


def rolloff(sample_rate: float, n_fft: int, roll_percent: float) -> Callable[[np.ndarray], np.ndarray]:
    """Frequency in Hz below which a share of the magnitude lies: `spectral_rolloff`."""
    hz = np.fft.rfftfreq(n_fft, 1.0 / sample_rate)

    def function(magnitudes: np.ndarray) -> np.ndarray:
        # Summed one after the other in single precision, as librosa does: rounding decides between two bins.
        below = np.cumsum(magnitudes, axis=1)
        return hz[np.argmax(below >= np.float32(roll_percent) * below[:, -1:], axis=1)][None]

    return function


def flatness(magnitudes: np.ndarray) -> np.ndarray:
    """Geometric by arithmetic mean of the power: `spectral_flatness`."""
    power = np.maximum(np.square(magnitudes), np.float32(1e-10))
    return (np.exp(np.log(power).mean(axis=1, dtype=np.float64)) / power.mean(axis=1, dtype=np.float64))[None]


def mean_power(magnitudes: np.ndarray) -> np.ndarray:
    """Mean of the squared magnitudes."""
    return np.square(magnitudes).mean(axis=1, dtype=np.float64)[None]


def peaks_and_valleys(
    sample_rate: float, n_fft: int, fmin: float, n_bands: int, quantile: float
) -> Callable[[np.ndarray], np.ndarray]:
    """Mean of the loudest and of the softest bins of each octave, of which `contrast` makes `spectral_contrast`.

    The function's rows are the `n_bands + 1` peaks and then the valleys.
    """
    bands = octave_bands(sample_rate, n_fft, fmin, n_bands)

    def function(magnitudes: np.ndarray) -> np.ndarray:
        values = np.empty((2, len(bands), len(magnitudes)))
        for row, (low, high, size) in enumerate(bands):
            ordered = np.sort(magnitudes[:, low:high], axis=1)
            few = max(1, int(np.rint(quantile * size)))
            values[0, row] = ordered[:, -few:].mean(axis=1)
            values[1, row] = ordered[:, :few].mean(axis=1)
        return values.reshape(2 * len(bands), -1)

    return function


def octave_bands(sample_rate: float, n_fft: int, fmin: float, n_bands: int) -> list[tuple[int, int, int]]:
    """First bin, bin behind the last, and size by which librosa counts, of the bands of the spectral contrast.

    Each band begins one bin early, and every one but the topmost loses its last bin.
    """
    hz = np.fft.rfftfreq(n_fft, 1.0 / sample_rate)
    edges = [0.0, *(fmin * 2.0**band for band in range(n_bands + 1))]
    bands = []
    for band, (low, high) in enumerate(itertools.pairwise(edges)):
        inside = np.flatnonzero((hz >= low) & (hz <= high))
        first = inside[0] - (1 if band else 0)
        stop = len(hz) if band == n_bands else inside[-1] + 1
        bands.append((int(first), int(stop - (band < n_bands)), int(stop - first)))
    return bands


def contrast(values: np.ndarray) -> np.ndarray:
    """Peaks less valleys in dB `[shape=(n_bands + 1, t)]`, each 80 dB below its loudest at the least."""
    peaks, valleys = np.split(values, 2)
    return power_to_db(peaks.copy()) - power_to_db(valleys.copy())


def rms(samples: np.ndarray, frame_length: int, hop_length: int) -> np.ndarray:
    """Root of the mean square of each frame: `librosa.feature.rms` [shape=(1, t)]."""
    frames = sliding_window_view(np.pad(samples, frame_length // 2), frame_length)[::hop_length]
    return np.sqrt(np.vecdot(frames, frames) / np.float32(frame_length))[None]


def zero_crossing_rate(samples: np.ndarray, frame_length: int, hop_length: int) -> np.ndarray:
    """Share of the samples of a frame whose sign is not the one before's: `librosa.feature.zero_crossing_rate`.

    Returns
    -------
    np.ndarray [shape=(1, t), dtype=float64]
        Exact: crossings are counted once for the whole signal.
    """
    # librosa takes what is as small as that for zero, and zero for positive.
    negative = np.pad(samples < np.float32(-1e-10), frame_length // 2, mode="edge")
    crossings = np.concatenate([[0], np.cumsum(negative[1:] != negative[:-1])])
    starts = np.arange(0, len(negative) - frame_length + 1, hop_length)
    return ((crossings[starts + frame_length - 1] - crossings[starts]) / frame_length)[None]
