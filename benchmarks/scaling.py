"""How extraction grows: with cores (throughput), and with tracks (the driver's memory and time, the files).

    make bench-scaling ARGS="--clips 'music/*.mp3' --cores 1,2,4 --rows 10000,100000,1000000"

Throughput is of real clips: the Spark job on `local[N]`, or with `--standalone` on N executors of a real cluster here,
beside N bare extractor processes, in rounds that take turns.
Workers are warm; what is left out is the seconds in which they start. Small files are joined at the end of a job, which
is the more of it the smaller the job is: the rate of the tasks alone stands beside. `busy` is how many cores it had: on
a machine with other work that is what decides.

Growth is of the whole job but for its sound: the tasks write rows of random numbers (of the shape of `mfcc_mean`)
instead of reading audio, and the files of the track table don't exist, though each is looked up. Every run is a process
of its own, so that its peak of memory is its own. There are three of each size: the first one, another one with nothing
new, and one with 1 % more tracks.
"""

import contextlib
import glob
import itertools
import json
import logging
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import typer
from rich.console import Console
from rich.table import Table

from genre_spark.cluster import start_cluster, stop_cluster
from genre_spark.corpora.tracks import TRACK_SCHEMA, track_table
from genre_spark.dataset import extract as extraction
from genre_spark.dataset import product
from genre_spark.dataset.ledger import Ledger
from genre_spark.dataset.part import FEATURES, Part, WrittenFile, _planned, feature_writer, size_of
from genre_spark.dataset.progress import Progress, Receipt
from genre_spark.dataset.rows import feature_schema, feature_table
from genre_spark.errors import DatasetError
from genre_spark.features import extract_file, resolve_specs
from genre_spark.folders import Folder
from genre_spark.settings import load_settings
from genre_spark.spark import build_session

STUDY = ("mfcc_mean", "mfcc", "melgram")
# Phases between which the tasks work.
_TASKS = ("extracting", "checking files")
app = typer.Typer()
console = Console()


# -- throughput -------------------------------------------------------------------------------------------------------


def extract_bare(paths: list[str]) -> tuple[float, float]:
    """Wall-clock and processor seconds that the bare extractor takes for some clips in this process."""
    extract_file(paths[0], STUDY)  # imports, page cache
    started, cpu = time.perf_counter(), time.process_time()
    for path in paths:
        extract_file(path, STUDY)
    return time.perf_counter() - started, time.process_time() - cpu


@contextlib.contextmanager
def standalone_master(cores: int) -> Iterator[str]:
    """Address of a cluster of workers with a core each, as `make cluster-up` starts it, while the body runs."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary, "cluster")
        conf = Path(__file__).parents[1] / "conf"
        cluster = start_cluster(folder, conf, workers=cores, properties={"spark.eventLog.enabled": "false"})
        # Its secret stands there.
        os.environ["SPARK_CONF_DIR"] = str(cluster.submit_conf)
        try:
            yield cluster.master
        finally:
            stop_cluster(folder)


def throughput(clips: str, cores: list[int], tracks_per_core: int, rounds: int, master: str | None) -> None:
    found = sorted(glob.glob(clips))  # noqa: PTH207 (the pattern may be absolute)
    if not found:
        raise SystemExit(f"error: no clip matches {clips!r}; name some with --clips, or run `make demo` first")
    specs = resolve_specs(STUDY)
    found_out: dict[int, list[dict[str, float]]] = {count: [] for count in cores}
    for _, count in itertools.product(range(rounds), cores):
        paths = list(itertools.islice(itertools.cycle(found), count * tracks_per_core))
        with ProcessPoolExecutor(count, mp_context=multiprocessing.get_context("spawn")) as pool:
            taken = list(pool.map(extract_bare, [paths[n::count] for n in range(count)]))
        bare_s, bare_core_s = max(wall for wall, _ in taken), sum(cpu for _, cpu in taken)
        chosen = [f"spark.master={master}", f"spark.conf.spark.cores.max={count}"]
        settings = load_settings([], chosen if master else [f"spark.master=local[{count}]"])
        spark = build_session(settings.spark, "genre_spark benchmark")
        with tempfile.TemporaryDirectory() as folder:
            for some in (paths[: 8 * count], paths):  # the first starts the workers
                rows = [{"track_id": f"{n:06d}", "uri": Path(path).resolve().as_uri()} for n, path in enumerate(some)]
                told: list[Progress] = []
                table, out = track_table(rows, "the benchmark"), Path(folder, str(len(some)))
                extraction.extract(spark, table, specs, out, settings, on_progress=told.append)
        _end(spark)
        job_s, core_s = told[-1].wall_s, told[-1].core_s
        at = {phase: next(progress.wall_s for progress in told if progress.phase == phase) for phase in _TASKS}
        tasks_s = at[_TASKS[1]] - at[_TASKS[0]]
        found_out[count].append({
            "bare tracks/s": len(paths) / bare_s, "Spark": len(paths) / job_s, "its tasks": len(paths) / tasks_s,
            "of bare": bare_s / job_s, "tasks of bare": bare_s / tasks_s,
            "bare core-s": bare_core_s / len(paths), "Spark core-s": core_s / len(paths),
            "bare busy": bare_core_s / bare_s, "Spark busy": core_s / tasks_s,
        })  # fmt: skip
    printed = Table("cores", *found_out[cores[0]][0])
    for count, of_rounds in found_out.items():
        middle = [statistics.median(one[name] for one in of_rounds) for name in of_rounds[0]]
        printed.add_row(str(count), *(f"{value:.3g}" for value in middle))
    console.print(f"medians of {rounds} rounds, {tracks_per_core} clips a core; load {_load()}, {os.cpu_count()} cores")
    console.print(printed)


def _end(spark: Any) -> None:
    """End Spark and its JVM: a session that is started in the same one keeps the first one's master."""
    from pyspark import SparkContext

    spark.stop()
    gateway, SparkContext._gateway, SparkContext._jvm = SparkContext._gateway, None, None
    gateway.shutdown()
    gateway.proc.stdin.close()
    gateway.proc.wait()


