"""The first seconds of a track as a page can hold them: a small MP3 and the picture of its mel spectrogram.

A track table or an old run may name anything: each file is decoded in a process of its own, within the limits of the
settings' section `audio`, and one that is missing or rotten becomes a note.
"""

import base64
import io
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from genre_spark.errors import AudioError, AudioNotFound, AudioTimedOut
from genre_spark.features.source_name import source_name
from genre_spark.filesystems import is_remote
from genre_spark.settings_sections import AudioSettings

logger = logging.getLogger(__name__)

EXCERPT_S = 10.0
# MP3 is the one small format that Chrome, Firefox and Safari all play. At this rate and level 10 s take about 45 kB.
RATE = 22_050
_COMPRESSION = 0.6
# Two pixels or so of the page for each of the picture's; no frame is shown twice.
_HOP, _N_FFT, N_MELS = 690, 2_048, 96
# Fewer than 256 colours: the eye sees no difference, and the picture takes half the bytes.
_LEVELS = 64
# A store that is down may take minutes to say so, for each track: it isn't asked more often than that.
_MOST_FAILURES = 3


@dataclass(frozen=True)
class Excerpt:
    """What a page shows of a track.

    Parameters
    ----------
    seconds : float
        Length.
    audio, picture : str
        An MP3 and a PNG, as `data:` addresses.
    """

    seconds: float
    audio: str
    picture: str

    @property
    def size(self) -> int:
        """Bytes that it takes in a page."""
        return len(self.audio) + len(self.picture)


def excerpts(
    uris: Iterable[str],
    audio: AudioSettings,
    *,
    budget: int,
    copies: Mapping[str, int] | None = None,
    on_track: Callable[[], None] | None = None,
) -> dict[str, Excerpt | str | None]:
    """Make excerpts, those first that are named first.

    Parameters
    ----------
    uris : iterable of str
        Paths or addresses that `genre_spark.filesystems` opens.
    audio : AudioSettings
        Limits on what is decoded.
    budget : int
        Bytes that all of them may take in a page.
    copies : mapping of str to int, optional
        How often the page holds an excerpt; once where nothing is said.
    on_track : callable, optional
        Called after each.

    Returns
    -------
    dict of str to Excerpt, str or None
        By address: the excerpt; the reason why there is none; None where the budget was spent before.
    """
    try:
        from genre_spark.dataset.isolation import IsolatedProcess
        from genre_spark.features import compute  # noqa: F401 - imported before the fork, not after each
    except ImportError as missing:
        reason = f"listening needs {missing.name}: pip install 'genre-spark[features]'"
        logger.warning("%s", reason)
        return dict.fromkeys(uris, reason)

    def make(uri: str) -> tuple[dict[str, Any], dict[str, Any]]:
        return _excerpt(uri, audio)

    made: dict[str, Excerpt | str | None] = {}
    failures: Counter[str] = Counter()
    spent = 0
    found: Excerpt | str | None
    with IsolatedProcess(make, timeout_s=audio.max_decode_s, max_memory_mb=audio.max_memory_mb) as process:
        for uri in uris:
            if uri in made:
                continue
            if spent >= budget:
                found = None
            elif failures[_place(uri)] >= _MOST_FAILURES:
                found = "not tried: other tracks from there could not be had"
            else:
                found = _asked(process.call, uri, failures)
            made[uri] = found
            if isinstance(found, Excerpt):
                spent += found.size * (copies or {}).get(uri, 1)
                if spent > budget:
                    made[uri] = None
            if on_track:
                on_track()
    return made


def _asked(
    call: Callable[..., tuple[dict[str, Any], dict[str, Any]]], uri: str, failures: Counter[str]
) -> Excerpt | str:
    try:
        head, arrays = call(uri, name=source_name(uri))
    except AudioNotFound:
        failures[_place(uri)] += is_remote(uri)  # of this machine one learns at once
        return "the audio is not at hand"
    except AudioError as error:
        failures[_place(uri)] += isinstance(error, AudioTimedOut)
        return _reason(error, uri)
    audio, picture = (base64.b64encode(arrays[name].tobytes()).decode() for name in ("audio", "picture"))
    return Excerpt(head["seconds"], f"data:audio/mpeg;base64,{audio}", f"data:image/png;base64,{picture}")


def _place(uri: str) -> str:
    """Name the store that an address is in; all files of this machine are in one."""
    return "/".join(uri.split("/", 3)[:3]) if is_remote(uri) else ""


def _reason(error: AudioError, uri: str) -> str:
    """Say what is wrong, without the path: a page is passed on, folders are nobody's business."""
    name = source_name(uri)
    what = str(error).removeprefix(f"{name}: ")
    return type(error).__name__ if name in what else f"the audio can't be read: {what}"


def _excerpt(uri: str, audio: AudioSettings) -> tuple[dict[str, Any], dict[str, Any]]:
    import soundfile

    from genre_spark.features.audio import Pcm, decode
    from genre_spark.features.compute import compute_features
    from genre_spark.features.signal import resampled
    from genre_spark.features.spec import FeatureSpec

    # Of a file that breaks off later the beginning can still be heard.
    pcm = decode(uri, **{**audio.decoding(), "shortened": "keep"})
    samples = resampled(pcm.samples[: round(EXCERPT_S * pcm.sample_rate)], pcm.sample_rate, RATE)
    samples = np.clip(samples, -1, 1).astype(np.float32)
    mp3 = io.BytesIO()
    soundfile.write(
        mp3, samples, RATE, format="MP3", subtype="MPEG_LAYER_III", compression_level=_COMPRESSION,
        bitrate_mode="VARIABLE",
    )  # fmt: skip
    spec = FeatureSpec(
        name="excerpt", kind="mel_spectrogram", sample_rate=RATE, n_fft=_N_FFT, hop_length=_HOP, n_mels=N_MELS,
        n_samples=max(len(samples), _N_FFT),
    )  # fmt: skip
    decibels = compute_features(Pcm(samples, RATE), [spec])["excerpt"]
    arrays = {"audio": mp3.getvalue(), "picture": spectrogram_png(decibels)}
    return {"seconds": len(samples) / RATE}, {name: np.frombuffer(found, np.uint8) for name, found in arrays.items()}


def spectrogram_png(decibels: np.ndarray) -> bytes:
    """Draw a mel spectrogram, a pixel for each value.

    Parameters
    ----------
    decibels : np.ndarray [shape=(n_mels, t)]
        From the lowest band up, which is drawn at the bottom.

    Returns
    -------
    bytes
        A PNG in magma's colours, which grow lighter evenly: printed in grey, loud is still lighter than soft.
    """
    import matplotlib
    from PIL import Image

    low, high = float(decibels.min()), float(decibels.max())
    levels = np.round((decibels[::-1] - low) / max(high - low, 1e-9) * (_LEVELS - 1)).astype(np.uint8)
    image = Image.fromarray(levels, "L").convert("P")
    colours = matplotlib.colormaps["magma"](np.linspace(0, 1, _LEVELS))[:, :3]
    image.putpalette(np.round(colours * 255).astype(np.uint8).tobytes())
    out = io.BytesIO()
    image.save(out, "PNG", optimize=True)
    return out.getvalue()
