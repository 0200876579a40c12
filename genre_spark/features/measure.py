"""One audio file to the facts that an audit judges: what it is, how long, how loud, and which signal."""

import hashlib
import io
import math
import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
import soundfile
import xxhash

from genre_spark.corpora.folder import AUDIO_EXTENSIONS
from genre_spark.errors import AudioEmpty, AudioError, AudioNotFinite, AudioNotFound, AudioTooLong, AudioUndecodable
from genre_spark.features.audio import _UNKNOWN_LENGTH, _fetched, _mono
from genre_spark.features.mpeg import mpeg_duration
from genre_spark.files import printable
from genre_spark.filesystems import is_remote, local_path, masked

# What is not known of a file is null: of one that can't be decoded, everything behind the hash of its bytes.
MEASUREMENT_SCHEMA = pa.schema(
    [
        pa.field("size_bytes", pa.int64()),
        pa.field("file_sha256", pa.string()),
        pa.field("format", pa.string()),
        pa.field("codec", pa.string()),
        pa.field("sample_rate", pa.int32()),
        pa.field("channels", pa.int32()),
        pa.field("frames", pa.int64()),
        pa.field("decoded_s", pa.float64()),
        pa.field("announced_s", pa.float64()),
        pa.field("peak_dbfs", pa.float64()),
        pa.field("rms_dbfs", pa.float64()),
        pa.field("clipped", pa.float64()),
        pa.field("dc_offset", pa.float64()),
        pa.field("mislabelled", pa.bool_()),
        pa.field("pcm_hash", pa.string()),
        pa.field("error", pa.string()),
        pa.field("detail", pa.string()),
    ]
)

# At a time, so that an hour takes no more memory than a minute. Decoding in smaller blocks costs: soundfile seeks after
# each, and an MP3 decoder has to go back a few frames then. The arithmetic is faster on what fits into a cache.
_READ_BYTES = 1 << 20
_READ_SAMPLES = 1 << 21
_BLOCK_SAMPLES = 1 << 16

# The loudest positive sample of 16 bits; whatever is louder, of 24 bits or a lossy codec, counts too. 8 bits end below.
_FULL_SCALE = 32_767 / 32_768
_FULL_SCALE_OF_8_BITS = 127 / 128

# Encoders pad, decoders trim the padding: less than that is no missing music.
_PADDING_S = 0.5

# libsndfile's container formats and how files of them are named.
_EXTENSIONS = {
    "AIFF": {".aif", ".aiff", ".aifc"},
    "AU": {".au"},
    "CAF": {".caf"},
    "FLAC": {".flac"},
    "MP3": {".mp2", ".mp3"},
    "OGG": {".oga", ".ogg", ".opus"},
    "RF64": {".wav"},
    "W64": {".w64"},
    "WAV": {".wav"},
    "WAVEX": {".wav"},
}


@dataclass(frozen=True)
class Measurement:
    """Facts on one file; the fields are those of `MEASUREMENT_SCHEMA`, None where unknown.

    Attributes
    ----------
    size_bytes, file_sha256
        Of the bytes as they lie there, audio or not.
    format, codec : str
        As libsndfile names container and subtype: ``MP3`` and ``MPEG_LAYER_III``, ``WAV`` and ``PCM_16``.
    sample_rate, channels, frames : int
        Rate in Hz; frames are samples per channel, counted as they were decoded.
    decoded_s : float
        Length of what the decoder gave, in seconds.
    announced_s : float
        Length that the headers tell, where it differs by more than half a second; for an MP3 that of its frames where
        they tell more.
    peak_dbfs, rms_dbfs : float
        Of all samples of all channels; 0 dBFS is an amplitude of 1, so a full-scale sine has an RMS of -3.01 dBFS and
        silence has minus infinity. The peak of an MP3 may be above 0: the decoder gives what a player has to clip.
    clipped : float
        Share of the samples at full scale (32,767/32,768) or above, whatever codec they come from: what an MP3
        overshoots is cut off when it is played or converted to 16 bits.
    dc_offset : float
        Mean of all samples.
    mislabelled : bool
        Whether the name ends like that of another kind of audio file.
    pcm_hash : str
        See `pcm_hash`.
    error, detail : str
        Name of a class of `genre_spark.errors` and its message where the file can't be decoded.
    """

    size_bytes: int | None = None
    file_sha256: str | None = None
    format: str | None = None
    codec: str | None = None
    sample_rate: int | None = None
    channels: int | None = None
    frames: int | None = None
    decoded_s: float | None = None
    announced_s: float | None = None
    peak_dbfs: float | None = None
    rms_dbfs: float | None = None
    clipped: float | None = None
    dc_offset: float | None = None
    mislabelled: bool | None = None
    pcm_hash: str | None = None
    error: str | None = None
    detail: str | None = None


