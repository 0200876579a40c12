"""Bytes to mono float32 PCM, complete and with named errors.

What libmpg123 thinks of a rotten MP3 goes to the process's standard error, from C. Nothing here silences it: file
descriptor 2 belongs to all threads. `genre_spark.dataset.isolation` decodes in a process of its own, where it can.
"""

import contextlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Literal, Protocol, TypeVar

import numpy as np

from genre_spark.errors import AudioEmpty, AudioNotFinite, AudioShortened, AudioTooLong, AudioUndecodable
from genre_spark.features import lengths, mpeg
from genre_spark.features.sound_file import DecoderError, Limits, Source, opened, read

# Nobody misses less: half a second, or 2 % of a short clip. MP3 encoders pad up to three frames, which decoders trim.
_MISSING_S = 0.5
_MISSING_SHARE = 0.02
_PADDING_SAMPLES = 3 * 1_152
# Less than that behind the last decoded frame of an MP3 holds no half second (8 kbit/s is the least), but a tag.
_REST_BYTES = 400


@dataclass(frozen=True)
class Pcm:
    """A decoded clip.

    Attributes
    ----------
    samples : np.ndarray [shape=(n,), dtype=float32]
        Mean of the channels, full scale at 1.
    sample_rate : int
        In Hz, as the file has it.
    shortened_s : float
        Seconds that the file announces and that didn't come out; 0 for a whole clip, infinite where the file's end is
        missing and nobody knows how much of it.
    """

    samples: np.ndarray
    sample_rate: int
    shortened_s: float = 0.0

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return len(self.samples) / self.sample_rate


def decode(
    uri: str | Path,
    *,
    max_duration_s: float = 1_800.0,
    max_file_mb: int = 1_024,
    shortened: Literal["error", "keep"] = "error",
) -> Pcm:
    """Decode an audio file to mono.

    The samples are bit for bit those of ``librosa.load(path, sr=None)`` where that decodes with soundfile, wherever the
    file lies. Of an MP3 of variable bit rate without a Xing header soundfile gives the beginning only: here the rest
    follows.

    Parameters
    ----------
    uri : str or Path
        A path or an address that `genre_spark.filesystems` opens; the format is told by the content, not by the
        extension.
    max_duration_s : float
        Longest clip that is decoded, in seconds.
    max_file_mb : int
        Largest file that is read and largest signal that is made of one (4 bytes a sample), in MB (10**6 bytes). Memory
        holds the signal, and a file from another machine whole.
    shortened : {'error', 'keep'}
        What becomes of a file of which less comes out than it announces: by its MP3, RIFF, AIFF, AU, Wave64 or FLAC
        header, by further frames or a further stream behind the place where the decoder stopped, or for want of Ogg's
        last page. Half a second may be missing, or 2 % where that is less. An MP3 that was cut off says nothing of it
        unless it has a Xing or VBRI header.

    Returns
    -------
    Pcm
        At the file's own sample rate.

    Raises
    ------
    AudioNotFound, AudioUndecodable, AudioEmpty, AudioTooLong, AudioNotFinite, AudioShortened
        Each names the file.
    """
    with opened(uri, max_file_mb) as source:
        pcm = _decoded(source, Limits(max_duration_s, max_file_mb))
    if pcm.shortened_s and shortened == "error":
        what = f"{pcm.shortened_s:.1f} s more" if math.isfinite(pcm.shortened_s) else "more (nobody knows how much)"
        raise AudioShortened(
            f"{source.name}: {pcm.duration_s:.1f} s come out, it announces {what}: cut off, damaged or joined from "
            "several; replace it, or take what there is with audio.shortened=keep"
        )
    return pcm


class _Pass(Protocol):
    """What `whole` has to know of a pass over a file; `genre_spark.features.sound_file.Decoding` is one."""

    @property
    def rate(self) -> int: ...
    @property
    def container(self) -> str: ...
    @property
    def claimed(self) -> int: ...
    @property
    def stopped_at(self) -> int: ...
    @property
    def seconds(self) -> float: ...


_PassT = TypeVar("_PassT", bound=_Pass)


