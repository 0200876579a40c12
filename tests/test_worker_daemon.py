import importlib.metadata
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pyspark
import pytest

from genre_spark.spark import _is_in_workers
from genre_spark.worker_daemon import without_archive

INSTALLED = Path(pyspark.__file__).parent
ARCHIVE = str(INSTALLED / "python" / "lib" / "pyspark.zip")


def test_sparks_own_archive_is_left_out_where_the_installed_pyspark_is_what_it_holds() -> None:
    path = ["", ARCHIVE, "/elsewhere/py4j-src.zip", str(INSTALLED.parent)]
    assert without_archive(path) == ["", "/elsewhere/py4j-src.zip", str(INSTALLED.parent)]


def test_another_sparks_archive_stays_and_so_does_one_without_an_installed_pyspark(tmp_path: Path) -> None:
    other = str(tmp_path / "pyspark.zip")
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("pyspark/__init__.py", "")
    assert without_archive([other, str(INSTALLED.parent)]) == [other, str(INSTALLED.parent)]
    assert without_archive([ARCHIVE, str(tmp_path)]) == [ARCHIVE, str(tmp_path)]


def test_workers_of_a_local_session_take_the_installed_pyspark_and_find_the_extractor_imported(spark: Any) -> None:
    def what_is_there(_: int) -> tuple[str, bool, bool]:
        import sys

        names = ("genre_spark.dataset.part", "genre_spark.features.compute")
        return sys.modules["pyspark"].__file__, *(name in sys.modules for name in names)

    (found,) = spark.sparkContext.parallelize([0], 1).map(what_is_there).collect()
    assert found == (pyspark.__file__, True, True)


def test_a_python_that_may_lack_this_package_keeps_pysparks_daemon(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _is_in_workers(sys.executable)
    assert not _is_in_workers("/usr/bin/python3")

    def nowhere(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "distribution", nowhere)
    assert not _is_in_workers(sys.executable)


@pytest.mark.parametrize("missing", ["soundfile", "pyarrow"])
def test_where_a_library_of_extraction_is_not_installed_the_daemon_starts_all_the_same(missing: str) -> None:
    code = f"""
import sys
sys.modules[{missing!r}] = None
sys.argv = ["worker_daemon", "json"]  # pyspark.daemon imports what is named there
import pyspark.daemon
pyspark.daemon.manager = lambda: print("started")
from genre_spark.worker_daemon import main
main()
"""
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (answer.returncode, answer.stdout) == (0, "started\n"), answer.stderr
