"""The processes of a cluster: started, found again, and ended.

Each carries the cluster's id in its environment, and so do its children: that, and no number that another process may
have by now, tells what to end.
"""

import contextlib
import fcntl
import json
import os
import re
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import psutil
from pydantic import BaseModel, ConfigDict

from genre_spark.errors import EnvironmentSetupError
from genre_spark.spark import find_java_home

STATE = "cluster.json"
SUBMIT = "submit"
DAEMONS = "daemons"
LOCK = ".cluster.lock"
MARK = "GENRE_SPARK_CLUSTER"

_START_S = 60.0
_STOP_S = 10.0


class Process(BaseModel):
    """A master or a worker; `created` tells it from another process that has its number later."""

    model_config = ConfigDict(frozen=True)

    name: str
    pid: int
    created: float


class Cluster(BaseModel):
    """A running cluster, as `cluster.json` holds it."""

    model_config = ConfigDict(frozen=True)

    id: str
    folder: Path
    host: str
    master: str
    ui: str
    processes: list[Process]

    @property
    def submit_conf(self) -> Path:
        """The `SPARK_CONF_DIR` with which `spark-submit` finds master and secret."""
        return self.folder / SUBMIT

    def alive_workers(self) -> int:
        """Count the workers that the master takes for alive."""
        with urllib.request.urlopen(f"{self.ui}/json/", timeout=10) as answer:  # noqa: S310 (our own master)
            return int(json.load(answer)["aliveworkers"])


def start(
    cluster: Cluster,
    name: str,
    command: Sequence[str],
    *,
    prefix: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
) -> psutil.Popen:
    """Start a daemon of Spark's with its log in the cluster's folder."""
    from pyspark.find_spark_home import _find_spark_home

    home = _find_spark_home()
    # Not what a driver's shell may have set: SPARK_MASTER_PORT would name a port, SPARK_DAEMON_JAVA_OPTS a debugger.
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("SPARK_", "PYSPARK_"))}
    own = {
        "JAVA_HOME": str(find_java_home()),
        "SPARK_HOME": home,
        "SPARK_CONF_DIR": str(cluster.folder / DAEMONS),
        "SPARK_LOCAL_IP": cluster.host,
        "SPARK_DAEMON_MEMORY": "512m",
        MARK: cluster.id,
        **(environment or {}),
    }
    if inherited.get("LC_ALL") in ("C", "POSIX"):
        own["LC_ALL"] = "C.UTF-8"
    with (cluster.folder / f"{name}.log").open("wb") as log:
        return psutil.Popen(
            [*prefix, f"{home}/bin/spark-class", *command],
            env=inherited | own,
            cwd=cluster.folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C in this terminal isn't meant for it
        )


def with_process(cluster: Cluster, name: str, process: psutil.Process) -> Cluster:
    """Enter a process into the cluster, in place of an earlier one of that name."""
    others = [other for other in cluster.processes if other.name != name]
    one = Process(name=name, pid=process.pid, created=process.create_time())
    cluster = cluster.model_copy(update={"processes": [*others, one]})
    # Written at once: whoever is killed now leaves something that `down` finds.
    partial = cluster.folder / f".{STATE}.partial"
    partial.write_text(cluster.model_dump_json(indent=2) + "\n", encoding="utf-8")
    partial.replace(cluster.folder / STATE)
    return cluster


def awaited(cluster: Cluster, log: Path, pattern: str) -> str:
    """Wait for a line of a log, and return what its group matches."""
    deadline = time.monotonic() + _START_S
    while True:
        text = log.read_text(encoding="utf-8", errors="replace")
        if found := re.search(pattern, text):
            return found.group(1)
        running = any(process.name == log.stem for process in cluster.processes if _runs(process))
        if not running or time.monotonic() >= deadline:
            last = (text.strip().splitlines() or ["its log is empty"])[-1]
            raise EnvironmentSetupError(f"the cluster's {log.stem} didn't start; {log} ends with: {last}")
        time.sleep(0.1)


def _runs(process: Process) -> bool:
    try:
        found = psutil.Process(process.pid)
        return found.create_time() == process.created and found.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def read_cluster(folder: Path) -> Cluster:
    """Read what `start_cluster` wrote.

    Raises
    ------
    EnvironmentSetupError
        If no cluster was started there.
    """
    try:
        return Cluster.model_validate_json((folder / STATE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise EnvironmentSetupError(f"{folder}: no cluster was started here; `make cluster-up` does") from None
    except (OSError, ValueError) as error:
        raise EnvironmentSetupError(f"{folder / STATE}: can't be read: {error}") from None


def processes_of(cluster: Cluster) -> list[psutil.Process]:
    """Every process of the cluster: master, workers, executors, and their Python processes."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):  # gone by now, or another user's
            if process.environ().get(MARK) == cluster.id:
                found.append(process)
    return found


def stop_cluster(folder: Path) -> int:
    """End every process of the cluster, and forget its secret.

    Returns
    -------
    int
        How many processes there were.
    """
    folder = folder.resolve()
    cluster = read_cluster(folder)
    with locked(folder):
        ended = end(cluster)
        (folder / STATE).unlink(missing_ok=True)
        forget_secret(cluster)
    return ended


def forget_secret(cluster: Cluster) -> None:
    """Remove the files that hold it."""
    for name in (SUBMIT, DAEMONS):
        shutil.rmtree(cluster.folder / name, ignore_errors=True)


def end(cluster: Cluster) -> int:
    """End every process, with SIGKILL what takes long over it; return how many there were."""
    ended: set[int] = set()
    deadline = time.monotonic() + _STOP_S
    # Again and again: a worker may be starting an executor just now.
    while processes := processes_of(cluster):
        for process in processes:
            with contextlib.suppress(psutil.Error):
                if time.monotonic() >= deadline:
                    process.kill()
                elif process.pid not in ended:
                    process.terminate()
        ended |= {process.pid for process in processes}
        psutil.wait_procs(processes, timeout=0.5)
    return len(ended)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Let nobody else start or stop the cluster of a folder meanwhile."""
    with (folder / LOCK).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
