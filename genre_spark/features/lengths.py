"""How long a file that is no MP3 says it is, from the headers of its container.

libsndfile takes what lies in the file for all there is, where the file was cut off; and it reads the first of several
streams that were joined. Layouts: RIFF (Microsoft, 1991), RF64 (EBU Tech 3306), AIFF (Apple, 1989), AU (Sun), Wave64
(Sony), Ogg (RFC 3533), FLAC (RFC 9639).
"""

import math
import re
from typing import BinaryIO

# What programs write that can't go back to a header, for a pipe or when they are stopped; each may be less by a head or
# by what makes no whole frame. All other sizes are meant, also those of two gigabytes and more.
_PLACEHOLDERS = (
    range(0x7EFF_F000, 0x7F00_0009),  # SoX, AIFF: 0x7F000000, and the 8 bytes before the samples
    range(0x7FFF_E000, 0x8000_0001),  # SoX, RIFF: 0x7FFFF000; arecord: 0x7FFFFF00, 0x80000000; LAME: 0x7FFFFFFF
    range(0xFFFF_0000, 0x1_0000_0000),  # FFmpeg, and what the format of AU says: 0xFFFFFFFF
)
_PLACEHOLDER_64 = 1 << 62

_READ_AHEAD_BYTES = 65_536
# Less than that behind the place where the decoder stopped is no stream.
_REST_BYTES = 4_096
_MOST_CHUNKS = 1_000

# Flags of a page of Ogg.
_FIRST, _LAST = 2, 4


def announced_duration(file: BinaryIO, size: int, container: str, stopped_at: int, decoded_s: float) -> float:
    """Length in seconds that the headers tell.

    Parameters
    ----------
    file : binary file
        Open for reading, seekable.
    size : int
        Of the file, in bytes.
    container : str
        libsndfile's name of the format.
    stopped_at : int
        Position up to which the decoder read, in bytes.
    decoded_s : float
        Length of what came out.

    Returns
    -------
    float
        Infinite when the end is missing and nobody knows how much of it; 0 when nothing is told.
    """
    claim = None
    if container == "OGG":
        return 0.0 if _has_all_pages(file) else math.inf
    if container == "FLAC":
        return math.inf if _has_another_flac(file, size, stopped_at) else 0.0
    if container in ("WAV", "WAVEX", "RF64", "AIFF"):
        claim = _chunk(file, size)
    elif container == "W64":
        claim = _wave64_chunk(file, size)
    elif container == "AU":
        claim = _au_data(file)
    begin, claimed = claim or (0, 0)
    available = size - begin
    # Codecs of these containers have a constant bit rate.
    return decoded_s * claimed / available if claimed > available > 0 else 0.0


def _chunk(file: BinaryIO, size: int) -> tuple[int, int] | None:
    """Begin and claimed size of the samples in a file of chunks."""
    file.seek(0)
    order = "little" if file.read(4) in (b"RIFF", b"RF64") else "big"
    long_size: int | None = None
    position = 12
    for _ in range(_MOST_CHUNKS):
        if position >= size:
            break
        file.seek(position)
        head = file.read(8)
        if len(head) < 8:
            return None
        claimed = int.from_bytes(head[4:], order)  # type: ignore[arg-type]
        if head[:4] == b"ds64":
            long_size = int.from_bytes(file.read(16)[8:], "little")
        elif head[:4] in (b"data", b"SSND"):
            if long_size is not None and claimed == 0xFFFF_FFFF:
                return (position + 8, long_size) if long_size < _PLACEHOLDER_64 else None
            return None if _is_placeholder(claimed) else (position + 8, claimed)
        position += 8 + claimed + claimed % 2
    return None


def _wave64_chunk(file: BinaryIO, size: int) -> tuple[int, int] | None:
    position = 40
    for _ in range(_MOST_CHUNKS):
        if position >= size:
            break
        file.seek(position)
        head = file.read(24)
        # A chunk's size counts its own head.
        claimed = int.from_bytes(head[16:], "little") - 24
        if len(head) < 24 or claimed < 0:  # or the walk would not move on
            return None
        if head[:4] == b"data":
            return (position + 24, claimed) if claimed < _PLACEHOLDER_64 else None
        position += -(-(claimed + 24) // 8) * 8
    return None


def _au_data(file: BinaryIO) -> tuple[int, int] | None:
    file.seek(0)
    head = file.read(12)
    order = "big" if head[:4] == b".snd" else "little"
    begin, claimed = (int.from_bytes(head[at : at + 4], order) for at in (4, 8))  # type: ignore[arg-type]
    return None if _is_placeholder(claimed) else (begin, claimed)


def _is_placeholder(claimed: int) -> bool:
    return any(claimed in sizes for sizes in _PLACEHOLDERS)


def _has_all_pages(file: BinaryIO) -> bool:
    """Tell whether an Ogg file is one stream, from its first page to the one that says it is the last."""
    position = number = 0
    serial = b""
    flags = _FIRST
    while not flags & _LAST:
        file.seek(position)
        # A page's head is 27 bytes and a length for each of at most 255 segments.
        head = file.read(27 + 255)
        if head[:5] != b"OggS\0" or len(head) < 27:
            return False
        serial = serial or head[14:18]
        if head[14:18] == serial:
            flags = head[5]
            if int.from_bytes(head[18:22], "little") != number or (number > 0 and flags & _FIRST):
                return False
            number += 1
        position += 27 + head[26] + sum(head[27 : 27 + head[26]])
    file.seek(position)
    return file.read(5) != b"OggS\0"


def _has_another_flac(file: BinaryIO, size: int, stopped_at: int) -> bool:
    """Tell whether another stream begins near `stopped_at` or behind it; decoders read ahead."""
    if size - stopped_at <= _REST_BYTES:
        return False
    file.seek(max(1, stopped_at - _READ_AHEAD_BYTES))
    return re.search(rb"fLaC[\x00\x80]\0\0\x22", file.read()) is not None
