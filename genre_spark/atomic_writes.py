"""Ways of writing a file that appears under its name only when it is whole, by the kind of file system.

They raise what the file systems raise; `genre_spark.folders` names the file and says it on one line.
"""

import contextlib
import errno
import mmap
import os
import posixpath
import tempfile
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.fs as pafs

from genre_spark.errors import GenreSparkError
from genre_spark.files import complete_file


@contextlib.contextmanager
def created_on_disk(path: Path, error: type[GenreSparkError]) -> Iterator[pa.NativeFile]:
    """Write beside, wait for the disk, and rename."""
    with complete_file(path, error) as partial:
        try:
            with pa.OSFile(str(partial), "wb") as file:
                yield file
            sync(partial)
        except OSError as reason:  # pyarrow's own text has the number twice
            raise (OSError(reason.errno, os.strerror(reason.errno)) if reason.errno else reason) from None
    sync(path.parent)


@contextlib.contextmanager
def created_as_object(filesystem: pafs.FileSystem, path: str) -> Iterator[pa.NativeFile]:
    """Collect in an unnamed temporary file, which a killed process leaves no trace of, and upload that."""
    with tempfile.TemporaryFile() as spool:
        try:
            with os.fdopen(os.dup(spool.fileno()), "wb") as sink:
                yield pa.PythonFile(sink, "w")
        except OSError as reason:
            if reason.errno == errno.ENOSPC:
                raise OSError(f"no space left in {tempfile.gettempdir()}; set TMPDIR") from None
            raise
        size = os.fstat(spool.fileno()).st_size
        put(filesystem, path, mmap.mmap(spool.fileno(), size, access=mmap.ACCESS_READ) if size else b"")


@contextlib.contextmanager
def created_beside(filesystem: pafs.FileSystem, path: str) -> Iterator[pa.NativeFile]:
    """Write beside and rename, on a cluster's file system or through fsspec; the folder must be there."""
    head, tail = posixpath.split(path)
    partial = posixpath.join(head, f".{tail}.{uuid.uuid4().hex[:8]}.partial")
    try:
        with filesystem.open_output_stream(partial) as file:
            yield file
        rename(filesystem, partial, path)
    finally:
        with contextlib.suppress(Exception):
            filesystem.delete_file(partial)


def put(filesystem: pafs.FileSystem, path: str, content: bytes | mmap.mmap) -> None:
    """Write an object at once; Ctrl-C waits for its end."""

    def upload() -> None:
        with filesystem.open_output_stream(path) as stream:
            stream.write(content)

    # Closing a stream early makes a short object of it, and pyarrow has no other way to leave one. Signals are raised
    # in the main thread only, so in a thread of its own nothing can come between.
    with ThreadPoolExecutor(1) as pool:
        pool.submit(upload).result()


def rename(filesystem: pafs.FileSystem, old: str, new: str) -> None:
    """Rename a file, and replace another one; only a local disk does that without a gap."""
    if isinstance(filesystem, pafs.LocalFileSystem):
        filesystem.move(old, new)
        return
    before, there = filesystem.get_file_info([old, new])
    if there.type == pafs.FileType.File and before.type == pafs.FileType.File:
        filesystem.delete_file(new)  # HDFS renames only to a free name
    filesystem.move(old, new)
    if filesystem.get_file_info(new).type != pafs.FileType.File:
        raise OSError("the store did not rename it; fsspec takes * ? [ in names for patterns")


def sync(path: Path) -> None:
    """Wait until a file's content, or the names in a folder, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as reason:
        if reason.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems can't sync a folder
            raise
    finally:
        os.close(handle)
