"""From a spec to librosa's rows over time: what it needs of the analysis, and what it makes of it."""

from collections.abc import Callable

import numpy as np

from genre_spark.features import spectral
from genre_spark.features.chroma import cens, chroma_of_bins, normalise, tonnetz
from genre_spark.features.cqt import constant_q
from genre_spark.features.fma_518 import fma_518, fma_518_needs
from genre_spark.features.mel import cepstrum, delta
from genre_spark.features.rhythm import onset_strength, tempogram
from genre_spark.features.signal import Need, Signal
from genre_spark.features.spec import FeatureSpec
from genre_spark.features.stft import Framing


def needs_of(spec: FeatureSpec) -> list[Need]:
    """What a spec needs of the passes over its signal's STFT."""
    match spec.kind:
        case "mfcc" | "mfcc_delta" | "mel_spectrogram" | "onset_strength" | "tempogram":
            return [_mel(spec)]
        case "chroma_stft":
            peaks = [Need("peaks", _framing(spec), (spec.sample_rate, 2))] if spec.tuning is None else []
            return [*peaks, _chroma(spec)]
        case "chroma_cqt" | "chroma_cens" | "tonnetz":
            return [_cqt_peaks(spec)] if spec.tuning is None else []
        case "fma_518":
            return fma_518_needs(spec.sample_rate)
        case "rms" | "zero_crossing_rate":
            return []
        case _:
            return [_spectral(spec)]


def rows_over_time(spec: FeatureSpec, signal: Signal) -> np.ndarray:
    """Rows of librosa's array for a signal [shape=(rows, t)]; for `fma_518` its columns [shape=(518,)]."""
    return _ROWS[spec.kind](spec, signal)


def _framing(spec: FeatureSpec) -> Framing:
    # A window as long as the frame is the default: equal framings are analysed once.
    win_length = None if spec.win_length == spec.n_fft else spec.win_length
    return Framing(spec.n_fft, spec.hop_length, win_length, spec.window)


def _mel(spec: FeatureSpec) -> Need:
    if spec.kind == "tempogram":
        return Need("mel", Framing(hop_length=spec.hop_length), (128, 0.0, None))
    if spec.kind == "onset_strength":
        return Need("mel", Framing(spec.n_fft, spec.hop_length), (spec.n_mels, spec.fmin, spec.fmax))
    kind = "mel" if spec.kind == "mel_spectrogram" else "mel_for_mfcc"
    return Need(kind, _framing(spec), (spec.n_mels, spec.fmin, spec.fmax))


def _chroma(spec: FeatureSpec) -> Need:
    return Need("chroma", _framing(spec), (spec.sample_rate, spec.n_chroma, spec.tuning))


def _cqt_peaks(spec: FeatureSpec) -> Need:
    # librosa estimates the tuning with its default frames, whatever the hop of the transform is.
    return Need("peaks", Framing(), (spec.sample_rate, 1))


def _spectral(spec: FeatureSpec) -> Need:
    match spec.kind:
        case "spectral_rolloff":
            return Need("rolloff", _framing(spec), (spec.sample_rate, spec.roll_percent))
        case "spectral_contrast":
            return Need("contrast", _framing(spec), (spec.sample_rate, spec.fmin, spec.n_bands, spec.quantile))
        case "spectral_flatness":
            return Need("flatness", _framing(spec))
    return Need("moments", _framing(spec), (spec.sample_rate,))


def _mfcc(spec: FeatureSpec, signal: Signal) -> np.ndarray:
    need = _mel(spec)
    return signal.once(("mfcc", need, spec.n_mfcc), lambda: cepstrum(signal.result(need), spec.n_mfcc))


def _mfcc_delta(spec: FeatureSpec, signal: Signal) -> np.ndarray:
    return delta(_mfcc(spec, signal), spec.width, spec.order)


def _mel_spectrogram(spec: FeatureSpec, signal: Signal) -> np.ndarray:
    return signal.result(_mel(spec)).T


