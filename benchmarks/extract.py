"""How much of the bare extractor's speed the Spark job keeps, worker start and Parquet writing included.

    make bench-extract ARGS="--clips 'music/*.mp3' --tracks 1000 --cores 4"

The bare extractor runs in one process, and in as many as there are cores, before and after the job: on a machine whose
cores share memory and clock the second is the physical limit. The session's own start is left out.
"""

import glob
import itertools
import logging
import multiprocessing
import shutil
import statistics
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from genre_spark.corpora.tracks import track_table
from genre_spark.dataset.extract import extract
from genre_spark.features import extract_file, resolve_specs
from genre_spark.settings import load_settings
from genre_spark.spark import build_session

FEATURES = ("mfcc_mean", "mfcc", "melgram")


def extract_all(paths: list[str]) -> float:
    """Seconds that the bare extractor takes for some clips in this process."""
    extract_file(paths[0], FEATURES)  # imports, page cache
    started = time.perf_counter()
    for path in paths:
        extract_file(path, FEATURES)
    return time.perf_counter() - started


def main(
    clips: Annotated[str, typer.Option(help="Glob of audio files.")] = "build/demo/corpus/fma_small/*/*.mp3",
    tracks: Annotated[int, typer.Option(help="Tracks of the job; the clips are repeated.")] = 1000,
    cores: Annotated[int, typer.Option(help="Of local[N].")] = 4,
    rounds: Annotated[int, typer.Option(help="Times that everything is measured.")] = 3,
) -> None:
    """Print tracks per second and what share of N bare extractors the Spark job reaches."""
    found = sorted(glob.glob(clips))  # noqa: PTH207 (the pattern may be absolute)
    if not found:
        raise SystemExit(f"error: no clip matches {clips!r}; name some with --clips, or run `make demo` first")
    paths = list(itertools.islice(itertools.cycle(found), tracks))
    logging.disable(logging.WARNING)  # that clips stand there many times is meant
    table = track_table(
        [{"track_id": f"{n:06d}", "uri": Path(path).resolve().as_uri(), "genre": "x"} for n, path in enumerate(paths)],
        "the benchmark",
    )
    settings = load_settings([], [f"spark.master=local[{cores}]"])
    specs = resolve_specs(FEATURES)
    sample = paths[: max(20, tracks // 20)]
    rates: dict[str, list[float]] = {"one bare process": [], f"{cores} bare processes": [], f"Spark local[{cores}]": []}
    pool = ProcessPoolExecutor(cores, mp_context=multiprocessing.get_context("spawn"))
    with pool, tempfile.TemporaryDirectory() as folder:
        for _ in range(rounds):
            rates["one bare process"].append(len(sample) / extract_all(sample))
            seconds = list(pool.map(extract_all, [sample] * cores))
            rates[f"{cores} bare processes"].append(sum(len(sample) / s for s in seconds))
            out = Path(folder, "dataset")
            spark = build_session(settings.spark, "genre_spark benchmark")  # a new one: its workers are to start anew
            started = time.perf_counter()
            extract(spark, table, specs, out, settings)
            rates[f"Spark local[{cores}]"].append(tracks / (time.perf_counter() - started))
            spark.stop()
            shutil.rmtree(out)
    one, many, _ = (statistics.median(values) for values in rates.values())
    printed = Table("way", "tracks/s", f"of {cores} x one process", f"of {cores} bare processes")
    for name, values in rates.items():
        rate = statistics.median(values)
        printed.add_row(name, f"{rate:.1f}", f"{rate / (cores * one):.0%}", f"{rate / many:.0%}")
    Console().print(printed)


if __name__ == "__main__":
    typer.run(main)
