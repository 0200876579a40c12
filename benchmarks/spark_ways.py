"""Ways to let Spark compute the study's three features into Parquet, beside the one that genre_spark takes.

    make bench-spark-ways ARGS="--clips 'music/*.mp3' --tracks 1000"

All compute with the same extractor, in as many tasks of the same tracks, and start their Python workers anew; what
differs is how tracks come to the workers and tensors to the disk. The session's own start is left out.
"""

import glob
import itertools
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import typer
from rich.console import Console
from rich.table import Table

from genre_spark.corpora.tracks import track_table
from genre_spark.dataset.extract import extract
from genre_spark.features import extract_file, resolve_specs
from genre_spark.settings import load_settings
from genre_spark.spark import build_session

FEATURES = ("mfcc_mean", "mfcc", "melgram")
SCHEMA = "track_id string, mfcc_mean array<float>, mfcc array<float>, melgram array<float>"
FIELDS = [("track_id", pa.string()), *((name, pa.list_(pa.float32())) for name in FEATURES)]
ROWS_AT_A_TIME = 16


def computed(rows: Iterable[tuple[str, str]]) -> Iterator[dict[str, Any]]:
    for track_id, uri in rows:
        arrays = extract_file(uri, FEATURES)
        yield {"track_id": track_id} | {name: array.reshape(-1) for name, array in arrays.items()}


def table_of(rows: list[dict[str, Any]]) -> pa.RecordBatch:
    columns = [pa.array([row[name] for row in rows], kind) for name, kind in FIELDS]
    return pa.RecordBatch.from_arrays(columns, names=[name for name, _ in FIELDS])


def chunks(rows: Iterator[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    while chunk := list(itertools.islice(rows, ROWS_AT_A_TIME)):
        yield chunk


def ours(spark: Any, table: pa.Table, tasks: int, out: str) -> None:
    extract(spark, table, resolve_specs(FEATURES), out, load_settings([], []))


def arrow_through_the_jvm(spark: Any, table: pa.Table, tasks: int, out: str) -> None:
    def work(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        pairs = (pair for batch in batches for pair in zip(*batch.to_pydict().values(), strict=True))
        yield from (table_of(chunk) for chunk in chunks(computed(pairs)))

    frame(spark, table, tasks).mapInArrow(work, SCHEMA).write.parquet(out)


def pandas_through_the_jvm(spark: Any, table: pa.Table, tasks: int, out: str) -> None:
    def work(frames: Iterable[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        pairs = (pair for each in frames for pair in each.itertuples(index=False, name=None))
        yield from (pd.DataFrame(chunk) for chunk in chunks(computed(pairs)))

    frame(spark, table, tasks).mapInPandas(work, SCHEMA).write.parquet(out)


def rows_through_the_jvm(spark: Any, table: pa.Table, tasks: int, out: str) -> None:
    def work(pairs: Iterable[tuple[str, str]]) -> Iterator[tuple[Any, ...]]:
        for row in computed(pairs):
            yield tuple(value if isinstance(value, str) else value.tolist() for value in row.values())

    rdd = spark.sparkContext.parallelize(list(zip(*table.to_pydict().values(), strict=True)), tasks)
    spark.createDataFrame(rdd.mapPartitions(work), SCHEMA).write.parquet(out)


def workers_write_by_map_in_arrow(spark: Any, table: pa.Table, tasks: int, out: str) -> None:
    Path(out).mkdir()

    def work(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        from pyspark import TaskContext

        name = f"{out}/{TaskContext.get().partitionId()}.parquet"
        pairs = (pair for batch in batches for pair in zip(*batch.to_pydict().values(), strict=True))
        with pq.ParquetWriter(name, pa.schema(FIELDS), use_dictionary=["track_id"]) as writer:
            for chunk in chunks(computed(pairs)):
                writer.write_batch(table_of(chunk))
        yield pa.RecordBatch.from_pydict({"file": [name]})

    frame(spark, table, tasks).mapInArrow(work, "file string").collect()


def frame(spark: Any, table: pa.Table, tasks: int) -> Any:
    from pyspark.sql import functions as F  # noqa: N812

    return spark.createDataFrame(table).repartitionByRange(tasks, F.xxhash64("track_id"))


WAYS: dict[str, Callable[[Any, pa.Table, int, str], None]] = {
    "genre_spark: an RDD of tasks, workers write the files, receipts (all checks, error rows, commit)": ours,
    "mapInArrow, workers write the files": workers_write_by_map_in_arrow,
    "mapInArrow, Spark writes": arrow_through_the_jvm,
    "mapInPandas, Spark writes": pandas_through_the_jvm,
    "RDD of rows, Spark writes": rows_through_the_jvm,
}


def main(
    clips: Annotated[str, typer.Option(help="Glob of audio files.")] = "build/demo/corpus/fma_small/*/*.mp3",
    tracks: Annotated[int, typer.Option(help="Tracks of each job; the clips are repeated.")] = 400,
    cores: Annotated[int, typer.Option(help="Of local[N].")] = 4,
    rounds: Annotated[int, typer.Option(help="Times that each way is taken.")] = 3,
    only: Annotated[str, typer.Option(help="Take the ways whose names hold this.")] = "",
) -> None:
    """Print tracks per second of each way."""
    found = sorted(glob.glob(clips, recursive=True))  # noqa: PTH207 (the pattern may be absolute)
    if not found:
        raise SystemExit(f"error: no clip matches {clips!r}; name some with --clips, or run `make demo` first")
    paths = itertools.islice(itertools.cycle(found), tracks)
    table = track_table(
        [{"track_id": f"{n:06d}", "uri": Path(path).resolve().as_uri()} for n, path in enumerate(paths)], "benchmark"
    )
    pairs = table.select(["track_id", "uri"])
    settings = load_settings([], [f"spark.master=local[{cores}]"])
    ways = {way: run for way, run in WAYS.items() if only in way}
    rates: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way, run in ways.items():
            spark = build_session(settings.spark, "genre_spark benchmark")
            with tempfile.TemporaryDirectory() as folder:
                started = time.perf_counter()
                run(spark, table if run is ours else pairs, -(-tracks // 32), f"{folder}/out")
                rates[way].append(tracks / (time.perf_counter() - started))
            spark.stop()
    printed = Table(title=f"{tracks} clips, local[{cores}], {rounds} rounds, load {os.getloadavg()[0]:.1f}")
    for heading in ("way", "tracks/s (median)", "all"):
        printed.add_column(heading)
    for way, values in rates.items():
        printed.add_row(way, f"{statistics.median(values):.1f}", " ".join(f"{value:.1f}" for value in values))
    Console(width=140).print(printed)


if __name__ == "__main__":
    typer.run(main)
