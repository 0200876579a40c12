"""How much a spec may ask for: what lies beyond is a slip of the pen, and would break a job outside its limits.

Generous: a clip of 1.7 hours at 44.1 kHz, an array of 256 MiB, far more than anybody trains on, and a sixteenth of what
a row group of Parquet's lists or a row on its way through Spark's JVM can hold.
"""

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from genre_spark.features.spec import FeatureSpec

# What anybody records lies far within, in Hz.
RATES = range(2_000, 768_001)

# Largest value of one parameter.
LARGEST: Mapping[str, int] = MappingProxyType(
    {
        "hop_length": 2**28,
        "n_fft": 2**20,
        "frame_length": 2**20,
        "n_mels": 4_096,
        "n_chroma": 4_096,
        "n_octaves": 32,
        "bins_per_octave": 4_096,
        "win_len_smooth": 2**20,
        "n_bands": 32,
        "lag": 2**20,
        "max_size": 4_096,
        "width": 4_095,
        # As many samples are looked at of a clip or segment at once: 1 GiB.
        "n_samples": 2**28,
        "n_frames": 2**28,
    }
)
# Lags of a tempogram; elsewhere a window is at most as long as its frame.
LARGEST_TEMPOGRAM = 16_384
# The lower the note, the longer its wavelet.
LOWEST_CQT_HZ = 1.0

MOST_SEGMENTS = 10_000
MOST_SAMPLES = LARGEST["n_samples"]
# What comes of a track, all its segments together.
MOST_BYTES = 2**28
# Values over time that come of a second, before any summary: 128 MiB.
MOST_PER_SECOND = 2**25
# Filters by samples of their frame, and wavelets by theirs: about 1 GiB while they are made.
MOST_WEIGHTS = 2**26
MOST_WAVELETS = 2**25


def out_of_range(spec: "FeatureSpec") -> str | None:
    """Say which single value is beyond all reason, with the rule; None where none is."""
    if spec.sample_rate not in RATES:
        return f"sample_rate={spec.sample_rate} must be {RATES[0]} to {RATES[-1]} Hz"
    for name, largest in LARGEST.items():
        value = getattr(spec, name)
        if value is not None and value > largest:
            return f"{name}={value} must be at most {largest}"
    if spec.kind == "tempogram" and spec.win_length is not None and spec.win_length > LARGEST_TEMPOGRAM:
        return f"win_length={spec.win_length} must be at most {LARGEST_TEMPOGRAM} for kind=tempogram"
    if spec.bins_per_octave is not None and 0 < spec.fmin < LOWEST_CQT_HZ:
        return f"fmin={spec.fmin} must be at least {LOWEST_CQT_HZ} Hz for kind={spec.kind}"
    return None


def too_large(spec: "FeatureSpec") -> str | None:
    """Say which values together ask for too much, with the rule; None where none do. Each of them is in its range."""
    return _too_many_samples(spec) or _too_many_weights(spec) or _too_many_values(spec)


def _too_many_samples(spec: "FeatureSpec") -> str | None:
    asked: dict[str, float] = {}
    if spec.segments is not None:
        length_s = spec.segments.length_s
        asked[f"segments.length_s={length_s:g} at sample_rate={spec.sample_rate}"] = length_s * spec.sample_rate
        if length_s * spec.sample_rate < 0.5:
            return f"segments.length_s={length_s:g} holds no sample at sample_rate={spec.sample_rate}"
    if spec.n_frames is not None:
        asked[f"n_frames={spec.n_frames} with hop_length={spec.hop_length}"] = (spec.n_frames - 1) * spec.hop_length
    if spec.kind == "mfcc_delta":
        asked[f"width={spec.width} with hop_length={spec.hop_length}"] = (spec.width - 1) * spec.hop_length
    for what, samples in asked.items():
        if samples > MOST_SAMPLES:
            return f"{what} needs {samples:.3g} samples of a clip; it must be at most {MOST_SAMPLES}"
    return None


def _too_many_weights(spec: "FeatureSpec") -> str | None:
    if spec.n_fft is not None:
        for name in ("n_mels", "n_chroma"):
            filters = getattr(spec, name)
            if filters is not None and filters * spec.n_fft > MOST_WEIGHTS:
                return f"{name}={filters} times n_fft={spec.n_fft} must be at most {MOST_WEIGHTS}"
    if spec.bins_per_octave is not None:
        # The signal is halved from octave to octave, as long as the hop can be.
        halvings = min(spec.n_octaves - 1, (spec.hop_length & -spec.hop_length).bit_length() - 1)
        wavelet = spec.sample_rate / 2**halvings / spec.fmin * 1.5 * spec.bins_per_octave
        if wavelet * spec.bins_per_octave > MOST_WAVELETS:
            return (
                f"bins_per_octave={spec.bins_per_octave} from fmin={spec.fmin:g} at sample_rate={spec.sample_rate} "
                f"with hop_length={spec.hop_length} needs wavelets of {wavelet:.3g} samples, which times the bins must "
                f"be at most {MOST_WAVELETS}; take fewer, a higher fmin, or a hop_length that can be halved more often"
            )
    return None


def _too_many_values(spec: "FeatureSpec") -> str | None:
    rows = max(spec.n_mels or 0, spec.n_octaves * spec.bins_per_octave if spec.bins_per_octave else 0)
    if spec.kind == "tempogram":
        rows = spec.win_length or 0
    if rows * spec.sample_rate > MOST_PER_SECOND * spec.hop_length:
        return (
            f"hop_length={spec.hop_length} at sample_rate={spec.sample_rate} makes {rows} rows of "
            f"{spec.sample_rate / spec.hop_length:g} values a second; all together must be at most {MOST_PER_SECOND}"
        )
    count = 1 if spec.segments is None else spec.segments.count
    size = 4 * count * math.prod(spec.shape)
    if size > MOST_BYTES:
        shape = " x ".join(str(length) for length in ((count, *spec.shape) if spec.segments else spec.shape))
        return f"{shape} values are {size / 2**20:.0f} MiB a track; it must be at most {MOST_BYTES // 2**20} MiB"
    return None
