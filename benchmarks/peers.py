"""Tracks a second of several ways to the study's three features, and how far their values are from librosa's.

    make bench-peers ARGS="--clips 'music/*.mp3' --processes 4"

One process per core. The ways take turns, each in a fresh process: its workers start and import what they need within
the time that is measured. Only Spark's and Ray's own start, with a first job over nothing, is left out. The features
are let go; the Spark job also writes them to Parquet. What isn't installed is left out.
"""

import functools
import glob
import importlib
import itertools
import logging
import multiprocessing
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Annotated, Any

import peer_features
import typer
from rich.console import Console
from rich.table import Table

Extractor = Callable[[str], int]


def in_a_pool(function: Extractor, paths: list[str], processes: int) -> float:
    started = time.perf_counter()
    # Fresh processes, as an executor's are.
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        pool.map(function, paths, chunksize=max(1, len(paths) // (4 * processes)))
    return time.perf_counter() - started


def in_datasets(function: Extractor, paths: list[str], processes: int) -> float:
    started = time.perf_counter()
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
    return time.perf_counter() - started


def in_ray_data(function: Extractor, paths: list[str], processes: int) -> float:
    import ray

    def features(batch: dict[str, Any]) -> dict[str, Any]:
        return {"features": [function(path) for path in batch["path"]]}

    ray.init(num_cpus=processes, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    ray.data.DataContext.get_current().enable_progress_bars = False
    ray.data.range(1).materialize()
    started = time.perf_counter()
    rows = ray.data.from_items([{"path": path} for path in paths], override_num_blocks=min(len(paths), 4 * processes))
    rows.map_batches(features, batch_size=None, batch_format="numpy").materialize()
    seconds = time.perf_counter() - started
    ray.shutdown()
    return seconds


def in_spark(_: Extractor, paths: list[str], processes: int) -> float:
    from genre_spark.corpora.tracks import track_table
    from genre_spark.dataset.extract import extract
    from genre_spark.features import resolve_specs
    from genre_spark.settings import load_settings
    from genre_spark.spark import build_session

    table = track_table(
        [{"track_id": f"{n:06d}", "uri": Path(path).resolve().as_uri(), "genre": "x"} for n, path in enumerate(paths)],
        "the benchmark",
    )
    settings = load_settings([], [f"spark.master=local[{processes}]"])
    spark = build_session(settings.spark, "genre_spark benchmark")
    spark.range(1).count()
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        extract(spark, table, resolve_specs(["mfcc_mean", "mfcc", "melgram"]), Path(folder, "dataset"), settings)
        seconds = time.perf_counter() - started
    spark.stop()
    return seconds


# Way, the module that it needs, what runs it, and the library whose features it computes.
WAYS: dict[str, tuple[str, Callable[[Extractor, list[str], int], float], str]] = {
    "genre_spark's Spark job": ("pyspark", in_spark, "genre_spark"),
    **{f"{library}, in a pool": ("numpy", in_a_pool, library) for library in peer_features.LIBRARIES},
    **{
        f"{library}, in {name}": (module, run, library)
        for name, module, run in (("datasets.map", "datasets", in_datasets), ("Ray Data", "ray", in_ray_data))
        for library in ("genre_spark", "librosa")
    },
}


def run_way(way: str, paths: list[str], processes: int) -> float:
    _, run, library = WAYS[way]
    return run(functools.partial(peer_features.extract_one, library), paths, processes)


def in_a_fresh_process(function: Callable[..., Any], *arguments: Any) -> Any:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        return process.submit(function, *arguments).result()


def reason_to_leave_out(way: str) -> str | None:
    for module in (WAYS[way][0], peer_features.LIBRARIES[WAYS[way][2]][0]):
        try:
            importlib.import_module(module)
        except (ImportError, OSError, RuntimeError) as error:  # torchaudio raises each of them
            return f"{module}: {type(error).__name__}: {error}".splitlines()[0]
    return None


def main(
    clips: Annotated[str, typer.Option(help="Glob of audio files; of stereo, at 44.1 kHz.")],
    tracks: Annotated[int, typer.Option(help="Clips to take; they are repeated.")] = 1000,
    compared: Annotated[int, typer.Option(help="Clips whose values are compared with librosa's.")] = 5,
    processes: Annotated[int, typer.Option(help="Processes at a time.")] = os.cpu_count() or 1,
    rounds: Annotated[int, typer.Option(help="Times that each way is taken.")] = 3,
    only: Annotated[str, typer.Option(help="Take the ways whose names hold this.")] = "",
) -> None:
    found = sorted(glob.glob(clips, recursive=True))  # noqa: PTH207 (the pattern may be absolute)
    if not found:
        raise SystemExit(f"error: no clip matches {clips!r}")
    paths = list(itertools.islice(itertools.cycle(found), tracks))
    console = Console(width=120)
    reasons = {way: in_a_fresh_process(reason_to_leave_out, way) for way in WAYS if only in way}
    for way, reason in reasons.items():
        if reason:
            console.print(f"left out: {way} ({reason})")
    ways = [way for way, reason in reasons.items() if not reason]
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way in ways:
            seconds[way].append(in_a_fresh_process(run_way, way, paths, processes))
    libraries = dict.fromkeys(WAYS[way][2] for way in ways)
    sample = found[:: max(1, len(found) // compared)][:compared]
    differences = {
        library: in_a_fresh_process(peer_features.largest_differences, library, sample) for library in libraries
    }
    table = Table(title=f"{len(paths)} clips, {processes} processes, {rounds} rounds, load {os.getloadavg()[0]:.1f}")
    for heading in ("way", "tracks/s (median)", "of all rounds", "MFCC off by", "mean off by", "melgram off by (dB)"):
        table.add_column(heading)
    for way in ways:
        rates = sorted(len(paths) / s for s in seconds[way])
        off = differences[WAYS[way][2]]
        distances = [f"{off[name]:.2g}" if name in off else "-" for name in ("mfcc", "mfcc_mean", "melgram")]
        table.add_row(way, f"{statistics.median(rates):.1f}", f"{rates[0]:.1f} to {rates[-1]:.1f}", *distances)
    console.print(table)


# One thread each, in all processes that follow: the processes are the parallelism.
os.environ |= dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
warnings.filterwarnings("ignore", module="librosa|datasets")

if __name__ == "__main__":
    typer.run(main)
