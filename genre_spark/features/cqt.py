"""The constant-Q transform: librosa's, with its wavelets kept from clip to clip.

Octave after octave is taken from a signal at half the rate of the one before (Schörkhuber and Klapuri, 2010): the same
short wavelets serve all of them.
"""

import functools
from typing import NamedTuple

import numpy as np
import soxr

from genre_spark.features.notes import cutoff_hz, frequencies, relative_bandwidths
from genre_spark.features.stft import Framing, spectra, window_of

# Share of each wavelet's spectrum, by magnitude, that is dropped as too small.
_SPARSITY = 0.01


class _Octave(NamedTuple):
    """Where the wavelets of one octave are applied."""

    # Times that the signal is halved before this octave.
    halvings: int
    hop_length: int
    n_fft: int
    # Columns of the spectrum that the wavelets use, and their weights [shape=(columns, bins)].
    columns: slice
    weights: np.ndarray


@functools.lru_cache(maxsize=128)
def _octaves(
    sample_rate: int, hop_length: int, fmin: float, n_bins: int, bins_per_octave: int, tuning: float
) -> tuple[int, tuple[_Octave, ...], np.ndarray]:
    """Halvings before all else, the octaves from the top down, and the scale of each bin [shape=(n_bins, 1)]."""
    hz = frequencies(fmin, n_bins, bins_per_octave, tuning)
    bandwidths = relative_bandwidths(hz)
    n_octaves = -(-n_bins // bins_per_octave)
    early = _early_halvings(sample_rate / 2, cutoff_hz(fmin, n_bins, bins_per_octave, tuning), hop_length, n_octaves)
    top_rate, hop = sample_rate / 2**early, hop_length // 2**early
    rate, halvings, octaves = top_rate, 0, []
    for octave in range(n_octaves):
        bins = slice(max(0, n_bins - bins_per_octave * (octave + 1)), n_bins - bins_per_octave * octave)
        n_fft, weights = _wavelets(hz[bins], bandwidths[bins], rate)
        weights = weights * np.float32(np.sqrt(top_rate / rate))
        used = np.flatnonzero(weights.any(axis=0))
        columns = slice(used[0], used[-1] + 1)
        octaves.append(_Octave(halvings, hop, n_fft, columns, np.ascontiguousarray(weights[:, columns].T)))
        if hop % 2 == 0:
            hop, rate, halvings = hop // 2, rate / 2, halvings + 1
    return early, tuple(octaves), np.sqrt(top_rate / bandwidths / hz)[:, None]


def _early_halvings(nyquist: float, cutoff: float, hop_length: int, n_octaves: int) -> int:
    by_cutoff = max(0, int(np.ceil(np.log2(nyquist / cutoff)) - 1) - 1)
    twos = (hop_length & -hop_length).bit_length() - 1
    return min(by_cutoff, max(0, twos - n_octaves + 1))


def _wavelets(hz: np.ndarray, bandwidths: np.ndarray, rate: float) -> tuple[int, np.ndarray]:
    """Spectra of windowed tones of unit sum [shape=(bins, 1 + n_fft // 2), dtype=complex64], and n_fft."""
    lengths = rate / bandwidths / hz
    n_fft = int(2.0 ** np.ceil(np.log2(lengths.max())))
    tones = np.zeros((len(hz), n_fft), np.complex64)
    for tone, length, frequency in zip(tones, lengths, hz, strict=True):
        times = np.arange(-length // 2, length // 2)
        wave = np.exp(2j * np.pi * frequency / rate * times) * window_of("hann", len(times))
        wave /= np.abs(wave).sum()
        left = (n_fft - len(times)) // 2
        tone[left : left + len(times)] = wave
    tones *= (lengths / n_fft)[:, None]
    spectra = np.fft.fft(tones.astype(np.complex128), axis=1)[:, : 1 + n_fft // 2]
    magnitudes = np.abs(spectra)
    ordered = np.sort(magnitudes, axis=1)
    share = np.cumsum(ordered / magnitudes.sum(axis=1, keepdims=True), axis=1)
    smallest = np.take_along_axis(ordered, np.argmin(share < _SPARSITY, axis=1)[:, None], axis=1)
    return n_fft, np.where(magnitudes >= smallest, spectra, 0).astype(np.complex64)


def constant_q(
    samples: np.ndarray,
    sample_rate: int,
    *,
    hop_length: int,
    fmin: float,
    n_bins: int,
    bins_per_octave: int,
    tuning: float,
) -> np.ndarray:
    """Magnitudes of the constant-Q transform: ``np.abs(librosa.cqt(...))``.

    Parameters
    ----------
    samples : np.ndarray [shape=(n,), dtype=float32]
        The signal at `sample_rate` Hz.
    sample_rate, hop_length : int
        In Hz and in samples.
    fmin : float
        Frequency of the lowest bin in Hz, untuned.
    n_bins, bins_per_octave : int
        How many, and how many to an octave.
    tuning : float
        Deviation from A440 in fractions of a bin.

    Returns
    -------
    np.ndarray [shape=(n_bins, t), dtype=float32]
        Usually ``t = 1 + n // hop_length``, sometimes one more where the signal is halved before all else.
    """
    early, octaves, scale = _octaves(sample_rate, hop_length, fmin, n_bins, bins_per_octave, tuning)
    samples = _halved(samples, 2**early) if early else samples
    responses = []
    halvings = 0
    for octave in octaves:
        if octave.halvings > halvings:
            samples, halvings = _halved(samples, 2), octave.halvings
        framing = Framing(octave.n_fft, octave.hop_length, window="boxcar")
        response = np.empty((framing.n_frames(len(samples)), octave.weights.shape[1]), np.complex64)
        for start, spectrum in spectra(samples, framing):
            used = spectrum[:, octave.columns].astype(np.complex64)
            np.matmul(used, octave.weights, out=response[start : start + len(used)])
        responses.append(response)
    n_frames = min(len(response) for response in responses)
    transform = np.concatenate([response[:n_frames] for response in reversed(responses)], axis=1).T
    transform /= scale.astype(np.float64)
    return np.abs(transform)


def _halved(samples: np.ndarray, factor: int) -> np.ndarray:
    """Signal at a fraction of its rate, of the same energy: `librosa.resample` with `scale=True`."""
    length = -(-len(samples) // factor)
    halved = soxr.resample(samples, factor, 1, quality="soxr_hq")[:length]
    if len(halved) < length:
        halved = np.pad(halved, (0, length - len(halved)))
    halved /= np.sqrt(1 / factor)
    return halved
