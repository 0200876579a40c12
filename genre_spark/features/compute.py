"""PCM to arrays: one decode, one resampling per rate, one STFT per analysis, shared by all specs."""

import functools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from threadpoolctl import ThreadpoolController

from genre_spark.errors import AudioNotFinite
from genre_spark.features.audio import Pcm, decode
from genre_spark.features.frame_features import needs_of, rows_over_time
from genre_spark.features.signal import Signal, fitted, resampled
from genre_spark.features.source_name import source_name
from genre_spark.features.spec import FeatureSpec, resolve_specs
from genre_spark.features.summary import summarise


def extract_file(
    path: str | Path,
    features: Iterable[str | FeatureSpec] = ("mfcc_mean", "mfcc", "melgram"),
    *,
    max_duration_s: float = 1_800.0,
    max_file_mb: int = 1_024,
    shortened: Literal["error", "keep"] = "error",
) -> dict[str, np.ndarray]:
    """Features of one audio file.

    Parameters
    ----------
    path : str or Path
        A path or a `file://` URI.
    features : iterable of str or FeatureSpec
        Names of the study's features, or specs; a single name may stand alone.
    max_duration_s, max_file_mb, shortened
        As `genre_spark.features.decode` takes them.

    Returns
    -------
    dict of str to np.ndarray [dtype=float32]
        One array of `spec.shape` per feature.

    Raises
    ------
    FeatureSpecError
        If a feature is unknown.
    AudioError
        If the file can't be turned into features; its children say why.
    """
    if isinstance(features, str):
        features = [features]
    specs = [feature if isinstance(feature, FeatureSpec) else resolve_specs([feature])[0] for feature in features]
    pcm = decode(path, max_duration_s=max_duration_s, max_file_mb=max_file_mb, shortened=shortened)
    return finite_features(pcm, specs, path)


def finite_features(pcm: Pcm, specs: Sequence[FeatureSpec], source: str | Path) -> dict[str, np.ndarray]:
    """`compute_features`, or an error that names `source` where they aren't numbers.

    Raises
    ------
    AudioNotFinite
        If a feature holds NaN or infinity.
    """
    arrays = compute_features(pcm, specs)
    for name, array in arrays.items():
        # Finite but absurd samples (1e20) overflow on the way.
        if not np.isfinite(array).all():
            raise AudioNotFinite(f"{source_name(source)}: feature {name} comes out as NaN or infinity")
    return arrays


def compute_features(pcm: Pcm, specs: Sequence[FeatureSpec]) -> dict[str, np.ndarray]:
    """Features of a decoded clip, with librosa's values.

    Parameters
    ----------
    pcm : Pcm
        The clip at its own sample rate.
    specs : sequence of FeatureSpec
        What to compute. A feature has the same bits alone and among others.

    Returns
    -------
    dict of str to np.ndarray [dtype=float32]
        One array of `spec.shape` per spec, in their order; of `(spec.segments.count, *spec.shape)` for a spec with
        segments.
    """
    # A matrix product by several threads sums in another order: with one, every machine and process gets the same bits.
    # What overflows is found in the result.
    with _blas().limit(limits=1, user_api="blas"), np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        return _compute(pcm, specs)


@functools.cache
def _blas() -> ThreadpoolController:
    return ThreadpoolController()


class _Part(NamedTuple):
    """A part of the clip at one rate: `taken` samples from `begin` on, and zeros up to `size`."""

    sample_rate: int
    begin: int
    taken: int
    size: int


def _compute(pcm: Pcm, specs: Sequence[FeatureSpec]) -> dict[str, np.ndarray]:
    samples = np.ascontiguousarray(pcm.samples, np.float32)
    at_rate = {
        rate: resampled(samples, pcm.sample_rate, rate) for rate in dict.fromkeys(spec.sample_rate for spec in specs)
    }
    parts = {spec.name: list(_parts(len(at_rate[spec.sample_rate]), spec)) for spec in specs}
    arrays = {spec.name: np.empty((len(parts[spec.name]), *spec.shape), np.float32) for spec in specs}
    # One part at a time: its intermediate results are gone before the next one's come.
    for part in dict.fromkeys(part for listed in parts.values() for part in listed):
        wanted = [spec for spec in specs if part in parts[spec.name]]
        taken = fitted(at_rate[part.sample_rate][part.begin : part.begin + part.taken], part.size)
        signal = Signal(taken, part.sample_rate, [need for spec in wanted for need in needs_of(spec)])
        for spec in wanted:
            array = _finished(rows_over_time(spec, signal), spec)
            for number, other in enumerate(parts[spec.name]):
                if other == part:
                    arrays[spec.name][number] = array
    return {spec.name: arrays[spec.name] if spec.segments else arrays[spec.name][0] for spec in specs}


def _parts(n_samples: int, spec: FeatureSpec) -> Iterator[_Part]:
    """Where a spec's arrays are taken from: the clip, or its segments."""
    length = n_samples
    if spec.segments is not None:
        length = rounded(spec.segments.length_s * spec.sample_rate)
    size = length
    if spec.n_samples is not None:
        size = spec.n_samples
    elif spec.n_frames is not None:
        # With centred frames a signal of n samples has 1 + n // hop_length of them.
        size = max(length, (spec.n_frames - 1) * spec.hop_length)
    elif spec.kind == "mfcc_delta":
        size = max(length, (spec.width - 1) * spec.hop_length)
    for start_s in spec.segment_starts_s:
        yield _Part(spec.sample_rate, rounded(start_s * spec.sample_rate), min(length, size), size)


def rounded(samples: float) -> int:
    """Nearest sample, halves up."""
    return int(np.floor(samples + 0.5))


def _finished(rows: np.ndarray, spec: FeatureSpec) -> np.ndarray:
    """Give librosa's rows the spec's shape."""
    if spec.kind == "fma_518":
        return rows
    if spec.summary is not None:
        return summarise(rows, spec.summary)
    # The constant-Q transform of some lengths has a frame more than others.
    return rows[:, : spec.shape[1]]
