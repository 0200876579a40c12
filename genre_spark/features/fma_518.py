"""The 518 columns of FMA's features.csv: eleven families by seven statistics (Defferrard and others, 2017).

What FMA's program does is kept with its peculiarities, so that the columns stand beside the published ones: chroma and
tonal centroids come from one constant-Q transform of 84 bins and the centroids from CENS, and all that is read from the
magnitudes of the STFT is read as if the rate were librosa's default of 22,050 Hz. The values are those that the program
gives with today's librosa, but `rmse` keeps the scale of librosa 0.5 (the root of the mean power of the bins), which
the published columns have. Published values come from another decoder and another librosa, and mostly from the whole
track: they are near, not equal.
"""

import numpy as np

from genre_spark.features.chroma import cens, chroma_of_bins, normalise, tonnetz
from genre_spark.features.cqt import constant_q
from genre_spark.features.families import FMA_HOP_LENGTH
from genre_spark.features.mel import cepstrum
from genre_spark.features.notes import C1
from genre_spark.features.signal import Need, Signal
from genre_spark.features.spectral import contrast, zero_crossing_rate
from genre_spark.features.stft import Framing
from genre_spark.features.summary import summarise

# Rows of each family, and the statistics: both in the alphabetical order of the file.
_ROWS = {
    "chroma_cens": 12,
    "chroma_cqt": 12,
    "chroma_stft": 12,
    "mfcc": 20,
    "rmse": 1,
    "spectral_bandwidth": 1,
    "spectral_centroid": 1,
    "spectral_contrast": 7,
    "spectral_rolloff": 1,
    "tonnetz": 6,
    "zcr": 1,
}
_STATISTICS = ("kurtosis", "max", "mean", "median", "min", "skew", "std")

# The three header rows of features.csv: family, statistic, number.
COLUMNS: tuple[tuple[str, str, str], ...] = tuple(
    (family, statistic, f"{number:02d}")
    for family, rows in _ROWS.items()
    for statistic in _STATISTICS
    for number in range(1, rows + 1)
)

_FRAMING = Framing(2048, FMA_HOP_LENGTH)
_N_MELS = 128
_N_MFCC = 20
# librosa's default: FMA's program doesn't tell these families another.
_READ_AS_HZ = 22_050

_MEL = Need("mel_for_mfcc", _FRAMING, (_N_MELS, 0.0, None))
_CHROMA = Need("chroma", _FRAMING, (_READ_AS_HZ, 12, None))
_CHROMA_PEAKS = Need("peaks", _FRAMING, (_READ_AS_HZ, 2))
_MOMENTS = Need("moments", _FRAMING, (_READ_AS_HZ,))
_CONTRAST = Need("contrast", _FRAMING, (_READ_AS_HZ, 200.0, 6, 0.02))
_ROLLOFF = Need("rolloff", _FRAMING, (_READ_AS_HZ, 0.85))
_ENERGY = Need("energy", _FRAMING)


def _cqt_peaks(sample_rate: int) -> Need:
    return Need("peaks", _FRAMING, (sample_rate, 1))


def fma_518_needs(sample_rate: int) -> list[Need]:
    """What the columns need of the passes over a signal's STFT."""
    return [_cqt_peaks(sample_rate), _CHROMA_PEAKS, _CHROMA, _MEL, _MOMENTS, _CONTRAST, _ROLLOFF, _ENERGY]


def fma_518(signal: Signal) -> np.ndarray:
    """The columns for a signal [shape=(518,), dtype=float64], in the order of `COLUMNS`."""
    rows = _rows_over_time(signal)
    return np.concatenate([summarise(rows[family], _STATISTICS) for family in _ROWS])


def _rows_over_time(signal: Signal) -> dict[str, np.ndarray]:
    transform = constant_q(
        signal.samples,
        signal.sample_rate,
        hop_length=FMA_HOP_LENGTH,
        fmin=C1,
        n_bins=7 * 12,
        bins_per_octave=12,
        tuning=signal.result(_cqt_peaks(signal.sample_rate)).tuning(12),
    )
    chroma = chroma_of_bins(7 * 12, 12, 12, C1) @ transform
    smoothed = cens(chroma, 41)
    centroid, bandwidth = signal.result(_MOMENTS)
    return {
        "chroma_cens": smoothed,
        "chroma_cqt": normalise(chroma, "max", axis=0),
        "chroma_stft": normalise(signal.result(_CHROMA), "max", axis=1).T,
        "mfcc": cepstrum(signal.result(_MEL), _N_MFCC),
        "rmse": np.sqrt(signal.result(_ENERGY)),
        "spectral_bandwidth": bandwidth[None],
        "spectral_centroid": centroid[None],
        "spectral_contrast": contrast(signal.result(_CONTRAST)),
        "spectral_rolloff": signal.result(_ROLLOFF),
        "tonnetz": tonnetz(smoothed),
        "zcr": zero_crossing_rate(signal.samples, 2048, FMA_HOP_LENGTH),
    }