def _chroma_stft(spec: FeatureSpec, signal: Signal) -> np.ndarray:
    return normalise(signal.result(_chroma(spec)), "max", axis=1).T


def _raw_chroma_cqt(spec: FeatureSpec, signal: Signal) -> np.ndarray:
    n_chroma = 12 if spec.kind == "tonnetz" else spec.n_chroma
    n_bins = spec.n_octaves * spec.bins_per_octave

    def transform() -> np.ndarray:
        tuning = spec.tuning
        if tuning is None:
            tuning = signal.result(_cqt_peaks(spec)).tuning(spec.bins_per_octave)
        return constant_q(
            signal.samples,
            signal.sample_rate,
            hop_length=spec.hop_length,
            fmin=spec.fmin,
            n_bins=n_bins,
            bins_per_octave=spec.bins_per_octave,
            tuning=tuning,
        )

    key = ("cqt", spec.hop_length, spec.fmin, n_bins, spec.bins_per_octave, spec.tuning)
    return chroma_of_bins(n_bins, spec.bins_per_octave, n_chroma, spec.fmin) @ signal.once(key, transform)


def _chroma_cqt(spec: FeatureSpec, signal: Signal) -> np.ndarray:
    return normalise(_raw_chroma_cqt(spec, signal), "max", axis=0)


def _chroma_cens(spec: FeatureSpec, signal: Signal) -> np.ndarray:
    return cens(_raw_chroma_cqt(spec, signal), spec.win_len_smooth)


def _tonnetz(spec: FeatureSpec, signal: Signal) -> np.ndarray:
    return tonnetz(_chroma_cqt(spec, signal))


def _centroid(spec: FeatureSpec, signal: Signal) -> np.ndarray:
    return signal.result(_spectral(spec))[:1]


def _bandwidth(spec: FeatureSpec, signal: Signal) -> np.ndarray:
    return signal.result(_spectral(spec))[1:]


def _contrast(spec: FeatureSpec, signal: Signal) -> np.ndarray:
    return spectral.contrast(signal.result(_spectral(spec)))


def _per_frame(spec: FeatureSpec, signal: Signal) -> np.ndarray:
    return signal.result(_spectral(spec))


def _rms(spec: FeatureSpec, signal: Signal) -> np.ndarray:
    return spectral.rms(signal.samples, spec.frame_length, spec.hop_length)


def _zero_crossing_rate(spec: FeatureSpec, signal: Signal) -> np.ndarray:
    return spectral.zero_crossing_rate(signal.samples, spec.frame_length, spec.hop_length)


def _onset_strength(spec: FeatureSpec, signal: Signal) -> np.ndarray:
    strength = onset_strength(
        signal.result(_mel(spec)), lag=spec.lag, max_size=spec.max_size, n_fft=spec.n_fft, hop_length=spec.hop_length
    )
    return strength[None]


def _tempogram(spec: FeatureSpec, signal: Signal) -> np.ndarray:
    need = _mel(spec)
    strength = onset_strength(
        signal.result(need), lag=1, max_size=1, n_fft=need.framing.n_fft, hop_length=spec.hop_length
    )
    assert spec.win_length is not None  # it has a default
    return tempogram(strength, spec.win_length)


_ROWS: dict[str, Callable[[FeatureSpec, Signal], np.ndarray]] = {
    "mfcc": _mfcc,
    "mfcc_delta": _mfcc_delta,
    "mel_spectrogram": _mel_spectrogram,
    "chroma_stft": _chroma_stft,
    "chroma_cqt": _chroma_cqt,
    "chroma_cens": _chroma_cens,
    "tonnetz": _tonnetz,
    "spectral_centroid": _centroid,
    "spectral_bandwidth": _bandwidth,
    "spectral_contrast": _contrast,
    "spectral_rolloff": _per_frame,
    "spectral_flatness": _per_frame,
    "rms": _rms,
    "zero_crossing_rate": _zero_crossing_rate,
    "onset_strength": _onset_strength,
    "tempogram": _tempogram,
    "fma_518": lambda _, signal: fma_518(signal),
}
