"""A standalone master and its workers, and the history server: what they are told."""

import contextlib
import secrets
import shutil
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

from genre_spark.cluster.daemons import (
    DAEMONS,
    LOCK,
    STATE,
    SUBMIT,
    Cluster,
    awaited,
    end,
    forget_secret,
    locked,
    processes_of,
    read_cluster,
    start,
    stop_cluster,
    with_process,
)
from genre_spark.errors import EnvironmentSetupError

EVENTS = "events"

_MASTER = "org.apache.spark.deploy.master.Master"
_WORKER = "org.apache.spark.deploy.worker.Worker"
_HISTORY = "org.apache.spark.deploy.history.HistoryServer"
_PORTS = ("--port", "0", "--webui-port", "0")  # any that is free
_PAGE = r" to .* started at (http://\S+)"

# For every process of the cluster and for the drivers: what goes over a socket is authenticated with the cluster's
# secret and encrypted, what is spilled to disks is encrypted, and nobody stops a job with a click.
SECURE = {
    "spark.authenticate": "true",
    "spark.network.crypto.enabled": "true",
    "spark.network.crypto.authEngineVersion": "2",
    "spark.network.crypto.cipher": "AES/GCM/NoPadding",
    "spark.network.crypto.saslFallback": "false",
    "spark.io.encryption.enabled": "true",
    "spark.master.rest.enabled": "false",
    "spark.ui.killEnabled": "false",
}


def start_cluster(
    folder: Path,
    conf: Path,
    *,
    workers: int = 2,
    cores: int = 1,
    memory: str = "1g",
    host: str = "127.0.0.1",
    properties: Mapping[str, str] | None = None,
) -> Cluster:
    """Start a master and workers, and wait until the workers have registered.

    Parameters
    ----------
    folder : Path
        Where all that belongs to the cluster lies. Logs and workers' folders of an earlier one are removed, event logs
        are kept.
    conf : Path
        Folder with the `spark-defaults.conf`, `spark-env.sh` and log settings to start from.
    workers, cores : int
        How many workers, and cores of each.
    memory : str
        Memory of each worker's executors, `1g` or `512m`. That of their Python workers comes on top.
    host : str
        Address that everything binds to.
    properties : mapping of str to str, optional
        Further Spark properties, for the daemons and the drivers.

    Raises
    ------
    EnvironmentSetupError
        If a cluster runs in `folder` already, or one doesn't come up; the message holds the reason.
    """
    folder = _own(folder)
    with locked(folder):
        if (folder / STATE).is_file() and processes_of(read_cluster(folder)):
            raise EnvironmentSetupError(f"{folder}: a cluster is up already; stop it with `make cluster-down`")
        for old in folder.iterdir():
            if old.name not in (EVENTS, LOCK):
                shutil.rmtree(old) if old.is_dir() and not old.is_symlink() else old.unlink()
        (folder / EVENTS).mkdir(exist_ok=True)
        chosen = {
            **SECURE,
            "spark.authenticate.secret": secrets.token_hex(32),
            "spark.driver.host": host,
            "spark.driver.bindAddress": host,
            "spark.executor.memory": memory,
            "spark.executor.cores": str(cores),
            "spark.eventLog.enabled": "true",
            "spark.eventLog.dir": (folder / EVENTS).as_uri(),
            **(properties or {}),
        }
        _write_conf(folder, conf, chosen, host)
        cluster = Cluster(id=uuid.uuid4().hex, folder=folder, host=host, master="", ui="", processes=[])
        try:
            cluster = with_process(cluster, "master", start(cluster, "master", [_MASTER, *_PORTS, "--host", host]))
            log = folder / "master.log"
            master = awaited(cluster, log, r"Starting Spark master at (spark://\S+)")
            cluster = cluster.model_copy(update={"master": master, "ui": awaited(cluster, log, "WebUI" + _PAGE)})
            with (folder / SUBMIT / "spark-defaults.conf").open("a", encoding="utf-8") as file:
                file.write(f"spark.master {master}\n")
            for number in range(1, workers + 1):
                cluster = start_worker(cluster, f"worker-{number}", cores=cores, memory=memory)
            for number in range(1, workers + 1):
                awaited(cluster, folder / f"worker-{number}.log", "(Successfully registered with master)")
        except BaseException:
            end(cluster)
            forget_secret(cluster)
            raise
    return cluster


