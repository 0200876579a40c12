"""How the genre moves through a song: what a model says of one window of it after the other.

A window is as long as what the model reads at once, so that its answer is the one that `predict` gives of a file with
nothing but the window in it, calibrated as that. For a model of segments that is the clip with all its segments, not
one of them: the probabilities are calibrated for their vote, and a segment alone has silence in the others' places.
"""

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path

import numpy as np

from genre_spark.errors import AudioError, SettingsError
from genre_spark.features.audio import Pcm, decode
from genre_spark.features.compute import finite_features, rounded
from genre_spark.filesystems import masked
from genre_spark.models.bundle import Bundle
from genre_spark.models.calibration import threshold_of
from genre_spark.models.predict import Failure, Prediction, failure, prediction, segment_probabilities
from genre_spark.models.windows import (
    WHOLE_FILE_WINDOW_S,
    samples_read,
    seconds_read,
    usual_hop_s,
    window_starts,
)
from genre_spark.settings import AudioSettings


@dataclass(frozen=True)
class Moment:
    """What the model says of one window: the probability of each genre, calibrated as a whole file's."""

    start_s: float
    end_s: float
    probabilities: dict[str, float]

    def leading(self, sure_from: float = 0.0) -> str | None:
        """Most probable genre; None where its probability is below `sure_from`."""
        genre = max(self.probabilities, key=lambda each: self.probabilities[each])
        return genre if self.probabilities[genre] >= sure_from else None


@dataclass(frozen=True)
class Timeline:
    """A file's windows in the order of their time; they overlap where the hop is shorter than a window.

    Attributes
    ----------
    path : str
    duration_s : float
        Length of the decoded file, in seconds.
    moments : list of Moment
    """

    path: str
    duration_s: float
    moments: list[Moment]


@dataclass(frozen=True)
class TimedPrediction:
    """What `predict_files` says of a file, of how much of it that is (seconds from the beginning), and its timeline."""

    prediction: Prediction
    read_s: float
    timeline: Timeline


def check_hop(hop_s: float | None) -> None:
    """Refuse, by a `SettingsError`, a hop that isn't a positive number."""
    if hop_s is not None and not (math.isfinite(hop_s) and hop_s > 0):
        raise SettingsError(f"hop_s={hop_s:g} must be a positive number of seconds")


def predict_timeline(
    bundle: Bundle,
    path: str | Path,
    *,
    audio: AudioSettings | None = None,
    hop_s: float | None = None,
    batch_size: int = 32,
) -> Timeline:
    """Predict the genre of one window of a file after the other.

    The file is decoded once; memory holds its signal, and the tensors of one batch.

    Parameters
    ----------
    bundle : Bundle
        From `load_bundle`.
    path : str or Path
        Audio file.
    audio : AudioSettings, optional
        Limits on what is decoded; by default those of the settings.
    hop_s : float, optional
        Time from the beginning of one window to that of the next, in seconds; at least a sample. By default
        `usual_hop_s`.
    batch_size : int
        Windows, or segments of windows, that go through the model at a time.

    Returns
    -------
    Timeline
        With one moment at least: a file shorter than a window is one. The last window ends with the file, unless less
        than a tenth of a window is left behind the one before.

    Raises
    ------
    AudioError
        If the file can't be turned into features; its children say why.
    SettingsError
        If the hop isn't a positive number.
    """
    check_hop(hop_s)
    return _timeline(bundle, path, _decoded(path, audio), hop_s, batch_size)


def predict_timelines(
    bundle: Bundle,
    paths: Sequence[str | Path],
    *,
    audio: AudioSettings | None = None,
    hop_s: float | None = None,
    batch_size: int = 32,
    precision: float | None = None,
) -> Iterator[TimedPrediction | Failure]:
    """Predict the genre of audio files as `predict_files` does, and their timelines, from one decoding.

    Parameters
    ----------
    bundle, paths, audio, precision
        As `genre_spark.models.predict.predict_files` takes them.
    hop_s, batch_size
        As `predict_timeline` takes them.

    Yields
    ------
    TimedPrediction or Failure
        One per path, in their order.

    Raises
    ------
    BundleError
        If the bundle has no threshold for this precision.
    SettingsError
        If the hop isn't a positive number.
    """
    check_hop(hop_s)
    threshold = 0.0 if precision is None else threshold_of(bundle.description.calibration, precision)
    for path in paths:
        # In a function of its own, so that no signal is kept while the next file is decoded.
        yield _timed(bundle, path, audio, hop_s, batch_size, threshold)


