"""One audio file to the facts that an audit judges: what it is, how long, how loud, and which signal."""

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
import soundfile
import xxhash

from genre_spark.corpora.folder import AUDIO_EXTENSIONS
from genre_spark.errors import AudioEmpty, AudioError, AudioNotFinite, AudioTooLong
from genre_spark.features.audio import whole
from genre_spark.features.sound_file import BLOCK_SAMPLES as _READ_SAMPLES
from genre_spark.features.sound_file import DecoderError, Limits, Source, check_head, mono, opened
from genre_spark.features.source_name import source_name
from genre_spark.files import printable

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

_READ_BYTES = 1 << 20
# The arithmetic is faster on what fits into a cache.
_BLOCK_SAMPLES = 1 << 16

# The loudest positive sample of 16 bits; whatever is louder, of 24 bits or a lossy codec, counts too. 8 bits end below.
_FULL_SCALE = 32_767 / 32_768
_FULL_SCALE_OF_8_BITS = 127 / 128

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
        Length that the file tells, where `genre_spark.features.audio.decode` calls it shortened; infinite where its end
        is missing and nobody knows how much of it.
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
        Largest file that is read and largest mono signal that is decoded, in MB.
    """
    facts: dict[str, object] = {}
    try:
        with opened(uri, max_file_mb) as source:
            facts |= _bytes_facts(source)
            found = _signal_facts(source, facts, Limits(max_duration_s, max_file_mb))
        # Not before the size was looked at again: of a file that grew nothing is known.
        facts |= found
    except AudioError as error:
        facts |= {"error": type(error).__name__, "detail": printable(str(error))}
        if isinstance(error, AudioEmpty) and "size_bytes" not in facts:
            facts |= {"size_bytes": 0, "file_sha256": hashlib.sha256().hexdigest()}
    except Exception as error:
        # Whatever a library makes of a rotten file is a fact about that file.
        detail = f"{source_name(uri)}: {type(error).__name__}: {error}"
        facts |= {"error": AudioError.__name__, "detail": printable(detail)}
    if "format" in facts:
        facts["mislabelled"] = _is_mislabelled(str(uri), str(facts["format"]))
    return Measurement(**facts)  # type: ignore[arg-type]


def _bytes_facts(source: Source) -> dict[str, object]:
    digest = hashlib.sha256()
    while block := source.file.read(_READ_BYTES):
        digest.update(block)
    return {"size_bytes": source.size, "file_sha256": digest.hexdigest()}


def _signal_facts(source: Source, facts: dict[str, object], limits: Limits) -> dict[str, object]:
    """Facts on what is decoded; those of the header are filled in at once, so that they stay where an error follows."""

    def read(source: Source, limits: Limits) -> _Pass:
        return _read(source, facts, limits)

    found, shortened_s = whole(source, limits, read)
    levels = found.levels
    if levels.frames == 0:
        raise AudioEmpty(f"{source.name}: no samples in {source.size} bytes")
    if not levels.are_finite:
        raise AudioNotFinite(f"{source.name}: the samples hold NaN or infinity")
    announced_s = found.seconds + shortened_s if shortened_s else None
    return {"frames": levels.frames, "decoded_s": found.seconds, "announced_s": announced_s, **levels.facts()}


class _Pass(NamedTuple):
    """What `genre_spark.features.sound_file.Decoding` has, with levels in place of the samples."""

    levels: "_Levels"
    rate: int
    container: str
    claimed: int
    stopped_at: int

    @property
    def seconds(self) -> float:
        return self.levels.frames / self.rate


def _read(source: Source, facts: dict[str, object], limits: Limits) -> _Pass:
    """Do as `genre_spark.features.sound_file.read`, with memory for one block only."""
    source.file.seek(0)
    container = None
    try:
        with source.sound() as sound:
            container, rate, channels = sound.format, sound.samplerate, sound.channels
            facts |= {"format": container, "codec": sound.subtype, "sample_rate": rate, "channels": channels}
            check_head(sound, source, limits)
            levels = _Levels(_FULL_SCALE_OF_8_BITS if sound.subtype in ("PCM_S8", "PCM_U8") else _FULL_SCALE)
            buffer = np.empty((_READ_SAMPLES // channels, channels), np.float32)
            step = _BLOCK_SAMPLES // channels
            most = min(sound.frames, int(limits.seconds * rate))
            while len(samples := sound.read(out=buffer[: sound.frames - levels.frames])):
                if levels.frames + len(samples) > most:
                    raise AudioTooLong(f"{source.name}: lasts more than audio.max_duration_s={limits.seconds:g}")
                for start in range(0, len(samples), step):
                    levels.add(samples[start : start + step])
            return _Pass(levels, rate, container, sound.frames, source.file.tell())
    except soundfile.LibsndfileError as error:
        raise DecoderError(error.error_string, container) from None


class _Levels:
    """Levels and hash of a signal that comes in blocks."""

    def __init__(self, full_scale: float) -> None:
        self.frames = 0
        self.are_finite = True
        self._full_scale = full_scale
        self._samples = self._clipped = 0
        self._peak = self._squares = self._sum = 0.0
        self._digest = xxhash.xxh3_128()
        self._is_silent = True

    def add(self, block: np.ndarray) -> None:
        """Take a block `[shape=(n, channels)]`."""
        self.frames += len(block)
        with np.errstate(invalid="ignore", over="ignore"):
            mixed = mono(block)
        # The channels may be finite and their sum not, but not the other way round.
        self.are_finite = self.are_finite and math.isfinite(mixed.max()) and math.isfinite(mixed.min())
        if not self.are_finite:
            return
        wide = block.astype(np.float64)
        total = float(wide.sum())
        # The largest float32 squared is no infinity in float64.
        squares = float(np.square(wide, out=wide).sum())
        peak = float(max(block.max(), -block.min()))
        if peak >= self._full_scale:
            self._clipped += int(np.count_nonzero(np.abs(block) >= self._full_scale))
        self._digest.update(_little_endian(mixed))
        self._is_silent = self._is_silent and not mixed.any()
        self._peak = max(self._peak, peak)
        self._squares += squares
        self._sum += total
        self._samples += block.size

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
