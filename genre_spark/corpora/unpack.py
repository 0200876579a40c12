"""Unpacking an archive of clips: each file appears under its name only when it is complete and its CRC-32 is right.

ROOT/fma_small/000/000002.mp3     a member
ROOT/fma_small/.unpacked.json     what was unpacked, from which archive; written last
"""

import json
import os
import stat
import threading
import zipfile
import zlib
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from genre_spark.corpora.fma_archives import Archive
from genre_spark.corpora.zip_members import list_members, read_member
from genre_spark.errors import DownloadError
from genre_spark.files import complete_file, is_leftover

RECORD = ".unpacked.json"

_BLOCK = 1 << 20
# bzip2 unpacks some 15 MB/s on one core and lets go of the interpreter meanwhile; more threads only wait for the disk.
_MAX_WORKERS = 4

# Called with the bytes done and the bytes in all.
OnBytes = Callable[[int, int], None]


def unpack(
    file: Path,
    root: Path,
    archive: Archive,
    *,
    only: Collection[str] | None = None,
    workers: int | None = None,
    on_bytes: OnBytes | None = None,
) -> None:
    """Unpack an archive into its folder under `root`, or complete what an earlier run left.

    A file that is there and right, by its size and CRC-32, is kept; one that is not is replaced. The archive's folder
    may be a link to another place; a link below it is refused.

    Parameters
    ----------
    file : Path
        The zip. All its members are checked before one is written.
    root : Path
        The members go to `root / archive.name`.
    archive : Archive
        What the zip is supposed to hold.
    only : collection of str, optional
        Names below the folder: unpack just these, the others are known to be right. All by default.
    workers : int, optional
        Number of threads; up to four of the usable cores by default.
    on_bytes : callable, optional
        Called with the bytes done and in all; by several threads, but by one at a time.

    Raises
    ------
    DownloadError
        If the zip is damaged or holds what it shouldn't, something is in the way, or a file can't be written.
    """
    members = list_members(file, archive)
    folder = root / archive.name
    wanted = {name: info for name, info in members.items() if only is None or name in only}
    _prepare(folder, wanted)
    tally = _Tally(sum(info.file_size for info in wanted.values()), on_bytes)
    pool = ThreadPoolExecutor(workers or min(_MAX_WORKERS, os.cpu_count() or 1))
    try:
        for done in as_completed([pool.submit(_place, file, folder / name, wanted[name], tally) for name in wanted]):
            done.result()
    finally:
        # Also on Ctrl-C: the threads tidy up behind themselves, then this one goes on.
        tally.stopped = True
        pool.shutdown(cancel_futures=True)
    write_record(root, archive, {name: info.file_size for name, info in members.items()})


def write_record(root: Path, archive: Archive, sizes: Mapping[str, int]) -> None:
    """Note that all of an archive stands in its folder: sizes in bytes by name."""
    record = {"archive": archive.zip_name, "sha1": archive.sha1, "sizes": dict(sorted(sizes.items()))}
    with complete_file(root / archive.name / RECORD, DownloadError) as partial:
        partial.write_text(json.dumps(record) + "\n", encoding="utf-8")


def missing_members(root: Path, archive: Archive) -> dict[str, int] | None:
    """Sizes in bytes of what is missing or of another size than was unpacked, by name; None where nothing is known.

    Raises
    ------
    DownloadError
        If a folder can't be listed.
    """
    folder = root / archive.name
    sizes = _recorded_sizes(folder / RECORD, archive)
    if sizes is None:
        return None
    # Listing 156 folders takes a moment; asking for 100,000 files one by one takes minutes on a network disk.
    there: dict[str, int] = {}
    for below in sorted({name.rpartition("/")[0] for name in sizes}):
        there |= {f"{below}/{name}" if below else name: size for name, size in _sizes(folder, below).items()}
    return {name: size for name, size in sizes.items() if there.get(name) != size}


def bytes_to_unpack(root: Path, archive: Archive, members: Mapping[str, zipfile.ZipInfo]) -> int:
    """Total size of the members that are not there in their size."""
    folder = root / archive.name
    there = {below: _sizes(folder, below) for below in {name.rpartition("/")[0] for name in members}}
    return sum(
        info.file_size
        for name, info in members.items()
        if there[name.rpartition("/")[0]].get(name.rpartition("/")[2]) != info.file_size
    )


