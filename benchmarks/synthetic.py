"""How fast a synthetic corpus is composed, beside encoding its MP3s alone, by the number of worker processes.

    make bench-synthetic ARGS="--clips 64 --rounds 3"

Encoding is the limit: an ordinary MP3 can't be had faster from LAME. The two ways alternate, so that a busy machine
disturbs both alike; read the ratios. Start-up of the workers is told apart: a large corpus pays it once.
"""

import functools
import multiprocessing
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from genre_spark.corpora.synthesis import compose_clip
from genre_spark.corpora.synthesis_styles import FMA_SMALL_GENRES
from genre_spark.corpora.synthetic import as_mp3, write_synthetic_corpus
from genre_spark.settings import SyntheticSettings


@functools.cache
def some_clips(duration_s: float) -> list[np.ndarray]:
    return [
        compose_clip(genre, seed=0, artist_id=number, track_id=number, duration_s=duration_s)
        for number, genre in enumerate(FMA_SMALL_GENRES)
    ]


def encode_one(task: tuple[int, float]) -> None:
    number, duration_s = task
    clips = some_clips(duration_s)
    as_mp3(clips[number % len(clips)])


def encoding_alone(workers: int, clips: int, duration_s: float) -> float:
    """Clips a second."""
    with multiprocessing.get_context("spawn").Pool(workers, some_clips, (duration_s,)) as pool:
        tasks = [(number, duration_s) for number in range(clips)]
        pool.map(encode_one, tasks[: 4 * workers], chunksize=1)  # waits for the workers to be up
        start = time.perf_counter()
        pool.map(encode_one, tasks, chunksize=1)
        return clips / (time.perf_counter() - start)


def whole_corpus(workers: int, clips: int, duration_s: float) -> tuple[float, float]:
    """Clips a second once the workers are up, and seconds until then."""
    per_genre = max(4, clips // len(FMA_SMALL_GENRES))
    settings = SyntheticSettings(
        clips_per_genre=per_genre, artists_per_genre=max(1, per_genre // 4), duration_s=duration_s
    )
    times: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        write_synthetic_corpus(
            Path(folder, "corpus"), settings, workers=workers, on_clip=lambda: times.append(time.perf_counter())
        )
        end = time.perf_counter()
    # Clips are told by tasks of a few: what all workers bring first marks that they are up.
    first = min(4 * workers, len(times) - 1)
    speed = (len(times) - first) / (times[-1] - times[first - 1])
    return speed, max(0.0, end - start - len(times) / speed)


def main(
    clips: Annotated[int, typer.Option(help="Clips of a corpus.")] = 64,
    duration_s: Annotated[float, typer.Option(help="Their length.")] = 30.0,
    most: Annotated[int, typer.Option(help="Worker processes at the most.")] = 4,
    rounds: Annotated[int, typer.Option(help="Times that each number is taken.")] = 3,
) -> None:
    title = f"{clips} clips of {duration_s:g} s"
    table = Table("workers", "clips/s", "encoding alone, clips/s", "share", "start-up s", title=title)
    for workers in [count for count in (1, 2, 4, 8, 16, 32) if count <= min(most, os.cpu_count() or 1)]:
        alone, whole, startup = [], [], []
        for _ in range(rounds):
            alone.append(encoding_alone(workers, clips, duration_s))
            speed, seconds = whole_corpus(workers, clips, duration_s)
            whole.append(speed)
            startup.append(seconds)
        share = statistics.median(a / b for a, b in zip(whole, alone, strict=True))
        medians = (statistics.median(values) for values in (whole, alone))
        table.add_row(str(workers), *(f"{value:.1f}" for value in medians), f"{share:.0%}", f"{min(startup):.1f}")
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
