"""The short-time Fourier transform, a block of frames at a time, as librosa frames a signal: centred, zeros around it.

Blocks stay in the processor's cache, and a clip of any length needs the memory of one. They begin at fixed frames, so
what a frame gives depends on nothing but the signal.
"""

import functools
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

import numpy as np

from genre_spark.features.fft import Squares, packed, rfft

# Samples in a block: 64 frames of 2048, half a megabyte in single precision.
_BLOCK = 2**17

# Coefficients of the sums of cosines, as scipy.signal.windows has them.
_COSINES = {
    "boxcar": (1.0,),
    "hann": (0.5, 0.5),
    "hamming": (0.54, 1 - 0.54),
    "blackman": (0.42, 0.50, 0.08),
    "blackmanharris": (0.35875, 0.48829, 0.14128, 0.01168),
    "nuttall": (0.3635819, 0.4891775, 0.1365995, 0.0106411),
}


class Framing(NamedTuple):
    """How a signal is cut into frames: lengths in samples."""

    n_fft: int = 2048
    hop_length: int = 512
    win_length: int | None = None
    window: str = "hann"

    def n_frames(self, n_samples: int) -> int:
        """Return the number of centred frames of a signal."""
        return 1 + n_samples // self.hop_length


class Consumer(Protocol):
    """Something that takes one array per block, of `[shape=(b, d)]`, for the frames from `start` on."""

    def add(self, start: int, block: np.ndarray) -> None:
        """Take a block; it is overwritten afterwards."""


@functools.lru_cache(maxsize=64)
def window_of(name: str, length: int, n_fft: int | None = None, *, periodic: bool = True) -> np.ndarray:
    """Window of `length` samples in the middle of `n_fft` [shape=(n_fft,), dtype=float64].

    Periodic as for an STFT, or symmetric as for a filter.
    """
    turn = np.linspace(-np.pi, np.pi, length + periodic)[:length]
    values = sum(coefficient * np.cos(order * turn) for order, coefficient in enumerate(_COSINES[name]))
    left = (n_fft - length) // 2 if n_fft else 0
    window = np.zeros(n_fft or length)
    window[left : left + length] = values
    window.flags.writeable = False
    return window


def analyse(
    samples: np.ndarray,
    framing: Framing,
    *,
    single: bool,
    squares: Sequence[Consumer] = (),
    magnitudes: Sequence[Consumer] = (),
) -> None:
    """Transform a signal once, for all consumers.

    Parameters
    ----------
    samples : np.ndarray [shape=(n,), dtype=float32]
        The signal.
    framing : Framing
        Frames and window; `n_fft` is even.
    single : bool
        In single precision, at less than half the time, and for squares alone; else in double, as librosa does.
    squares : sequence of Consumer
        Take the squares of the spectrum's real numbers, in FFTPACK's order: the real part of bin 0, real and imaginary
        parts of bins 1, 2, ..., the real part of the last `[shape=(b, n_fft), dtype=float32]`. Summed by bins they are
        the power; a filter bank with columns for each number does that on the way.
    magnitudes : sequence of Consumer
        Take the magnitudes `[shape=(b, 1 + n_fft // 2), dtype=float32]`.
    """
    if single:
        assert not magnitudes  # they decide between bins: double precision
        transform = Squares(framing.n_fft)
        for start, frames in _frames(samples, framing, np.float32):
            _feed(squares, start, transform.of(frames))
        return
    square = np.empty((0, framing.n_fft), np.float32)
    for start, spectrum in spectra(samples, framing):
        if magnitudes:
            # librosa keeps the spectrum in single precision.
            _feed(magnitudes, start, np.abs(spectrum.astype(np.complex64)))
        if squares:
            parts = spectrum.view(np.float64)
            np.multiply(parts, parts, out=parts)
            square = square[: len(parts)] if len(square) else np.empty((len(parts), framing.n_fft), np.float32)
            np.copyto(square, packed(parts), casting="same_kind")
            _feed(squares, start, square)


def spectra(samples: np.ndarray, framing: Framing) -> Iterator[tuple[int, np.ndarray]]:
    """Blocks of spectra `[shape=(b, 1 + n_fft // 2), dtype=complex128]` and the number of their first frame.

    The next block takes the place of the one before.
    """
    spectrum: np.ndarray | None = None
    for start, frames in _frames(samples, framing, np.float64):
        if spectrum is None:
            spectrum = np.empty((len(frames), 1 + framing.n_fft // 2), np.complex128)
        yield start, rfft(frames, out=spectrum[: len(frames)])


def _feed(consumers: Sequence[Consumer], start: int, block: np.ndarray) -> None:
    for consumer in consumers:
        consumer.add(start, block)


def _frames(samples: np.ndarray, framing: Framing, dtype: type[np.floating]) -> Iterator[tuple[int, np.ndarray]]:
    """Blocks of windowed frames `[shape=(b, n_fft)]` and the number of their first; one takes the other's place."""
    n_fft, hop = framing.n_fft, framing.hop_length
    window = window_of(framing.window, framing.win_length or n_fft, n_fft).astype(dtype)
    total = framing.n_frames(len(samples))
    size = max(8, _BLOCK // n_fft)
    buffer = np.empty((min(size, total), n_fft), dtype)
    for start in range(0, total, size):
        stop = min(start + size, total)
        frames = buffer[: stop - start]
        stretch = _stretch(samples, start * hop - n_fft // 2, (stop - 1) * hop + n_fft - n_fft // 2)
        steps = (hop * stretch.itemsize, stretch.itemsize)
        # Copying first is faster: a product of arrays whose rows lie 4096 bytes apart stalls the processor.
        np.copyto(frames, np.ndarray(frames.shape, stretch.dtype, stretch, strides=steps))
        yield start, np.multiply(frames, window, out=frames)


def _stretch(samples: np.ndarray, start: int, stop: int) -> np.ndarray:
    """Samples from `start` to `stop`, zeros where there are none."""
    if start >= 0 and stop <= len(samples):
        return samples[start:stop]
    stretch = np.zeros(stop - start, samples.dtype)
    inside = samples[max(start, 0) : max(stop, 0)]
    first = max(-start, 0)
    stretch[first : first + len(inside)] = inside
    return stretch
