"""Bytes to mono float32 PCM, complete and with named errors.

What libmpg123 thinks of a rotten MP3 goes to the process's standard error, from C. Nothing here silences it: file
descriptor 2 belongs to all threads. `genre_spark.dataset.isolation` decodes in a process of its own, where it can.
"""

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
    try:
        found = read(source, limits)
    except DecoderError as error:
        repaired = _without_junk(source, limits, read) if error.container == "MP3" else None
        if repaired is None:
            raise AudioUndecodable(f"{source.name}: not audio that can be decoded (libsndfile: {error})") from None
        found = repaired
    if found.container == "MP3":
        found, announced_s = _whole_mp3(source, found, limits, read)
    else:
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
    return min(_MISSING_S, _MISSING_SHARE * announced_s) + padding_s


def _whole_mp3(
    source: Source, found: _PassT, limits: Limits, read: Callable[[Source, Limits], _PassT]
) -> tuple[_PassT, float]:
    """Decode what libsndfile left out, where there is a way; return the announced length too."""
    announced_s = mpeg.announced_duration(source.file)
    if source.size - found.stopped_at > _REST_BYTES:
        # Before the end: a tag follows, or libsndfile estimated too little, or another stream begins.
        spans = mpeg.mpeg_spans(source.file, limits.seconds)
        all_s = sum(span.seconds for span in spans)
        if all_s > limits.seconds:
            raise AudioTooLong(f"{source.name}: lasts more than audio.max_duration_s={limits.seconds:g}")
        if announced_s is None and all_s - found.seconds > _tolerance_s(found, all_s):
            try:
                longer = read(_first_stream(source, spans), limits)
            except DecoderError:
                longer = found
            found = max(found, longer, key=lambda each: each.seconds)
        announced_s = max(all_s, announced_s or 0.0)
    return found, announced_s or 0.0


def _without_junk(source: Source, limits: Limits, read: Callable[[Source, Limits], _PassT]) -> _PassT | None:
    """Decode an MP3 up to its last frame: libmpg123 gives up over rubbish behind that, after all sound."""
    spans = mpeg.mpeg_spans(source.file, limits.seconds)
    if len(spans) != 1:
        return None
    try:
        return read(_first_stream(source, spans), limits)
    except DecoderError:
        return None


def _first_stream(source: Source, spans: list[mpeg.Span]) -> Source:
    """Take the first stream of an MP3 alone, and so that libsndfile reads it to its end."""
    first = spans[0]
    stream = list(takewhile(lambda span: (span.rate, span.is_mono) == (first.rate, first.is_mono), spans))
    source.file.seek(first.start)
    content = source.file.read(stream[-1].end - first.start)
    return Source.of_bytes(mpeg.longer_looking(content, sum(span.seconds for span in stream)), source.name)
