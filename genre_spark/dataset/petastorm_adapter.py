"""petastorm 0.13.1 on today's pyarrow and NumPy, and without its pickles.

petastorm was written for pyarrow up to 14 and NumPy 1. What it misses is put into petastorm's own modules (their `pq`,
`np` and `pyarrow` names), never into pyarrow or NumPy as other libraries see them. Each patch names the lines of
petastorm 0.13.1 that need it. Readers work in the caller's thread ("dummy") or in threads; their order follows from the
seed and the epoch alone.

petastorm also unpickles what it finds under its own keys in a dataset's metadata, which runs foreign code. Here it
never sees metadata, its unpickler refuses, and `refuse_pickles` rejects such files before they are read.
"""

import builtins
import functools
import importlib
import importlib.util
import inspect
import os
import sys
import types
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import ParseResult, unquote_to_bytes

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from genre_spark.dataset.feed_pages import Room, read_row_group
from genre_spark.dataset.feed_pool import STOP_CHECK_S, ordered_thread_pool, ordered_ventilator
from genre_spark.dataset.feed_worker import arrays_of, steady_worker
from genre_spark.dataset.table_files import open_parquet
from genre_spark.errors import DatasetError, EnvironmentSetupError, FeedError
from genre_spark.filesystems import is_remote, masked
from genre_spark.folders import Folder

# etl/dataset_metadata.py:34-35 and etl/rowgroup_indexing.py:32: all of petastorm's keys begin so.
PICKLE_KEYS = b"dataset-toolkit."
# utils.py:98-99: the files petastorm keeps those keys in.
METADATA_FILES = ("_common_metadata", "_metadata")


class _ParquetDataset:
    """The part of pyarrow's former `ParquetDataset` that petastorm uses, over a list of files, one file or a folder.

    reader.py:431, etl/dataset_metadata.py:402, arrow_reader_worker.py:164 (pyarrow 15 dropped the signature, 16 the
    attributes). `metadata` and `common_metadata` are always None, so there is nothing that petastorm could unpickle.
    """

    metadata = None
    common_metadata = None
    partitions = None

    def __init__(self, paths: str | Sequence[str], filesystem: Any, filters: object = None, **_ignored: object) -> None:
        if filters is not None:
            raise ValueError(f"filters={filters!r} can't be used with this version of pyarrow")
        self.paths = paths
        self.fs = filesystem
        self.pieces = [_ParquetDatasetPiece(path) for path in (_files_at(paths) if isinstance(paths, str) else paths)]


class _ParquetDatasetPiece:
    """A file or one of its row groups: etl/dataset_metadata.py:332-337, arrow_reader_worker.py:358, unischema.py:317.

    Gone since pyarrow 16.
    """

    partition_keys = ()

    def __init__(self, path: str, row_group: int | None = None, room: Room | None = None, **_ignored: object) -> None:
        self.path = path
        self.row_group: Any = row_group
        self._room = room

    def get_metadata(self) -> pq.FileMetaData:
        with open_parquet(self.path) as file:
            return file.metadata

    def read(self, columns: Iterable[str], **_ignored: object) -> pa.Table:
        return read_row_group(self.path, self.row_group, columns, self._room)


def _files_at(path: str) -> list[str]:
    """Parquet files of a folder, or the file itself. Names with `_` or `.` before them are of jobs at work."""
    if path.endswith(".parquet") and (is_remote(path) or not Path(path).is_dir()):
        return [path]
    folder = Folder(path, DatasetError)
    names = [file.name for file in folder.files() if file.name.endswith(".parquet") and file.name[0] not in "_."]
    if not names or any("/" in name for name in names):
        what = "holds files in folders of their own" if names else "holds no Parquet file"
        raise DatasetError(f"{folder}: {what}; name the folder of a dataset's files, or the files")
    return [folder.join(name) for name in names]


def _row_groups_of(dataset: _ParquetDataset) -> list[_ParquetDatasetPiece]:
    """All row groups, but for those that `make_batch_reader` was told to skip."""
    row_groups = []
    for piece in dataset.pieces:
        count = piece.get_metadata().num_row_groups
        known, skipped = dataset.fs.skip.get(piece.path, (count, ()))
        # A file that has changed is read whole: what was known of its row groups holds no more.
        wanted = (number for number in range(count) if known != count or number not in skipped)
        row_groups += [_ParquetDatasetPiece(piece.path, number, dataset.fs.room) for number in wanted]
    return row_groups