def pcm_hash(samples: np.ndarray) -> str | None:
    """Hash of a decoded signal: the same for copies under other names and in other lossless encodings.

    Parameters
    ----------
    samples : np.ndarray [shape=(n,), dtype=float32]
        Mono, as `genre_spark.features.audio.decode` gives it.

    Returns
    -------
    str, optional
        XXH3 of 128 bits over the little-endian samples, 32 hexadecimal digits; None for digital silence, which is no
        copy of anything.
    """
    return xxhash.xxh3_128_hexdigest(_little_endian(samples)) if samples.any() else None


def measure_file(uri: str | Path, *, max_duration_s: float = 1_800.0, max_file_mb: int = 1_024) -> Measurement:
    """Measure one audio file; whatever is wrong with it stands in the result.

    Parameters
    ----------
    uri : str or Path
        As `genre_spark.features.audio.decode` takes it.
    max_duration_s : float
        Longest clip that is decoded, in seconds.
    max_file_mb : int
        Largest file that is read from another machine, in MB.
    """
    facts: dict[str, object] = {}
    try:
        _measure(uri, facts, max_duration_s, max_file_mb)
    except AudioError as error:
        facts |= {"error": type(error).__name__, "detail": printable(str(error))}
    except Exception as error:
        # Whatever a library makes of a rotten file is a fact about that file.
        facts |= {"error": AudioError.__name__, "detail": printable(f"{masked(uri)}: {type(error).__name__}: {error}")}
    if "format" in facts:
        facts["mislabelled"] = _is_mislabelled(str(uri), str(facts["format"]))
    return Measurement(**facts)  # type: ignore[arg-type]


def _measure(uri: str | Path, facts: dict[str, object], max_duration_s: float, max_file_mb: int) -> None:
    """Fill in the facts one by one, so that those found before an error stay."""
    if is_remote(uri):
        content = _fetched(str(uri), max_file_mb)
        _file_facts(io.BytesIO(content), io.BytesIO(content), masked(uri), facts, max_duration_s)
        return
    path = local_path(uri, AudioNotFound)
    name = printable(path)
    try:
        # Anything else (a FIFO, say) could block for ever.
        if path.exists() and not path.is_file():
            raise AudioNotFound(f"{name}: not a file")
        with path.open("rb") as file:
            # As bytes: soundfile refuses a name that is no UTF-8.
            _file_facts(os.fsencode(path), file, name, facts, max_duration_s)
    except OSError as error:
        raise AudioNotFound(f"{name}: {error.strerror}") from None


def _file_facts(
    source: bytes | io.BytesIO, file: BinaryIO, name: str, facts: dict[str, object], max_duration_s: float
) -> None:
    """Facts on a file that libsndfile opens as `source`, and that is open for reading as `file`."""
    facts |= _bytes_facts(file)
    if facts["size_bytes"] == 0:
        raise AudioEmpty(f"{name}: the file is empty (0 bytes)")
    try:
        with soundfile.SoundFile(source) as sound:
            _sound_facts(sound, file, name, facts, max_duration_s)
    except soundfile.LibsndfileError as error:
        raise AudioUndecodable(f"{name}: not audio that can be decoded (libsndfile: {error.error_string})") from None


def _bytes_facts(file: BinaryIO) -> dict[str, object]:
    digest, size = hashlib.sha256(), 0
    while block := file.read(_READ_BYTES):
        digest.update(block)
        size += len(block)
    return {"size_bytes": size, "file_sha256": digest.hexdigest()}


