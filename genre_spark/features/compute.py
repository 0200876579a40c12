"""PCM to arrays: one decode, one resampling per rate, one mel spectrogram per analysis, shared by all specs."""

import contextlib
import functools
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import librosa
import numpy as np
from threadpoolctl import ThreadpoolController

from genre_spark.errors import AudioNotFinite
from genre_spark.features.audio import Pcm, decode
from genre_spark.features.spec import FeatureSpec, resolve_specs
from genre_spark.filesystems import masked


def extract_file(
    path: str | Path,
    features: Iterable[str | FeatureSpec] = ("mfcc_mean", "mfcc", "melgram"),
    *,
    max_duration_s: float = 1_800.0,
) -> dict[str, np.ndarray]:
    """Features of one audio file.

    Parameters
    ----------
    path : str or Path
        A path or a `file://` URI.
    features : iterable of str or FeatureSpec
        Names of the study's features, or specs; a single name may stand alone.
    max_duration_s : float
        Longest clip that is decoded, in seconds.

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
    return finite_features(decode(path, max_duration_s=max_duration_s), specs, path)


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
            raise AudioNotFinite(f"{masked(source)}: feature {name} comes out as NaN or infinity")
    return arrays


def compute_features(pcm: Pcm, specs: Sequence[FeatureSpec]) -> dict[str, np.ndarray]:
    """Features of a decoded clip, with librosa's values.

    Parameters
    ----------
    pcm : Pcm
        The clip at its own sample rate.
    specs : sequence of FeatureSpec
        What to compute.

    Returns
    -------
    dict of str to np.ndarray [dtype=float32]
        One array of `spec.shape` per spec, in their order.
    """
    # A matrix product by several threads sums in another order: with one, every machine and process gets the same bits.
    with _blas().limit(limits=1, user_api="blas"), _quiet():
        return _compute(pcm, specs)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Drop warnings that tell a user nothing: short clips are padded, and what overflows is found in the result."""
    with warnings.catch_warnings(), np.errstate(over="ignore", invalid="ignore"):
        warnings.filterwarnings("ignore", message="n_fft=.* is too large for input signal")
        yield


@functools.cache
def _blas() -> ThreadpoolController:
    return ThreadpoolController()


def _compute(pcm: Pcm, specs: Sequence[FeatureSpec]) -> dict[str, np.ndarray]:
    resampled: dict[int, np.ndarray] = {}
    mel_db: dict[tuple, np.ndarray] = {}
    arrays = {}
    for spec in specs:
        if spec.sample_rate not in resampled:
            resampled[spec.sample_rate] = librosa.resample(
                pcm.samples, orig_sr=pcm.sample_rate, target_sr=spec.sample_rate, res_type="soxr_hq"
            )
        samples = _at_length(resampled[spec.sample_rate], spec)
        analysis = (
            spec.sample_rate, len(samples), spec.n_fft, spec.hop_length, spec.n_mels, spec.fmin, spec.fmax
        )  # fmt: skip
        if analysis not in mel_db:
            mel_db[analysis] = _mel_spectrogram_db(samples, spec)
        arrays[spec.name] = _finish(mel_db[analysis], spec)
    return arrays


def _at_length(samples: np.ndarray, spec: FeatureSpec) -> np.ndarray:
    """Cut or zero-pad the clip as the spec wants it before the analysis."""
    if spec.n_samples is not None:
        return librosa.util.fix_length(samples, size=spec.n_samples)
    # With centred frames a signal of n samples has 1 + n // hop_length of them.
    shortest = 0 if spec.n_frames is None else (spec.n_frames - 1) * spec.hop_length
    if len(samples) < shortest:
        return librosa.util.fix_length(samples, size=shortest)
    return samples


def _mel_spectrogram_db(samples: np.ndarray, spec: FeatureSpec) -> np.ndarray:
    """Mel spectrogram in dB [shape=(n_mels, t)]: `librosa.power_to_db` with its defaults."""
    power = librosa.feature.melspectrogram(
        y=samples,
        sr=spec.sample_rate,
        n_fft=spec.n_fft,
        hop_length=spec.hop_length,
        n_mels=spec.n_mels,
        fmin=spec.fmin,
        fmax=spec.fmax,
    )
    return librosa.power_to_db(power)


def _finish(mel_db: np.ndarray, spec: FeatureSpec) -> np.ndarray:
    """Turn the shared mel spectrogram into the spec's array."""
    array = librosa.feature.mfcc(S=mel_db, n_mfcc=spec.n_mfcc) if spec.kind == "mfcc" else mel_db
    if spec.n_frames is not None:
        array = array[:, : spec.n_frames]
    if spec.summary == "mean":
        array = array.mean(axis=1)
    return np.ascontiguousarray(array, dtype=np.float32)
