"""How long an MP3 says it is, from its own frame headers.

libsndfile estimates the length of an MP3 without a Xing header from its first frame and stops there without an error,
and where another stream begins; so the decoder can't tell by itself that it gave too little. Header layout: ISO/IEC
11172-3 section 2.4.2.3 and 13818-3; the Xing/Info and VBRI headers are as LAME and Fraunhofer's encoder write them.
"""

import functools
from typing import BinaryIO, NamedTuple

# kbit/s by (MPEG-1 or not, layer), index 1 to 14; 0 is "free format", which nobody writes.
_KBITS = {
    (True, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_KBITS[False, 3] = _KBITS[False, 2]
_RATES = (44_100, 48_000, 32_000)

# Rubbish of at most that many bytes between the tag and the first frame is passed over.
_SEARCHED_BYTES = 65_536
# Between two streams the second one's tag may stand, with a picture in it.
_SEARCHED_BETWEEN = 1 << 20
# Nobody joins more; a file of mere gaps is given up.
_MOST_SPANS = 1_000


class _Frame(NamedTuple):
    length: int  # bytes
    samples: int
    rate: int
    is_mono: bool


class Span(NamedTuple):
    """A row of frames without a gap, of one rate and number of channels.

    Attributes
    ----------
    start, last, end : int
        Positions in the file, in bytes: of the first and the last frame, and behind it.
    seconds : float
        Length of all frames.
    rate : int
        In Hz.
    is_mono : bool
        One channel, not two.
    """

    start: int
    last: int
    end: int
    seconds: float
    rate: int
    is_mono: bool


def announced_duration(file: BinaryIO) -> float | None:
    """Length in seconds that a Xing, Info or VBRI header tells, with the encoder's padding; None without one."""
    position = _first_frame(file, _after_tag(file))
    if position is None:
        return None
    first = _frame_at(file, position)
    assert first is not None
    file.seek(position)
    frames = _announced_frames(file.read(first.length))
    return frames * first.samples / first.rate if frames else None


def mpeg_spans(file: BinaryIO, longest_s: float) -> list[Span]:
    """Find all frames of a file, whatever stands between them; stop where they last longer than `longest_s`."""
    spans: list[Span] = []
    start = _first_frame(file, _after_tag(file))
    while start is not None and len(spans) < _MOST_SPANS:
        first = _frame_at(file, start)
        assert first is not None
        position, last, samples, most_samples = start, start, 0, longest_s * first.rate
        while (frame := _frame_at(file, position)) and (frame.rate, frame.is_mono) == (first.rate, first.is_mono):
            position, last = position + frame.length, position
            samples += frame.samples
            if samples > most_samples:
                break
        longest_s -= samples / first.rate
        spans.append(Span(start, last, position, samples / first.rate, first.rate, first.is_mono))
        if longest_s < 0:
            break
        start = _next_frame(file, position)
    return spans


def longer_looking(stream: bytes, seconds: float) -> bytes:
    """Put an empty tag before a stream without a Xing header, so large that libsndfile reads the stream to its end.

    libsndfile divides the file's size by its first frame's bit rate and gives no more samples than that. A header with
    the number of frames would do too, but moves all samples by the decoder's delay.
    """
    first = _frame(stream[:4])
    assert first is not None
    size = min(int(seconds * first.rate / first.samples * first.length) + first.length, 2**28 - 1)
    return b"ID3\x04\0\0" + bytes(size >> shift & 0x7F for shift in (21, 14, 7, 0)) + bytes(size) + stream


def _after_tag(file: BinaryIO, position: int = 0) -> int:
    """Position after the ID3v2 tags that begin there."""
    while True:
        file.seek(position)
        tag = file.read(10)
        if len(tag) < 10 or tag[:3] != b"ID3":
            return position
        # Seven bits a byte; a footer is another ten bytes.
        size = sum((byte & 0x7F) << shift for byte, shift in zip(tag[6:], (21, 14, 7, 0), strict=True))
        position += 10 + size + (10 if tag[5] & 0x10 else 0)


def _next_frame(file: BinaryIO, position: int) -> int | None:
    """First frame behind what ends at `position`."""
    after_tag = _after_tag(file, position)
    for start in range(after_tag, after_tag + _SEARCHED_BETWEEN, _SEARCHED_BYTES):
        found = _first_frame(file, start)
        if found is not None:
            return found
    return None


def _first_frame(file: BinaryIO, start: int) -> int | None:
    file.seek(start)
    # A header may lie across the end.
    searched = file.read(_SEARCHED_BYTES + 3)
    offset = searched.find(b"\xff")
    while offset >= 0:
        frame = _frame(searched[offset : offset + 4])
        # Eleven set bits come up in anything: only a second frame right behind makes it one.
        if frame and _frame_at(file, start + offset + frame.length):
            return start + offset
        offset = searched.find(b"\xff", offset + 1)
    return None


def _frame_at(file: BinaryIO, position: int) -> _Frame | None:
    file.seek(position)
    return _frame(file.read(4))


# The headers of one file are few: they differ in the bit rate, the padding and the kind of joint stereo.
@functools.lru_cache(maxsize=1_024)
def _frame(header: bytes) -> _Frame | None:
    if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE0 != 0xE0:
        return None
    version, layer = header[1] >> 3 & 3, 4 - (header[1] >> 1 & 3)
    kbits_index, rate_index, padding = header[2] >> 4, header[2] >> 2 & 3, header[2] >> 1 & 1
    if version == 1 or layer == 4 or kbits_index in (0, 15) or rate_index == 3:
        return None
    mpeg1 = version == 3
    rate = _RATES[rate_index] >> (0 if mpeg1 else 1 if version == 2 else 2)
    bits = 1_000 * _KBITS[mpeg1, layer][kbits_index - 1]
    is_mono = header[3] >> 6 == 3
    if layer == 1:
        return _Frame((12 * bits // rate + padding) * 4, 384, rate, is_mono)
    samples = 576 if layer == 3 and not mpeg1 else 1_152
    return _Frame(samples // 8 * bits // rate + padding, samples, rate, is_mono)


def _announced_frames(frame: bytes) -> int | None:
    """Number of frames that a Xing, Info or VBRI header in the first frame tells."""
    for name in (b"Xing", b"Info"):
        # Behind the side information, whose size depends on version, channels and checksum.
        at = frame.find(name, 4, 48)
        if at >= 0 and len(frame) >= at + 12:
            flags = int.from_bytes(frame[at + 4 : at + 8], "big")
            return int.from_bytes(frame[at + 8 : at + 12], "big") if flags & 1 else 0
    if frame[36:40] == b"VBRI" and len(frame) >= 54:
        return int.from_bytes(frame[50:54], "big")
    return None
