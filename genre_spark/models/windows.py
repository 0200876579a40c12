"""Where the windows of a timeline lie: how much of a file a model reads at once, and from which sample on.

Times of a spec become samples as `genre_spark.features.compute` makes them.
"""

import math
from collections.abc import Iterator

from genre_spark.features.compute import rounded
from genre_spark.features.spec import FeatureSpec

# Window of a model that reads a file whole, whatever its length: that of the clips that such models are trained on.
WHOLE_FILE_WINDOW_S = 30.0
# Of a window; a shorter rest at a file's end gets no window of its own, which would tell the last one's tale again.
SHORTEST_REST = 0.1


def seconds_read(spec: FeatureSpec) -> float | None:
    """How much of a longer file a model reads, from the beginning, in seconds; None where it is all of it.

    A feature of `n_frames` is of the beginning, but what counts as silence in it is told by the whole file: what lies
    80 dB below its loudest moment.
    """
    n_samples = samples_read(spec)
    return None if n_samples is None else n_samples / spec.sample_rate


def window_s(spec: FeatureSpec) -> float:
    """Length of a window, in seconds: `seconds_read`, or `WHOLE_FILE_WINDOW_S`."""
    return seconds_read(spec) or WHOLE_FILE_WINDOW_S


def usual_hop_s(spec: FeatureSpec) -> float:
    """Time from one window to the next where none is given, in seconds.

    Half a window; where there are segments, from one to the next, because windows share them then, or as many of that
    as are a tenth of a window.
    """
    if spec.segments is None:
        return window_s(spec) / 2
    segment_s = spec.segments.length_s - spec.segments.overlap_s
    return segment_s * math.ceil(window_s(spec) / 10 / segment_s)


def samples_read(spec: FeatureSpec) -> int | None:
    """Samples at the spec's rate that a model reads of a file that is long enough; None: all."""
    if spec.segments is not None:
        rate, length_s = spec.sample_rate, spec.segments.length_s
        return rounded(spec.segment_starts_s[-1] * rate) + rounded(length_s * rate)
    if spec.n_samples is not None:
        return spec.n_samples
    if spec.n_frames is not None:
        # Of centred frames: what is behind the middle of the last one is hardly heard.
        return max(1, spec.n_frames - 1) * spec.hop_length
    return None


def window_starts(n: int, size: int, hop: int) -> Iterator[int]:
    """First samples of the windows of a signal.

    Parameters
    ----------
    n, size, hop : int
        Length of the signal and of a window, and from one window to the next, in samples.
    """
    last = 0
    for last in range(0, max(1, n - size + 1), hop):
        yield last
    if n - (last + size) >= SHORTEST_REST * size:
        yield n - size