def start_worker(
    cluster: Cluster,
    name: str,
    *,
    cores: int = 1,
    memory: str = "1g",
    host: str | None = None,
    local: Path | None = None,
    prefix: Sequence[str] = (),
) -> Cluster:
    """Start one more worker, or one anew; it registers some seconds later.

    Parameters
    ----------
    cluster : Cluster
        A running one.
    name : str
        Of the worker: its log and its folder in the cluster's.
    cores, memory
        As in `start_cluster`.
    host : str, optional
        Its address, if it isn't the cluster's.
    local : Path, optional
        Folder for what its executors put on a disk; one in the cluster's folder otherwise.
    prefix : sequence of str
        Command before the command, `ip netns exec NAME`.
    """
    place = cluster.folder / name
    local = local or place / "local"
    local.mkdir(parents=True, exist_ok=True)
    host = host or cluster.host
    command = [
        _WORKER, *_PORTS, "--host", host, "--cores", str(cores), "--memory", memory,
        "--work-dir", str(place / "work"), cluster.master,
    ]  # fmt: skip
    environment = {"SPARK_LOCAL_DIRS": str(local), "SPARK_LOCAL_IP": host}
    process = start(cluster, name, command, prefix=prefix, environment=environment)
    return with_process(cluster, name, process)


def serve_history(folder: Path, events: Path, conf: Path) -> tuple[Cluster, str]:
    """Start Spark's history server over a folder of event logs.

    Parameters
    ----------
    folder : Path
        Where its log and settings lie.
    events : Path
        Where jobs kept their event logs (`spark.eventLog.dir`).
    conf : Path
        As in `start_cluster`.

    Returns
    -------
    Cluster, str
        What `stop_cluster` ends, and the address of its page.
    """
    if not events.is_dir():
        raise EnvironmentSetupError(f"{events}: no such folder; set spark.eventLog.dir to one that exists")
    folder = _own(folder)
    with contextlib.suppress(EnvironmentSetupError):
        stop_cluster(folder)
    properties = {
        "spark.history.fs.logDirectory": events.resolve().as_uri(),
        "spark.history.ui.port": "0",
        "spark.history.fs.update.interval": "5s",
    }
    _write_conf(folder, conf, properties, "127.0.0.1")
    cluster = Cluster(id=uuid.uuid4().hex, folder=folder, host="127.0.0.1", master="", ui="", processes=[])
    try:
        cluster = with_process(cluster, "history", start(cluster, "history", [_HISTORY]))
        # It calls itself by the machine's name, whatever it is bound to.
        port = awaited(cluster, folder / "history.log", r"HistoryServer to .* started at http://\S+:(\d+)")
    except BaseException:
        end(cluster)
        raise
    return cluster, f"http://{cluster.host}:{port}"


def _own(folder: Path) -> Path:
    """Make the folder of a cluster; one that holds something else isn't taken, for it would be cleared."""
    folder = folder.resolve()
    if folder.exists() and not (folder / LOCK).exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise EnvironmentSetupError(f"{folder}: is there already and no cluster's; name another one with --folder")
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    (folder / LOCK).touch()
    return folder


def _write_conf(folder: Path, conf: Path, properties: Mapping[str, str], host: str) -> None:
    """Write the `SPARK_CONF_DIR` of drivers and that of daemons."""
    try:
        defaults = (conf / "spark-defaults.conf").read_text(encoding="utf-8")
        script = (conf / "spark-env.sh").read_text(encoding="utf-8")
        logs = {
            name: (conf / f"log4j2{ending}.properties").read_text(encoding="utf-8")
            for name, ending in ((SUBMIT, ""), (DAEMONS, "-daemons"))
        }
    except OSError as error:
        raise EnvironmentSetupError(f"{error.filename}: can't be read: {error.strerror}") from None
    own = "".join(f"{key} {value}\n" for key, value in properties.items())
    for name, log in logs.items():
        shutil.rmtree(folder / name, ignore_errors=True)
        (folder / name).mkdir(mode=0o700)
        (folder / name / "log4j2.properties").write_text(log, encoding="utf-8")
        private = folder / name / "spark-defaults.conf"
        private.touch(mode=0o600, exist_ok=False)  # never readable for others, not for a moment
        private.write_text(f"{defaults}\n{own}", encoding="utf-8")
    # Spark's pages listen where SPARK_LOCAL_IP says, or everywhere.
    (folder / SUBMIT / "spark-env.sh").write_text(f"SPARK_LOCAL_IP={host}\n{script}", encoding="utf-8")
