"""What a GPU makes of the study's three models, and how much of it waits for the feed.

    KERAS_BACKEND=jax python benchmarks/gpu.py            (8,000 tracks; some minutes and 20 GB of memory)
    KERAS_BACKEND=jax python benchmarks/gpu.py --tracks 32 --epochs 1 --models dnn      (a look at it on a CPU)

Tracks are random numbers of the study's shapes with something of their genre in them. Each model is trained three
ways: by Keras over the feed, as `genre-spark train` does; by Keras from tensors in the device's memory; and by a bare
compiled step from the same (whole batches, counted as many as an epoch has). `waits` is the share of an epoch that the
first takes longer than the second: the device has nothing to do in it (wanted: below 5 %). `Keras` is the share that
the second takes longer than the third.

FLOPs and bytes of a step are XLA's own count. `of limit` is the time that the card's data sheet allows for the larger
of the two, as a share of the bare step's. The feed is the package's own over Parquet files where petastorm is
installed, and otherwise one that takes the same batches out of the host's memory.
"""

import importlib.util
import math
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any

os.environ.setdefault("KERAS_BACKEND", "jax")

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import typer
from rich.console import Console
from rich.table import Table

from genre_spark.dataset.moments import Moments
from genre_spark.dataset.rows import FEATURES, feature_schema, feature_table
from genre_spark.dataset.scaler import Scaler
from genre_spark.dataset.store import FILES_SCHEMA, FORMAT_VERSION, MANIFEST, Manifest, open_dataset
from genre_spark.features.spec import STUDY_SPECS, FeatureSpec
from genre_spark.models.architectures import ARCHITECTURES, build_model
from genre_spark.models.backend import keras

GENRES = 8
TRACKS_PER_ROW_GROUP = 16
TRACKS_PER_FILE = 256

# Dense, without sparsity, and bytes per second of the memory, from NVIDIA's data sheets; XLA computes float32
# convolutions and products in TF32. By what JAX calls the device.
LIMITS = {
    "H100 80GB HBM3": {"float32": 495e12, "mixed_bfloat16": 989e12, "bytes": 3.35e12},
    "H100 PCIe": {"float32": 378e12, "mixed_bfloat16": 756e12, "bytes": 2.0e12},
    "H200": {"float32": 495e12, "mixed_bfloat16": 989e12, "bytes": 4.8e12},
    "A100-SXM4-80GB": {"float32": 156e12, "mixed_bfloat16": 312e12, "bytes": 2.04e12},
}
console = Console(width=160)


# -- tracks -----------------------------------------------------------------------------------------------------------


