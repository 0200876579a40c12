"""One audio file, opened safely and read in one pass, as libsndfile gives it."""

import contextlib
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile

from genre_spark.errors import AudioEmpty, AudioNotFound, AudioTooLong, AudioUndecodable
from genre_spark.features import mpeg
from genre_spark.features.bounds import RATES
from genre_spark.features.source_name import source_name
from genre_spark.files import printable
from genre_spark.filesystems import is_remote, local_path, open_file

# libsndfile's SF_COUNT_MAX: the length of a FLAC that was written into a pipe. libsndfile can't read it to its end, and
# librosa can't either.
UNKNOWN_LENGTH = 2**63 - 1

# What anybody records lies far within this and `RATES`; a header beyond is damaged, and the resampler or the memory
# would choke on it.
_MOST_CHANNELS = 64

# At a time, of all channels: 2 MB. Smaller blocks cost calls, larger ones memory.
BLOCK_SAMPLES = 1 << 19


class DecoderError(Exception):
    """libsndfile gave up.

    Attributes
    ----------
    container : str, optional
        Name of the format; None where not even that was found.
    """

    def __init__(self, reason: str, container: str | None) -> None:
        super().__init__(reason)
        self.container = container


class Limits(NamedTuple):
    """How long a clip and how large a file or signal may be."""

    seconds: float
    megabytes: int


class Source(NamedTuple):
    """An open file: its content, its name for messages, and its size in bytes."""

    file: io.FileIO | io.BytesIO
    name: str
    size: int

    @classmethod
    def of_bytes(cls, content: bytes, name: str) -> "Source":
        """Take a file from memory."""
        return cls(_Memory(content), name, len(content))

    def sound(self) -> soundfile.SoundFile:
        """Open it for decoding."""
        # By its descriptor: from a name libsndfile would guess a format that has no header, and not tell how far it
        # read.
        return _Sound(self.file if isinstance(self.file, io.BytesIO) else self.file.fileno(), closefd=False)


class Decoding(NamedTuple):
    """What one pass over a file gave."""

    samples: np.ndarray  # mono
    rate: int
    container: str
    claimed: int  # samples per channel that libsndfile expected
    stopped_at: int  # position in the file

    @property
    def seconds(self) -> float:
        """Length of the samples."""
        return len(self.samples) / self.rate


class _Memory(io.BytesIO):
    def seek(self, offset: int, whence: int = 0, /) -> int:
        # Where a header lies, libsndfile asks for impossible places; an exception would be printed by C code.
        with contextlib.suppress(ValueError, OverflowError):
            super().seek(offset, whence)
        return self.tell()


class _Sound(soundfile.SoundFile):
    def seekable(self) -> bool:
        # soundfile would seek after each block, and an MP3 decoder go back a few frames then.
        return False


@contextlib.contextmanager
def opened(uri: str | Path, max_file_mb: int) -> Iterator[Source]:
    """Open a file, wherever it lies.

    Raises
    ------
    AudioNotFound, AudioEmpty, AudioTooLong
        If there is none, or it holds nothing or more than `max_file_mb`.
    AudioUndecodable
        At the end, if it grew or shrank in the meantime.
    """
    if is_remote(uri):
        source = Source.of_bytes(fetched(str(uri), max_file_mb), source_name(uri))
        _check_size(source.name, source.size, max_file_mb)
        yield source
        return
    path = local_path(uri, AudioNotFound)
    name = source_name(path)
    try:
        size = path.stat().st_size
        # Anything else (a FIFO, say) could block for ever.
        if not path.is_file():
            raise AudioNotFound(f"{name}: not a file")
        file = io.FileIO(path)
    except ValueError:
        raise AudioNotFound(f"{name!a}: no file can have this name") from None
    except OSError as error:
        raise AudioNotFound(f"{name}: {_link(path)}{error.strerror}") from None
    with file:
        _check_size(name, size, max_file_mb)
        yield Source(file, name, size)
        if os.fstat(file.fileno()).st_size != size:
            raise AudioUndecodable(f"{name}: its size changed while it was read; try again when it is complete")


def _link(path: Path) -> str:
    """Say where a link leads."""
    with contextlib.suppress(OSError, ValueError):
        return f"a link to {printable(path.readlink())}: "
    return ""


def fetched(address: str, max_file_mb: int) -> bytes:
    """Read a file of another machine."""
    with open_file(address, AudioNotFound) as file:
        _check_size(source_name(address), file.size() or 1, max_file_mb)
        return file.read()


