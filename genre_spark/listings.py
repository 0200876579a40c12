"""What lies in a folder, on a disk of this machine or a store; names that a killed process left are hidden."""

import contextlib
import os
import posixpath
from collections.abc import Iterator
from typing import NamedTuple

import pyarrow.fs as pafs

from genre_spark.files import is_leftover


class StoredFile(NamedTuple):
    """A file below a folder: its name relative to it (nothing encoded), bytes, and seconds since 1970 if known."""

    name: str
    size: int
    mtime: float | None


def children(filesystem: pafs.FileSystem, path: str) -> list[tuple[str, bool]]:
    """Name of each file and folder directly in a folder, and whether it is a folder; none where that is missing."""
    try:
        if isinstance(filesystem, pafs.LocalFileSystem):
            with os.scandir(path) as entries:  # pyarrow knows only names that are UTF-8
                found = [(entry.name, entry.is_dir()) for entry in entries]
        else:
            infos = filesystem.get_file_info(pafs.FileSelector(path, allow_not_found=True))
            found = [(info.base_name, info.type == pafs.FileType.Directory) for info in infos]
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [(name, is_folder) for name, is_folder in found if not is_leftover(name)]


def holds_file(filesystem: pafs.FileSystem, path: str) -> bool:
    """Tell whether a file lies in a folder or anywhere below it."""
    found = children(filesystem, path)
    # Folder by folder: a listing of all that lies below may take minutes, and often the first one has a file.
    return any(not is_folder for _, is_folder in found) or any(
        holds_file(filesystem, posixpath.join(path, name)) for name, _ in found
    )


def files_below(filesystem: pafs.FileSystem, path: str) -> Iterator[StoredFile]:
    """All files below a folder, in any order, with names relative to it; none where it is missing."""
    if isinstance(filesystem, pafs.LocalFileSystem):
        yield from _files_on_disk(path)
        return
    start = len(path.strip("/")) + 1
    for info in filesystem.get_file_info(pafs.FileSelector(path, recursive=True, allow_not_found=True)):
        name = info.path.lstrip("/")[start:]
        if info.type == pafs.FileType.File and not any(is_leftover(part) for part in name.split("/")):
            yield StoredFile(name, info.size, None if info.mtime_ns is None else info.mtime_ns / 1e9)


def _files_on_disk(root: str) -> Iterator[StoredFile]:
    def unlisted(reason: OSError) -> None:
        if not isinstance(reason, FileNotFoundError | NotADirectoryError):
            raise reason

    for parent, folders, names in os.walk(root, onerror=unlisted, followlinks=True):
        folders[:] = [folder for folder in folders if not is_leftover(folder)]
        for name in names:
            file = os.path.join(parent, name)  # noqa: PTH118 (a Path per file takes longer than the listing)
            with contextlib.suppress(FileNotFoundError):  # deleted meanwhile
                if not is_leftover(name):
                    status = os.stat(file)  # noqa: PTH116
                    yield StoredFile(os.path.relpath(file, root), status.st_size, status.st_mtime)
