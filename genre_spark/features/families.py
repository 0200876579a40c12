"""What librosa's frame-level families take: their parameters with librosa's names and defaults, and their rows."""

import itertools
import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from genre_spark.features.notes import C1, cutoff_hz

if TYPE_CHECKING:
    from genre_spark.features.spec import FeatureSpec

Kind = Literal[
    "mfcc",
    "mfcc_delta",
    "mel_spectrogram",
    "chroma_stft",
    "chroma_cqt",
    "chroma_cens",
    "tonnetz",
    "spectral_centroid",
    "spectral_bandwidth",
    "spectral_contrast",
    "spectral_rolloff",
    "spectral_flatness",
    "rms",
    "zero_crossing_rate",
    "onset_strength",
    "tempogram",
    "fma_518",
]

_STFT: dict[str, Any] = {"n_fft": 2048, "win_length": None, "window": "hann"}
_MEL: dict[str, Any] = {"n_mels": 128, "fmin": 0.0, "fmax": None}
_CQT: dict[str, Any] = {"fmin": C1, "n_octaves": 7, "bins_per_octave": 36, "tuning": None}

# The parameters that a kind takes beside sample_rate, hop_length, the shape's and segments.
PARAMETERS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "mfcc": {**_STFT, **_MEL, "n_mfcc": 20},
        "mfcc_delta": {**_STFT, **_MEL, "n_mfcc": 20, "order": 1, "width": 9},
        "mel_spectrogram": {**_STFT, **_MEL},
        "chroma_stft": {**_STFT, "n_chroma": 12, "tuning": None},
        "chroma_cqt": {**_CQT, "n_chroma": 12},
        "chroma_cens": {**_CQT, "n_chroma": 12, "win_len_smooth": 41},
        "tonnetz": {**_CQT},
        "spectral_centroid": {**_STFT},
        "spectral_bandwidth": {**_STFT},
        "spectral_contrast": {**_STFT, "fmin": 200.0, "n_bands": 6, "quantile": 0.02},
        "spectral_rolloff": {**_STFT, "roll_percent": 0.85},
        "spectral_flatness": {**_STFT},
        "rms": {"frame_length": 2048},
        "zero_crossing_rate": {"frame_length": 2048},
        "onset_strength": {"n_fft": 2048, **_MEL, "lag": 1, "max_size": 1},
        "tempogram": {"win_length": 384},
        "fma_518": {},
    }
)

# Those that every kind takes, beside its name and kind; sample_rate has no default.
OF_EVERY_KIND: Mapping[str, Any] = MappingProxyType(
    {"sample_rate": None, "hop_length": 512, "n_samples": None, "n_frames": None, "summary": None, "segments": None}
)

# FMA's program: 2048 samples, hop 512.
FMA_HOP_LENGTH = 512


def not_taken(kind: str, name: Any, value: Any) -> str | None:
    """Say that a kind doesn't take a parameter, or not null for it; None where all is well.

    Null stands for the default where that is "none", as librosa's None does; it must not stand for another value.
    """
    taken = {"name": "", "kind": kind, **PARAMETERS[kind], **OF_EVERY_KIND}
    if name not in taken:
        takes = [*PARAMETERS[kind], *(OF_EVERY_KIND if kind != "fma_518" else ("sample_rate", "segments"))]
        shown = "null" if value is None else repr(value)
        return f"{name}={shown} is not a parameter of kind={kind}; it takes {', '.join(takes)}"
    if value is None and name == "sample_rate":
        return "sample_rate=null: it must be given"
    if value is None and taken[name] is not None:
        return f"{name}=null means nothing for kind={kind}; leave it out for {taken[name]!r}"
    return None


def rows_of(spec: "FeatureSpec") -> int:
    """Return the number of rows of librosa's array: coefficients, bands, chroma, lags, or one."""
    match spec.kind:
        case "mfcc" | "mfcc_delta":
            return spec.n_mfcc
        case "mel_spectrogram":
            return spec.n_mels
        case "chroma_stft" | "chroma_cqt" | "chroma_cens":
            return spec.n_chroma
        case "tonnetz":
            return 6
        case "spectral_contrast":
            return spec.n_bands + 1
        case "tempogram":
            assert spec.win_length is not None  # it has a default
            return spec.win_length
        case _:
            return 1


def impossible(spec: "FeatureSpec") -> str | None:
    """Say which value of a spec is impossible, with the rule; None where all is well."""
    return _impossible_frames(spec) or _impossible_bands(spec) or _impossible_shape(spec)


