import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from genre_spark.dataset.feed import open_feed
from genre_spark.dataset.petastorm_adapter import make_batch_reader, refuse_pickles
from genre_spark.errors import DatasetError


def run_python(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments, "-c", program], capture_output=True, text=True, timeout=120)


class CreatesAFile:
    """A payload that petastorm's "restricted" unpickler lets pass: it only uses a builtin."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return (eval, (f"open({str(self.marker)!r}, 'w').close()",))


def payload(marker: Path) -> bytes:
    content = pickle.dumps(CreatesAFile(marker), protocol=2)
    pickle.loads(content)
    assert marker.exists(), "the payload must work, or the tests below show nothing"
    marker.unlink()
    return content


def plant(file: Path, key: bytes, content: bytes) -> None:
    table = pq.read_table(file)
    pq.write_table(table.replace_schema_metadata({**(table.schema.metadata or {}), key: content}), file)


@pytest.mark.parametrize("key", ["dataset-toolkit.unischema.v1", "dataset-toolkit.rowgroups_index.v1"])
def test_a_pickle_in_a_parquet_file_is_refused_by_name_and_not_run(small_datasets, tmp_path, key):
    marker = tmp_path / "marker"
    dataset = small_datasets.write()
    plant(Path(dataset.files()[1]), key.encode(), payload(marker))
    with pytest.raises(DatasetError, match=rf"part-00001\.parquet: key '{key}'") as refusal:
        open_feed(dataset, "melgram", {small_datasets.track_id(0): 0}, batch_size=2)
    assert "\n" not in str(refusal.value)
    assert not marker.exists()


@pytest.mark.parametrize("name", ["_common_metadata", "_metadata"])
def test_a_metadata_file_with_a_pickle_is_refused_by_name_and_not_run(small_datasets, tmp_path, name):
    marker = tmp_path / "marker"
    dataset = small_datasets.write()
    metadata_file = Path(dataset.files()[0]).parent / name
    shutil.copy(Path(dataset.files()[0]), metadata_file)
    plant(metadata_file, b"dataset-toolkit.unischema.v1", payload(marker))
    with pytest.raises(DatasetError, match=rf"features/{name}: "):
        open_feed(dataset, "melgram", {small_datasets.track_id(0): 0}, batch_size=2)
    assert not marker.exists()


def test_petastorm_itself_runs_no_pickle_even_where_nothing_was_refused_before(small_datasets, tmp_path):
    marker = tmp_path / "marker"
    dataset = small_datasets.write([[3]])
    file = Path(dataset.files()[0])
    content = payload(marker)
    plant(file, b"dataset-toolkit.unischema.v1", content)
    for name in ("_common_metadata", "_metadata"):
        shutil.copy(file, file.parent / name)
    reader = make_batch_reader([file.as_uri()], reader_pool_type="dummy", shuffle_row_groups=False)
    assert len(next(reader).track_id) == 3
    from petastorm.etl import dataset_metadata, legacy, rowgroup_indexing

    for module in (dataset_metadata, legacy, rowgroup_indexing):
        with pytest.raises(DatasetError):
            module.depickle_legacy_package_name_compatible(content)
    assert not marker.exists()


def test_a_file_that_is_no_parquet_is_named(tmp_path):
    file = tmp_path / "part-00000.parquet"
    file.write_bytes(b"PAR1 but not really")
    with pytest.raises(DatasetError, match=r"part-00000\.parquet: not a Parquet file"):
        refuse_pickles([file])


def test_ordinary_files_pass(small_datasets):
    refuse_pickles(small_datasets.write().files())


def test_the_import_leaves_pyarrow_and_numpy_as_they_were():
    program = """
import sys
import numpy, pandas, pyarrow, pyarrow.compute, pyarrow.dataset, pyarrow.fs, pyarrow.parquet as pq
watched = [name for name in sys.modules if name.split(".")[0] in ("pyarrow", "numpy")]
before = {name: dict(vars(sys.modules[name])) for name in watched}
import genre_spark.dataset.feed
for name, names in before.items():
    after = vars(sys.modules[name])
    added = {key for key in set(after) - set(names) if f"{name}.{key}" not in sys.modules and not key.startswith("__")}
    changed = {key for key in names if after.get(key) is not names[key]}
    assert not added and not changed, (name, added, changed)
assert "pyarrow.filesystem" not in sys.modules and "pyarrow.hdfs" not in sys.modules
assert not hasattr(numpy, "unicode_") and not hasattr(pyarrow, "localfs") and not hasattr(pq, "ParquetDatasetPiece")
assert pq.ParquetDataset.__module__ == "pyarrow.parquet.core"
assert "petastorm.reader" in sys.modules
assert "tensorflow" not in sys.modules and "pyspark" not in sys.modules
"""
    done = run_python(program)
    assert done.returncode == 0, done.stderr


def test_without_petastorm_the_error_says_what_to_install():
    done = run_python("import sys; sys.modules['petastorm'] = None; import genre_spark.dataset.feed")
    assert "EnvironmentSetupError: petastorm can't be imported" in done.stderr.splitlines()[-1]
    assert "pip install 'genre-spark[train]'" in done.stderr.splitlines()[-1]


def test_reading_prints_and_warns_nothing(small_datasets):
    dataset = small_datasets.write()
    program = f"""
from pathlib import Path
from genre_spark.dataset.feed import open_feed
from genre_spark.dataset.store import open_dataset
labels = {{{small_datasets.track_id(4)!r}: 1}}
for seed in (None, 0):
    with open_feed(open_dataset(Path({str(dataset.path)!r})), "melgram", labels, batch_size=2, seed=seed) as feed:
        assert sum(len(batch.y) for batch in feed.epoch(0)) == 1
"""
    done = run_python(program, "-W", "always")
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert "petastorm" not in done.stderr
    assert "Warning" not in done.stderr


def test_a_reader_for_several_epochs_is_refused(small_datasets):
    url = Path(small_datasets.write().files()[0]).as_uri()
    with pytest.raises(ValueError, match="one reader per epoch"):
        make_batch_reader([url], reader_pool_type="dummy", num_epochs=3)


def test_a_hundred_tiny_row_groups_are_read_in_their_order(small_datasets):
    # With petastorm's own thread this took 0.1 s for about every fourth row group.
    dataset = small_datasets.write([[1] * 100])
    reader = make_batch_reader([Path(dataset.files()[0]).as_uri()], reader_pool_type="dummy", shuffle_row_groups=False)
    assert [str(group.track_id[0]) for group in reader] == [small_datasets.track_id(n) for n in range(100)]


@pytest.mark.parametrize(
    "list_type", [pa.list_(pa.float32()), pa.list_(pa.field("item", pa.float32(), nullable=False))]
)
def test_lists_with_other_element_names_are_read_too(tmp_path, list_type):
    file = tmp_path / "part-0.parquet"
    pq.write_table(pa.table({"track_id": ["a"], "melgram": pa.array([[1.0, 2.0]], list_type)}), file)
    group = next(make_batch_reader([file.as_uri()], reader_pool_type="dummy", shuffle_row_groups=False))
    assert group.melgram.tolist() == [[1.0, 2.0]]
