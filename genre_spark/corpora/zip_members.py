"""Reading a zip that nobody vouches for: every member is checked before one is unpacked, and counted while it is."""

import bz2
import io
import itertools
import re
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from genre_spark.corpora.fma_archives import Archive
from genre_spark.errors import DownloadError

_BLOCK = 1 << 18
_ENCRYPTED = 0x1 | 0x40 | 0x2000
_LOCAL_HEADER = struct.Struct("<4s22xHH")
# LZMA lets a member ask for gigabytes of memory, and FMA doesn't use it.
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2)
# An entry of FMA's directories takes about 100 bytes; zipfile reads all of them at once.
_MAX_ENTRY_BYTES = 256
_MAX_COMMENT_BYTES = 1 << 16


def list_members(file: Path, archive: Archive) -> dict[str, zipfile.ZipInfo]:
    """Members of a zip by their names below the archive's folder, once all of them are fit to be unpacked.

    Parameters
    ----------
    file : Path
        The zip.
    archive : Archive
        What it is supposed to hold. Members that it leaves out, and folders, are checked but not listed.

    Raises
    ------
    DownloadError
        If the file is no complete zip, or holds anything but plain files under expected names within the limits, each
        in a place of its own.
    """
    limit = archive.max_members * _MAX_ENTRY_BYTES + 2 * _MAX_COMMENT_BYTES
    try:
        with _Bounded(file, limit) as raw, zipfile.ZipFile(raw) as opened:
            infos = opened.infolist()
    except OSError as error:
        raise DownloadError(f"{file}: can't be read: {error.strerror or error}") from None
    except (zipfile.BadZipFile, NotImplementedError, ValueError, struct.error, EOFError, OverflowError) as error:
        raise DownloadError(f"{file}: not a complete zip: {error}; delete it and fetch it again") from None
    if len(infos) > archive.max_members:
        raise DownloadError(f"{file}: has {len(infos)} members, but {archive.max_members} is the limit; don't trust it")
    declared = sum(info.file_size for info in infos)
    if declared > archive.max_unpacked_bytes:
        raise DownloadError(
            f"{file}: would unpack to {declared} bytes, but {archive.max_unpacked_bytes} is the limit; don't trust it"
        )
    members: dict[str, zipfile.ZipInfo] = {}
    seen: set[str] = set()
    for info in infos:
        complaint = _complaint(info, archive)
        # Two names that differ only in case are one file on many disks.
        key = info.filename.rstrip("/").casefold()
        if complaint is None and key in seen:
            complaint = "stands twice, perhaps in another case"
        if complaint is not None:
            raise DownloadError(f"{file}: member {info.orig_filename[:200]!r} {complaint}; don't trust this file")
        seen.add(key)
        name = info.filename.removeprefix(f"{archive.name}/")
        if not info.is_dir() and name not in archive.left_out:
            members[name] = info
    for one, other in itertools.pairwise(sorted(infos, key=lambda info: info.header_offset)):
        # A small zip can be a large bomb where many members share the same bytes (Fifield, WOOT 2019).
        if one.header_offset + _LOCAL_HEADER.size + one.compress_size > other.header_offset:
            raise DownloadError(
                f"{file}: members {one.filename!r} and {other.filename!r} overlap; don't trust this file"
            )
    if not members:
        raise DownloadError(f"{file}: holds nothing of {archive.name}; delete it and fetch it again")
    return members


class _Bounded(io.FileIO):
    """A file that gives no more in one piece than a directory of a zip may have."""

    def __init__(self, file: Path, limit: int) -> None:
        super().__init__(file)
        self._limit = limit

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > self._limit:
            raise zipfile.BadZipFile(f"its directory has {size} bytes, but {self._limit} is the limit")
        return super().read(size) or b""


