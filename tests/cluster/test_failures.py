"""What may break on a cluster, broken: the job ends right, and every track is a row or an error row, once.

What came out is compared bit for bit with an extraction on one machine.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest

from genre_spark.cluster import Cluster, processes_of, read_cluster

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(400)]

CRASHING = """\
# Imported by each Python of the executors, before anything else.
import ctypes
import os

import soundfile

opened = soundfile.SoundFile.__init__

def crash(self, file, *args, **kwargs):
    if isinstance(file, int) and os.readlink(f"/proc/self/fd/{file}").endswith("/021.wav"):
        ctypes.string_at(0)
    opened(self, file, *args, **kwargs)

soundfile.SoundFile.__init__ = crash
"""


def killed_in_the_middle(
    submission: object, find: Callable[[], list[psutil.Process]], eventually: Callable[..., object]
) -> list[psutil.Process]:
    """Kill what is found as soon as some tasks are done and others are not."""
    eventually(submission.is_in_the_middle, "finished tasks", 90)
    victims = eventually(find, "process to kill")
    for process in victims:
        # An executor's death takes its Python processes along before their turn comes.
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGKILL)
    return victims


def test_a_machine_that_is_lost(
    cluster: Cluster,
    extraction: Callable,
    family: Callable,
    eventually: Callable,
    renewed: Callable,
    is_whole: Callable,
) -> None:
    submission, out = extraction(cluster)

    def all_of_it() -> list[psutil.Process]:
        worker = next(one for one in read_cluster(cluster.folder).processes if one.name == "worker-1")
        processes = [psutil.Process(worker.pid), *(one for group in family("worker-1").values() for one in group)]
        return processes if len(processes) > 3 else []

    killed_in_the_middle(submission, all_of_it, eventually)
    eventually(lambda: cluster.alive_workers() == 1, "loss that the master noticed")
    status = submission.ended()
    renewed("worker-1")
    assert status == 0, submission.told()
    assert any("worker lost" in loss.lower() or "disassociated" in loss for loss in submission.losses()), (
        submission.losses()
    )
    assert is_whole(out)


def test_a_worker_process_that_is_killed_takes_its_executor_with_it(
    cluster: Cluster, extraction: Callable, eventually: Callable, renewed: Callable, is_whole: Callable
) -> None:
    submission, out = extraction(cluster)

    def worker() -> list[psutil.Process]:
        return [psutil.Process(one.pid) for one in read_cluster(cluster.folder).processes if one.name == "worker-2"]

    killed_in_the_middle(submission, worker, eventually)
    status = submission.ended()
    renewed("worker-2")
    assert status == 0, submission.told()
    assert submission.losses()
    assert is_whole(out)


def test_an_executor_that_is_killed(
    cluster: Cluster, extraction: Callable, family: Callable, eventually: Callable, is_whole: Callable
) -> None:
    submission, out = extraction(cluster)
    killed_in_the_middle(submission, lambda: family("worker-1")["executors"], eventually)
    assert submission.ended() == 0, submission.told()
    assert any("137" in loss for loss in submission.losses()), submission.losses()
    assert is_whole(out)


def test_a_python_worker_that_is_killed(
    cluster: Cluster, extraction: Callable, family: Callable, eventually: Callable, is_whole: Callable
) -> None:
    submission, out = extraction(cluster)

    def at_work() -> list[psutil.Process]:
        # One that waits for its next task is replaced without anybody's noticing; at work, its child is running.
        running = psutil.STATUS_RUNNING
        return [
            process
            for process in family("worker-1")["pythons"]
            if any(child.status() == running for child in process.children())
        ]

    killed_in_the_middle(submission, at_work, eventually)
    assert submission.ended() == 0, submission.told()
    assert any("Python worker exited unexpectedly" in loss for loss in submission.losses()), submission.losses()
    assert is_whole(out)


def test_a_track_that_crashes_the_decoder_is_an_error_row(
    cluster: Cluster, extraction: Callable, expected: tuple, tmp_path: Path
) -> None:
    """The crash is real, a SIGSEGV in the process that decodes; what causes it isn't.

    No file is known that crashes libsndfile (tens of thousands of damaged ones were tried), so a module on the
    executors' PYTHONPATH makes it read address 0 where it opens one certain clip.
    """
    (tmp_path / "crashing").mkdir()
    (tmp_path / "crashing" / "sitecustomize.py").write_text(CRASHING)
    path = os.pathsep.join(filter(None, [str(tmp_path / "crashing"), os.environ.get("PYTHONPATH")]))
    submission, out = extraction(cluster, conf={"spark.executorEnv.PYTHONPATH": path})
    assert submission.ended() == 0, submission.told()
    from genre_spark.dataset.store import open_dataset

    dataset = open_dataset(out)
    errors = {row["uri"].rsplit("/", 1)[1]: row for row in dataset.errors().to_pylist()}
    assert sorted(errors) == ["021.wav", "broken.wav"]
    assert errors["021.wav"]["error"] == "AudioCrashed"
    assert "died of SIGSEGV, twice" in errors["021.wav"]["detail"]
    crashed = errors["021.wav"]["track_id"]
    wanted = [track for track in expected[0]["track_id"].to_pylist() if track != crashed]
    assert dataset.tracks()["track_id"].to_pylist() == wanted
    assert not submission.losses(), "no task had to be run again"


def test_a_worker_whose_disk_is_full_is_left_alone(
    new_cluster: Callable, extraction: Callable, small_disk: Callable, is_whole: Callable, tmp_path: Path
) -> None:
    from genre_spark.cluster import start_worker

    disk = small_disk(16)
    two = new_cluster(tmp_path / "cluster", workers=1)
    start_worker(two, "full", local=disk)
    deadline = time.monotonic() + 60
    while two.alive_workers() < 2 and time.monotonic() < deadline:
        time.sleep(0.2)
    fill(disk)
    # An extraction shuffles nothing; what is shipped (--archives, --py-files, --files) goes to that disk all the same.
    shipped = tmp_path / "shipped.bin"
    shipped.write_bytes(os.urandom(4_000_000))
    submission, out = extraction(two, conf={"spark.files": str(shipped)})
    assert submission.ended() == 0, submission.told()
    assert any("No space left on device" in loss for loss in submission.losses()), submission.losses()
    assert is_whole(out)


def test_a_full_disk_for_the_dataset_is_one_line_and_leaves_no_dataset(
    cluster: Cluster, extraction: Callable, small_disk: Callable, is_whole: Callable
) -> None:
    disk = small_disk(2)
    submission, out = extraction(cluster, out=disk / "dataset")
    assert submission.ended() == 1
    lines = submission.told().splitlines()
    (error,) = [line for line in lines if line.startswith("error: ")]
    assert "disk is full" in error or "No space left on device" in error
    assert "Traceback (most recent call last)" not in [line.strip() for line in lines]
    assert not (out / "extraction.json").exists()
    for file in disk.rglob("part-*.parquet"):
        pq.read_metadata(file)  # whatever stands under a final name is whole


def test_a_python_of_another_version_on_the_workers_is_one_line(
    cluster: Cluster, extraction: Callable, tmp_path: Path
) -> None:
    ours = sys.version_info[:2]
    other = next((found for minor in (10, 11, 12, 13) if (3, minor) != ours and (found := python_of(minor))), None)
    if other is None:
        pytest.skip("no second Python is installed here")
    conf = {"spark.pyspark.python": other, "spark.pyspark.driver.python": sys.executable}
    submission, out = extraction(cluster, conf=conf)
    assert submission.ended() == 1
    (error,) = [line for line in submission.told().splitlines() if line.startswith("error: ")]
    assert f"and the driver runs {ours[0]}.{ours[1]}: both need the same minor version" in error
    assert not (out / "extraction.json").exists()


def python_of(minor: int) -> str | None:
    """Find a Python that starts."""
    for name in (
        f"python3.{minor}",
        *map(str, Path("~/.pyenv/versions").expanduser().glob(f"3.{minor}.*/bin/python3")),
    ):
        found = shutil.which(name)
        if found and subprocess.run([found, "-c", ""], capture_output=True, check=False).returncode == 0:
            return found
    return None


def fill(disk: Path) -> None:
    """Leave no byte free."""
    with (disk / "filling").open("wb", buffering=0) as file:
        try:
            while file.write(b"\0" * 65_536):
                pass
        except OSError:
            pass


def test_a_worker_that_is_cut_off_for_a_while(
    new_cluster: Callable, extraction: Callable, eventually: Callable, is_whole: Callable, tmp_path: Path
) -> None:
    """A worker in a network namespace of its own, whose wire is pulled out for 20 s while it reads tracks."""
    from genre_spark.cluster import start_worker

    name, ours, theirs = f"gs{os.getpid() % 100_000}", "10.213.77.1", "10.213.77.2"

    def ip(*arguments: str) -> subprocess.CompletedProcess:
        return subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)

    if not shutil.which("ip") or (told := ip("netns", "add", name)).returncode:
        pytest.skip(f"no network namespaces here: {told.stderr.strip() if shutil.which('ip') else 'no ip command'}")
    try:
        for command in (
            f"link add {name}a type veth peer name {name}b netns {name}",
            f"address add {ours}/24 dev {name}a",
            f"link set {name}a up",
            f"-n {name} address add {theirs}/24 dev {name}b",
            f"-n {name} link set {name}b up",
            f"-n {name} link set lo up",
        ):
            if (told := ip(*command.split())).returncode:
                pytest.skip(f"no network between namespaces here: ip {command}: {told.stderr.strip()}")
        # Whoever isn't heard of for 8 s is given up.
        quick = {
            "spark.worker.timeout": "8",
            "spark.network.timeout": "8s",
            "spark.network.timeoutInterval": "2s",
            "spark.executor.heartbeatInterval": "1s",
        }
        two = new_cluster(tmp_path / "cluster", workers=1, host=ours, properties=quick)
        start_worker(two, "far", host=theirs, prefix=("ip", "netns", "exec", name))
        eventually(lambda: two.alive_workers() == 2, "worker behind the wire")
        submission, out = extraction(two)
        eventually(submission.is_in_the_middle, "finished tasks", 90)
        ip("link", "set", f"{name}a", "down")
        time.sleep(20)
        assert submission.process.poll() in (None, 0), submission.told()
        ip("link", "set", f"{name}a", "up")
        assert submission.ended() == 0, submission.told()
        assert any("heartbeat" in loss.lower() or "lost" in loss.lower() for loss in submission.losses()), (
            submission.losses()
        )
        assert is_whole(out)
        eventually(lambda: two.alive_workers() == 2, "worker that came back")
        assert processes_of(two)
    finally:
        ip("netns", "delete", name)
        ip("link", "delete", f"{name}a")
