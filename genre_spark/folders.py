"""A folder of files, read and written by the same code on a local disk, an object store or a cluster's file system.

A file appears under its name only when it is whole, also where it replaces another one. A folder is there while a file
lies below it: object stores know no empty folders, so those of a disk don't count either, and the empty objects that
some tools leave in their place are hidden, as are the names that a killed process leaves behind.
"""

import contextlib
import errno
import os
import posixpath
import shutil
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import pyarrow as pa
import pyarrow.fs as pafs

from genre_spark.atomic_writes import created_as_object, created_beside, created_on_disk, put, rename, sync
from genre_spark.errors import GenreSparkError
from genre_spark.files import printable
from genre_spark.filesystems import (
    is_remote,
    join_address,
    local_path,
    masked,
    open_address,
    reason_line,
    remote_address,
)
from genre_spark.listings import StoredFile as StoredFile
from genre_spark.listings import children, files_below, holds_file

_Item = TypeVar("_Item")

# They show an object when it is uploaded to its end, and know no rename. All others are written beside and renamed.
_OBJECT_STORES = frozenset({"s3", "gcs", "abfs"})
_PARALLEL = 16
_READS = 20


class Folder:
    """A folder at a path or an address; it need not exist.

    Names are relative to it, with `/` between their parts and nothing encoded. It pickles as its address, and is
    opened where it is used.

    Parameters
    ----------
    address : str or Path
        A path, `file://`, `s3://`, `gs://`, `abfs(s)://`, `hdfs://`, or whatever fsspec opens.
    error : type of GenreSparkError
        Raised by all methods, with the file and the reason on one line.

    Attributes
    ----------
    address : str
        The absolute path of a local folder, the percent-encoded address of another one.
    """

    def __init__(self, address: str | Path, error: type[GenreSparkError]) -> None:
        self.error = error
        if is_remote(address):
            self.address = remote_address(str(address), error)
        else:
            self.address = str(local_path(address, error).absolute())

    def __str__(self) -> str:
        return masked(self.address)

    def __repr__(self) -> str:
        return f"Folder({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Folder) and other.address == self.address

    def __hash__(self) -> int:
        return hash(self.address)

    @property
    def local(self) -> Path | None:
        """Path on this machine, or None."""
        return None if is_remote(self.address) else Path(self.address)

    @property
    def filesystem(self) -> pafs.FileSystem:
        """File system that the folder lies on."""
        return open_address(self.address, self.error)[0]

    def path(self, name: str = "") -> str:
        """Path of a file, or of the folder itself, on `filesystem`."""
        self._check(name)
        root = open_address(self.address, self.error)[1]
        return posixpath.join(root, name) if name else root

    def join(self, name: str = "") -> str:
        """Address of a file, as `address` is written."""
        self._check(name)
        if not name:
            return self.address
        return posixpath.join(self.address, name) if self.local else join_address(self.address, name)

    def uri(self, name: str = "") -> str:
        """URI of a file, with its scheme also where it is a local one."""
        return Path(self.join(name)).as_uri() if self.local else self.join(name)

    def exists(self) -> bool:
        """Tell whether a file lies in the folder or anywhere below it."""
        with self._reasons("", "read"):
            return holds_file(self.filesystem, self.path())

    def names(self) -> list[str]:
        """Names of the files and folders directly in it, sorted."""
        with self._reasons("", "read"):
            filesystem = self.filesystem
            found = children(filesystem, self.path())
            return sorted(name for name, is_folder in found if not is_folder or holds_file(filesystem, self.path(name)))

    def files(self, below: str = "") -> list[StoredFile]:
        """All files below a folder in it, sorted by their names; none where there is no such folder."""
        with self._reasons(below, "read"):
            found = files_below(self.filesystem, self.path(below))
            return sorted(file._replace(name=posixpath.join(below, file.name)) for file in found)

    def read(self, name: str) -> bytes:
        """Content of a file.

        Raises
        ------
        FileNotFoundError
            If there is none.
        """
        for _ in range(_READS):
            with self.opened(name) as file:
                before = file.metadata() if self._is_object_store else None
                content = file.read()
            if before is None:
                return content
            # pyarrow asks for the size first: of an object that is replaced then, it gives a mixture of both.
            with self.opened(name) as file:
                if file.metadata() == before:
                    return content
        raise self.error(f"{masked(self.join(name))}: can't be read: it is replaced all the time; try again later")

    @contextlib.contextmanager
    def opened(self, name: str) -> Iterator[pa.NativeFile]:
        """Open a file for reading.

        Raises
        ------
        FileNotFoundError
            If there is none.
        """
        try:
            file = self.filesystem.open_input_file(self.path(name))
        except FileNotFoundError:
            raise self._missing(name) from None
        except Exception as reason:
            raise self._named(reason, name, "read") from None
        with file:
            try:
                yield file
            except (OSError, pa.ArrowException) as reason:
                if "AWS Error NO_SUCH_KEY" in str(reason):  # deleted meanwhile
                    raise self._missing(name) from None
                raise self._named(reason, name, "read") from None

    def write(self, name: str, content: bytes) -> None:
        """Write a file, whole or not at all, and durable when this returns; another one of that name is replaced."""
        if self._is_object_store:
            with self._reasons(name, "written"):
                put(self.filesystem, self.path(name), content)
            return
        with self.created(name) as file:
            file.write(content)

    @contextlib.contextmanager
    def created(self, name: str) -> Iterator[pa.NativeFile]:
        """Open a file for writing; it appears, or replaces another one, when the body ends well.

        For an object store it is collected in an unnamed temporary file (`TMPDIR`), because an upload that has begun
        can't be taken back. What a killed process leaves: on a local disk and HDFS a hidden file beside, which no
        method here shows; on an object store nothing visible, at worst parts that the bucket's lifecycle rule for
        incomplete uploads removes. An OSError of the body counts as one of the file.
        """
        path = self.path(name)
        try:
            if self.local:
                writing = created_on_disk(Path(path), self.error)
            elif self._is_object_store:
                writing = created_as_object(self.filesystem, path)
            else:
                self._make(posixpath.dirname(name))
                writing = created_beside(self.filesystem, path)
            with writing as file:
                yield file
        except (OSError, UnicodeError) as reason:
            raise self._named(reason, name, "written") from None

    def move(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Rename files: (old, new); what has a new name already is replaced.

        A pair whose old name is gone and whose new name is there counts as done, so that a move that broke off in the
        middle can be made again. No name may stand in two pairs. Object stores copy and delete, up to 5 GB a file.
        """
        pairs = [(old, new) for old, new in pairs if old != new]
        parents = {posixpath.dirname(name) for pair in pairs for name in pair}
        if not self._is_object_store:
            for parent in {posixpath.dirname(new) for _, new in pairs}:
                self._make(parent)
        self._each(self._move, pairs)
        if self.local:
            for parent in parents:
                with contextlib.suppress(FileNotFoundError):
                    sync(self.local / parent)

    def delete(self, names: Iterable[str]) -> None:
        """Delete files; missing ones are fine."""
        self._each(self._delete, names)

    def delete_folder(self, name: str = "") -> None:
        """Delete a folder in it, or itself, with all that lies below; a missing one is fine."""
        path = self.path(name)
        with self._reasons(name, "deleted"), contextlib.suppress(FileNotFoundError):
            if self.local:
                shutil.rmtree(path)
            elif name:
                self.filesystem.delete_dir(path)
            else:  # which may be a whole bucket: that stays
                self.filesystem.delete_dir_contents(path, missing_dir_ok=True)

    @property
    def _is_object_store(self) -> bool:
        return self.local is None and self.filesystem.type_name in _OBJECT_STORES

    def _check(self, name: str) -> None:
        # Names are read from files too: none may lead out of the folder.
        if name and ({"", ".", ".."} & set(name.split("/")) or "\0" in name):
            raise self.error(f"{self}: {name!r} is no name of a file in this folder")

    @contextlib.contextmanager
    def _reasons(self, name: str, action: str) -> Iterator[None]:
        try:
            yield
        except Exception as reason:  # fsspec's file systems raise what their libraries raise
            raise self._named(reason, name, action) from None

    def _missing(self, name: str) -> FileNotFoundError:
        return FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), masked(self.join(name)))

    def _named(self, reason: Exception, name: str, action: str) -> GenreSparkError:
        """Error that names the file, and says why it can't be read, written, moved or deleted."""
        if isinstance(reason, GenreSparkError):
            return reason
        address = self.join(name)
        if self.local is None:
            return self.error(f"{masked(address)}: {reason_line(reason, address, action)}")
        number = reason.errno if isinstance(reason, OSError) else None
        text = os.strerror(number) if number else " ".join(str(reason).split())
        return self.error(f"{printable(address)}: can't be {action}: {text}")

    def _make(self, folder: str) -> None:
        with self._reasons(folder, "written"):
            self.filesystem.create_dir(self.path(folder), recursive=True)

    def _move(self, pair: tuple[str, str]) -> None:
        old, new = map(self.path, pair)
        filesystem = self.filesystem
        try:
            if self._is_object_store:
                filesystem.copy_file(old, new)
                with contextlib.suppress(FileNotFoundError):
                    filesystem.delete_file(old)
            else:
                rename(filesystem, old, new)
        except Exception as reason:
            try:
                kinds = [info.type for info in filesystem.get_file_info([old, new])]
            except Exception:
                kinds = []
            if kinds != [pafs.FileType.NotFound, pafs.FileType.File]:
                raise self._named(reason, pair[0], "moved") from None

    def _delete(self, name: str) -> None:
        with self._reasons(name, "deleted"), contextlib.suppress(FileNotFoundError, NotADirectoryError):
            self.filesystem.delete_file(self.path(name))

    def _each(self, work: Callable[[_Item], None], items: Iterable[_Item]) -> None:
        if self.local:
            for item in items:
                work(item)
            return
        with ThreadPoolExecutor(_PARALLEL) as pool:
            tasks = [pool.submit(work, item) for item in items]
            try:
                for task in tasks:
                    task.result()
            finally:
                pool.shutdown(cancel_futures=True)
