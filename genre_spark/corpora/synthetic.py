"""A synthetic corpus: composed clips as MP3s in FMA's own layout, for demos and tests without a download.

ROOT/.synthetic.json            what the clips were made from; written first
ROOT/fma_small/NNN/NNNNNN.mp3   44.1 kHz stereo; NNN are the first three digits of the track's number
ROOT/fma_metadata/tracks.csv    FMA's columns; written last, so a corpus without it is unfinished
"""

import importlib.util
import itertools
import json
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.synchronize import Event
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np

from genre_spark.corpora.synthesis import COMPOSER_VERSION, compose_clip
from genre_spark.corpora.synthesis_sounds import RATE
from genre_spark.corpora.synthesis_styles import FMA_SMALL_GENRES
from genre_spark.corpora.synthetic_plan import BIT_RATE, PlannedTrack, plan_tracks, write_metadata
from genre_spark.errors import CorpusError, EnvironmentSetupError
from genre_spark.files import complete_file
from genre_spark.settings import SyntheticSettings

# LAME's scale from 2 (best) to 7 (fast; 8 and 9 are not faster). soundfile's MP3 writer has no such choice and takes
# seven times as long as LAME does at 7. Variable bit rates take longer, and lack the header that tells the length.
_ENCODER_QUALITY = 7
_CLIPS_PER_TASK = 4

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
    # What an artist's tracks share is made once for those that follow each other.
    missing.sort(key=attrgetter("artist_id", "track_id"))
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
    stop = context.Event()
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_enter_worker, initargs=(stop,))
    tasks = _tasks(tracks)
    running: set[Future[int]] = set()
    try:
        while True:
            # Two tasks for each worker: none waits for its next one, and the memory does not grow with the corpus.
            for task in itertools.islice(tasks, 2 * workers - len(running)):
                running.add(pool.submit(_write_clips, root, settings, task))
            if not running:
                break
            finished, running = wait(running, return_when=FIRST_COMPLETED)
            for written in finished:
                for _ in range(written.result()):
                    _report(on_clip)
    except BrokenProcessPool:
        raise CorpusError(
            f"{root}: a worker process died, perhaps for want of memory; run again, finished clips are kept"
        ) from None
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)


def _tasks(tracks: Sequence[PlannedTrack]) -> Iterator[list[PlannedTrack]]:
    """Cut tracks in the order of their artists into tasks, none of them over two artists."""
    for _, own in itertools.groupby(tracks, key=attrgetter("artist_id")):
        while task := list(itertools.islice(own, _CLIPS_PER_TASK)):
            yield task


_stop: Event | None = None


def _enter_worker(stop: Event) -> None:
    global _stop
    _stop = stop
    # An interrupt is the parent's to handle.
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _write_clips(root: Path, settings: SyntheticSettings, tracks: Sequence[PlannedTrack]) -> int:
    """Write some clips in a worker, and tell how many: fewer where the work was called off."""
    for done, track in enumerate(tracks):
        if _stop is not None and _stop.is_set():
            return done
        _write_clip(root, settings, track)
    return len(tracks)


def _write_clip(root: Path, settings: SyntheticSettings, track: PlannedTrack) -> None:
    clip = compose_clip(
        track.genre,
        seed=settings.seed,
        artist_id=track.artist_id,
        track_id=track.track_id,
        duration_s=settings.duration_s,
    )
    with complete_file(_clip_path(root, track), CorpusError) as partial:
        partial.write_bytes(as_mp3(clip))


def as_mp3(clip: np.ndarray) -> bytes:
    """Encode a stereo clip `[shape=(n, 2)]` at `RATE`, full scale at 1, at a constant bit rate."""
    import lameenc

    encoder = lameenc.Encoder()
    encoder.silence()
    encoder.set_channels(2)
    encoder.set_in_sample_rate(RATE)
    encoder.set_bit_rate(BIT_RATE // 1000)
    encoder.set_quality(_ENCODER_QUALITY)
    samples = clip * np.float32(np.iinfo(np.int16).max)
    return bytes(encoder.encode(np.rint(samples, out=samples).astype(np.int16).tobytes()) + encoder.flush())