def _complaint(info: zipfile.ZipInfo, archive: Archive) -> str | None:
    """Say what is wrong with a member, or nothing."""
    # zipfile cuts names at a NUL; what else it changes depends on the system.
    name = info.orig_filename
    is_folder = name.endswith("/")
    kind = stat.S_IFMT(info.external_attr >> 16)
    if name.startswith("/") or re.match(r"[A-Za-z]:", name):
        return "has an absolute path"
    if "\\" in name or "\0" in name or name != info.filename:
        return "has a backslash or NUL in its name"
    if ".." in name.split("/"):
        return "leads out of its folder"
    if kind not in (0, stat.S_IFDIR if is_folder else stat.S_IFREG):
        return "is a link, a device or something else that is no plain file"
    if info.flag_bits & _ENCRYPTED:
        return "is encrypted"
    if info.compress_type not in _METHODS:
        return f"is compressed by method {info.compress_type}, which is not supported"
    folder, _, below = name.partition("/")
    if is_folder:
        expected = re.fullmatch(r"([0-9]{3}/)?", below) is not None and info.file_size == 0
    else:
        expected = archive.expects(below) or below in archive.left_out
    return None if folder == archive.name and expected else f"is none of {archive.name}'s"


def read_member(file: BinaryIO, info: zipfile.ZipInfo) -> Iterator[bytes]:
    """Content of a member in blocks, never more of it in memory than one.

    zipfile itself takes a bzip2 member's output in one piece, which for four kilobytes can be four gigabytes.

    Parameters
    ----------
    file : binary file
        The zip, opened for reading.
    info : zipfile.ZipInfo
        The member, from `list_members`.

    Raises
    ------
    DownloadError
        If the content is damaged, or is not what the zip's directory says. What came before is then worth nothing.
    """
    size = checksum = 0
    try:
        for block in _decompressed(_compressed(file, info), info.compress_type):
            size += len(block)
            if size > info.file_size:
                raise DownloadError(_damaged(file, info, f"is longer than the {info.file_size} bytes it declares"))
            checksum = zlib.crc32(block, checksum)
            yield block
    except (zlib.error, OSError, EOFError, ValueError) as error:
        raise DownloadError(_damaged(file, info, f"can't be read: {error}")) from None
    if size != info.file_size:
        raise DownloadError(_damaged(file, info, f"has {size} bytes, not the {info.file_size} it declares"))
    if checksum != info.CRC:
        raise DownloadError(_damaged(file, info, f"has CRC-32 {checksum:08x}, not {info.CRC:08x}"))


def _damaged(file: BinaryIO, info: zipfile.ZipInfo, what: str) -> str:
    return f"{file.name}: member {info.filename!r} {what}; delete this file and fetch it again"


def _compressed(file: BinaryIO, info: zipfile.ZipInfo) -> Iterator[bytes]:
    file.seek(info.header_offset)
    header = file.read(_LOCAL_HEADER.size)
    if len(header) < _LOCAL_HEADER.size or not header.startswith(b"PK\x03\x04"):
        raise EOFError("no header where it should be")
    _, name_length, extra_length = _LOCAL_HEADER.unpack(header)
    file.seek(name_length + extra_length, 1)
    left = info.compress_size
    while left > 0:
        block = file.read(min(left, _BLOCK))
        if not block:
            raise EOFError("the file ends inside it")
        left -= len(block)
        yield block


def _decompressed(blocks: Iterator[bytes], method: int) -> Iterator[bytes]:
    if method == zipfile.ZIP_STORED:
        yield from blocks
        return
    ended = False
    unused = b""
    if method == zipfile.ZIP_DEFLATED:
        inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        for block in blocks:
            data = block
            while data and not inflater.eof:
                yield inflater.decompress(data, _BLOCK)
                data = inflater.unconsumed_tail
            if inflater.eof:
                break
        # All input may be taken while the last of the output still waits.
        while not inflater.eof and (rest := inflater.decompress(b"", _BLOCK)):
            yield rest
        ended, unused = inflater.eof, inflater.unused_data
    else:
        unpacker = bz2.BZ2Decompressor()
        for block in blocks:
            yield unpacker.decompress(block, _BLOCK)
            while not (unpacker.eof or unpacker.needs_input):
                yield unpacker.decompress(b"", _BLOCK)
            if unpacker.eof:
                break
        ended, unused = unpacker.eof, unpacker.unused_data
    if not ended:
        raise EOFError("its compressed data end early")
    if unused or next(blocks, b""):
        raise EOFError("its compressed data go on after their end")
