"""How fast Spark evaluates a model, beside `model.predict` in one process on the same dataset.

    make bench-evaluate ARGS="--cores 4 --rounds 5"

The tensors are random, of the real shapes, and written on the fly; the model's weights are as random. The files are
warm in the page cache. `from its start` is what a user waits for behind the session's own start: Python, TensorFlow,
loading the model, and for Spark counting and writing besides. `warm` has all but counting and writing behind it.
The ways take turns, so that a busy machine disturbs all alike: read the ratios.
"""

import multiprocessing
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import typer
from rich.console import Console
from rich.table import Table

from genre_spark.dataset.part import feature_writer
from genre_spark.dataset.rows import FEATURES, feature_schema, feature_table, tensors_of
from genre_spark.dataset.scaler import Scaler
from genre_spark.dataset.store import FILES_SCHEMA, FORMAT_VERSION, MANIFEST, Manifest
from genre_spark.evaluation.score import evaluate_bundle
from genre_spark.features import FeatureSpec, resolve_specs
from genre_spark.models.bundle import FORMAT_VERSION as BUNDLE_VERSION
from genre_spark.models.bundle import BundleDescription, load_bundle, save_bundle
from genre_spark.settings import Settings, load_settings
from genre_spark.spark import ONE_THREAD, build_session

GENRES = [f"genre {number}" for number in range(8)]
# As `extract` writes them: `extract.tracks_per_row_group`, and files between `min_file_mb` and `max_file_mb`.
TRACKS_PER_GROUP = 16
BYTES_PER_FILE = 64 * 2**20
BATCH = 32


