"""`spark-submit` of `jobs/*.py` on a cluster gives the same bytes as on one machine."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from genre_spark.cluster import Cluster

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(400)]

REPOSITORY = Path(__file__).parents[2]
ENVIRONMENT = REPOSITORY / "dist" / "environment.tar.gz"
PROBE = """\
import sys
from genre_spark.settings import load_settings
from genre_spark.spark import build_session
spark = build_session(load_settings().spark, "probe")
def seen(batches):
    import genre_spark, genre_spark.features.compute, numpy
    import pyarrow as pa
    for _ in batches:
        row = {"prefix": [sys.prefix], "numpy": [numpy.__file__], "ours": [genre_spark.__file__]}
        yield pa.RecordBatch.from_pydict(row)
for row in spark.range(4).repartition(2).mapInArrow(seen, "prefix string, numpy string, ours string").collect():
    print("prefix", row.prefix, "numpy", row.numpy, "ours", row.ours)
"""


def test_extraction_gives_the_same_bytes_as_on_one_machine(
    cluster: Cluster, extraction: Callable, is_whole: Callable
) -> None:
    submission, out = extraction(cluster)
    assert submission.ended() == 0, submission.told()
    assert is_whole(out)
    assert not submission.losses()
    noise = [line for line in submission.told().splitlines() if " WARN " in line or " INFO " in line]
    assert not noise, "the terminal shows our lines, not Spark's"


def test_evaluation_and_prediction_give_the_same_bytes_as_on_one_machine(
    cluster: Cluster, submit: Callable, extraction: Callable, tracks: Path, tmp_path: Path
) -> None:
    made = submit(
        None, "extract.py", "--tracks", tracks, "--out", tmp_path / "dataset", "--features", "mfcc_mean",
        "--set", "extract.tracks_per_task=10",
    )  # fmt: skip
    assert made.process.returncode == 0, made.told()
    trained = submit(
        None, "train.py", "--dataset", tmp_path / "dataset", "--model", "dnn", "--run", tmp_path / "run",
        "--set", "models.dnn.epochs=3",
    )  # fmt: skip
    assert trained.process.returncode == 0, trained.told()
    written = []
    for where in (None, cluster):
        scored = submit(
            where, "evaluate.py", "--run", tmp_path / "run", "--config", REPOSITORY / "conf" / "cluster.yaml"
        )
        assert scored.process.returncode == 0, scored.told()
        folder = tmp_path / "run" / "evaluation"
        texts = {name: (folder / name).read_bytes() for name in ("metrics.json", "confusion.csv")}
        picture = hashlib.sha256((folder / "confusion.png").read_bytes()).hexdigest()
        predictions = pq.read_table(folder / "predictions.parquet").sort_by("track_id")
        assert predictions.num_rows == 60
        library = tmp_path / f"library-{len(written)}"
        predicted = submit(
            where, "predict.py", "--tracks", tracks, "--bundle", tmp_path / "run" / "bundle", "--out", library,
            "--config", REPOSITORY / "conf" / "cluster.yaml", "--set", "extract.tracks_per_task=20",
        )  # fmt: skip
        assert predicted.process.returncode == 0, predicted.told()
        of_library = pq.read_table(library / "features").sort_by("track_id")
        errors = pq.read_table(library / "errors")
        assert (of_library.num_rows, errors.num_rows) == (60, 1)
        written.append((texts, picture, predictions, of_library, errors))
    assert written[0][:2] == written[1][:2]
    assert all(one.equals(other) for one, other in zip(written[0][2:], written[1][2:], strict=True))


def test_the_packed_environment_is_what_the_workers_run(cluster: Cluster, submit: Callable, tmp_path: Path) -> None:
    if not ENVIRONMENT.is_file():
        pytest.skip(f"no {ENVIRONMENT}: `make dist` builds it")
    job = tmp_path / "probe.py"
    job.write_text(PROBE)
    # As docs/cluster.md has it.
    told = submit(
        cluster,
        job,
        conf={
            "spark.archives": f"{ENVIRONMENT}#environment",
            "spark.submit.pyFiles": str(ENVIRONMENT.with_name("genre_spark.zip")),
            "spark.pyspark.python": "./environment/bin/python",
            "spark.pyspark.driver.python": "python",
        },
    )
    rows = [line.split() for line in told.told().splitlines() if line.startswith("prefix ")]
    assert rows, told.told()
    for _, prefix, _, numpy, _, ours in rows:
        assert prefix.endswith("/environment")
        assert numpy.startswith(prefix)
        assert "/genre_spark.zip/" in ours
