"""Audio files to genres, with the features that the model was trained on, bit for bit.

What a model reads of a song is what its feature takes, as in training: statistics over time (`mfcc_mean`, `fma_518`)
are of all of it, however long; features of a fixed length are of the beginning (`melgram` of 29.1 s, `mfcc` of 29.0 s,
segments up to the end of the last one). `genre_spark.models.timeline` goes through the rest.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from genre_spark.errors import AudioError
from genre_spark.features.compute import extract_file
from genre_spark.filesystems import masked
from genre_spark.models.architectures import probabilities
from genre_spark.models.bundle import Bundle
from genre_spark.models.calibration import threshold_of, track_probabilities
from genre_spark.settings import AudioSettings


@dataclass(frozen=True)
class Prediction:
    """Genre of one audio file: the most probable one, or None where the model isn't sure; the probability of each."""

    path: str
    genre: str | None
    probabilities: dict[str, float]


@dataclass(frozen=True)
class SegmentProbabilities:
    """What the model says of one segment, which begins at `start_s` seconds."""

    start_s: float
    probabilities: dict[str, float]


@dataclass(frozen=True)
class SegmentedPrediction(Prediction):
    """A prediction by a model of segments: its probabilities are the mean of theirs, calibrated."""

    segments: list[SegmentProbabilities]


@dataclass(frozen=True)
class Failure:
    """Why there is no prediction for a file: the error's class name and its message."""

    path: str
    error: str
    detail: str


def predict_files(
    bundle: Bundle,
    paths: Sequence[str | Path],
    *,
    audio: AudioSettings | None = None,
    batch_size: int = 32,
    precision: float | None = None,
) -> Iterator[Prediction | Failure]:
    """Predict the genre of audio files.

    Parameters
    ----------
    bundle : Bundle
        From `load_bundle`.
    paths : sequence of str or Path
        Audio files.
    audio : AudioSettings, optional
        Limits on what is decoded; by default those of the settings.
    batch_size : int
        Files, or segments of files, that go through the model at a time.
    precision : float, optional
        Name a genre only where the most probable one reaches the threshold of this precision: see
        `genre_spark.models.calibration.Calibration.thresholds`.

    Yields
    ------
    Prediction or Failure
        One per path, in their order; a `SegmentedPrediction` where the model reads segments.

    Raises
    ------
    BundleError
        If the bundle has no threshold for this precision.
    """
    threshold = 0.0 if precision is None else threshold_of(bundle.description.calibration, precision)
    spec = bundle.description.spec
    per_file = len(spec.segment_starts_s)
    decoding = (audio or AudioSettings()).decoding()
    remaining = iter(paths)
    while batch := list(islice(remaining, max(1, batch_size // per_file))):
        arrays: list[np.ndarray] = []
        failures: dict[int, Failure] = {}
        for position, path in enumerate(batch):
            try:
                arrays.append(extract_file(path, [spec], **decoding)[spec.name])
            except Exception as error:
                # Whatever a library makes of a rotten file costs this file, not the answers for the others.
                failures[position] = failure(path, error)
        rows = iter(segment_probabilities(bundle, arrays) if arrays else ())
        for position, path in enumerate(batch):
            if position in failures:
                yield failures[position]
            else:
                yield prediction(path, next(rows), bundle, threshold)


def failure(path: str | Path, error: Exception) -> Failure:
    """Tell why there is no prediction; what is no `AudioError` is what a library makes of a rotten file."""
    if isinstance(error, AudioError):
        return Failure(masked(path), type(error).__name__, str(error))
    return Failure(masked(path), AudioError.__name__, f"{masked(path)}: {type(error).__name__}: {error}")


def segment_probabilities(bundle: Bundle, arrays: Sequence[np.ndarray]) -> np.ndarray:
    """Raw probabilities of each segment of some files.

    Parameters
    ----------
    bundle : Bundle
    arrays : sequence of np.ndarray [shape=spec.shape or (segments, *spec.shape)]
        The bundle's feature of each file.

    Returns
    -------
    np.ndarray [shape=(files, segments, genres), dtype=float32]
        With one segment where the model reads whole clips.
    """
    shape = bundle.description.spec.shape
    p = probabilities(bundle.model, np.stack(arrays).reshape(-1, *shape))
    return p.reshape(len(arrays), -1, p.shape[1])


def prediction(path: str | Path, of_segments: np.ndarray, bundle: Bundle, threshold: float = 0.0) -> Prediction:
    """Make the answer for a file of its segments' raw probabilities `[shape=(segments, genres)]`.

    The genre is None where its calibrated probability is below `threshold`.
    """
    spec, labels = bundle.description.spec, bundle.description.labels

    def by_genre(p: np.ndarray) -> dict[str, float]:
        return dict(zip(labels, map(float, p), strict=True))

    (p,) = track_probabilities(of_segments[np.newaxis], bundle.description.calibration)
    genre = labels[int(p.argmax())] if p.max() >= threshold else None
    if spec.segments is None:
        return Prediction(masked(path), genre, by_genre(p))
    segments = [
        SegmentProbabilities(start_s, by_genre(q))
        for start_s, q in zip(spec.segment_starts_s, of_segments, strict=True)
    ]
    return SegmentedPrediction(masked(path), genre, by_genre(p), segments)