# -- growth -----------------------------------------------------------------------------------------------------------


class SilentPart(Part):
    """A task that reads no audio: it writes a row of random numbers for each of its tracks."""

    def __call__(self, task: int) -> Receipt:
        """Write a task's file."""
        folder = Folder(self.work, DatasetError)
        tracks = _planned(folder, task)
        random = np.random.default_rng(task)
        arrays = [{spec.name: random.random(spec.shape, np.float32) for spec in self.specs} for _ in range(len(tracks))]
        name = f"{FEATURES}/{task:07d}-{os.getpid()}.parquet"
        with folder.created(name) as file, feature_writer(file, feature_schema(self.specs)) as writer:
            writer.write_table(feature_table(tracks.to_pylist(), arrays, self.specs))
        written = [WrittenFile(FEATURES, name, len(tracks), size_of(folder, name))]
        return Receipt(task, written, len(tracks), 0, {}, core_s=0.0, audio_bytes=0)


class WatchedLedger(Ledger):
    """A ledger that notes the most memory that its database had."""

    peak = 0

    def __enter__(self) -> "WatchedLedger":
        super().__enter__()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, args=(self._database.cursor(),))
        self._thread.start()
        return self

    def __exit__(self, *error: Any) -> None:
        self._ended.set()
        self._thread.join()
        super().__exit__(*error)

    def _watch(self, cursor: Any) -> None:
        while not self._ended.wait(0.2):
            ((used,),) = cursor.execute("SELECT sum(memory_usage_bytes) FROM duckdb_memory()").fetchall()
            WatchedLedger.peak = max(WatchedLedger.peak, int(used))


def write_tracks_that_are_nowhere(path: Path, rows: int) -> None:
    """Write a track table of any length in constant memory."""
    with pq.ParquetWriter(path, TRACK_SCHEMA) as writer:
        for begin in range(0, rows, 50_000):
            numbers = pa.array(range(begin, min(rows, begin + 50_000)), pa.int64())
            text = pc.utf8_lpad(numbers.cast(pa.string()), 9, "0")
            columns = {
                "track_id": text,
                "uri": pc.binary_join_element_wise("file:///nowhere/music", text, "/").cast(pa.string()),
                "artist": pc.binary_join_element_wise("artist", pc.divide(numbers, 10).cast(pa.string()), " "),
            }
            nulls = {field.name: pa.nulls(len(numbers), field.type) for field in TRACK_SCHEMA}
            writer.write_table(pa.table(nulls | columns).select(TRACK_SCHEMA.names).cast(TRACK_SCHEMA))


def _peak_mb(pid: int | str = "self") -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) // 1024 for line in lines if line.startswith("VmHWM"))