def _impossible_frames(spec: "FeatureSpec") -> str | None:
    taken = PARAMETERS[spec.kind]
    for name in ("n_fft", "frame_length"):
        if name in taken and (getattr(spec, name) < 2 or getattr(spec, name) % 2):
            return f"{name}={getattr(spec, name)} must be an even number, 2 or more"
    if "n_fft" in taken and spec.win_length is not None and spec.win_length > spec.n_fft:
        return f"win_length={spec.win_length} must be at most n_fft={spec.n_fft}"
    if spec.kind == "fma_518" and spec.hop_length != FMA_HOP_LENGTH:
        return f"hop_length={spec.hop_length} is not a parameter of kind=fma_518, which has {FMA_HOP_LENGTH}"
    return None


def _impossible_bands(spec: "FeatureSpec") -> str | None:
    taken, nyquist = PARAMETERS[spec.kind], spec.sample_rate / 2
    if "fmin" in taken and not spec.fmin < nyquist:
        return f"fmin={spec.fmin} must be below {nyquist} Hz (Nyquist)"
    if spec.fmax is not None and not spec.fmin < spec.fmax <= nyquist:
        return f"fmax={spec.fmax} must be above fmin={spec.fmin} and at most {nyquist} Hz (Nyquist)"
    if "n_mfcc" in taken and spec.n_mfcc > spec.n_mels:
        return f"n_mfcc={spec.n_mfcc} must be at most n_mels={spec.n_mels}"
    if spec.kind == "spectral_contrast":
        return _impossible_contrast(spec)
    if "bins_per_octave" in taken or spec.kind == "fma_518":
        return _impossible_cqt(spec)
    return None


def _impossible_contrast(spec: "FeatureSpec") -> str | None:
    edges = [0.0, *(spec.fmin * 2.0**band for band in range(spec.n_bands + 1))]
    if spec.fmin == 0:
        return "fmin=0.0 must be above 0 Hz for kind=spectral_contrast"
    if edges[-2] >= spec.sample_rate / 2:
        return (
            f"n_bands={spec.n_bands} octaves from fmin={spec.fmin} reach {edges[-2]:g} Hz, "
            f"they must end below {spec.sample_rate / 2} Hz (Nyquist)"
        )
    for low, high in itertools.pairwise(edges):
        bins = math.floor(min(high, spec.sample_rate / 2) * spec.n_fft / spec.sample_rate)
        bins -= math.ceil(low * spec.n_fft / spec.sample_rate) - 1
        # A band takes the bin below it, where there is one, and leaves its highest to the next.
        if bins < (2 if low == 0 else 1):
            return f"n_fft={spec.n_fft} must be larger: the band from {low:g} to {high:g} Hz holds no bin"
    return None


def _impossible_cqt(spec: "FeatureSpec") -> str | None:
    if spec.kind == "fma_518":
        cutoff = cutoff_hz(C1, 7 * 12, 12, 0.5)
        if cutoff > spec.sample_rate / 2:
            return f"sample_rate={spec.sample_rate} must be at least {math.ceil(2 * cutoff)} for kind=fma_518"
        return None
    if spec.fmin == 0:
        return f"fmin=0.0 must be above 0 Hz for kind={spec.kind}"
    n_chroma = spec.n_chroma if "n_chroma" in PARAMETERS[spec.kind] else 12
    if spec.bins_per_octave % n_chroma or spec.bins_per_octave < 2:
        return f"bins_per_octave={spec.bins_per_octave} must be a multiple of {n_chroma} chroma, 2 or more"
    cutoff = cutoff_hz(
        spec.fmin, spec.n_octaves * spec.bins_per_octave, spec.bins_per_octave,
        0.5 if spec.tuning is None else spec.tuning,
    )  # fmt: skip
    if cutoff > spec.sample_rate / 2:
        return (
            f"n_octaves={spec.n_octaves} from fmin={spec.fmin:g} reach {cutoff:g} Hz, "
            f"they must end below {spec.sample_rate / 2} Hz (Nyquist)"
        )
    return None


def _impossible_shape(spec: "FeatureSpec") -> str | None:
    given = [name for name in ("n_samples", "n_frames", "summary") if getattr(spec, name) is not None]
    if spec.kind == "fma_518":
        return f"{given[0]} is not a parameter of kind=fma_518, which has its own statistics" if given else None
    if len(given) != 1:
        return "exactly one of n_samples, n_frames and summary must be given: it fixes the shape"
    if spec.summary is not None and len(set(spec.summary)) != len(spec.summary):
        return f"summary={list(spec.summary)} names a statistic twice"
    if spec.kind == "mfcc_delta":
        frames = spec.n_frames
        if spec.n_samples is not None:
            frames = 1 + spec.n_samples // spec.hop_length
        if spec.width < 3 or spec.width % 2 == 0:
            return f"width={spec.width} must be an odd number, 3 or more"
        if spec.order >= spec.width:
            return f"order={spec.order} must be below width={spec.width}"
        if frames is not None and spec.width > frames:
            return f"width={spec.width} must be at most the number of frames, {frames}"
    return None