def sizes_there(root: Path, archive: Archive) -> dict[str, int]:
    """Sizes in bytes of the files in an archive's folder that belong there by their names, whoever put them there."""
    folder = root / archive.name
    if not folder.is_dir():
        return {}
    try:
        with os.scandir(folder) as entries:
            below = sorted(entry.name for entry in entries if entry.name.isdecimal() and entry.is_dir())
    except OSError as error:
        raise DownloadError(f"{folder}: can't be listed: {error.strerror or error}") from None
    sizes = _sizes(folder, "") | {
        f"{name}/{clip}": size for name in below for clip, size in _sizes(folder, name).items()
    }
    return {name: size for name, size in sizes.items() if archive.expects(name)}


class _Tally:
    """Bytes done by all threads, and whether to go on."""

    def __init__(self, total: int, on_bytes: OnBytes | None) -> None:
        self.stopped = False
        self._total = total
        self._on_bytes = on_bytes
        self._done = 0
        self._lock = threading.Lock()

    def add(self, count: int) -> None:
        if self.stopped:
            raise DownloadError("unpacking was stopped; run again to complete it")
        with self._lock:
            self._done += count
            if self._on_bytes is not None:
                self._on_bytes(self._done, self._total)


def _prepare(folder: Path, names: Collection[str]) -> None:
    """Make the folders, see that they are real ones, and remove what a killed run left in them."""
    below = sorted({folder / name.rpartition("/")[0] for name in names if "/" in name})
    try:
        for path in [folder, *below]:
            if path is not folder and path.is_symlink():
                raise DownloadError(f"{path}: is a link; only {folder} itself may be one, remove it")
            if path.exists() and not path.is_dir():
                raise DownloadError(f"{path}: a file stands where a folder should be; move it away")
            path.mkdir(parents=True, exist_ok=True)
            with os.scandir(path) as entries:
                for entry in entries:
                    if is_leftover(entry.name) and entry.is_file(follow_symlinks=False):
                        Path(entry).unlink()
    except OSError as error:
        raise DownloadError(f"{error.filename or folder}: can't be written: {error.strerror or error}") from None


def _place(file: Path, path: Path, info: zipfile.ZipInfo, tally: _Tally) -> None:
    """Let a member stand at `path`."""
    if _is_right(path, info):
        tally.add(info.file_size)
        return
    try:
        source = file.open("rb")
    except OSError as error:
        raise DownloadError(f"{file}: can't be read: {error.strerror or error}") from None
    with source, complete_file(path, DownloadError) as partial, partial.open("xb") as target:
        for block in read_member(source, info):
            target.write(block)
            tally.add(len(block))


def _is_right(path: Path, info: zipfile.ZipInfo) -> bool:
    try:
        status = path.lstat()
        if not stat.S_ISREG(status.st_mode):
            raise DownloadError(f"{path}: a folder, a link or a device stands where a clip should be; move it away")
        if status.st_size != info.file_size:
            return False
        checksum = 0
        with path.open("rb") as content:
            while block := content.read(_BLOCK):
                checksum = zlib.crc32(block, checksum)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise DownloadError(f"{path}: can't be read: {error.strerror or error}") from None
    return checksum == info.CRC


def _sizes(folder: Path, below: str) -> dict[str, int]:
    """Sizes of the plain files in one folder; none where it isn't one or is a link."""
    path = folder / below
    if below and path.is_symlink():
        return {}
    try:
        with os.scandir(path) as entries:
            return {
                entry.name: entry.stat(follow_symlinks=False).st_size
                for entry in entries
                if entry.is_file(follow_symlinks=False)
            }
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise DownloadError(f"{path}: can't be listed: {error.strerror or error}") from None


def _recorded_sizes(record: Path, archive: Archive) -> dict[str, int] | None:
    """What the record says was unpacked; None where there is none of this very archive."""
    try:
        content: Any = json.loads(record.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    sizes = content.get("sizes") if isinstance(content, dict) and content.get("sha1") == archive.sha1 else None
    if not isinstance(sizes, dict) or not sizes:
        return None
    # The record may have been altered, and its names become paths.
    sound = all(archive.expects(name) and type(size) is int for name, size in sizes.items())
    return sizes if sound else None
