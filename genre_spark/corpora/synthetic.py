"""A synthetic corpus: composed clips as MP3s in FMA's own layout, for demos and tests without a download.

ROOT/.synthetic.json            what the clips were made from; written first
ROOT/fma_small/NNN/NNNNNN.mp3   44.1 kHz stereo; NNN are the first three digits of the track's number
ROOT/fma_metadata/tracks.csv    FMA's columns; written last, so a corpus without it is unfinished
"""

import importlib.util
import json
import multiprocessing
import os
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import numpy as np

from genre_spark.corpora.synthesis import COMPOSER_VERSION, compose_clip
from genre_spark.corpora.synthesis_sounds import RATE
from genre_spark.corpora.synthesis_styles import FMA_SMALL_GENRES
from genre_spark.corpora.synthetic_plan import BIT_RATE, PlannedTrack, plan_tracks, write_metadata
from genre_spark.errors import CorpusError, EnvironmentSetupError
from genre_spark.settings import SyntheticSettings

# LAME's scale from 2 (best) to 7 (fast). soundfile's MP3 writer has no such choice and takes seven times as long
# as LAME does at 7.
_ENCODER_QUALITY = 7

_IDENTITY = ".synthetic.json"
_CLIPS = "fma_small"
_METADATA = "fma_metadata"


def write_synthetic_corpus(
    root: Path,
    settings: SyntheticSettings,
    *,
    genres: Sequence[str] = FMA_SMALL_GENRES,
    workers: int | None = None,
    on_clip: Callable[[], None] | None = None,
) -> None:
    """Compose a corpus, or complete one that was interrupted.

    The same settings give the same corpus whatever the number of workers. About 80, 10 and 10 % of each genre's
    artists are marked training, validation and test; an artist belongs to one genre.

    Parameters
    ----------
    root : Path
        Folder of the corpus; it is made where it is missing. Clips of the same settings that it holds are kept.
    settings : SyntheticSettings
        How many clips and artists, how long, and the seed.
    genres : sequence of str
        Keys of `STYLES`, in any order.
    workers : int, optional
        Number of processes; all usable cores by default. A single one composes in this process.
    on_clip : callable, optional
        Called once for each clip of the corpus when it is there.

    Raises
    ------
    CorpusError
        If `root` holds another corpus, can't be written, or the genres or sizes are impossible.
    EnvironmentSetupError
        If nothing here can write MP3.
    """
    root = Path(root)
    _check_encoder()
    tracks = plan_tracks(settings, genres)
    _claim(root, settings, genres)
    missing = []
    for track in tracks:
        if _is_there(_clip_path(root, track)):
            _report(on_clip)
        else:
            missing.append(track)
    workers = min(workers if workers is not None else _usable_cores(), len(missing))
    if workers > 1:
        _write_in_parallel(root, settings, missing, workers, on_clip)
    else:
        for track in missing:
            _write_clip(root, settings, track)
            _report(on_clip)
    write_metadata(root / _METADATA / "tracks.csv", settings, tracks)


def _report(on_clip: Callable[[], None] | None) -> None:
    if on_clip is not None:
        on_clip()


def _usable_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _check_encoder() -> None:
    if importlib.util.find_spec("lameenc") is None:
        raise EnvironmentSetupError("composing needs lameenc; `pip install 'genre-spark[synthetic]'`")


def _claim(root: Path, settings: SyntheticSettings, genres: Sequence[str]) -> None:
    """Mark `root` as this corpus, or refuse when it is another one."""
    wanted = {"composer": COMPOSER_VERSION, **settings.model_dump(), "genres": list(genres)}
    file = root / _IDENTITY
    try:
        found: Any = json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        found = None
    except (OSError, ValueError):
        raise CorpusError(f"{file}: can't be read; delete {root} or name another folder") from None
    if found == wanted:
        return
    if found is not None:
        was = found if isinstance(found, dict) else {}
        key = next((key for key in wanted if was.get(key) != wanted[key]), "content")
        raise CorpusError(
            f"{root}: holds a synthetic corpus of other settings ({key}={was.get(key)!r}, now {wanted.get(key)!r}); "
            "delete it or name another folder"
        )
    for name in (_CLIPS, _METADATA):
        if (root / name).exists():
            raise CorpusError(f"{root}: holds a {name} that was not composed here; name another folder")
    try:
        root.mkdir(parents=True, exist_ok=True)
        partial = root / f"{_IDENTITY}.partial"
        partial.write_text(json.dumps(wanted, indent=2) + "\n", encoding="utf-8")
        partial.replace(file)
    except OSError as error:
        raise CorpusError(f"{root}: can't be written: {error.strerror}; name another folder") from None


def _clip_path(root: Path, track: PlannedTrack) -> Path:
    number = f"{track.track_id:06d}"
    return root / _CLIPS / number[:3] / f"{number}.mp3"


def _is_there(path: Path) -> bool:
    # After a crash of the machine a renamed file may be empty.
    return path.is_file() and path.stat().st_size > 0


def _write_in_parallel(
    root: Path,
    settings: SyntheticSettings,
    tracks: Sequence[PlannedTrack],
    workers: int,
    on_clip: Callable[[], None] | None,
) -> None:
    # Not fork: the caller may have threads, whose locks a forked child would inherit.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_leave_interrupts_to_parent)
    try:
        for done in as_completed([pool.submit(_write_clip, root, settings, track) for track in tracks]):
            done.result()
            _report(on_clip)
    except BrokenProcessPool:
        raise CorpusError(
            f"{root}: a worker process died, perhaps for want of memory; run again, finished clips are kept"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def _leave_interrupts_to_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _write_clip(root: Path, settings: SyntheticSettings, track: PlannedTrack) -> None:
    path = _clip_path(root, track)
    partial = path.with_name(f".{path.name}.partial")
    clip = compose_clip(
        track.genre,
        seed=settings.seed,
        artist_id=track.artist_id,
        track_id=track.track_id,
        duration_s=settings.duration_s,
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(_as_mp3(clip))
        partial.replace(path)
    except OSError as error:
        raise CorpusError(f"{path}: clip can't be written: {error}; make room or name another folder") from None


def _as_mp3(clip: np.ndarray) -> bytes:
    """Encode a stereo clip `[shape=(n, 2)]`, full scale at 1, at a constant bit rate."""
    import lameenc

    encoder = lameenc.Encoder()
    encoder.silence()
    encoder.set_channels(2)
    encoder.set_in_sample_rate(RATE)
    encoder.set_bit_rate(BIT_RATE // 1000)
    encoder.set_quality(_ENCODER_QUALITY)
    samples = np.round(clip * np.iinfo(np.int16).max).astype(np.int16)
    return bytes(encoder.encode(samples.tobytes()) + encoder.flush())
