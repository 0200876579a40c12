import itertools
import pickle
import shutil
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genre_spark.dataset.feed import open_feed
from genre_spark.dataset.petastorm_adapter import make_batch_reader, make_petastorm_dataset, refuse_pickles
from genre_spark.errors import DatasetError, FeedError


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


POOLS = [("dummy", 1), ("thread", 1), ("thread", 2), ("thread", 3), ("thread", 7)]


def numbers_of(reader) -> list[int]:
    """Numbers of the tracks as their tensors say them."""
    with reader:
        groups = list(reader)
    for group in groups:
        np.testing.assert_array_equal([int(track_id[6:10]) for track_id in group.track_id], group.melgram[:, 0])
    return [int(x) for group in groups for x in group.melgram[:, 0]]


@contextmanager
def load():
    """Two busy processes, and here a thread that takes the interpreter's lock whenever it can, in short turns."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2)]
    interval, is_over = sys.getswitchinterval(), threading.Event()
    thread = threading.Thread(target=lambda: [None for _ in iter(is_over.is_set, True)])
    sys.setswitchinterval(1e-4)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()
        sys.setswitchinterval(interval)
        for other in others:
            other.kill()
            other.wait()


@pytest.mark.slow
def test_under_load_nothing_is_lost_or_doubled_and_the_order_follows_from_the_seed_whatever_the_threads(small_datasets):
    @settings(max_examples=8)
    @given(
        layout=st.lists(st.lists(st.integers(1, 3), min_size=1, max_size=6), min_size=1, max_size=4),
        seed=st.integers(0, 3),
        epochs=st.integers(1, 3),
        shuffle_row_groups=st.booleans(),
        shuffle_rows=st.booleans(),
        parts=st.integers(1, 3),
    )
    def check(layout, seed, epochs, shuffle_row_groups, shuffle_rows, parts):
        dataset, count = small_datasets.write(layout), sum(map(sum, layout))
        options = {"seed": seed, "num_epochs": epochs, "shuffle_row_drop_partitions": parts}
        options |= {"shuffle_row_groups": shuffle_row_groups, "shuffle_rows": shuffle_rows}
        urls = [Path(file).as_uri() for file in dataset.files()]
        orders = [
            numbers_of(make_batch_reader(urls, reader_pool_type=pool, workers_count=workers, **options))
            for pool, workers in (POOLS[0], POOLS[2], POOLS[4])
        ]
        assert all(order == orders[0] for order in orders)
        for epoch in range(epochs):
            of_epoch = orders[0][epoch * count : (epoch + 1) * count]
            assert sorted(of_epoch) == [*range(count)]
            if not shuffle_row_groups and not shuffle_rows and parts == 1:
                assert of_epoch == [*range(count)]

    with load():
        check()


@pytest.mark.parametrize(("pool", "workers"), POOLS)
def test_every_epoch_and_every_seed_has_an_order_of_its_own(small_datasets, pool, workers):
    urls = [Path(file).as_uri() for file in small_datasets.write([[1] * 20] * 2).files()]
    orders = set()
    for seed in (0, 1, 2):
        order = numbers_of(
            make_batch_reader(urls, reader_pool_type=pool, workers_count=workers, seed=seed, num_epochs=3)
        )
        orders |= {tuple(order[epoch * 40 : (epoch + 1) * 40]) for epoch in range(3)}
    assert len(orders) == 9


def test_without_a_seed_every_reader_has_another_order(small_datasets):
    urls = [Path(file).as_uri() for file in small_datasets.write([[4] * 20]).files()]
    orders = {tuple(numbers_of(make_batch_reader(urls, workers_count=2, shuffle_rows=rows))) for rows in (True, False)}
    orders |= {tuple(numbers_of(make_batch_reader(urls, workers_count=2)))}
    assert len(orders) == 3


@pytest.mark.parametrize(("pool", "workers"), POOLS)
def test_a_reader_without_end_goes_on_in_bounded_memory_and_stops(small_datasets, pool, workers):
    before = set(threading.enumerate())
    url = Path(small_datasets.write([[1] * 5]).files()[0]).as_uri()
    reader = make_batch_reader([url], reader_pool_type=pool, workers_count=workers, num_epochs=None, seed=1)
    rows = [int(next(reader).melgram[0, 0]) for _ in range(50)]
    assert sorted(rows) == sorted([*range(5)] * 10)
    reader.stop()
    reader.join()
    assert set(threading.enumerate()) <= before


@pytest.mark.parametrize(("pool", "workers"), POOLS)
@pytest.mark.parametrize("seed", [None, 0, 5])
def test_shards_cover_everything_once(small_datasets, pool, workers, seed):
    urls = [Path(file).as_uri() for file in small_datasets.write().files()]
    shards = [
        numbers_of(
            make_batch_reader(
                urls, reader_pool_type=pool, workers_count=workers, seed=seed, cur_shard=shard, shard_count=3
            )
        )
        for shard in range(3)
    ]
    assert all(shards)
    assert sorted(itertools.chain(*shards)) == [*range(19)]


@pytest.mark.parametrize(("pool", "workers"), POOLS)
def test_rows_that_a_predicate_leaves_keep_their_own_tensors(small_datasets, pool, workers):
    from petastorm.predicates import in_lambda

    urls = [Path(file).as_uri() for file in small_datasets.write().files()]
    wanted = {small_datasets.track_id(n) for n in (0, 3, 4, 9, 18)}

    def left(**options):
        return make_batch_reader(
            urls,
            reader_pool_type=pool,
            workers_count=workers,
            schema_fields=["track_id", "melgram"],
            predicate=in_lambda(["track_id"], lambda ids: ids.isin(wanted)),
            **options,
        )

    assert numbers_of(left(shuffle_row_groups=False)) == [0, 3, 4, 9, 18]
    assert sorted(numbers_of(left(seed=3))) == [0, 3, 4, 9, 18]
    with pytest.raises(FeedError, match="predicate: rows may get labels of other rows with shuffle_rows=True"):
        left(shuffle_rows=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"reader_pool_type": "process"}, "reader_pool_type='process'"), ({"cache_type": "local-disk"}, "unpickles")],
)
def test_pools_and_caches_that_pickle_are_refused(small_datasets, options, message):
    url = Path(small_datasets.write().files()[0]).as_uri()
    with pytest.raises(FeedError, match=message):
        make_batch_reader([url], **options)


def test_row_groups_to_skip_are_not_read_unless_the_file_has_changed(small_datasets):
    first, second = (Path(file) for file in small_datasets.write([[2, 3, 1], [4, 2]]).files())
    skip = {str(first): (3, [1]), str(second): (3, [0])}
    reader = make_batch_reader([first.as_uri(), second.as_uri()], shuffle_row_groups=False, skip=skip)
    assert numbers_of(reader) == [0, 1, 5, *range(6, 12)]


def test_a_folder_is_read_without_what_jobs_leave_in_it(small_datasets):
    folder = Path(small_datasets.write().files()[0]).parent
    for name in ("_job.parquet", ".hidden.parquet", "manifest.json"):
        (folder / name).write_text("no Parquet")
    assert sorted(numbers_of(make_batch_reader(folder.as_uri()))) == [*range(19)]
    (folder / "genre=Rock").mkdir()
    (folder / "genre=Rock" / "part.parquet").write_bytes(b"")
    with pytest.raises(DatasetError, match="holds files in folders of their own"):
        make_batch_reader(folder.as_uri())
    with pytest.raises(DatasetError, match="nowhere: holds no Parquet file"):
        make_batch_reader((folder / "nowhere").as_uri())


@settings(max_examples=12)
@given(workers=st.integers(1, 5), taken=st.integers(0, 8), damaged=st.none() | st.integers(0, 29))
def test_a_reader_that_is_left_early_ends_its_threads_also_beside_a_damaged_row_group(
    small_datasets, workers, taken, damaged
):
    before = set(threading.enumerate())
    file = Path(small_datasets.write([[1] * 30]).files()[0])
    if damaged is not None:
        column = pq.read_metadata(file).row_group(damaged).column(0)
        content = bytearray(file.read_bytes())
        start = column.dictionary_page_offset or column.data_page_offset
        content[start : start + 8] = b"\xff" * 8
        file.write_bytes(content)
    reader = make_batch_reader([file.as_uri()], workers_count=workers, shuffle_row_groups=False)
    try:
        for number in range(taken):
            assert int(next(reader).melgram[0, 0]) == number
    except OSError:
        assert number == damaged
        with pytest.raises(RuntimeError, match="stopped"):
            next(reader)
    finally:
        reader.stop()
        reader.join()
    assert set(threading.enumerate()) <= before


def test_a_program_that_forgets_its_readers_ends_and_says_nothing(small_datasets):
    urls = [Path(file).as_uri() for file in small_datasets.write([[1] * 200]).files()]
    program = f"""
from genre_spark.dataset.petastorm_adapter import make_batch_reader
readers = [make_batch_reader({urls!r}, workers_count=3, num_epochs=None) for _ in range(3)]
rows = [next(reader) for reader in readers]
def rest():
    yield from readers[0]
suspended = rest()
next(suspended)
"""
    done = run_python(program)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_keras_back_end_tensorflow_reads_with_petastorms_own_adapter(small_datasets):
    pytest.importorskip("tensorflow")
    urls = [Path(file).as_uri() for file in small_datasets.write().files()]
    options = {"schema_fields": ["track_id", "melgram"], "shuffle_row_groups": False}
    for pool, workers in POOLS[:3]:
        with make_batch_reader(urls, reader_pool_type=pool, workers_count=workers, num_epochs=2, **options) as reader:
            rows = list(make_petastorm_dataset(reader).unbatch().as_numpy_iterator())
        assert [int(row.melgram[0]) for row in rows] == [*range(19)] * 2
        assert [row.track_id.decode() for row in rows] == [small_datasets.track_id(n) for n in range(19)] * 2
        assert rows[0].melgram.dtype == np.float32
    assert not hasattr(np, "unicode_")
    assert sys.modules["numpy"] is np


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