def _timed(
    bundle: Bundle,
    path: str | Path,
    audio: AudioSettings | None,
    hop_s: float | None,
    batch_size: int,
    threshold: float,
) -> TimedPrediction | Failure:
    try:
        pcm = _decoded(path, audio)
        (of_segments,) = segment_probabilities(bundle, [_features(bundle, pcm, path)])
        timeline = _timeline(bundle, path, pcm, hop_s, batch_size)
    except AudioError as error:
        return failure(path, error)
    read_s = min(pcm.duration_s, seconds_read(bundle.description.spec) or math.inf)
    return TimedPrediction(prediction(path, of_segments, bundle, threshold), read_s, timeline)


@contextlib.contextmanager
def _named(path: str | Path) -> Iterator[None]:
    try:
        yield
    except AudioError:
        raise
    except Exception as error:
        # Whatever a library makes of a rotten file.
        raise AudioError(failure(path, error).detail) from error


def _decoded(path: str | Path, audio: AudioSettings | None) -> Pcm:
    with _named(path):
        return decode(path, **(audio or AudioSettings()).decoding())


def _features(bundle: Bundle, pcm: Pcm, path: str | Path) -> np.ndarray:
    spec = bundle.description.spec
    with _named(path):
        return finite_features(pcm, [spec], path)[spec.name]


def _timeline(bundle: Bundle, path: str | Path, pcm: Pcm, hop_s: float | None, batch_size: int) -> Timeline:
    spec = bundle.description.spec
    rate, n = pcm.sample_rate, len(pcm.samples)
    n_read = samples_read(spec) or rounded(WHOLE_FILE_WINDOW_S * spec.sample_rate)
    # As many samples of the file as become no fewer at the spec's rate.
    size = -(-n_read * rate // spec.sample_rate)
    hop = max(1, rounded(min((usual_hop_s(spec) if hop_s is None else hop_s) * rate, n)))
    features = _window_features(bundle, path, pcm, size)
    starts = window_starts(n, size, hop)
    moments: list[Moment] = []
    while batch := list(islice(starts, max(1, batch_size // len(spec.segment_starts_s)))):
        arrays = [features(start) for start in batch]
        for start, of_segments in zip(batch, segment_probabilities(bundle, arrays), strict=True):
            p = prediction(path, of_segments, bundle).probabilities
            moments.append(Moment(start / rate, min(start + size, n) / rate, p))
    return Timeline(masked(path), pcm.duration_s, moments)


def _window_features(bundle: Bundle, path: str | Path, pcm: Pcm, size: int) -> Callable[[int], np.ndarray]:
    """Make the function from a window's first sample to its features: those of a file with the window in it."""
    spec, rate = bundle.description.spec, pcm.sample_rate

    def part(first: int, length: int) -> Pcm:
        # A copy lies in memory as a decoded file does: sums may depend on that.
        return Pcm(pcm.samples[first : first + length].copy(), rate)

    if spec.segments is None or rate != spec.sample_rate:
        return lambda start: _features(bundle, part(start, size), path)
    # What isn't resampled has the same samples in each window: a segment that several windows share is computed once.
    one = spec.model_copy(update={"segments": spec.segments.model_copy(update={"count": 1})})
    length = rounded(spec.segments.length_s * rate)
    offsets = [rounded(start_s * rate) for start_s in spec.segment_starts_s]

    @lru_cache(maxsize=2 * len(offsets))
    def segment(first: int) -> np.ndarray:
        with _named(path):
            return finite_features(part(first, length), [one], path)[one.name][0]

    return lambda start: np.stack([segment(start + offset) for offset in offsets])
