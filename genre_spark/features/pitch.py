"""How far a clip is tuned away from A440: peaks of its spectra, and where they lie between the semitones."""

import numpy as np

# Where librosa.piptrack looks for peaks, and how loud they are to the frame's loudest bin.
_LOWEST_HZ, _HIGHEST_HZ, _THRESHOLD = 150.0, 4_000.0, 0.1
# Resolution of the tuning, in fractions of a bin.
_EDGES = np.linspace(-0.5, 0.5, 101)


class SpectralPeaks:
    """Peaks of every frame, refined by a parabola: `librosa.piptrack`, a consumer of magnitudes.

    Parameters
    ----------
    sample_rate : float
        Rate that the bins are read with, in Hz.
    n_fft : int
        Length of the frames in samples.
    power : {1, 2}
        2: peaks of the power, as `librosa.feature.chroma_stft` takes them.
    """

    def __init__(self, sample_rate: float, n_fft: int, power: int = 1) -> None:
        self._bin_hz = (sample_rate, n_fft)
        self._power = power
        hz = np.fft.rfftfreq(n_fft, 1.0 / sample_rate)
        inside = np.flatnonzero((hz >= _LOWEST_HZ) & (hz < min(_HIGHEST_HZ, sample_rate / 2)))
        # With a bin on each side.
        self._bins = slice(inside[0] - 1, inside[-1] + 2) if len(inside) else None
        self._pitches: list[np.ndarray] = []
        self._magnitudes: list[np.ndarray] = []

    def add(self, start: int, block: np.ndarray) -> None:
        """Take the magnitudes of a block of frames."""
        if self._bins is None:
            return
        loudest = block.max(axis=1, keepdims=True)
        bins = block[:, self._bins]
        if self._power == 2:
            loudest, bins = np.square(loudest), np.square(bins)
        heard = np.where(bins > np.float32(_THRESHOLD) * loudest, bins, np.float32(0))
        middle = heard[:, 1:-1]
        frames, columns = np.nonzero((middle > heard[:, :-2]) & (middle >= heard[:, 2:]))
        left, peak, right = (bins[frames, columns + shift] for shift in range(3))
        # The steps are rounded to single precision where librosa's are: whether a pitch falls into this or the next
        # hundredth of a semitone decides the tuning.
        curve = (right + left).astype(np.float64) - 2.0 * peak
        slope = (right - left).astype(np.float64) / 2.0
        shift = np.zeros(len(peak), np.float32)
        np.divide(-slope, curve, out=shift, where=np.abs(slope) < np.abs(curve), casting="same_kind")
        sample_rate, n_fft = self._bin_hz
        pitches = (columns + self._bins.start + 1 + shift) * float(sample_rate) / n_fft
        self._pitches.append(pitches.astype(np.float32))
        self._magnitudes.append(peak + np.float32(0.5) * ((right - left) / np.float32(2)) * shift)

    def tuning(self, bins_per_octave: int) -> float:
        """Deviation from A440 in fractions of a bin, from the louder half of the peaks: `librosa.estimate_tuning`."""
        pitches = np.concatenate(self._pitches or [np.empty(0, np.float32)])
        magnitudes = np.concatenate(self._magnitudes or [np.empty(0, np.float32)])
        loud = pitches[(magnitudes >= np.median(magnitudes)) & (pitches > 0)] if len(pitches) else pitches
        if not len(loud):
            return 0.0
        deviation = np.mod(bins_per_octave * np.log2(loud / (440.0 / 16)), 1.0)
        deviation[deviation >= 0.5] -= 1.0
        counts, edges = np.histogram(deviation, _EDGES)
        return float(edges[np.argmax(counts)])