def whole(source: Source, limits: Limits, read: Callable[[Source, Limits], _PassT]) -> tuple[_PassT, float]:
    """Read a file, and an MP3 once more where the first pass gave less than there is.

    Parameters
    ----------
    source : Source
        The file.
    limits : Limits
        What `read` is handed.
    read : callable
        One pass over a file, for instance `genre_spark.features.sound_file.read`.

    Returns
    -------
    tuple[pass, float]
        The longest pass, and the seconds that the file announces and that didn't come out, as `Pcm.shortened_s`.

    Raises
    ------
    AudioUndecodable, AudioTooLong
        If nothing or too much comes out.
    """
    found: _PassT | None = None
    reason = ""
    try:
        found = read(source, limits)
        container: str | None = found.container
    except DecoderError as error:
        container, reason = error.container, str(error)
    announced_s = 0.0
    if container == "MP3":
        found, announced_s = _whole_mp3(source, found, limits, read)
    if found is None:
        raise AudioUndecodable(f"{source.name}: not audio that can be decoded (libsndfile: {reason})")
    if container != "MP3":
        announced_s = lengths.announced_duration(
            source.file, source.size, found.container, found.stopped_at, found.seconds
        )
        announced_s = max(announced_s, found.claimed / found.rate)
    missing_s = announced_s - found.seconds
    return found, missing_s if missing_s > _tolerance_s(found, announced_s) else 0.0


def _decoded(source: Source, limits: Limits) -> Pcm:
    decoding, shortened_s = whole(source, limits, read)
    samples = decoding.samples
    if len(samples) == 0:
        raise AudioEmpty(f"{source.name}: no samples in {source.size} bytes")
    # Of NaN both are NaN: faster than a look at each sample.
    if not (math.isfinite(samples.max()) and math.isfinite(samples.min())):
        raise AudioNotFinite(f"{source.name}: the samples hold NaN or infinity")
    return Pcm(samples, decoding.rate, shortened_s)


def _tolerance_s(found: _Pass, announced_s: float) -> float:
    padding_s = _PADDING_SAMPLES / found.rate if found.container == "MP3" else 0.0
    return _least_missed_s(announced_s) + padding_s


def _least_missed_s(announced_s: float) -> float:
    return min(_MISSING_S, _MISSING_SHARE * announced_s)


def _whole_mp3(
    source: Source, found: _PassT | None, limits: Limits, read: Callable[[Source, Limits], _PassT]
) -> tuple[_PassT | None, float]:
    """Decode what libsndfile left out, where there is a way; return the announced length too.

    `found` is None where libsndfile gave up: libmpg123 does over rubbish among the frames, also behind all sound.
    """
    announced_s = mpeg.announced_duration(source.file)
    if found is None or source.size - found.stopped_at > _REST_BYTES:
        # Before the end: a tag follows, or libsndfile estimated too little, or another stream begins.
        spans = mpeg.mpeg_spans(source.file, limits.seconds)
        all_s = sum(span.seconds for span in spans)
        if all_s > limits.seconds:
            raise AudioTooLong(f"{source.name}: lasts more than audio.max_duration_s={limits.seconds:g}")
        if found is None or (announced_s is None and all_s - found.seconds > _tolerance_s(found, all_s)):
            longer = _first_stream(source, spans, limits, read)
            found = max((each for each in (found, longer) if each), key=lambda each: each.seconds, default=None)
        announced_s = max(all_s, announced_s or 0.0)
    return found, announced_s or 0.0


def _first_stream(
    source: Source, spans: list[mpeg.Span], limits: Limits, read: Callable[[Source, Limits], _PassT]
) -> _PassT | None:
    """Decode the first stream of an MP3 alone, at least up to the first hole in it; None where nothing decodes."""
    if not spans:
        return None
    first = spans[0]
    stream = list(takewhile(lambda span: (span.rate, span.is_mono) == (first.rate, first.is_mono), spans))
    parts = [(stream[-1].end, sum(span.seconds for span in stream))]
    if len(spans) > 1:
        rest_s = sum(span.seconds for span in spans[1:])
        # Of the frame before a hole nobody knows whether it is whole. Among the bytes behind all sound some look like
        # frames.
        has_hole = rest_s > _least_missed_s(first.seconds + rest_s)
        parts.append((first.last if has_hole else first.end, first.seconds))
    for end, seconds in parts:
        if end == first.start:
            continue
        source.file.seek(first.start)
        looking = mpeg.longer_looking(source.file.read(end - first.start), seconds)
        with contextlib.suppress(DecoderError):
            # So that libsndfile reads it to its end.
            return read(Source.of_bytes(looking, source.name), limits)
    return None
