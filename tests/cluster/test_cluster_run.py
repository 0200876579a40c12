"""`make cluster-up` and `cluster-down`: what runs, what listens, who may read the secret, and what is left over."""

import json
import os
import re
import signal
import socket
import stat
import subprocess
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import psutil
import pyarrow as pa
import pytest

from genre_spark.cluster import Cluster, processes_of, read_cluster, serve_history, start_cluster, stop_cluster
from genre_spark.cluster.daemons import MARK, STATE
from genre_spark.corpora.tracks import TRACK_SCHEMA, write_tracks
from genre_spark.errors import EnvironmentSetupError

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

REPOSITORY = Path(__file__).parents[2]
PROBE = """\
import os, sys
from genre_spark.settings import load_settings
from genre_spark.spark import build_session
spark = build_session(load_settings().spark, "probe")
def seen(batches):
    import pyarrow as pa
    key = os.environ.get("AWS_SECRET_ACCESS_KEY")
    for _ in batches:
        yield pa.RecordBatch.from_pydict({"python": [sys.prefix], "key": [key]})
rows = spark.range(4).repartition(2).mapInArrow(seen, "python string, key string").collect()
print("workers", sorted({row.python for row in rows}), sorted({row.key for row in rows}))
"""


def secret_of(cluster: Cluster) -> str:
    found = re.search(
        r"^spark\.authenticate\.secret (\w+)$", (cluster.submit_conf / "spark-defaults.conf").read_text(), re.M
    )
    assert found
    assert len(found[1]) == 64
    return found[1]