def _leave_closed(path: str) -> str:
    return path


def _path_of(url: ParseResult) -> str:
    """Path of a file on this machine; elsewhere the whole address, which pieces open."""
    return os.fsdecode(unquote_to_bytes(url.path)) if url.scheme == "file" else url.geturl()


def _refuse_to_unpickle(_content: bytes) -> None:
    raise DatasetError("petastorm tried to unpickle metadata; nothing was run. Extract the dataset again")


class _OldNumPy(types.ModuleType):
    """NumPy with two names that NumPy 2 dropped."""

    unicode_ = np.str_
    string_ = np.bytes_

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)


@contextmanager
def _names_of_the_import() -> Iterator[None]:
    """Modules that pyarrow 16 dropped and that petastorm imports names from without using them here."""
    stand_ins = {"pyarrow.filesystem": "LocalFileSystem", "pyarrow.hdfs": "HadoopFileSystem"}
    added = [module for module in stand_ins if module not in sys.modules]
    for module in added:
        sys.modules[module] = types.ModuleType(module)
        # utils.py:23, hdfs/namenode.py:24
        setattr(sys.modules[module], stand_ins[module], type(stand_ins[module], (), {}))
    try:
        # distutils (hdfs/namenode.py:19) and others warn at import; a user of this package can do nothing about it.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for module in added:
            del sys.modules[module]


def _say_nothing(*_text: object) -> None:
    pass


def _load() -> Callable[..., Any]:
    names = "reader arrow_reader_worker unischema fs_utils etl.dataset_metadata etl.rowgroup_indexing etl.legacy"
    names += " workers_pool workers_pool.thread_pool"
    try:
        with _names_of_the_import():
            modules: list[Any] = [importlib.import_module(f"petastorm.{name}") for name in names.split()]
    except ImportError as error:
        raise EnvironmentSetupError(
            f"petastorm can't be imported ({error}); install it with `pip install 'genre-spark[train]'`"
        ) from None
    reader, worker, unischema, fs_utils, metadata, indexing, legacy, pools, threads = modules
    old_pq = SimpleNamespace(ParquetDataset=_ParquetDataset, ParquetDatasetPiece=_ParquetDatasetPiece)
    reader.pq = worker.pq = metadata.pq = old_pq
    worker.np = unischema.np = _OldNumPy("numpy")  # arrow_reader_worker.py:67, unischema.py:481-493
    worker.ParquetFile = _leave_closed  # arrow_reader_worker.py:172 opens the file, but pieces open their own
    # fs_utils.py:35 leaves %20 in the path of a file:// URL, and :38 wants a package of its own for each object store.
    fs_utils.get_dataset_path = _path_of
    for module in (metadata, indexing, legacy):  # etl/dataset_metadata.py:383, etl/rowgroup_indexing.py:157
        module.depickle_legacy_package_name_compatible = _refuse_to_unpickle
    legacy.restricted_loads = _refuse_to_unpickle  # etl/legacy.py:46: its "restricted" unpickler allows builtins

    metadata.load_row_groups = _row_groups_of  # reader.py:462
    reader.ConcurrentVentilator = functools.partial(
        ordered_ventilator(reader.ConcurrentVentilator), tell_order=True
    )  # reader.py:677
    reader.ThreadPool = ordered_thread_pool(
        reader.ThreadPool, pools.EmptyResultError, pools.VentilatedItemProcessedMessage
    )  # reader.py:325
    threads.IO_TIMEOUT_INTERVAL_S = STOP_CHECK_S  # thread_pool.py:56 and :251
    # thread_pool.py:74 writes a traceback to the standard error, and raises the error too; reader.py:695 prints a note.
    threads.sys = SimpleNamespace(stderr=SimpleNamespace(write=_say_nothing))
    reader.print = _say_nothing
    reader.ArrowReaderWorker = steady_worker(worker.ArrowReaderWorker)  # reader.py:336
    worker.convert_arrow_table_to_numpy_dict = functools.partial(arrays_of, worker.convert_arrow_table_to_numpy_dict)
    return reader.make_batch_reader


_petastorms_own = _load()


