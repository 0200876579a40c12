"""petastorm 0.13.1 on today's pyarrow and NumPy, and without its pickles.

petastorm was written for pyarrow up to 14 and NumPy 1. What it misses is put into petastorm's own modules (their `pq`,
`np` and `pyarrow` names), never into pyarrow or NumPy as other libraries see them. Each patch names the lines of
petastorm 0.13.1 that need it.

petastorm also unpickles what it finds under its own keys in a dataset's metadata, which runs foreign code. Here it
never sees metadata, its unpickler refuses, and `refuse_pickles` rejects such files before they are read.
"""

import functools
import importlib
import os
import sys
import types
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import ParseResult, unquote_to_bytes

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from genre_spark.dataset.store import open_parquet
from genre_spark.errors import DatasetError, EnvironmentSetupError
from genre_spark.filesystems import masked
from genre_spark.folders import Folder

# etl/dataset_metadata.py:34-35 and etl/rowgroup_indexing.py:32: all of petastorm's keys begin so.
PICKLE_KEYS = b"dataset-toolkit."
# utils.py:98-99: the files petastorm keeps those keys in.
METADATA_FILES = ("_common_metadata", "_metadata")


class _ParquetDataset:
    """The part of pyarrow's former `ParquetDataset` that petastorm uses, over a list of files.

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
        self.pieces = [_ParquetDatasetPiece(path) for path in ([paths] if isinstance(paths, str) else paths)]


class _ParquetDatasetPiece:
    """A file or one of its row groups: etl/dataset_metadata.py:332-337, arrow_reader_worker.py:358, unischema.py:317.

    Gone since pyarrow 16.
    """

    partition_keys = ()

    def __init__(self, path: str, row_group: int | None = None, **_ignored: object) -> None:
        self.path = path
        self.row_group = row_group

    def get_metadata(self) -> pq.FileMetaData:
        with open_parquet(self.path) as file:
            return file.metadata

    def read(self, columns: Iterable[str], **_ignored: object) -> pa.Table:
        with open_parquet(self.path) as file:
            return file.read_row_group(self.row_group, columns=sorted(columns))


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


def _inline_ventilator(base: Any) -> type:
    class InlineVentilator(base):
        """Queues all row groups at the start, in the caller's thread.

        With the thread of workers_pool/ventilator.py:117, the "dummy" pool sleeps for 0.1 s whenever it is faster
        than that thread, and for ever when it asks between its last two steps (workers_pool/dummy_pool.py:63-68).
        """

        def __init__(self, ventilate: Any, items: list[Any], **options: Any) -> None:
            if options.get("iterations") != 1:
                raise ValueError(f"num_epochs={options.get('iterations')} must be 1: open one reader per epoch")
            # No bound on the queue: it holds numbers of row groups, and nobody takes from it before start() returns.
            super().__init__(ventilate, items, **{**options, "max_ventilation_queue_size": None})

        def start(self) -> None:
            self._ventilate()

    return InlineVentilator


def _copy_saving_worker(base: Any) -> type:
    class CopySavingWorker(base):
        """Leaves out the `take` of all rows in their own order (arrow_reader_worker.py:371): a fourth of the time."""

        def _read_with_shuffle_row_drop(self, piece: Any, file: Any, columns: set[str], drop: tuple[int, int]) -> Any:
            if self._shuffle_rows or drop != (0, 1):
                return super()._read_with_shuffle_row_drop(piece, file, columns, drop)
            return piece.read(columns)

    return CopySavingWorker


def _load() -> Any:
    names = "reader arrow_reader_worker unischema fs_utils etl.dataset_metadata etl.rowgroup_indexing etl.legacy"
    try:
        with _names_of_the_import():
            modules: list[Any] = [importlib.import_module(f"petastorm.{name}") for name in names.split()]
    except ImportError as error:
        raise EnvironmentSetupError(
            f"petastorm can't be imported ({error}); install it with `pip install 'genre-spark[train]'`"
        ) from None
    reader, worker, unischema, fs_utils, metadata, indexing, legacy = modules
    old_pq = SimpleNamespace(ParquetDataset=_ParquetDataset, ParquetDatasetPiece=_ParquetDatasetPiece)
    reader.pq = worker.pq = metadata.pq = old_pq
    worker.np = unischema.np = _OldNumPy("numpy")  # arrow_reader_worker.py:67, unischema.py:481-493
    worker.ParquetFile = _leave_closed  # arrow_reader_worker.py:172 opens the file, but pieces open their own
    # fs_utils.py:35 leaves %20 in the path of a file:// URL, and :38 wants a package of its own for each object store.
    fs_utils.get_dataset_path = _path_of
    for module in (metadata, indexing, legacy):  # etl/dataset_metadata.py:383, etl/rowgroup_indexing.py:157
        module.depickle_legacy_package_name_compatible = _refuse_to_unpickle
    legacy.restricted_loads = _refuse_to_unpickle  # etl/legacy.py:46: its "restricted" unpickler allows builtins

    reader.ConcurrentVentilator = _inline_ventilator(reader.ConcurrentVentilator)  # reader.py:677
    reader.ArrowReaderWorker = _copy_saving_worker(worker.ArrowReaderWorker)  # reader.py:336
    # With a file system given, fs_utils.py:214 looks for none: :88 asks for a name that pyarrow dropped.
    return functools.partial(reader.make_batch_reader, filesystem=SimpleNamespace(open=_leave_closed))


make_batch_reader = _load()


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