def _sound_facts(
    sound: soundfile.SoundFile, file: BinaryIO, name: str, facts: dict[str, object], max_duration_s: float
) -> None:
    rate = sound.samplerate
    facts |= {"format": sound.format, "codec": sound.subtype, "sample_rate": rate, "channels": sound.channels}
    if sound.frames == _UNKNOWN_LENGTH:
        raise AudioUndecodable(f"{name}: doesn't tell its length; encode it anew, from a file and not a pipe")
    if sound.frames > max_duration_s * rate:
        raise AudioTooLong(
            f"{name}: lasts {sound.frames / rate:.1f} s, more than audio.max_duration_s={max_duration_s:g}"
        )
    levels = _Levels(_FULL_SCALE_OF_8_BITS if sound.subtype in ("PCM_S8", "PCM_U8") else _FULL_SCALE)
    buffer = np.empty((_READ_SAMPLES // sound.channels, sound.channels), np.float32)
    step = _BLOCK_SAMPLES // sound.channels
    while len(samples := sound.read(out=buffer)):
        if not all(levels.add(samples[start : start + step]) for start in range(0, len(samples), step)):
            raise AudioNotFinite(f"{name}: the samples hold NaN or infinity")
    if levels.frames == 0:
        raise AudioEmpty(f"{name}: no samples in {facts['size_bytes']} bytes")
    decoded_s = levels.frames / rate
    facts |= {"frames": levels.frames, "decoded_s": decoded_s, **levels.facts()}
    # What libsndfile announces for an MP3 is an estimate.
    announced_s = mpeg_duration(file) if sound.format == "MP3" else sound.frames / rate
    if announced_s is not None and abs(announced_s - decoded_s) > _PADDING_S:
        facts["announced_s"] = announced_s


class _Levels:
    """Levels and hash of a signal that comes in blocks."""

    def __init__(self, full_scale: float) -> None:
        self.frames = 0
        self._full_scale = full_scale
        self._samples = self._clipped = 0
        self._peak = self._squares = self._sum = 0.0
        self._digest = xxhash.xxh3_128()
        self._is_silent = True

    def add(self, block: np.ndarray) -> bool:
        """Take a block `[shape=(n, channels)]`; tell whether all of it are numbers."""
        wide = block.astype(np.float64)
        with np.errstate(invalid="ignore"):
            total = float(wide.sum())
        # The largest float32 squared is no infinity in float64: an infinite sum means an infinite sample.
        squares = float(np.square(wide, out=wide).sum())
        if not math.isfinite(squares):
            return False
        peak = float(max(block.max(), -block.min()))
        if peak >= self._full_scale:
            self._clipped += int(np.count_nonzero(np.abs(block) >= self._full_scale))
        mono = _mono(block)
        self._digest.update(_little_endian(mono))
        self._is_silent = self._is_silent and not mono.any()
        self._peak = max(self._peak, peak)
        self._squares += squares
        self._sum += total
        self._samples += block.size
        self.frames += len(block)
        return True

    def facts(self) -> dict[str, object]:
        return {
            "peak_dbfs": _dbfs(self._peak),
            "rms_dbfs": _dbfs(math.sqrt(self._squares / self._samples)),
            "clipped": self._clipped / self._samples,
            "dc_offset": self._sum / self._samples,
            "pcm_hash": None if self._is_silent else self._digest.hexdigest(),
        }


def _little_endian(samples: np.ndarray) -> memoryview:
    return np.ascontiguousarray(samples, dtype="<f4").data


def _dbfs(amplitude: float) -> float:
    return 20 * math.log10(amplitude) if amplitude else -math.inf


def _is_mislabelled(uri: str, container: str) -> bool:
    # An address is quoted; an ending that says nothing of audio is no lie.
    path = unquote(uri.partition("://")[2]) if "://" in uri else uri
    extension = PurePosixPath(path).suffix.lower()
    return extension in AUDIO_EXTENSIONS and extension not in _EXTENSIONS.get(container, {extension})
