"""Bytes to mono float32 PCM, with named errors."""

import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote_to_bytes, urlsplit

import numpy as np
import soundfile

from genre_spark.errors import AudioEmpty, AudioNotFinite, AudioNotFound, AudioTooLong, AudioUndecodable
from genre_spark.files import printable

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


def local_path(uri: str | Path) -> Path:
    """Path of a `file://` URI or of a plain path.

    Raises
    ------
    AudioNotFound
        If the URI is of another scheme.
    """
    text = str(uri)
    if "://" not in text:
        return Path(text)
    parts = urlsplit(text)
    if parts.scheme != "file":
        raise AudioNotFound(f"{text}: only local files and file:// URIs can be read")
    return Path(os.fsdecode(unquote_to_bytes(parts.path)))


def decode(uri: str | Path, *, max_duration_s: float = 1_800.0) -> Pcm:
    """Decode an audio file to mono.

    The samples are bit for bit those of ``librosa.load(path, sr=None)`` where that decodes with soundfile.

    Parameters
    ----------
    uri : str or Path
        A path or a `file://` URI; the format is told by the content, not by the extension.
    max_duration_s : float
        Longest clip that is decoded, in seconds.

    Returns
    -------
    Pcm
        At the file's own sample rate.

    Raises
    ------
    AudioNotFound, AudioUndecodable, AudioEmpty, AudioTooLong, AudioNotFinite
        Each names the file.
    """
    path = local_path(uri)
    name = printable(path)
    try:
        size = path.stat().st_size
        # Anything else (a FIFO, say) could block the decoder for ever.
        if not path.is_file():
            raise AudioNotFound(f"{name}: not a file")
    except OSError as error:
        raise AudioNotFound(f"{name}: {error.strerror}") from None
    if size == 0:
        raise AudioEmpty(f"{name}: the file is empty (0 bytes)")
    try:
        # As bytes: soundfile refuses a name that is no UTF-8.
        with soundfile.SoundFile(os.fsencode(path)) as sound:
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
