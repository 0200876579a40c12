"""A real standalone cluster, a corpus of short clips, and `spark-submit` as a user calls it."""

import contextlib
import dataclasses
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.dataset
import pytest
import soundfile

from genre_spark.cluster import Cluster, Process, processes_of, read_cluster, start_cluster, start_worker, stop_cluster

REPOSITORY = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
CLIPS = 60
# Slow enough for something to happen meanwhile: a task of five clips takes about a second.
FEATURES = "mfcc_mean,tempogram"
# Event logs as plain text, to be read here while a job runs.
PROPERTIES = {"spark.eventLog.compress": "false", "spark.eventLog.rolling.enabled": "false"}


@dataclasses.dataclass
class Submission:
    """A `spark-submit` that runs."""

    process: subprocess.Popen
    stdout: Path
    stderr: Path
    events: Path
    writing: Path
    started: float

    def ended(self, timeout_s: float = 150) -> int:
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.stop()
            raise AssertionError(f"still running after {timeout_s} s: {self.told()[-2000:]}") from None

    def told(self) -> str:
        return self.stdout.read_text() + self.stderr.read_text()

    def stop(self) -> None:
        with contextlib.suppress(psutil.Error):
            for process in [*psutil.Process(self.process.pid).children(recursive=True), self.process]:
                with contextlib.suppress(psutil.Error):
                    process.kill()
        self.process.wait()

    def logged(self) -> list[dict]:
        """Events that Spark wrote down about it."""
        return [
            json.loads(line)
            for file in self.events.iterdir()
            if file.stat().st_mtime >= self.started
            for line in file.read_text().splitlines()
        ]

    def is_in_the_middle(self) -> bool:
        """Tell whether some tasks have written their files, each its own; the event log lags behind."""
        assert self.process.poll() is None, f"ended too early: {self.told()}"
        return sum(file.parent.name == "features" for file in self.writing.rglob("*.parquet")) >= 2

    def losses(self) -> list[str]:
        """Why tasks failed and executors went."""
        found = []
        for row in self.logged():
            if row["Event"] == "SparkListenerExecutorRemoved":
                found.append(row["Removed Reason"])
            elif row["Event"] == "SparkListenerTaskEnd" and row["Task End Reason"]["Reason"] != "Success":
                found.append(json.dumps(row["Task End Reason"])[:1_000])
        return found


Submit = Callable[..., Submission]


@pytest.fixture(scope="session")
def new_cluster() -> Iterator[Callable[..., Cluster]]:
    """Start clusters, which are down when the tests end."""
    started: list[Path] = []

    def start(folder: Path, **options: object) -> Cluster:
        started.append(folder)
        properties = {**PROPERTIES, **options.pop("properties", {})}
        return start_cluster(folder, REPOSITORY / "conf", properties=properties, **options)

    yield start
    for folder in started:
        with contextlib.suppress(Exception):
            stop_cluster(folder)


