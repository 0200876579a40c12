"""Run petastorm's own tests, as its wheel brings them, on readers of `genre_spark.dataset.petastorm_adapter`.

    python tests/dataset/petastorm_suite.py

This file is the program and the pytest plugin of the process that it starts. There the tests get back what they need of
old NumPys and Pythons, and the adapter's `make_batch_reader`, pool and ventilator in place of petastorm's. petastorm
writes `synthetic_dataset` with a schema that is a pickle; here its rows are plain Parquet, and only readers that were
made for that are tried on it. `why_not` says of each test that is left out why it is.
"""

import inspect
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest

MODULES = [
    f"petastorm.tests.test_{name}" for name in ("parquet_reader", "end_to_end", "tf_dataset", "tf_utils", "predicates")
]
MODULES += [f"petastorm.workers_pool.tests.test_{name}" for name in ("workers_pool", "ventilator")]

MAKE_READER = "make_reader: wants petastorm's schema in the dataset, which is a pickle"
PROCESSES = "process pool: its processes import petastorm without the adapter, which refuses it"
CACHE = "cache_type='local-disk': unpickles what lies in its folder, the adapter refuses it"
HIVE = "folders like key=value: this package writes none, the adapter refuses them"
INDEX = "rowgroup_selector: an index that petastorm pickles"
SPARK = "writing with materialize_dataset: pickles a schema"

# By the beginning of a test's name; where its source says it, `why_not` sees it.
OTHERS = {
    "test_materialize_with_summary_metadata": SPARK,
    "test_predicate_with_invalid_fields": HIVE,
    "test_simple_ngram_read": MAKE_READER,
    "test_shuffling_queue_with_ngrams": MAKE_READER,
    "test_all_workers_are_active": PROCESSES,
    "test_workers_die_when": PROCESSES,
    "test_exception_in_worker_process": PROCESSES,
    "test_exception_in_all_worker_process": PROCESSES,
    "test_passing_args_processes": PROCESSES,
    "test_block_on_get_results_processes": PROCESSES,
    "test_return_none_on_get_results_process": PROCESSES,
    "test_ventilator_processes": PROCESSES,
}
BY_SOURCE = {
    "test_shuffling_queue(synthetic_dataset)": MAKE_READER,
    "ProcessPool(": PROCESSES,
    "cache_type='local-disk'": CACHE,
    "partition_by=": HIVE,
    "partition_key": HIVE,
    "rowgroup_selector": INDEX,
    "materialize_dataset": SPARK,
    "make_reader(": MAKE_READER,
    "[make_batch_reader, make_reader]": MAKE_READER,
    "get_schema": MAKE_READER,
}


def why_not(name: str, test: object, reader_factory: object) -> str | None:
    """Reason for which a test is not run, or None."""
    for beginning, reason in OTHERS.items():
        if name.startswith(beginning):
            return reason
    source = inspect.getsource(test)
    for words, reason in BY_SOURCE.items():
        if re.search(rf"(?<!\w){re.escape(words)}", source):
            return reason
    if reader_factory is None:
        return None
    made_by = inspect.getsource(reader_factory)
    if "make_batch_reader" not in made_by:
        return MAKE_READER
    return PROCESSES if "process" in made_by else None


def run() -> tuple[int, dict[str, int], Counter[str], str]:
    """Return pytest's exit status, how many tests passed and failed, those left out by reason, and what it printed."""
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent), "TF_CPP_MIN_LOG_LEVEL": "3"}
    with tempfile.TemporaryDirectory() as folder:
        arguments = [
            "-p",
            "petastorm_suite",
            "-p",
            "no:cacheprovider",
            "-q",
            "-rf",
            "--rootdir",
            folder,
            "-c",
            os.devnull,
        ]
        program = [sys.executable, "-m", "pytest", *arguments, "--pyargs", *MODULES]
        done = subprocess.run(program, capture_output=True, text=True, env=environment, cwd=folder)
    found = re.findall(
        r"(\d+) (passed|failed|errors?|deselected|skipped)", done.stdout.rpartition("\n=")[2] or done.stdout
    )
    left_out = Counter(re.findall(r"^left out: \S+: (.*)$", done.stdout, re.MULTILINE))
    return done.returncode, {what: int(count) for count, what in found}, left_out, done.stdout + done.stderr


if __name__ == "__main__":
    status, counts, left_out, output = run()
    print(output)
    for reason, count in left_out.most_common():
        print(f"{count:4} left out, {reason}")
    print(counts)
    sys.exit(status)

if "petastorm_suite" in __name__:
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    np.unicode_, np.string_, np.in1d = np.str_, np.bytes_, np.isin
    inspect.getargspec = inspect.getfullargspec

    from genre_spark.dataset import petastorm_adapter
    from genre_spark.spark import find_java_home

    petastorm_adapter._tf_utils()
    pa.hdfs = sys.modules["pyarrow.hdfs"] = SimpleNamespace()
    import petastorm
    import petastorm.codecs

    petastorm.codecs.OPENCV_AVAILABLE = True  # the test schema names a codec of images that no test here uses
    # Their conftest imports the converter of Spark frames, which wants more of the old pyarrow; no test here uses it.
    sys.modules["petastorm.spark"] = SimpleNamespace(spark_dataset_converter=None, SparkDatasetConverter=None)
    import petastorm.tests.test_common

    petastorm.make_batch_reader = petastorm_adapter.make_batch_reader
    ours = {
        "ThreadPool": petastorm.reader.ThreadPool,
        "ConcurrentVentilator": petastorm.reader.ConcurrentVentilator.func,
    }
    os.environ["JAVA_HOME"] = str(find_java_home())

    def write_synthetic_rows(url, rows, **_options):
        """Columns of petastorm's test schema that need none of its codecs."""
        data = [
            {"id": np.int64(n), "id2": np.int32(n % 2), "id_float": np.float64(n), "id_odd": np.bool_(n % 2)}
            for n in rows
        ]
        for part in range(0, len(data), 10):
            columns = {name: [row[name] for row in data[part : part + 10]] for name in data[0]}
            pq.write_table(pa.table(columns), Path(url.removeprefix("file://"), f"{part}.parquet"), row_group_size=5)
        return data

    petastorm.tests.test_common.create_test_dataset = write_synthetic_rows

    class HooksOfPytestLogger:
        """Their conftest answers it."""

        def pytest_logger_config(self, logger_config):
            pass

    def pytest_addhooks(pluginmanager):
        pluginmanager.add_hookspecs(HooksOfPytestLogger)

    def pytest_collection_modifyitems(config, items):
        left_out = []
        for item in items:
            # Not in petastorm's modules, where its classes look for themselves by these names.
            for name in ours.keys() & vars(item.module).keys():
                setattr(item.module, name, ours[name])
            parameters = getattr(getattr(item, "callspec", None), "params", {})
            reason = why_not(item.name, item.function, parameters.get("reader_factory"))
            if reason is not None:
                left_out.append((item, reason))
        config.hook.pytest_deselected(items=[item for item, _ in left_out])
        config.left_out = [f"left out: {item.name.replace(' ', '_')}: {reason}" for item, reason in left_out]
        items[:] = [item for item in items if item not in {one for one, _ in left_out}]

    def pytest_terminal_summary(terminalreporter, config):
        for line in getattr(config, "left_out", ()):
            terminalreporter.write_line(line)

    @pytest.hookimpl(trylast=True)
    def pytest_configure(config):
        config.addinivalue_line("markers", "forked: petastorm's tests ask for a process of their own")