def test_a_master_and_two_workers_listen_on_loopback_only(cluster: Cluster) -> None:
    assert cluster.alive_workers() == 2
    listening = [
        connection.laddr.ip.removeprefix("::ffff:")
        for process in processes_of(cluster)
        for connection in process.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert len(listening) >= 6, "a port and a page each"
    assert set(listening) == {"127.0.0.1"}


def test_the_secret_stands_in_two_files_of_the_owner_and_nowhere_else(
    cluster: Cluster, submit: Callable, tmp_path: Path
) -> None:
    secret = secret_of(cluster)
    job = tmp_path / "probe.py"
    job.write_text(PROBE)
    key = "AKexampleKEYwithNoMeaning"
    conf = {"spark.executorEnv.AWS_SECRET_ACCESS_KEY": key, "spark.hadoop.fs.azure.account.key.x": key}
    log = {"GENRE_SPARK_LOG": str(tmp_path / "all.log"), "GENRE_SPARK_LOG_LEVEL": "info"}
    running = submit(cluster, job, wait=False, conf=conf, environment=log)
    said: set[str] = set()
    while running.process.poll() is None:
        for process in processes_of(cluster):
            with_arguments = process.cmdline() if process.is_running() else []
            said.update(with_arguments)
        time.sleep(0.1)
    assert running.process.returncode == 0, running.told()
    assert "['" + key in running.told(), "the executors were given it"
    assert not [argument for argument in said if secret in argument or key in argument]
    files = [file for file in cluster.folder.rglob("*") if file.is_file()] + [tmp_path / "all.log"]
    assert (tmp_path / "all.log").stat().st_size > 10_000
    holding = [file for file in files if secret in file.read_text(errors="replace")]
    assert sorted(file.parent.name for file in holding) == ["daemons", "submit"]
    assert {stat.S_IMODE(file.stat().st_mode) for file in holding} == {0o600}
    assert not [file for file in files if key in file.read_text(errors="replace")], "logs and event logs are redacted"
    assert "*********(redacted)" in "".join(file.read_text() for file in running.events.iterdir())


def test_a_driver_without_the_secret_is_sent_away_in_one_line(
    cluster: Cluster, submit: Callable, tmp_path: Path
) -> None:
    own = tmp_path / "conf"
    own.mkdir()
    for name in ("spark-env.sh", "log4j2.properties", "spark-defaults.conf"):
        text = (cluster.submit_conf / name).read_text()
        (own / name).write_text(text.replace(secret_of(cluster), "0" * 64))
    told = submit(
        cluster, "extract.py", "--tracks", written_tracks(tmp_path), "--out", tmp_path / "out",
        environment={"SPARK_CONF_DIR": str(own)},
    )  # fmt: skip
    assert told.process.returncode == 1
    assert "it looks the same with another spark.authenticate.secret" in told.told()
    assert "Traceback" not in told.told()


def test_a_master_that_is_not_there_is_named_within_seconds(submit: Callable, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # nobody listens behind it
        port = taken.getsockname()[1]
        started = time.monotonic()
        told = submit(
            None, "extract.py", "--tracks", written_tracks(tmp_path), "--out", tmp_path / "out",
            conf={"spark.master": f"spark://127.0.0.1:{port}"},
        )  # fmt: skip
    assert told.process.returncode == 1
    assert f"no Spark master answers at spark://127.0.0.1:{port} (127.0.0.1:{port}: Connection refused)" in told.told()
    assert time.monotonic() - started < 30


def test_a_second_cluster_in_the_same_folder_is_refused(cluster: Cluster) -> None:
    with pytest.raises(EnvironmentSetupError, match=r"a cluster is up already; stop it with `make cluster-down`"):
        start_cluster(cluster.folder, REPOSITORY / "conf")
    assert cluster.alive_workers() == 2


def test_the_history_server_shows_the_jobs_that_were(cluster: Cluster, submit: Callable, tmp_path: Path) -> None:
    job = tmp_path / "probe.py"
    job.write_text(PROBE.replace('"probe"', '"to be remembered"'))
    assert submit(cluster, job).process.returncode == 0
    history, ui = serve_history(tmp_path / "history", cluster.folder / "events", REPOSITORY / "conf")
    try:
        assert ui.startswith("http://127.0.0.1:")
        deadline = time.monotonic() + 30
        names: list[str] = []
        while "to be remembered" not in names and time.monotonic() < deadline:
            time.sleep(0.5)
            with urllib.request.urlopen(f"{ui}/api/v1/applications", timeout=10) as answer:
                names = [application["name"] for application in json.load(answer)]
        assert "to be remembered" in names
    finally:
        stop_cluster(history.folder)
    assert not processes_of(history)


def test_down_ends_what_a_killed_master_left_and_spares_a_stranger_with_its_number(
    new_cluster: Callable[..., Cluster], tmp_path: Path
) -> None:
    cluster = new_cluster(tmp_path / "other", workers=1)
    (master,) = [process for process in cluster.processes if process.name == "master"]
    os.kill(master.pid, signal.SIGKILL)
    stranger = subprocess.Popen(["sleep", "600"], env={**os.environ, MARK: "another"})
    try:
        entries = [one.model_copy(update={"pid": stranger.pid}) for one in cluster.processes]
        (cluster.folder / STATE).write_text(cluster.model_copy(update={"processes": entries}).model_dump_json())
        left = processes_of(cluster)
        assert len([process for process in left if process.status() != psutil.STATUS_ZOMBIE]) == 1
        stop_cluster(cluster.folder)
        assert not processes_of(cluster)
        assert stranger.poll() is None
        assert not (cluster.folder / "submit").exists(), "the secret is forgotten"
        with pytest.raises(EnvironmentSetupError, match="no cluster was started here"):
            read_cluster(cluster.folder)
    finally:
        stranger.kill()
        stranger.wait()


def test_a_folder_that_holds_something_else_is_not_cleared(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(EnvironmentSetupError, match="is there already and no cluster's"):
        start_cluster(tmp_path, REPOSITORY / "conf")
    assert (tmp_path / "thesis.txt").read_text() == "mine"


def test_a_cluster_that_does_not_come_up_says_why_and_leaves_nothing(tmp_path: Path) -> None:
    started = time.monotonic()
    with pytest.raises(EnvironmentSetupError, match=r"the cluster's master didn't start; .*master\.log ends with: "):
        start_cluster(tmp_path / "bad", REPOSITORY / "conf", host="203.0.113.1")  # nobody's address
    assert time.monotonic() - started < 60
    state = tmp_path / "bad" / STATE
    assert not processes_of(Cluster.model_validate_json(state.read_text()))


def written_tracks(folder: Path) -> Path:
    """A track table that nobody will come to read."""
    row = {"track_id": "1", "uri": str(folder / "1.wav")}
    write_tracks(pa.Table.from_pylist([row], schema=TRACK_SCHEMA), folder / "tracks.parquet")
    return folder / "tracks.parquet"