@app.command(hidden=True)
def grown(rows: int, folder: Path, out: Path, master: str) -> None:
    """Take one table into one dataset, and print what it took."""
    logging.disable(logging.WARNING)
    product.Part = SilentPart  # type: ignore[misc]
    extraction.Ledger = WatchedLedger  # type: ignore[misc]
    settings = load_settings([], [f"spark.master={master}"])
    table = folder / f"tracks-{rows}.parquet"
    write_tracks_that_are_nowhere(table, rows)
    specs = resolve_specs(["mfcc_mean"])
    before_mb = _peak_mb()
    begun: dict[str, float] = {}
    sessions: list[Any] = []

    def session() -> Any:
        sessions.append(build_session(settings.spark, "genre_spark benchmark"))
        return sessions[-1]

    def note(progress: Progress) -> None:
        begun.setdefault(progress.phase, progress.wall_s)
        told.append(progress)
        del told[:-1]

    told: list[Progress] = []
    started = time.perf_counter()
    dataset = extraction.extract(session, table, specs, out, settings, on_progress=note)
    seconds = time.perf_counter() - started
    order = sorted(begun, key=lambda phase: begun[phase])
    ends = [*(begun[phase] for phase in order[1:]), seconds]
    heap_mb = jvm_mb = 0
    if sessions:
        jvm: Any = sessions[0]._jvm
        pools = jvm.java.lang.management.ManagementFactory.getMemoryPoolMXBeans()
        heap_mb = (
            sum(pool.getPeakUsage().getUsed() for pool in pools if pool.getType().toString() == "Heap memory") >> 20
        )
        jvm_mb = _peak_mb(jvm.java.lang.ProcessHandle.current().pid())
    sizes = [row["bytes"] for row in dataset.listed.to_pylist() if row["table"] == FEATURES]
    print(json.dumps({
        "rows": rows, "computed": told[-1].done, "tasks": told[-1].tasks.completed, "driver_mb": _peak_mb(),
        "before_mb": before_mb, "duckdb_mb": WatchedLedger.peak >> 20, "heap_mb": heap_mb, "jvm_mb": jvm_mb,
        "seconds": round(seconds, 1), "core_s": round(time.process_time(), 1), "files": len(sizes),
        "file_mb": [round(min(sizes) / 1e6, 1), round(max(sizes) / 1e6, 1), round(sum(sizes) / 1e6, 1)],
        "phases": {phase: round(end - begun[phase], 1) for phase, end in zip(order, ends, strict=True)},
        "load": _load(),
    }))  # fmt: skip


def growth(sizes: list[int], master: str) -> None:
    steps = {"planning": "plan s", "extracting": "tasks s", "checking files": "check s", "joining files": "join s"}
    printed = Table(
        "tracks", "run", "driver MB", "DuckDB MB", "JVM heap MB", *steps.values(), "tasks", "files", "file MB"
    )
    for rows in sizes:
        with tempfile.TemporaryDirectory() as folder:
            for run, count in (("first", rows), ("again", rows), ("1 % new", rows + rows // 100)):
                arguments = [sys.executable, __file__, "grown", str(count), folder, f"{folder}/dataset", master]
                answer = subprocess.run(arguments, capture_output=True, text=True, check=False)  # noqa: S603
                if answer.returncode:
                    raise SystemExit(f"error: {rows} rows, {run}: {answer.stderr[-2000:]}")
                found = json.loads(answer.stdout.splitlines()[-1])
                console.print_json(json.dumps({"run": run} | found), indent=None)
                least, most, _ = found["file_mb"]
                printed.add_row(
                    f"{count:,}", run, f"{found['before_mb']} -> {found['driver_mb']}", str(found["duckdb_mb"]),
                    str(found["heap_mb"] or "-"), *(f"{found['phases'].get(phase, 0):g}" for phase in steps),
                    str(found["tasks"] or "-"), str(found["files"]), f"{least}-{most}",
                )  # fmt: skip
    console.print(printed)


def _load() -> str:
    return f"{os.getloadavg()[0]:.1f}"


@app.command()
def measure(
    clips: Annotated[str, typer.Option(help="Glob of audio files.")] = "build/demo/corpus/fma_small/*/*.mp3",
    cores: Annotated[str, typer.Option(help="Numbers of cores, with commas; empty leaves it out.")] = "1,2,4",
    tracks_per_core: Annotated[int, typer.Option(help="Clips of a round; they are repeated.")] = 120,
    rounds: Annotated[int, typer.Option(help="Times that everything is measured.")] = 3,
    rows: Annotated[str, typer.Option(help="Track rows, with commas; empty leaves it out.")] = "10000,100000,1000000",
    standalone: Annotated[bool, typer.Option(help="Throughput on a standalone cluster, not `local[N]`.")] = False,
    master: Annotated[str, typer.Option(help="Spark of the second part.")] = "local[2]",
    requests: Annotated[bool, typer.Option(help="Count requests, too (s3_requests.py).")] = True,
) -> None:
    """Print the tables."""
    logging.disable(logging.WARNING)  # that clips stand there many times is meant
    if cores:
        counts = [int(count) for count in cores.split(",")]
        with standalone_master(max(counts)) if standalone else contextlib.nullcontext() as of_cluster:
            throughput(clips, counts, tracks_per_core, rounds, of_cluster)
    if rows:
        growth([int(count) for count in rows.split(",")], master)
    if requests:
        counting = Path(__file__).with_name("s3_requests.py")
        subprocess.run([sys.executable, counting, "--clips", clips], check=True)  # noqa: S603


if __name__ == "__main__":
    # `measure` needs no name.
    if not sys.argv[1:] or (sys.argv[1].startswith("-") and sys.argv[1] != "--help"):
        sys.argv.insert(1, "measure")
    app()
