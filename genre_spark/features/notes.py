"""Frequencies of the constant-Q transform's bins, and how far they reach."""

import numpy as np

# C1, the lowest note of librosa's constant-Q transform, in Hz.
C1 = 440.0 * 2.0 ** ((24 - 69) / 12)

# Bandwidth of a Hann window in bins, as librosa measures it.
_HANN_BANDWIDTH = 1.50018310546875


def frequencies(fmin: float, n_bins: int, bins_per_octave: int, tuning: float) -> np.ndarray:
    """Centre frequencies in Hz [shape=(n_bins,)]; the tuning is in fractions of a bin."""
    lowest = fmin * 2.0 ** (tuning / bins_per_octave)
    octaves = np.multiply.outer(
        2.0 ** np.arange(np.ceil(n_bins / bins_per_octave)), 2.0 ** (np.arange(bins_per_octave) / bins_per_octave)
    )
    return np.sort(octaves.ravel()[:n_bins]) * lowest


def relative_bandwidths(hz: np.ndarray) -> np.ndarray:
    """Bandwidth of each bin by its frequency [shape=(n_bins,)], from its distance to its neighbours."""
    octaves = np.log2(hz)
    per_octave = np.empty_like(hz)
    per_octave[0] = 1 / (octaves[1] - octaves[0])
    per_octave[-1] = 1 / (octaves[-1] - octaves[-2])
    per_octave[1:-1] = 2 / (octaves[2:] - octaves[:-2])
    ratio = 2.0 ** (2 / per_octave)
    return (ratio - 1) / (ratio + 1)


def cutoff_hz(fmin: float, n_bins: int, bins_per_octave: int, tuning: float) -> float:
    """Highest frequency that a wavelet reaches to: it must not lie above Nyquist."""
    hz = frequencies(fmin, n_bins, bins_per_octave, tuning)
    return float(np.max(hz * (1 + 0.5 * _HANN_BANDWIDTH * relative_bandwidths(hz))))
