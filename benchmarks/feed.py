"""How fast mel spectrograms of a dataset come to Keras, beside other ways to get them there.

    make bench-feed ARGS="--rows 1000 --rounds 5"

Each way fits a model that does next to nothing, for one epoch (`feed, later epochs`: for one epoch more). Opening is
part of it, but for the second table, which is of reading alone: the same rows in other column types and row groups. The
files are warm in the page cache. The feed shuffles where nothing else is said, the others where it is said (petastorm
does so with row groups). The ways take turns, so that a busy machine disturbs all alike: read the ratios.

petastorm's own `make_reader` wants a schema that it unpickles from the dataset's folder, and no longer writes such a
folder with today's pyarrow. Here it is given the schema; its codec, worker, thread pool and ventilator are its own.
"""

import importlib.util
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any
from unittest import mock

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import pyarrow.parquet as pq
import tensorflow as tf
import typer
from feed_corpus import SIZE, SPEC, Corpus
from rich.console import Console
from rich.table import Table

from genre_spark.dataset import petastorm_adapter
from genre_spark.dataset.feed import SHUFFLE_BYTES, Feed, open_feed
from genre_spark.dataset.rows import tensors_of

# isort: split
import petastorm.reader
from petastorm import py_dict_reader_worker
from petastorm.codecs import NdarrayCodec, ScalarCodec
from petastorm.unischema import Unischema, UnischemaField
from petastorm.workers_pool.thread_pool import ThreadPool
from petastorm.workers_pool.ventilator import ConcurrentVentilator

MB = 4 * SIZE / 1e6
BATCH = 32


# -- ways to Keras ----------------------------------------------------------------------------------------------------


