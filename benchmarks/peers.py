"""Tracks a second of several ways to the study's three features, each with one process per core, start included.

    python -m venv /tmp/peers
    /tmp/peers/bin/pip install --editable '.[features]' -r benchmarks/requirements-peers.txt
    /tmp/peers/bin/python benchmarks/peers.py --clips 'music/*.mp3' --processes 4

The ways take turns; what isn't installed is left out. Spark's own job is in `benchmarks/extract.py`.
"""

import glob
import importlib.util
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table


def genre_spark_features(path: str) -> int:
    from genre_spark.features import extract_file

    return len(extract_file(path, ["mfcc_mean", "mfcc", "melgram"]))


def librosa_features(path: str) -> int:
    import librosa
    import numpy as np

    y, rate = librosa.load(path, sr=44_100)
    mfcc = librosa.feature.mfcc(y=y, sr=rate, n_mfcc=80)
    np.mean(mfcc, axis=1)
    y, rate = librosa.load(path, sr=12_000)
    power = librosa.feature.melspectrogram(y=y[:349_440], sr=rate, n_fft=512, hop_length=256, n_mels=96)
    librosa.power_to_db(power)
    return 3


def lhotse_mfcc(path: str) -> int:
    """The MFCCs alone, which is the nearest that lhotse has."""
    import lhotse

    samples = lhotse.Recording.from_file(path).load_audio().mean(axis=0)
    lhotse.Mfcc(lhotse.MfccConfig(sampling_rate=44_100, num_filters=128, num_ceps=80)).extract(samples, 44_100)
    return 1


def in_a_pool(function: Callable[[str], int]) -> Callable[[list[str], int], None]:
    def way(paths: list[str], processes: int) -> None:
        # Fresh processes, as an executor's are.
        with multiprocessing.get_context("spawn").Pool(processes) as pool:
            pool.map(function, paths, chunksize=max(1, len(paths) // (4 * processes)))

    return way


def in_datasets(function: Callable[[str], int]) -> Callable[[list[str], int], None]:
    def way(paths: list[str], processes: int) -> None:
        import datasets

        datasets.disable_progress_bars()
        table = datasets.Dataset.from_dict({"path": paths})
        with tempfile.TemporaryDirectory() as folder:
            table.map(
                lambda row: {"features": function(row["path"])},
                num_proc=processes,
                cache_file_name=f"{folder}/features.arrow",
                load_from_cache_file=False,
            )

    return way


WAYS: dict[str, tuple[str, Callable[[list[str], int], None]]] = {
    "genre_spark in a pool": ("genre_spark", in_a_pool(genre_spark_features)),
    "librosa in a pool": ("librosa", in_a_pool(librosa_features)),
    "datasets.map over genre_spark": ("datasets", in_datasets(genre_spark_features)),
    "datasets.map over librosa": ("datasets", in_datasets(librosa_features)),
    "lhotse in a pool (MFCC alone)": ("lhotse", in_a_pool(lhotse_mfcc)),
}


def main(
    clips: Annotated[str, typer.Option(help="Glob of audio files.")],
    most: Annotated[int, typer.Option(help="Clips to take at the most.")] = 100,
    processes: Annotated[int, typer.Option(help="Processes at a time.")] = os.cpu_count() or 1,
    rounds: Annotated[int, typer.Option(help="Times that each way is taken.")] = 3,
) -> None:
    # Before NumPy is imported: one thread each, the processes are the parallelism.
    os.environ |= dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
    paths = sorted(glob.glob(clips))[:most]  # noqa: PTH207 (the pattern may be absolute)
    if not paths:
        raise SystemExit(f"error: no clip matches {clips!r}")
    ways = {name: way for name, (module, way) in WAYS.items() if importlib.util.find_spec(module)}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            start = time.perf_counter()
            way(paths, processes)
            seconds[name].append(time.perf_counter() - start)
    table = Table(f"{processes} processes", "tracks/s (median)", title=f"{len(paths)} clips, {rounds} rounds")
    for name, values in seconds.items():
        table.add_row(name, f"{len(paths) / statistics.median(values):.1f}")
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
