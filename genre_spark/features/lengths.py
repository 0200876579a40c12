"""How long a file that is no MP3 says it is, from the headers of its container.

libsndfile takes what lies in the file for all there is, where the file was cut off; and it reads the first of several
streams that were joined. Layouts: RIFF (Microsoft, 1991), RF64 (EBU Tech 3306), AIFF (Apple, 1989), AU (Sun), Wave64
(Sony), Ogg (RFC 3533), FLAC (RFC 9639).
"""

import math
import re
from typing import BinaryIO

# What programs write that can't go back to a header: all ones, and the largest signed number rounded down a little.
_PLACEHOLDER = 0x7FFF_0000
_PLACEHOLDER_64 = 1 << 62

# A page of Ogg, or what a decoder reads in advance.
_PAGE_BYTES = 65_536
# Less than that behind the place where the decoder stopped is no stream.
_REST_BYTES = 4_096
_MOST_CHUNKS = 1_000

_OGG_HEAD = re.compile(rb"OggS\0[\2\6]")  # the first page of a stream
_FLAC_HEAD = re.compile(rb"fLaC[\x00\x80]\0\0\x22")


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
        return math.inf if _ogg_lacks_its_end(file, size) or _has_rest(_OGG_HEAD, file, size, stopped_at) else 0.0
    if container == "FLAC":
        return math.inf if _has_rest(_FLAC_HEAD, file, size, stopped_at) else 0.0
    if container in ("WAV", "WAVEX", "RF64", "AIFF"):
        claim = _chunk(file)
    elif container == "W64":
        claim = _wave64_chunk(file)
    elif container == "AU":
        claim = _au_data(file)
    begin, claimed = claim or (0, 0)
    available = size - begin
    # Codecs of these containers have a constant bit rate.
    return decoded_s * claimed / available if claimed > available > 0 else 0.0


def _chunk(file: BinaryIO) -> tuple[int, int] | None:
    """Begin and claimed size of the samples in a file of chunks."""
    file.seek(0)
    order = "little" if file.read(4) in (b"RIFF", b"RF64") else "big"
    long_size: int | None = None
    position = 12
    for _ in range(_MOST_CHUNKS):
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
            return (position + 8, claimed) if claimed < _PLACEHOLDER else None
        position += 8 + claimed + claimed % 2
    return None


def _wave64_chunk(file: BinaryIO) -> tuple[int, int] | None:
    position = 40
    for _ in range(_MOST_CHUNKS):
        file.seek(position)
        head = file.read(24)
        # A chunk's size counts its own head.
        claimed = int.from_bytes(head[16:], "little") - 24
        if len(head) < 24 or claimed < 0:
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
    return (begin, claimed) if claimed < _PLACEHOLDER else None


def _ogg_lacks_its_end(file: BinaryIO, size: int) -> bool:
    """Tell whether the last page doesn't say that it is the last."""
    file.seek(max(0, size - 2 * _PAGE_BYTES))
    ending = file.read()
    last = ending.rfind(b"OggS\0")
    return 0 <= last < len(ending) - 5 and not ending[last + 5] & 4


def _has_rest(head: re.Pattern[bytes], file: BinaryIO, size: int, stopped_at: int) -> bool:
    """Tell whether another stream begins near `stopped_at` or behind it; decoders read ahead."""
    if size - stopped_at <= _REST_BYTES:
        return False
    file.seek(max(1, stopped_at - _PAGE_BYTES))
    return head.search(file.read()) is not None