def _check_size(name: str, size: int, max_file_mb: int) -> None:
    if size == 0:
        raise AudioEmpty(f"{name}: the file is empty (0 bytes)")
    if size > max_file_mb * 1e6:
        raise AudioTooLong(f"{name}: has {size / 1e6:.1f} MB, more than audio.max_file_mb={max_file_mb}")


def read(source: Source, limits: Limits) -> Decoding:
    """Decode once from the beginning to where libsndfile stops, block by block: memory holds one channel.

    Raises
    ------
    DecoderError
        If libsndfile does.
    AudioUndecodable, AudioTooLong
        If the header says what can't be or mustn't, before memory is taken for it.
    """
    source.file.seek(0)
    container = None
    try:
        with source.sound() as sound:
            container = sound.format
            check_head(sound, source, limits)
            samples = _mono_samples(sound, source, limits)
            return Decoding(samples, sound.samplerate, container, sound.frames, source.file.tell())
    except soundfile.LibsndfileError as error:
        raise DecoderError(error.error_string, container) from None


def check_head(sound: soundfile.SoundFile, source: Source, limits: Limits) -> None:
    """Refuse, by an `AudioError` that names the file, what its header says is too long, too large or no music."""
    rate, frames = sound.samplerate, sound.frames
    if rate not in RATES or sound.channels > _MOST_CHANNELS:
        raise AudioUndecodable(
            f"{source.name}: has {sound.channels} channels at {rate} Hz; {RATES[0]} to {RATES[-1]} Hz and up to "
            f"{_MOST_CHANNELS} channels are read"
        )
    if frames == UNKNOWN_LENGTH:
        raise AudioUndecodable(f"{source.name}: doesn't tell its length; encode it anew, from a file and not a pipe")
    seconds = frames / rate
    if seconds > limits.seconds and sound.format == "MP3":
        # Without a Xing header an estimate, which a large picture in the tag drives up.
        position = source.file.tell()
        spans = mpeg.mpeg_spans(source.file, limits.seconds)
        seconds = mpeg.announced_duration(source.file) or sum(span.seconds for span in spans)
        source.file.seek(position)
    if seconds > limits.seconds:
        raise AudioTooLong(f"{source.name}: lasts {seconds:.1f} s, more than audio.max_duration_s={limits.seconds:g}")
    megabytes = 4e-6 * min(frames, seconds * rate)
    if megabytes > limits.megabytes:
        raise AudioTooLong(
            f"{source.name}: {seconds:.1f} s at {rate} Hz are {megabytes:.1f} MB of samples, more than "
            f"audio.max_file_mb={limits.megabytes}"
        )


def _mono_samples(sound: soundfile.SoundFile, source: Source, limits: Limits) -> np.ndarray:
    signal = np.empty(min(sound.frames, int(limits.seconds * sound.samplerate)), np.float32)
    buffer = np.empty((BLOCK_SAMPLES // sound.channels, sound.channels), np.float32)
    count = 0
    # What is no number is found at the end.
    with np.errstate(invalid="ignore", over="ignore"):
        # Not more than libsndfile expects: what it decodes beyond, it throws away, and the position would tell nothing.
        while len(block := sound.read(out=buffer[: sound.frames - count])):
            end = count + len(block)
            if end > len(signal):
                raise AudioTooLong(f"{source.name}: lasts more than audio.max_duration_s={limits.seconds:g}")
            mono(block, signal[count:end])
            count = end
    return signal[:count] if count > len(signal) // 2 else signal[:count].copy()


def mono(samples: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """Mean of the channels, with the bits of librosa's mean over the transposed view.

    Parameters
    ----------
    samples : np.ndarray [shape=(n, channels), dtype=float32]
        As soundfile gives them.
    out : np.ndarray [shape=(n,), dtype=float32], optional
        Where the result goes.
    """
    if samples.shape[1] == 1:
        if out is None:
            return samples[:, 0]
        out[:] = samples[:, 0]
        return out
    if samples.shape[1] == 2:
        # At a twentieth of its time. (A product with two halves takes half of that, but BLAS wakes all cores for it.)
        out = np.add(samples[:, 0], samples[:, 1], out=out)
        out *= np.float32(0.5)
        return out
    return np.mean(samples.T, axis=0, out=out)