def write_dataset(folder: Path, spec: FeatureSpec, tracks: int) -> None:
    """Write a dataset of random tensors."""
    random, listed = np.random.default_rng(0), []
    (folder / FEATURES).mkdir(parents=True)
    per_file = max(TRACKS_PER_GROUP, BYTES_PER_FILE // (4 * int(np.prod(spec.shape))))
    for part, start in enumerate(range(0, tracks, per_file)):
        name = f"{FEATURES}/part-{part:05d}.parquet"
        numbers = range(start, min(start + per_file, tracks))
        with pa.OSFile(str(folder / name), "wb") as file, feature_writer(file, feature_schema([spec])) as writer:
            for first in range(numbers.start, numbers.stop, TRACKS_PER_GROUP):
                group = range(first, min(first + TRACKS_PER_GROUP, numbers.stop))
                rows = [
                    {
                        "track_id": f"{n:08d}", "uri": f"file:///{n}.mp3", "genre": GENRES[n % len(GENRES)],
                        "artist": f"artist {n // 10}", "pcm_hash": f"{n:032x}",
                    }
                    for n in group
                ]  # fmt: skip
                x = random.standard_normal((len(group), *spec.shape), np.float32)
                writer.write_table(feature_table(rows, [{spec.name: each} for each in x], [spec]))
        size = (folder / name).stat().st_size
        listed.append({"table": FEATURES, "name": name, "rows": len(numbers), "bytes": size})
    pq.write_table(pa.Table.from_pylist(listed, schema=FILES_SCHEMA), folder / "files-00001.parquet")
    manifest = Manifest(
        format_version=FORMAT_VERSION, commit=1, files="files-00001.parquet", specs=[spec],
        digests={spec.name: spec.digest}, errors={}, versions={}, audio={}, wall_s=0.0,
        counts={"tracks": tracks, "features": tracks, "errors": 0, "rows": tracks},
        created="2026-01-01T00:00:00+00:00", changed="2026-01-01T00:00:00+00:00",
    )  # fmt: skip
    (folder / MANIFEST).write_text(manifest.model_dump_json(), encoding="utf-8")


def write_bundle(folder: Path, model: str, spec: FeatureSpec) -> None:
    """Write a bundle with random weights. Runs in a process of its own, which may import TensorFlow."""
    from genre_spark.models.architectures import build_model

    scaler = Scaler(np.zeros(spec.shape[0], np.float32), np.ones(spec.shape[0], np.float32), 1)
    description = BundleDescription(
        format_version=BUNDLE_VERSION, architecture=model, spec=spec, spec_digest=spec.digest, labels=GENRES,
        split_digest="0" * 16, versions={},
    )  # fmt: skip
    save_bundle(folder, build_model(model, spec.shape, len(GENRES), scaler), scaler, description)


# -- one process ------------------------------------------------------------------------------------------------------

_STATE: dict[str, Any] = {}


def take_cores(cores: int) -> None:
    """Give TensorFlow as many threads as the Spark session has cores; in a process that hasn't imported it yet."""
    for name in ONE_THREAD:
        os.environ[name] = str(cores)


def plain_load(bundle: Path) -> None:
    _STATE["model"] = load_bundle(bundle).model


def plain_read(dataset: Path, spec: FeatureSpec) -> np.ndarray:
    tables = [pq.read_table(file, columns=[spec.name]) for file in sorted((dataset / FEATURES).iterdir())]
    return np.concatenate([tensors_of(table[spec.name], spec) for table in tables])


def plain_predict(dataset: Path, spec: FeatureSpec) -> tuple[float, float]:
    """Seconds of reading and of predicting."""
    started = time.perf_counter()
    x = plain_read(dataset, spec)
    read = time.perf_counter()
    _STATE["model"].predict(x, batch_size=BATCH, verbose=0)
    return read - started, time.perf_counter() - read


def process(cores: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(
        1, mp_context=multiprocessing.get_context("spawn"), initializer=take_cores, initargs=(cores,)
    )


# -- the measurement --------------------------------------------------------------------------------------------------


def seconds_of(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def measured(folder: Path, spec: FeatureSpec, settings: Settings, cores: int, rounds: int) -> dict[str, list[float]]:
    """Seconds by way."""
    dataset, bundle, out = folder / "dataset", folder / "bundle", folder / "out"
    spark_start, spark_warm = f"Spark local[{cores}], from its start", f"Spark local[{cores}], warm"
    one_start, one_read = "model.predict, from its start", "model.predict, warm, with reading"
    one_bare = "model.predict, warm, without reading"
    seconds: dict[str, list[float]] = {name: [] for name in (spark_start, one_start, spark_warm, one_read, one_bare)}

    def from_start() -> None:
        with process(cores) as new:
            new.submit(plain_load, bundle).result()
            new.submit(plain_predict, dataset, spec).result()

    with process(cores) as kept:
        kept.submit(plain_load, bundle).result()
        kept.submit(plain_predict, dataset, spec).result()  # compiles
        for _ in range(rounds):
            spark = build_session(settings.spark, "genre_spark benchmark")

            def evaluated() -> None:
                evaluate_bundle(spark, bundle, dataset, out, settings.evaluate)  # noqa: B023 (called at once)

            seconds[spark_start].append(seconds_of(evaluated))
            seconds[one_start].append(seconds_of(from_start))
            seconds[spark_warm].append(seconds_of(evaluated))
            spark.stop()
            reading, predicting = kept.submit(plain_predict, dataset, spec).result()
            seconds[one_read].append(reading + predicting)
            seconds[one_bare].append(predicting)
    shutil.rmtree(out)
    return seconds


def printed(title: str, seconds: dict[str, list[float]], tracks: int) -> Table:
    """Medians, and what share of `model.predict` each Spark way reaches."""
    table = Table("way", "seconds (median)", "tracks/s", "times model.predict", "all seconds", title=title)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    for name, median in medians.items():
        beside = "model.predict, from its start" if "start" in name else "model.predict, warm, with reading"
        every = " ".join(f"{value:.2f}" for value in seconds[name])
        table.add_row(name, f"{median:.2f}", f"{tracks / median:.0f}", f"{medians[beside] / median:.2f}", every)
    return table


def main(
    dnn: Annotated[int, typer.Option(help="Tracks for `dnn`: mfcc_mean, 80 numbers each.")] = 20_000,
    cnn2d: Annotated[int, typer.Option(help="Tracks for `cnn2d`: mel spectrograms of 96 x 1366.")] = 600,
    cores: Annotated[int, typer.Option(help="Of local[N], and threads of model.predict.")] = 2,
    rounds: Annotated[int, typer.Option(help="Times that each way is taken.")] = 3,
) -> None:
    """Print tracks per second of the Spark evaluation and of `model.predict`."""
    settings = load_settings([], [f"spark.master=local[{cores}]", f"evaluate.batch_size={BATCH}"])
    console = Console(width=140)
    for model, feature, tracks in (("dnn", "mfcc_mean", dnn), ("cnn2d", "melgram", cnn2d)):
        if not tracks:
            continue
        (spec,) = resolve_specs([feature])
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            write_dataset(folder / "dataset", spec, tracks)
            with process(cores) as writer:
                writer.submit(write_bundle, folder / "bundle", model, spec).result()
            seconds = measured(folder, spec, settings, cores, rounds)
        title = f"{model} on {tracks} x {feature}, {cores} cores, {rounds} rounds, load {os.getloadavg()[0]:.1f}"
        console.print(printed(title, seconds, tracks))


if __name__ == "__main__":
    typer.run(main)
