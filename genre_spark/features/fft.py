"""The Fourier transform of real frames: by MKL where it is installed, which takes a third of SciPy's and NumPy's time.

MKL's numbers don't hang on how many frames are transformed at once, or where they lie in memory; they differ from
SciPy's in the last bits, as those of another version do.
"""

import numpy as np

try:
    import mkl_fft
except ImportError:
    mkl_fft = None


class Squares:
    """Squares of the real numbers of spectra, in single precision.

    Parameters
    ----------
    n_fft : int
        Samples in a frame, an even number.
    """

    def __init__(self, n_fft: int) -> None:
        self._spectra = np.empty((0, 1 + n_fft // 2), np.complex64)

    def of(self, frames: np.ndarray) -> np.ndarray:
        """Transform and square.

        Parameters
        ----------
        frames : np.ndarray [shape=(b, n_fft), dtype=float32]
            Windowed frames; overwritten.

        Returns
        -------
        np.ndarray [shape=(b, n_fft), dtype=float32]
            In FFTPACK's order: the real part of bin 0, real and imaginary parts of bins 1, 2, ..., the real part of the
            last, all squared. The next call overwrites it.
        """
        if mkl_fft is None:
            # In place: new memory for every block would cost a third of the transform. SciPy takes four frames at a
            # time in single precision, NumPy one.
            # Imported where it is needed: it takes a worker as long as a track.
            import scipy.fftpack

            numbers = scipy.fftpack.rfft(frames, axis=-1, overwrite_x=True)
            return np.multiply(numbers, numbers, out=numbers)
        if len(self._spectra) < len(frames):
            self._spectra = np.empty((len(frames), self._spectra.shape[1]), np.complex64)
        spectra = mkl_fft.rfft(frames, axis=-1, out=self._spectra[: len(frames)])
        numbers = spectra.view(np.float32)
        return packed(np.multiply(numbers, numbers, out=numbers))


def rfft(frames: np.ndarray, out: np.ndarray) -> np.ndarray:
    """Spectra of frames in double precision: `numpy.fft.rfft`.

    Parameters
    ----------
    frames : np.ndarray [shape=(b, n_fft), dtype=float64]
        Windowed frames.
    out : np.ndarray [shape=(b, 1 + n_fft // 2), dtype=complex128]
        Filled and returned.
    """
    transform = np.fft.rfft if mkl_fft is None else mkl_fft.rfft
    return transform(frames, axis=-1, out=out)


def packed(parts: np.ndarray) -> np.ndarray:
    """View of real and imaginary parts `[shape=(b, n_fft + 2)]` in FFTPACK's order `[shape=(b, n_fft)]`.

    The imaginary parts of the first and the last bin are zero and have no place.
    """
    parts[:, 1] = parts[:, 0]
    return parts[:, 1:-1]