def make_batch_reader(
    dataset_url_or_urls: str | Sequence[str],
    *arguments: Any,
    skip: Mapping[str, tuple[int, Sequence[int]]] | None = None,
    room: Room | None = None,
    **options: Any,
) -> Any:
    """Open Parquet files with petastorm's `make_batch_reader`.

    Parameters
    ----------
    dataset_url_or_urls : str or sequence of str
        Files, or one folder of them, by URL.
    skip : mapping of str to (int, sequence of int), optional
        By path, the number of a file's row groups and those that nobody wants; where a file has another number of them,
        all are read.
    *arguments, **options
        As petastorm takes them. The same seed gives the same order with any number of workers, 0 is a seed too, and
        every epoch has an order of its own.

    Raises
    ------
    FeedError
        If an option is one with which petastorm runs foreign code or gives rows labels of other rows.
    """
    given = inspect.signature(_petastorms_own).bind(dataset_url_or_urls, *arguments, **options).arguments
    if given.get("reader_pool_type") == "process":
        raise FeedError("reader_pool_type='process': is slower than threads, in no order; use 'thread' or 'dummy'")
    if given.get("cache_type") not in (None, "null"):
        raise FeedError(f"cache_type={given['cache_type']!r}: unpickles what lies in its folder; leave it out")
    if given.get("predicate") is not None and given.get("shuffle_rows"):
        raise FeedError("predicate: rows may get labels of other rows with shuffle_rows=True; leave out one of them")
    # With a file system given, fs_utils.py:214 looks for none: :88 asks for a name that pyarrow dropped.
    given["filesystem"] = SimpleNamespace(open=_leave_closed, skip=dict(skip or {}), room=room)
    return _petastorms_own(**given)


def make_petastorm_dataset(reader: Any) -> Any:
    """Turn a reader into a `tf.data.Dataset` with petastorm's adapter, for one pass over it.

    Raises
    ------
    EnvironmentSetupError
        If TensorFlow is missing.
    """
    return _tf_utils().make_petastorm_dataset(reader)


@functools.cache
def _tf_utils() -> Any:
    """Return petastorm's `tf_utils`, imported with the names that NumPy 2 dropped (tf_utils.py:37-38)."""
    try:
        importlib.import_module("tensorflow.compat.v1")
    except ImportError as error:
        raise EnvironmentSetupError(
            f"TensorFlow can't be imported ({error}); install it with `pip install 'genre-spark[train]'`"
        ) from None
    old_numpy = _OldNumPy("numpy")

    def import_module(name: str, *arguments: Any, **options: Any) -> Any:
        return old_numpy if name == "numpy" else builtins.__import__(name, *arguments, **options)

    spec: Any = importlib.util.find_spec("petastorm.tf_utils")
    module = importlib.util.module_from_spec(spec)
    # Imports of this module alone go through it, now and later.
    vars(module)["__builtins__"] = vars(builtins) | {"__import__": import_module}
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def refuse_pickles(files: Iterable[str | Path]) -> None:
    """Make sure that no file carries metadata that petastorm would unpickle.

    Parameters
    ----------
    files : iterable of str or Path
        Parquet files, by path or address; their folders are looked at too.

    Raises
    ------
    DatasetError
        If a folder holds a `_common_metadata` or `_metadata` file, a Parquet file has a key of petastorm's, or it
        can't be read; the message names file and key.
    """
    names = [str(file) for file in files]
    for parent in sorted({name.rpartition("/")[0] for name in names}):
        folder = Folder(parent or ".", DatasetError)
        for name in METADATA_FILES:
            if name in folder.names():
                raise DatasetError(f"{masked(folder.join(name))}: may hold pickled code and is never read; remove it")
    for file in names:
        try:
            with open_parquet(file) as parquet:
                keys = {*(parquet.metadata.metadata or ()), *(parquet.schema_arrow.metadata or ())}
        except (pa.ArrowException, OSError) as error:
            raise DatasetError(f"{masked(file)}: not a Parquet file: {' '.join(str(error).split())}") from None
        for key in sorted(keys):
            if key.startswith(PICKLE_KEYS):
                raise DatasetError(
                    f"{masked(file)}: key {key.decode(errors='replace')!r} may hold pickled code and is never read; "
                    "write the file again without it"
                )