@pytest.fixture(scope="session")
def cluster(new_cluster: Callable[..., Cluster], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A master and two workers of one core, for all tests; who ends a worker starts it anew."""
    cluster = new_cluster(tmp_path_factory.mktemp("cluster"))
    yield cluster
    processes = processes_of(cluster)
    stop_cluster(cluster.folder)
    assert not [process for process in processes if process.is_running() and process.status() != "zombie"]


@pytest.fixture(scope="session")
def tracks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Track table of 60 clips of noise and tones, no two alike, and one file that is no audio."""
    root = tmp_path_factory.mktemp("clips")
    random = np.random.default_rng(7)
    seconds = np.arange(5 * 22_050) / 22_050
    for number in range(CLIPS):
        folder = root / "music" / ("Folk", "Rock")[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        tone = np.sin(2 * np.pi * (110 + 7 * number) * seconds)
        noise = random.standard_normal(seconds.size)
        loudness = (0.05, 0.2)[number % 2]
        soundfile.write(folder / f"{number:03d}.wav", 0.3 * tone + loudness * noise, 22_050)
    (root / "music" / "Rock" / "broken.wav").write_bytes(b"no audio at all" * 100)
    told = subprocess.run(
        [BIN / "genre-spark", "corpus", "folder", "--root", root / "music", "--out", root / "tracks.parquet"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert told.returncode == 0, told.stderr
    return root / "tracks.parquet"


@pytest.fixture
def submit(tmp_path: Path) -> Iterator[Submit]:
    """Call `spark-submit` of a job; what still runs when the test ends is stopped."""
    running: list[Submission] = []

    def call(
        cluster: Cluster | None,
        job: str | Path,
        *arguments: object,
        conf: dict[str, str] | None = None,
        environment: dict[str, str] | None = None,
        wait: bool = True,
    ) -> Submission:
        number = len(running)
        own = {key: value for key, value in os.environ.items() if not key.startswith(("SPARK_", "PYSPARK_"))}
        # As in an activated environment; without a terminal, and of its width.
        own |= {"PATH": f"{BIN}:{own['PATH']}", "COLUMNS": "1000"}
        if cluster:
            own["SPARK_CONF_DIR"] = str(cluster.submit_conf)
        options = [] if cluster else ["--conf", "spark.master=local[2]"]
        for key, value in (conf or {}).items():
            options += ["--conf", f"{key}={value}"]
        out, err = tmp_path / f"{number}.stdout", tmp_path / f"{number}.stderr"
        with out.open("wb") as stdout, err.open("wb") as stderr:
            started = time.time()
            process = subprocess.Popen(
                [BIN / "spark-submit", *options, REPOSITORY / "jobs" / job, *map(str, arguments)],
                env=own | (environment or {}), stdout=stdout, stderr=stderr, stdin=subprocess.DEVNULL, cwd=tmp_path,
            )  # fmt: skip
        events = cluster.folder / "events" if cluster else tmp_path
        running.append(Submission(process, out, err, events, tmp_path, started))
        if wait:
            running[-1].ended()
        return running[-1]

    yield call
    for submission in running:
        submission.stop()


@pytest.fixture
def extraction(submit: Submit, tracks: Path, tmp_path: Path) -> Callable[..., tuple[Submission, Path]]:
    """Submit an extraction of the clips, cut into tasks of five; returned while it runs."""

    def call(
        cluster: Cluster | None,
        *arguments: object,
        out: Path | None = None,
        table: Path | None = None,
        **options: object,
    ) -> tuple[Submission, Path]:
        out = out or tmp_path / "dataset"
        submission = submit(
            cluster, "extract.py", "--tracks", table or tracks, "--out", out, "--features", FEATURES,
            "--config", REPOSITORY / "conf" / "cluster.yaml", "--set", "extract.tracks_per_task=5", *arguments,
            wait=False, **options,
        )  # fmt: skip
        submission.writing = out.parent
        return submission, out

    return call


@pytest.fixture(scope="session")
def expected(tracks: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[pa.Table, pa.Table]:
    """Rows and errors as one machine gives them, without spark-submit and cluster."""
    out = tmp_path_factory.mktemp("local") / "dataset"
    told = subprocess.run(
        [BIN / "genre-spark", "extract", "--tracks", tracks, "--out", out, "--features", FEATURES, "--set",
         "spark.master=local[2]", "--set", "extract.tracks_per_task=5"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert told.returncode == 0, told.stderr
    return content(out)


def content(dataset: Path) -> tuple[pa.Table, pa.Table]:
    """Rows and errors of a dataset, by track."""
    from genre_spark.dataset.store import open_dataset

    opened = open_dataset(dataset)
    rows = pa.concat_tables([pyarrow.parquet.read_table(file) for file in opened.files()])
    return rows.sort_by("track_id"), opened.errors().sort_by("track_id")


@pytest.fixture
def is_whole(expected: tuple[pa.Table, pa.Table]) -> Callable[[Path], bool]:
    """Tell whether a dataset holds every track once, as a row or an error, bit for bit as one machine gives it."""

    def check(dataset: Path) -> bool:
        rows, errors = content(dataset)
        assert rows["track_id"].to_pylist() == expected[0]["track_id"].to_pylist()
        assert errors["track_id"].to_pylist() == expected[1]["track_id"].to_pylist()
        return rows.equals(expected[0]) and errors.equals(expected[1])

    return check


@pytest.fixture
def renewed(cluster: Cluster) -> Iterator[Callable[[str], None]]:
    """Start a worker anew under its name, and give all two back to the next test."""

    def again(name: str) -> None:
        start_worker(read_cluster(cluster.folder), name)

    yield again
    eventually(lambda: cluster.alive_workers() == 2, "two workers")


def eventually(condition: Callable[[], object], what: str, timeout_s: float = 60) -> object:
    """Wait until something is the case."""
    deadline = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < deadline, f"no {what} within {timeout_s} s"
        time.sleep(0.2)
    return found


@pytest.fixture(name="eventually")
def _eventually() -> Callable[..., object]:
    return eventually


@pytest.fixture
def family(cluster: Cluster) -> Callable[[str], dict[str, list[psutil.Process]]]:
    """Processes that a worker started: `executors` (Java), `daemons` (Python) and `pythons` (what reads tracks)."""

    def of(name: str) -> dict[str, list[psutil.Process]]:
        entry: Process = next(one for one in read_cluster(cluster.folder).processes if one.name == name)
        found: dict[str, list[psutil.Process]] = {"executors": [], "daemons": [], "pythons": []}
        with contextlib.suppress(psutil.Error):
            for executor in psutil.Process(entry.pid).children():
                found["executors"].append(executor)
                for daemon in executor.children():
                    found["daemons"].append(daemon)
                    found["pythons"] += daemon.children()
        return found

    return of


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mount a disk of some megabytes."""
    mounted: list[Path] = []

    def mount(megabytes: int) -> Path:
        place = tmp_path / f"disk-{megabytes}"
        place.mkdir()
        told = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", place],
            capture_output=True, text=True, check=False,
        ) if shutil.which("mount") else None  # fmt: skip
        if told is None or told.returncode:
            pytest.skip(f"no disk can be mounted here: {told.stderr.strip() if told else 'no mount command'}")
        mounted.append(place)
        return place

    yield mount
    for place in mounted:
        subprocess.run(["umount", "--lazy", place], check=False)
