"""Spark's own failures in one line. The texts are what Spark 4.3 said when each was provoked on a cluster."""

import socket

import pytest
from py4j.protocol import Py4JError
from pyspark.errors import PythonException

from genre_spark.errors import EnvironmentSetupError
from genre_spark.spark_failures import check_master, explained

ABORTED = (
    "An error occurred while calling o171.collectToPython.\n: org.apache.spark.SparkException: Job aborted due to "
    "stage failure: Task 0 in stage 2.0 failed 2 times, most recent failure: Lost task 0.1 in stage 2.0 (TID 5) "
    "(127.0.0.1 executor 0): "
)
WORKER = "An exception was thrown from the Python worker:\nTraceback (most recent call last):\n  File ...\n"
KNOWN = [
    (
        WORKER + "pyspark.errors.exceptions.base.PySparkRuntimeError: [PYTHON_VERSION_MISMATCH] Python in worker has "
        "different version: 3.12 than that in driver: 3.11, PySpark cannot run with different minor versions.",
        "the workers run Python 3.12 and the driver runs 3.11: both need the same minor version",
    ),
    (WORKER + "ModuleNotFoundError: No module named 'genre_spark'", "the workers' Python has no genre_spark; install"),
    (
        ABORTED
        + 'java.io.IOException: Cannot run program "./environment/bin/python": error=2, No such file or directory',
        "the workers have no Python at ./environment/bin/python;",
    ),
    (
        WORKER + "OSError: [Errno 28] No space left on device: '/data/x.parquet'",
        "a disk is full (writing /data/x.parquet)",
    ),
    (ABORTED + "java.io.IOException: No space left on device", "a disk is full: the dataset's, or one that Spark"),
    (
        ABORTED + "org.apache.spark.SparkException: Python worker exited unexpectedly (crashed): Fatal Python error: "
        "Aborted\n\nCurrent thread ...",
        "a Python worker died (Aborted) each time",
    ),
    (
        ABORTED
        + "ExecutorLostFailure (executor 3 exited caused by one of the running tasks) Reason: Command exited with "
        "code 137\nDriver stacktrace:",
        "executors were lost again and again (Command exited with code 137)",
    ),
    (
        "Job aborted due to stage failure: ShuffleMapStage 2 has failed the maximum allowable number of times: 4. Most "
        "recent failure reason: org.apache.spark.shuffle.MetadataFetchFailedException",
        "executors were lost again and again",
    ),
    (ABORTED + "java.lang.OutOfMemoryError: Java heap space\n\tat", "ran out of Java memory (Java heap space)"),
    (
        "java.lang.IllegalStateException: Cannot call methods on a stopped SparkContext.",
        "it looks the same with another spark.authenticate.secret",
    ),
]


@pytest.mark.parametrize(("text", "line"), KNOWN, ids=[line for _, line in KNOWN])
def test_a_known_failure_is_one_line_that_says_what_to_do(text: str, line: str) -> None:
    for error in (Py4JError(text), PythonException(text)):
        known = explained(error)
        assert isinstance(known, EnvironmentSetupError)
        assert line in str(known)
        assert "\n" not in str(known)


@pytest.mark.parametrize(
    "error",
    [Py4JError("java.lang.ArithmeticException: / by zero"), OSError(28, "No space left on device"), KeyError("x")],
)
def test_what_is_not_known_or_not_of_spark_stays_what_it_is(error: Exception) -> None:
    assert explained(error) is None


def test_a_master_that_listens_passes_also_as_the_second_of_two() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        check_master(f"spark://127.0.0.1:{silent.getsockname()[1]},127.0.0.1:{server.getsockname()[1]}")


def test_a_master_where_nobody_listens_is_named_with_the_reason() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(EnvironmentSetupError, match=f"no Spark master answers at spark://{address} .*refused"):
            check_master(f"spark://{address}")


@pytest.mark.parametrize("master", ["spark://", "spark://host", "spark://host:port", "spark://host:99999"])
def test_a_master_without_host_and_port_is_refused_by_name(master: str) -> None:
    with pytest.raises(EnvironmentSetupError, match="must read spark://HOST:PORT"):
        check_master(master)


@pytest.mark.parametrize("master", ["local[*]", "yarn", "k8s://https://nowhere:6443"])
def test_other_masters_are_left_to_spark(master: str) -> None:
    check_master(master)
