"""What tells an audio file from another version of itself, without a look at its sound."""

import stat
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pyarrow.fs as pafs
import xxhash

from genre_spark.errors import AudioError, GenreSparkError
from genre_spark.filesystems import is_remote, local_path, open_address, open_file

# A look at a file is a wait for a disk or a network: many at once.
_THREADS = 16
_FILES_PER_LOOK = 512
_BYTES_PER_READ = 1 << 20


def sizes_and_times(uris: Sequence[str]) -> tuple[pa.Array, pa.Array]:
    """Look up size and time of last change of audio files.

    Parameters
    ----------
    uris : sequence of str
        Paths or addresses.

    Returns
    -------
    pa.Int64Array, pa.DoubleArray
        Bytes, and seconds since 1970 by the clock of the file system; both null where there is no such file, or it
        can't be reached: whoever reads it says why.
    """
    pieces = [uris[begin : begin + _FILES_PER_LOOK] for begin in range(0, len(uris), _FILES_PER_LOOK)]
    with ThreadPoolExecutor(_THREADS) as pool:
        found = [each for piece in pool.map(_looked_up, pieces) for each in piece]
    return pa.array([size for size, _ in found], pa.int64()), pa.array([time for _, time in found], pa.float64())


def _looked_up(uris: Sequence[str]) -> list[tuple[int | None, float | None]]:
    found = [(None, None) if is_remote(uri) else _on_disk(uri) for uri in uris]
    numbers = [number for number, uri in enumerate(uris) if is_remote(uri)]
    for number, info in zip(numbers, _infos([uris[number] for number in numbers]), strict=True):
        if info is not None and info.type == pafs.FileType.File:
            found[number] = info.size, None if info.mtime_ns is None else info.mtime_ns / 1e9
    return found


def _on_disk(uri: str) -> tuple[int | None, float | None]:
    try:
        # Not by pyarrow, which knows only names that are UTF-8.
        status = local_path(uri, AudioError).stat()
    except (GenreSparkError, OSError, ValueError):
        return None, None
    return (status.st_size, status.st_mtime_ns / 1e9) if stat.S_ISREG(status.st_mode) else (None, None)


def _infos(uris: Sequence[str]) -> Iterable[pafs.FileInfo | None]:
    """Ask each file system once for all of its files."""
    infos: list[pafs.FileInfo | None] = [None] * len(uris)
    asked: dict[int, tuple[pafs.FileSystem, list[int], list[str]]] = {}
    for number, uri in enumerate(uris):
        try:
            filesystem, path = open_address(uri, AudioError)
        except GenreSparkError:
            continue
        _, numbers, paths = asked.setdefault(id(filesystem), (filesystem, [], []))
        numbers.append(number)
        paths.append(path)
    for filesystem, numbers, paths in asked.values():
        for number, info in zip(numbers, _of_filesystem(filesystem, paths), strict=True):
            infos[number] = info
    return infos


def _of_filesystem(filesystem: pafs.FileSystem, paths: list[str]) -> Sequence[pafs.FileInfo | None]:
    try:
        found: list[pafs.FileInfo] = filesystem.get_file_info(paths)
        return found
    except (OSError, UnicodeError, pa.ArrowException):
        if len(paths) == 1:
            return [None]
        # One that is refused must not hide the others.
        return [info for path in paths for info in _of_filesystem(filesystem, [path])]


def content_hash(uri: str) -> str:
    """XXH3-128 of a file's bytes, 32 hexadecimal digits.

    Raises
    ------
    AudioError
        If it can't be read.
    """
    digest = xxhash.xxh3_128()
    with open_file(uri, AudioError) as file:
        read: Callable[[int], bytes] = file.read
        while piece := read(_BYTES_PER_READ):
            digest.update(piece)
    return digest.hexdigest()
