"""What Spark's own failures mean: one line that says what to do, out of pages of stack trace."""

import re
import socket
from collections.abc import Callable
from urllib.parse import urlsplit

from genre_spark.errors import EnvironmentSetupError, GenreSparkError

_CONNECT_S = 5.0


def explained(error: BaseException) -> GenreSparkError | None:
    """Turn a known failure of Spark into an error of ours.

    Parameters
    ----------
    error : BaseException
        What a Spark call raised: its text holds the whole story, the workers' tracebacks too.

    Returns
    -------
    GenreSparkError or None
        None for what isn't known, and for what isn't Spark's.
    """
    if not type(error).__module__.startswith(("pyspark", "py4j")):
        return None
    text = str(error)
    for pattern, explain in _KNOWN:
        if found := re.search(pattern, text, re.DOTALL):
            return EnvironmentSetupError(explain(found))
    return None


def _versions(found: re.Match[str]) -> str:
    return (
        f"the workers run Python {found[1]} and the driver runs {found[2]}: both need the same minor version; name the "
        "workers' with spark.pyspark.python, or ship one with --archives (docs/cluster.md)"
    )


def _no_module(found: re.Match[str]) -> str:
    return (
        f"the workers' Python has no {found[1]}; install genre-spark[features,spark] there, or ship it: `make dist`, "
        "then --archives and --py-files (docs/cluster.md)"
    )


def _no_python(found: re.Match[str]) -> str:
    return (
        f"the workers have no Python at {found[1]}; name theirs with spark.pyspark.python, or ship one with --archives "
        "(docs/cluster.md)"
    )


def _no_space(found: re.Match[str]) -> str:
    file = re.search(r"No space left on device: '([^']+)'", found.string)
    where = f" (writing {file[1]})" if file else ""
    return (
        f"a disk is full{where}: the dataset's, or one that Spark spills to (SPARK_LOCAL_DIRS, spark.local.dir); "
        "nothing unfinished was kept, so make room and run it again"
    )


def _old_java(found: re.Match[str]) -> str:
    return "a worker's Java is older than 17; install a newer one there, or set spark.executorEnv.JAVA_HOME"


def _heap(found: re.Match[str]) -> str:
    return (
        f"Spark ran out of Java memory ({found[1].strip()}); raise spark.driver.memory or spark.executor.memory, or "
        "lower extract.tracks_per_task"
    )


def _crashed(found: re.Match[str]) -> str:
    signal = re.search(r"Fatal Python error: ([^\n]+)", found.string)
    how = f" ({signal[1].strip()})" if signal else ""
    return (
        f"a Python worker died{how} each time its task was tried, perhaps for want of memory: see the executors' "
        "stderr; give spark.executor.memoryOverhead more, or the worker fewer cores"
    )


def _lost(found: re.Match[str]) -> str:
    reason = re.search(r"exited caused by one of the running tasks\) Reason: ([^\n]+)", found.string)
    how = f" ({reason[1].strip().rstrip('.')})" if reason else ""
    # 52 is how Spark ends an executor whose heap is full, 137 a SIGKILL, the kernel's too.
    return (
        f"executors were lost again and again{how}: see the workers' logs; code 52 is a full Java heap (raise "
        "spark.executor.memory), 137 often a machine without memory (lower the cores of each worker)"
    )


def _not_taken(found: re.Match[str]) -> str:
    return (
        "the Spark master didn't take the application, or stopped it: see its log; it looks the same with another "
        "spark.authenticate.secret (set SPARK_CONF_DIR to the folder that `make cluster-up` names)"
    )


# The first that fits speaks. A worker's own text comes before what Spark makes of it.
_KNOWN: tuple[tuple[str, Callable[[re.Match[str]], str]], ...] = (
    (r"different(?: minor)? version:?\s*(\d+\.\d+)\S* than that in (?:the )?driver:?\s*(\d+\.\d+)", _versions),
    (r"No space left on device|\[Errno 28\]|ENOSPC", _no_space),
    (r"ModuleNotFoundError: No module named '([^']+)'", _no_module),
    (r"PACKAGE_NOT_INSTALLED\W+(\w+)", _no_module),
    (r'Cannot run program "([^"]*)".*?error=(?:2|13)\b', _no_python),
    (r"UnsupportedClassVersionError", _old_java),
    (r"java\.lang\.OutOfMemoryError: ([^\n]+)", _heap),
    (r"Python worker (?:process terminated|exited unexpectedly|failed to connect back)", _crashed),
    (r"ExecutorLostFailure|has failed the maximum allowable number of times", _lost),
    # The three ways in which an application ends that no master takes, or whose master is gone.
    (r"All masters are unresponsive|Master removed our application", _not_taken),
    (r"Cannot call methods on a stopped SparkContext|getServletHandlers on a running MetricsSystem", _not_taken),
)  # fmt: skip


def check_master(master: str) -> None:
    """See that a standalone master answers, before Spark tries it for a minute and fails with something else.

    Parameters
    ----------
    master : str
        Spark's; one that isn't `spark://HOST:PORT[,HOST:PORT...]` is left alone.

    Raises
    ------
    EnvironmentSetupError
        If none of the named masters takes a connection.
    """
    if not master.startswith("spark://"):
        return
    reasons = []
    for one in master.removeprefix("spark://").split(","):
        try:
            address = urlsplit(f"spark://{one}")
            if not address.hostname or not address.port:
                raise ValueError
            with socket.create_connection((address.hostname, address.port), timeout=_CONNECT_S):
                return
        except ValueError:
            raise EnvironmentSetupError(f"master {master!r} must read spark://HOST:PORT") from None
        except OSError as error:
            reasons.append(f"{one}: {error.strerror or error}")
    raise EnvironmentSetupError(f"no Spark master answers at {master} ({'; '.join(reasons)}); is the cluster up?")
