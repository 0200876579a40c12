"""Bytes to mono float32 PCM, with named errors."""

import io
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from genre_spark.errors import AudioEmpty, AudioNotFinite, AudioNotFound, AudioTooLong, AudioUndecodable
from genre_spark.files import printable
from genre_spark.filesystems import is_remote, local_path, masked, open_file

# libsndfile's SF_COUNT_MAX: the length of a FLAC that was written into a pipe. libsndfile can't read it to its end, and
# librosa can't either.
_UNKNOWN_LENGTH = 2**63 - 1


@dataclass(frozen=True)
class Pcm:
    """A decoded clip.

    Attributes
    ----------
    samples : np.ndarray [shape=(n,), dtype=float32]
        Mean of the channels, full scale at 1.
    sample_rate : int
        In Hz, as the file has it.
    """

    samples: np.ndarray
    sample_rate: int

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return len(self.samples) / self.sample_rate


def decode(uri: str | Path, *, max_duration_s: float = 1_800.0, max_file_mb: int = 1_024) -> Pcm:
    """Decode an audio file to mono.

    The samples are bit for bit those of ``librosa.load(path, sr=None)`` where that decodes with soundfile, wherever the
    file lies.

    Parameters
    ----------
    uri : str or Path
        A path or an address that `genre_spark.filesystems` opens; the format is told by the content, not by the
        extension.
    max_duration_s : float
        Longest clip that is decoded, in seconds.
    max_file_mb : int
        Largest file that is read from another machine, in MB (10**6 bytes): it is held in memory whole.

    Returns
    -------
    Pcm
        At the file's own sample rate.

    Raises
    ------
    AudioNotFound, AudioUndecodable, AudioEmpty, AudioTooLong, AudioNotFinite
        Each names the file.
    """
    if is_remote(uri):
        name, content = masked(uri), _fetched(str(uri), max_file_mb)
        return _decoded(io.BytesIO(content), name, len(content), max_duration_s)
    path = local_path(uri, AudioNotFound)
    name = printable(path)
    try:
        size = path.stat().st_size
        # Anything else (a FIFO, say) could block the decoder for ever.
        if not path.is_file():
            raise AudioNotFound(f"{name}: not a file")
    except OSError as error:
        raise AudioNotFound(f"{name}: {error.strerror}") from None
    # As bytes: soundfile refuses a name that is no UTF-8.
    return _decoded(os.fsencode(path), name, size, max_duration_s)


def _fetched(address: str, max_file_mb: int) -> bytes:
    with open_file(address, AudioNotFound) as file:
        megabytes = file.size() / 1e6
        if megabytes > max_file_mb:
            raise AudioTooLong(
                f"{masked(address)}: has {megabytes:.1f} MB, more than audio.max_file_mb={max_file_mb} for remote files"
            )
        return file.read()


def _decoded(source: bytes | io.BytesIO, name: str, size: int, max_duration_s: float) -> Pcm:
    """Decode from a path or from memory; `name` and `size` in bytes are for the messages."""
    if size == 0:
        raise AudioEmpty(f"{name}: the file is empty (0 bytes)")
    try:
        with soundfile.SoundFile(source) as sound:
            rate = sound.samplerate
            if sound.frames == _UNKNOWN_LENGTH:
                raise AudioUndecodable(f"{name}: doesn't tell its length; encode it anew, from a file and not a pipe")
            if sound.frames > max_duration_s * rate:
                raise AudioTooLong(
                    f"{name}: lasts {sound.frames / rate:.1f} s, more than audio.max_duration_s={max_duration_s:g}"
                )
            samples = sound.read(dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        raise AudioUndecodable(f"{name}: not audio that can be decoded (libsndfile: {error.error_string})") from None
    if samples.shape[0] == 0:
        raise AudioEmpty(f"{name}: no samples in {size} bytes")
    if not np.isfinite(samples).all():
        raise AudioNotFinite(f"{name}: the samples hold NaN or infinity")
    return Pcm(_mono(samples), rate)


def _mono(samples: np.ndarray) -> np.ndarray:
    if samples.shape[1] == 1:
        return samples[:, 0]
    if samples.shape[1] == 2:
        # The same bits as librosa's mean over the transposed view, at a twentieth of its time.
        return (samples[:, 0] + samples[:, 1]) / np.float32(2)
    return np.mean(samples.T, axis=0)
