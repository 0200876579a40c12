"""Every kind of spec as a user writes it with librosa, on the same PCM: the reference of the tests."""

import warnings

import librosa
import numpy as np
import scipy.stats
from numpy.typing import NDArray

from genre_spark.features import FeatureSpec, Pcm
from genre_spark.features.families import PARAMETERS


def librosa_rows(y: NDArray, spec: FeatureSpec) -> NDArray:
    """librosa's array over time [shape=(rows, t)]."""
    sr, own = spec.sample_rate, {name: getattr(spec, name) for name in PARAMETERS[spec.kind]}
    own["hop_length"] = spec.hop_length
    match spec.kind:
        case "mfcc":
            return librosa.feature.mfcc(y=y, sr=sr, **own)
        case "mfcc_delta":
            derivative = {name: own.pop(name) for name in ("width", "order")}
            return librosa.feature.delta(librosa.feature.mfcc(y=y, sr=sr, **own), **derivative)
        case "mel_spectrogram":
            return librosa.power_to_db(librosa.feature.melspectrogram(y=y, sr=sr, **own))
        case "chroma_cqt" | "chroma_cens" | "tonnetz" | "chroma_stft":
            return getattr(librosa.feature, spec.kind)(y=y, sr=sr, **own)
        case "onset_strength":
            return np.atleast_2d(librosa.onset.onset_strength(y=y, sr=sr, **own))
        case "spectral_flatness":
            return librosa.feature.spectral_flatness(y=y, **own)
        case "rms" | "zero_crossing_rate":
            return getattr(librosa.feature, spec.kind)(y=y, **own)
        case "fma_518":
            return fma_rows(y, sr)
    return getattr(librosa.feature, spec.kind)(y=y, sr=sr, **own)


def librosa_features(pcm: Pcm, spec: FeatureSpec) -> NDArray:
    """What `compute_features` shall give for a spec without segments."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        y = librosa.resample(pcm.samples, orig_sr=pcm.sample_rate, target_sr=spec.sample_rate)
        return shaped(y, spec)


def shaped(y: NDArray, spec: FeatureSpec) -> NDArray:
    if spec.n_samples is not None:
        y = librosa.util.fix_length(y, size=spec.n_samples)
    if spec.n_frames is not None:
        y = librosa.util.fix_length(y, size=max(len(y), (spec.n_frames - 1) * spec.hop_length))
    if spec.kind == "mfcc_delta":
        y = librosa.util.fix_length(y, size=max(len(y), (spec.width - 1) * spec.hop_length))
    rows = librosa_rows(y, spec)
    if spec.kind == "fma_518":
        return rows
    if spec.summary is not None:
        return np.concatenate([STATISTICS[name](rows.astype(np.float64)) for name in spec.summary])
    return rows[:, : spec.shape[1]]


def _of_varying_rows(statistic, constant):
    def compute(rows):
        varies = np.ptp(rows, axis=1) > 0
        return np.where(varies, statistic(np.where(varies[:, None], rows, np.arange(rows.shape[1])), axis=1), constant)

    return compute


STATISTICS = {
    "mean": lambda rows: rows.mean(axis=1),
    "std": lambda rows: rows.std(axis=1),
    "min": lambda rows: rows.min(axis=1),
    "max": lambda rows: rows.max(axis=1),
    "median": lambda rows: np.median(rows, axis=1),
    "skew": _of_varying_rows(scipy.stats.skew, 0.0),
    "kurtosis": _of_varying_rows(scipy.stats.kurtosis, -3.0),
}


def fma_rows(x: NDArray, sr: int) -> NDArray:
    """FMA's columns, from the calls of its program with the librosa that is installed."""
    statistics = ("kurtosis", "max", "mean", "median", "min", "skew", "std")
    families = fma_families(x, sr)
    return np.concatenate(
        [STATISTICS[name](families[f].astype(np.float64)) for f in sorted(families) for name in statistics]
    )


def fma_families(x: NDArray, sr: int) -> dict[str, NDArray]:
    feature = librosa.feature
    cqt = np.abs(librosa.cqt(x, sr=sr, hop_length=512, bins_per_octave=12, n_bins=7 * 12, tuning=None))
    cens = feature.chroma_cens(C=cqt, n_chroma=12, n_octaves=7, bins_per_octave=12)
    stft = np.abs(librosa.stft(x, n_fft=2048, hop_length=512))
    mel = feature.melspectrogram(sr=sr, S=stft**2)
    return {
        "zcr": feature.zero_crossing_rate(x, frame_length=2048, hop_length=512),
        "chroma_cqt": feature.chroma_cqt(C=cqt, n_chroma=12, n_octaves=7, bins_per_octave=12),
        "chroma_cens": cens,
        "tonnetz": feature.tonnetz(chroma=cens),
        "chroma_stft": feature.chroma_stft(S=stft**2, n_chroma=12),
        # As librosa 0.5 defined `rmse` for a spectrogram.
        "rmse": np.sqrt(np.mean(stft**2, axis=0, keepdims=True)),
        "spectral_centroid": feature.spectral_centroid(S=stft),
        "spectral_bandwidth": feature.spectral_bandwidth(S=stft),
        "spectral_contrast": feature.spectral_contrast(S=stft, n_bands=6),
        "spectral_rolloff": feature.spectral_rolloff(S=stft),
        "mfcc": feature.mfcc(S=librosa.power_to_db(mel), n_mfcc=20),
    }