class FeedForKeras(keras.utils.PyDataset):
    """Batches of one epoch of a feed after another."""

    def __init__(self, feed: Feed) -> None:
        super().__init__()
        self.feed, self.index = feed, -1

    def __len__(self) -> int:
        return self.feed.n_batches

    def __getitem__(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        if number == 0:
            self.index += 1
            self.batches = self.feed.epoch(self.index)
        batch = next(self.batches)
        return batch.x, batch.y


def model() -> keras.Model:
    """Touches a little of each tensor."""
    tensors = keras.Input(SPEC.shape)
    answer = keras.layers.Dense(8)(keras.layers.Lambda(lambda x: x[:, :, 0], output_shape=SPEC.shape[:1])(tensors))
    built = keras.Model(tensors, answer)
    built.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return built


def seconds_of(fitted: keras.Model, data: Any, **options: Any) -> float:
    started = time.perf_counter()
    fitted.fit(data, epochs=1, verbose=0, shuffle=False, **options)
    return time.perf_counter() - started


def batched(data: Any) -> Any:
    return data.batch(BATCH).prefetch(2)


@contextmanager
def plain_petastorm(schema: Unischema) -> Iterator[Any]:
    """Give `Reader` with petastorm's own parts, but for the schema and what pyarrow dropped."""
    reader = petastorm.reader
    with (
        mock.patch.object(reader, "ConcurrentVentilator", ConcurrentVentilator),
        mock.patch.object(reader, "infer_or_load_unischema", return_value=schema),
        mock.patch.object(py_dict_reader_worker, "pq", reader.pq),
        mock.patch.object(py_dict_reader_worker, "ParquetFile", lambda path: path),
    ):
        yield reader


def naive_petastorm(corpus: Corpus, fitted: keras.Model) -> float:
    schema = Unischema(
        "Melgrams",
        [
            UnischemaField("x", np.float32, SPEC.shape, NdarrayCodec(), False),
            UnischemaField("y", np.int32, (), ScalarCodec(None), False),
        ],
    )
    paths = [str(file) for file in corpus.of_petastorm]
    opener = petastorm_adapter.SimpleNamespace(open=lambda path: path, skip={}, room=None)
    started = time.perf_counter()
    with plain_petastorm(schema) as reader:
        source = reader.Reader(opener, paths, reader_pool=ThreadPool(10), worker_class=reader.PyDictReaderWorker)
        try:
            data = petastorm_adapter.make_petastorm_dataset(source).map(lambda row: (row.x, row.y))
            seconds_of(fitted, batched(data))
        finally:
            source.stop()
            source.join()
    return time.perf_counter() - started


def batch_reader(corpus: Corpus, fitted: keras.Model) -> float:
    started = time.perf_counter()
    urls = [file.as_uri() for file in corpus.listed]
    with petastorm_adapter.make_batch_reader(urls, workers_count=4) as source:
        data = petastorm_adapter.make_petastorm_dataset(source).map(lambda rows: (rows.x, rows.y)).unbatch()
        seconds_of(fitted, batched(data.map(lambda x, y: (tf.reshape(x, SPEC.shape), y))))
    return time.perf_counter() - started


def tfrecord(corpus: Corpus, fitted: keras.Model, *, shuffle_rows: int = 0) -> float:
    form = {"x": tf.io.FixedLenFeature([], tf.string), "y": tf.io.FixedLenFeature([], tf.int64)}

    def decoded(record: Any) -> Any:
        row = tf.io.parse_single_example(record, form)
        return tf.reshape(tf.io.decode_raw(row["x"], tf.float32), SPEC.shape), row["y"]

    started = time.perf_counter()
    files = sorted(map(str, corpus.folder.glob("*.tfrecord")))
    data = tf.data.TFRecordDataset(files, num_parallel_reads=4).map(decoded, num_parallel_calls=4)
    if shuffle_rows:
        data = data.shuffle(shuffle_rows, seed=0)
    seconds_of(fitted, batched(data))
    return time.perf_counter() - started


def plain_pyarrow(corpus: Corpus, fitted: keras.Model) -> float:
    def groups() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for file in corpus.listed:
            with pq.ParquetFile(file) as parquet:
                for number in range(parquet.num_row_groups):
                    table = parquet.read_row_group(number)
                    yield tensors_of(table["x"], SPEC), table["y"].to_numpy()

    form = (tf.TensorSpec((None, *SPEC.shape), tf.float32), tf.TensorSpec((None,), tf.int32))
    started = time.perf_counter()
    seconds_of(fitted, batched(tf.data.Dataset.from_generator(groups, output_signature=form).unbatch()))
    return time.perf_counter() - started


def hugging_face(corpus: Corpus, fitted: keras.Model) -> float:
    import datasets

    datasets.disable_progress_bars()
    cache = str(corpus.folder / "hugging_face")
    loaded = datasets.Dataset.from_parquet([str(file) for file in corpus.listed], cache_dir=cache)
    started = time.perf_counter()
    data = loaded.to_tf_dataset(columns="x", label_cols="y", batch_size=BATCH, shuffle=False)
    seconds_of(fitted, data.map(lambda x, y: (tf.reshape(x, (-1, *SPEC.shape)), y)))
    return time.perf_counter() - started


def ways(corpus: Corpus, threads: int) -> Iterator[tuple[str, Callable[[keras.Model], float]]]:
    """Yield ways by name; each returns the seconds of one epoch."""
    later: dict[str, FeedForKeras] = {}
    size = corpus.x.nbytes

    def feed(**options: Any) -> Feed:
        return open_feed(
            corpus.dataset,
            SPEC.name,
            corpus.labels_of,
            batch_size=BATCH,
            reader_threads=threads,
            **{"seed": 0} | options,
        )

    def first(name: str, fitted: keras.Model, **options: Any) -> float:
        if name in later:
            later.pop(name).feed.close()
        started = time.perf_counter()
        later[name] = FeedForKeras(feed(**options))
        seconds_of(fitted, later[name])
        return time.perf_counter() - started

    def again(name: str, fitted: keras.Model) -> float:
        return seconds_of(fitted, later[name])

    caches: dict[str, dict[str, Any]] = {
        "memory": {"cache_bytes": size}, "disk": {"cache_dir": corpus.folder / "cache"}, "no cache": {},
        "no cache, in order": {"seed": None},
    }  # fmt: skip
    for name, options in caches.items():
        yield f"feed, {name}, first epoch", lambda fitted, n=name, o=options: first(n, fitted, **o)
        yield f"feed, {name}, later epoch", lambda fitted, n=name: again(n, fitted)
    yield "petastorm: make_reader, NdarrayCodec, make_petastorm_dataset", lambda fitted: naive_petastorm(corpus, fitted)
    yield "petastorm: our make_batch_reader, make_petastorm_dataset", lambda fitted: batch_reader(corpus, fitted)
    yield "TFRecord, tf.data", lambda fitted: tfrecord(corpus, fitted)
    yield (
        "TFRecord, tf.data, shuffled",
        lambda fitted: tfrecord(corpus, fitted, shuffle_rows=SHUFFLE_BYTES // (4 * SIZE)),
    )
    yield "pyarrow, tf.data", lambda fitted: plain_pyarrow(corpus, fitted)
    if importlib.util.find_spec("datasets"):
        yield "Hugging Face datasets, to_tf_dataset", lambda fitted: hugging_face(corpus, fitted)
    yield (
        "arrays in memory",
        lambda fitted: seconds_of(fitted, corpus.x, y=corpus.y, batch_size=BATCH),
    )


def read_all(files: list[Path], threads: int) -> float:
    """Seconds that the adapter's bare reader takes."""
    started = time.perf_counter()
    source = petastorm_adapter.make_batch_reader([file.as_uri() for file in files], workers_count=threads)
    for _ in source:
        pass
    source.stop()
    source.join()
    return time.perf_counter() - started


def printed(title: str, seconds: dict[str, list[float]], rows: int, beside: str) -> Table:
    table = Table("way", "samples/s (median)", "MB/s", f"times {beside}", "all", title=title)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    for name, median in medians.items():
        ratio = medians[beside] / median if beside in medians else float("nan")
        every = " ".join(f"{rows / value:.0f}" for value in seconds[name])
        table.add_row(name, f"{rows / median:.0f}", f"{rows * MB / median:.0f}", f"{ratio:.2f}", every)
    return table


def main(
    rows: Annotated[int, typer.Option(help="Mel spectrograms of 96 x 1366.")] = 1_000,
    rounds: Annotated[int, typer.Option(help="Times that each way is taken.")] = 5,
    threads: Annotated[int, typer.Option(help="Reader threads of the feed.")] = 2,
    only: Annotated[str, typer.Option(help="Take the ways whose names hold this.")] = "",
    layouts: Annotated[bool, typer.Option(help="Compare column types and row groups, too.")] = True,
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        corpus = Corpus(Path(folder), rows)
        fitted = model()
        chosen = {name: way for name, way in ways(corpus, threads) if only in name}
        seconds: dict[str, list[float]] = {name: [] for name in chosen}
        for number in range(rounds + 1):
            for name, way in chosen.items():
                taken = way(fitted)
                if number:  # the first round compiles
                    seconds[name].append(taken)
        title = f"{rows} mel spectrograms, {rounds} rounds, {threads} reader threads, load {os.getloadavg()[0]:.1f}"
        Console(width=140).print(printed(title, seconds, rows, "TFRecord, tf.data"))
        if not importlib.util.find_spec("datasets"):
            Console().print("Hugging Face datasets took no part: it is not installed")
        if layouts:
            files = corpus.layouts()
            of_layout: dict[str, list[float]] = {name: [] for name in files}
            for name in [*files, *list(files) * rounds]:
                of_layout[name].append(read_all(files[name], threads))
            bare = {name: values[1:] for name, values in of_layout.items()}
            title = f"Bare reader, {threads} threads, load {os.getloadavg()[0]:.1f}"
            Console(width=140).print(printed(title, bare, rows, "list<float>, row groups of 16"))


if __name__ == "__main__":
    typer.run(main)