def random_tracks(spec: FeatureSpec, tracks: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Tensors [shape=(tracks, *spec.shape)] of noise, each row a little louder or quieter by genre, and the genres."""
    random = np.random.default_rng(seed)
    genres = (np.arange(tracks) % GENRES).astype(np.int32)
    of_genre = random.normal(size=(GENRES, spec.shape[0])).astype(np.float32)
    x = np.empty((tracks, *spec.shape), np.float32)
    for number, genre in enumerate(genres):
        random.standard_normal(out=x[number], dtype=np.float32)
        x[number] += of_genre[genre].reshape(-1, *[1] * (len(spec.shape) - 1))
    return x, genres


def write_dataset(folder: Path, spec: FeatureSpec, x: np.ndarray) -> None:
    """Write the files of a dataset as an extraction leaves them, without one."""
    (folder / FEATURES).mkdir(parents=True)
    listed = []
    for part, first in enumerate(range(0, len(x), TRACKS_PER_FILE)):
        name = f"{FEATURES}/part-{part:05d}.parquet"
        last = min(first + TRACKS_PER_FILE, len(x))
        with pq.ParquetWriter(folder / name, feature_schema([spec]), compression="none", use_dictionary=False) as file:
            for start in range(first, last, TRACKS_PER_ROW_GROUP):
                numbers = range(start, min(start + TRACKS_PER_ROW_GROUP, last))
                rows = [{"track_id": f"{number:06d}", "uri": f"{number}.mp3"} for number in numbers]
                file.write_table(feature_table(rows, [{spec.name: x[number]} for number in numbers], [spec]))
        listed.append({"table": FEATURES, "name": name, "rows": last - first, "bytes": (folder / name).stat().st_size})
    pq.write_table(pa.Table.from_pylist(listed, schema=FILES_SCHEMA), folder / "files-00001.parquet")
    now = "2026-01-01T00:00:00+00:00"
    counts = {"tracks": len(x), "features": len(x), "errors": 0, "rows": len(x)}
    manifest = Manifest(
        format_version=FORMAT_VERSION, commit=1, files="files-00001.parquet", specs=[spec],
        digests={spec.name: spec.digest}, counts=counts, errors={}, versions={}, audio={}, created=now, changed=now,
        wall_s=0.0,
    )  # fmt: skip
    (folder / MANIFEST).write_text(manifest.model_dump_json(), encoding="utf-8")


# -- feeds: batches by the number of the epoch ------------------------------------------------------------------------

Epoch = Callable[[int], Iterator[tuple[Any, Any]]]


def petastorm_feed(folder: Path, spec: FeatureSpec, genres: np.ndarray, batch_size: int) -> Epoch:
    """The package's own feed over files; with its tensors in the host's memory from the second epoch on."""
    from genre_spark.dataset.feed import open_feed

    labels = {f"{number:06d}": int(genre) for number, genre in enumerate(genres)}
    cache_bytes = 4 * math.prod(spec.shape) * len(genres)
    feed = open_feed(open_dataset(folder), spec.name, labels, batch_size=batch_size, seed=0, cache_bytes=cache_bytes)
    return lambda index: ((batch.x, batch.y) for batch in feed.epoch(index))


def memory_feed(x: Any, y: Any, batch_size: int) -> Epoch:
    """Batches out of arrays, the host's or the device's, in an order of each epoch's own."""
    on_device = isinstance(x, jax.Array)

    def epoch(index: int) -> Iterator[tuple[Any, Any]]:
        order = np.random.default_rng([0, index]).permutation(len(x))
        for start in range(0, len(x), batch_size):
            chosen = jnp.asarray(order[start : start + batch_size]) if on_device else order[start : start + batch_size]
            yield x[chosen], y[chosen]

    return epoch


class ForKeras(keras.utils.PyDataset):
    """A feed as `genre-spark train` hands it to Keras."""

    def __init__(self, epoch: Epoch, n_batches: int) -> None:
        super().__init__()
        self._epoch, self._n_batches, self._index = epoch, n_batches, 0
        self._batches: Iterator[tuple[Any, Any]] = iter(())

    def __len__(self) -> int:
        return self._n_batches

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        if index == 0:
            self._batches = self._epoch(self._index)
            self._index += 1
        return next(self._batches)


# -- training ---------------------------------------------------------------------------------------------------------


def new_model(name: str, spec: FeatureSpec, x: np.ndarray) -> keras.Model:
    keras.utils.set_random_seed(0)
    model = build_model(name, spec.shape, GENRES, Scaler.of(Moments.of(x[:256])))
    loss, optimizer = "sparse_categorical_crossentropy", keras.optimizers.Adam(1e-3)
    model.compile(optimizer=optimizer, loss=loss, metrics=["accuracy"], jit_compile=True)
    return model


class Clock(keras.callbacks.Callback):
    """Seconds of each epoch, up to the end of what the device was given to do."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float] = []

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:  # noqa: D102 (Keras' names)
        self._started = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:  # noqa: D102
        self.seconds.append(time.perf_counter() - self._started)  # the logs are there: the last step is done


def keras_epoch_s(model: keras.Model, epoch: Epoch, n_batches: int, epochs: int) -> tuple[float, float, float]:
    """Seconds of the first epoch (it compiles, and fills the cache), median of the later ones, and last accuracy."""
    clock = Clock()
    history = model.fit(ForKeras(epoch, n_batches), epochs=epochs + 1, shuffle=False, verbose=0, callbacks=[clock])
    return clock.seconds[0], statistics.median(clock.seconds[1:]), history.history["accuracy"][-1]


def bare_step(model: keras.Model) -> tuple[Callable[..., Any], Any]:
    """A training step as one function without side effects, and its first state."""
    optimizer = keras.optimizers.Adam(1e-3)
    optimizer.build(model.trainable_variables)

    def loss_of(trainable: Any, others: Any, x: Any, y: Any) -> Any:
        answer, others, penalties = model.stateless_call(trainable, others, x, training=True, return_losses=True)
        loss = keras.ops.mean(keras.losses.sparse_categorical_crossentropy(y, answer))
        return loss + sum(penalties), others

    def step(state: Any, x: Any, y: Any) -> Any:
        trainable, others, slots = state
        (loss, others), gradients = jax.value_and_grad(loss_of, has_aux=True)(trainable, others, x, y)
        trainable, slots = optimizer.stateless_apply(slots, gradients, trainable)
        return (trainable, others, slots), loss

    variables = (model.trainable_variables, model.non_trainable_variables, optimizer.variables)
    # Copies: the step gives its state's memory back, and the model still needs its own.
    return step, tuple([jnp.array(variable.value) for variable in some] for some in variables)


def count(stage: Any, key: str) -> float:
    """What XLA counts, or NaN where it doesn't."""
    try:
        found = stage.cost_analysis()
        found = found[0] if isinstance(found, list) else found
        return float(found[key]) if found and found[key] > 0 else math.nan
    except (KeyError, TypeError, NotImplementedError, jax.errors.JaxRuntimeError):
        return math.nan


def bare_epoch(model: keras.Model, epoch: Epoch, epochs: int) -> tuple[float, float, float]:
    """Seconds of an epoch of the bare step, and FLOPs and bytes of a whole batch's step."""
    step, state = bare_step(model)
    batches = list(epoch(0))
    whole = [batch for batch in batches if batch[0].shape == batches[0][0].shape]
    del batches
    lowered = jax.jit(step, donate_argnums=0).lower(state, *whole[0])
    compiled = lowered.compile()
    # FLOPs before XLA's passes: they turn convolutions into calls of libraries that it can't count. Bytes after them:
    # what is fused is not written.
    flops, moved = count(lowered, "flops"), count(compiled, "bytes accessed")
    seconds = []
    for _ in range(epochs + 1):
        started = time.perf_counter()
        for x, y in whole:
            state, loss = compiled(state, x, y)
        jax.block_until_ready(loss)
        seconds.append((time.perf_counter() - started) / len(whole))
    return statistics.median(seconds[1:]), flops, moved


def measure(name: str, tracks: int, epochs: int, batch_size: int, precision: str, *, on_files: bool) -> list[str]:
    """One row of the table."""
    spec = STUDY_SPECS[ARCHITECTURES[name].feature]
    x, y = random_tracks(spec, tracks)
    n_batches = math.ceil(tracks / batch_size)
    with tempfile.TemporaryDirectory() as folder:
        if on_files:
            write_dataset(Path(folder, "dataset"), spec, x)
            feed = petastorm_feed(Path(folder, "dataset"), spec, y, batch_size)
        else:
            feed = memory_feed(x, y, batch_size)
        first_s, feed_s, _ = keras_epoch_s(new_model(name, spec, x), feed, n_batches, epochs)
    del feed
    resident = memory_feed(jax.device_put(x), jax.device_put(y), batch_size)
    model = new_model(name, spec, x)
    _, device_s, accuracy = keras_epoch_s(model, resident, n_batches, epochs)
    step_s, flops, moved = bare_epoch(model, resident, epochs)
    limits = next((found for kind, found in LIMITS.items() if kind in jax.devices()[0].device_kind), None)
    of_limit = "-"
    if limits is not None:
        of_limit = f"{np.nanmax([flops / limits[precision], moved / limits['bytes']]) / step_s:.0%}"
    return [
        name, str(batch_size), f"{first_s:.2f}", f"{feed_s:.3f}", f"{device_s:.3f}", f"{step_s * n_batches:.3f}",
        f"{max(0.0, 1 - device_s / feed_s):.1%}", f"{max(0.0, 1 - step_s * n_batches / device_s):.1%}",
        f"{flops / 1e9:.3g}", f"{moved / 1e9:.3g}", f"{flops / step_s / 1e12:.3g}", f"{moved / step_s / 1e12:.3g}",
        of_limit, f"{accuracy:.0%}",
    ]  # fmt: skip


def is_installed(library: str) -> bool:
    try:
        return importlib.util.find_spec(library) is not None
    except ModuleNotFoundError:
        return False


def main(
    tracks: Annotated[int, typer.Option(min=1, help="As many as the study's corpus by default.")] = 8_000,
    epochs: Annotated[int, typer.Option(min=1, help="Measured; one more comes before them.")] = 5,
    batch_size: Annotated[int, typer.Option(min=1, help="Tracks of a step.")] = 32,
    models: Annotated[str, typer.Option(metavar="A,B,...", help="Architectures.")] = "dnn,cnn1d,cnn2d",
    precision: Annotated[str, typer.Option(help="float32 or mixed_bfloat16.")] = "float32",
    feed: Annotated[str, typer.Option(help="files (petastorm), memory, or auto.")] = "auto",
) -> None:
    """Print one table."""
    if keras.backend.backend() != "jax":
        raise SystemExit(f"error: KERAS_BACKEND={keras.backend.backend()}; this script needs jax")
    for name in models.split(","):
        if name not in ARCHITECTURES:
            raise SystemExit(f"error: unknown model {name!r}; known are {', '.join(ARCHITECTURES)}")
    on_files = feed == "files" or (feed == "auto" and is_installed("petastorm"))
    keras.config.set_dtype_policy(precision)
    device = SimpleNamespace(kind=jax.devices()[0].device_kind, platform=jax.devices()[0].platform)
    source = "Parquet files (petastorm)" if on_files else "the host's memory"
    printed = Table(
        "model", "batch", "first s", "feed s", "device s", "bare s", "waits", "Keras", "GFLOP/step", "GB/step",
        "TFLOP/s", "TB/s", "of limit", "accuracy",
        title=f"{tracks} tracks on {device.kind} ({device.platform}), {precision}, fed from {source}; seconds an epoch",
    )  # fmt: skip
    for name in models.split(","):
        printed.add_row(*measure(name, tracks, epochs, min(batch_size, tracks), precision, on_files=on_files))
    console.print(printed)
    if device.platform == "cpu":
        console.print("A CPU: nothing here says anything of a GPU.")


if __name__ == "__main__":
    typer.run(main)
