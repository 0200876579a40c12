"""What the study's three features cost beside plain librosa and beside decoding alone.

    make bench-features ARGS="--clips 'music/*.mp3' --rounds 5"

One thread each; the ways alternate clip by clip, so that a busy machine disturbs all of them alike. Read the ratios.
"""

import glob
import statistics
import time
from collections.abc import Callable
from typing import Annotated

import librosa
import numpy as np
import soundfile
import typer
from rich.console import Console
from rich.table import Table
from threadpoolctl import threadpool_limits

from genre_spark.features import extract_file


def decode_alone(path: str) -> None:
    soundfile.read(path, dtype="float32")


def plain_librosa(path: str) -> None:
    y, rate = librosa.load(path, sr=44_100)
    mfcc = librosa.feature.mfcc(y=y, sr=rate, n_mfcc=80)
    np.mean(mfcc, axis=1)
    y, rate = librosa.load(path, sr=12_000)
    power = librosa.feature.melspectrogram(y=y[:349_440], sr=rate, n_fft=512, hop_length=256, n_mels=96)
    librosa.power_to_db(power)


WAYS: dict[str, Callable[[str], object]] = {
    "decoding alone (soundfile)": decode_alone,
    "genre_spark.features.extract_file": extract_file,
    "plain librosa, a load per rate": plain_librosa,
}


def main(
    clips: Annotated[str, typer.Option(help="Glob of audio files.")] = "build/demo/corpus/fma_small/*/*.mp3",
    most: Annotated[int, typer.Option(help="Clips to take at the most.")] = 10,
    rounds: Annotated[int, typer.Option(help="Times that each clip is taken.")] = 5,
) -> None:
    paths = sorted(glob.glob(clips))[:most]  # noqa: PTH207 (the pattern may be absolute)
    if not paths:
        raise SystemExit(f"error: no clip matches {clips!r}; name some with --clips, or run `make demo` first")
    for way in WAYS.values():
        way(paths[0])  # imports, compilation, page cache
    ms: dict[str, list[float]] = {name: [] for name in WAYS}
    with threadpool_limits(1):
        for _ in range(rounds):
            for path in paths:
                for name, way in WAYS.items():
                    start = time.perf_counter()
                    way(path)
                    ms[name].append(1_000 * (time.perf_counter() - start))
    medians = {name: statistics.median(values) for name, values in ms.items()}
    first = next(iter(medians.values()))
    table = Table("one thread", "ms a clip (median)", "times decoding", title=f"{len(paths)} clips, {rounds} rounds")
    for name, median in medians.items():
        table.add_row(name, f"{median:.0f}", f"{median / first:.2f}")
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
