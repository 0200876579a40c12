"""A file from a form, written to a private folder while it arrives, and cut off where it is too large or too slow."""

import asyncio
import contextlib
import logging
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from genre_spark.serving.refusals import NoFile, NoForm, UploadNotStored, UploadTooLarge, UploadTooSlow

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

FIELD = "file"
# What a form adds to its file: boundaries, headers, other fields.
_MOST_AROUND = 64_000
# Each part costs the parser far more than its few bytes.
_MOST_PARTS = 32
_LONGEST_NAME = 120

logger = logging.getLogger(__name__)


class Upload(NamedTuple):
    """A file that has arrived: where it lies, and what its sender calls it."""

    path: Path
    name: str


@contextlib.asynccontextmanager
async def received_file(request: Request, folder: Path, *, max_mb: int, max_s: float) -> AsyncIterator[Upload]:
    """Take the file of a form; it is gone when the body ends, however it ends.

    Parameters
    ----------
    request : Request
        `multipart/form-data` with one file in the field `file`.
    folder : Path
        Where it is written, under a random name.
    max_mb : int
        Largest file, in MB (10**6 bytes). Beyond it nothing is read any more, whatever `Content-Length` says.
    max_s : float
        Longest time that it may take to arrive, in seconds.

    Raises
    ------
    NoForm, NoFile, UploadTooLarge, UploadTooSlow, UploadNotStored
    ClientDisconnect
        If the sender went away.
    """
    content_type, options = parse_options_header(request.headers.get("content-type"))
    if content_type != b"multipart/form-data" or not options.get(b"boundary"):
        raise NoForm(f"send the file as a form does: multipart/form-data, field {FIELD!r}")
    most = max_mb * 1_000_000
    announced = request.headers.get("content-length", "0")
    too_large = UploadTooLarge(f"the file has more than serve.max_upload_mb={max_mb}; take a shorter part of it")
    if announced.isdecimal() and int(announced) > most + _MOST_AROUND:
        raise too_large
    path = folder / secrets.token_hex(16)
    try:
        try:
            with path.open("xb") as file:
                form = _Form(options[b"boundary"], file)
                try:
                    async with asyncio.timeout(max_s):
                        async for chunk in request.stream():
                            form.feed(chunk)
                            if form.n_file > most:
                                raise too_large
                except TimeoutError:
                    raise UploadTooSlow(
                        f"the file didn't arrive within serve.max_upload_s={max_s:g}; try again"
                    ) from None
        except OSError as error:
            logger.warning("an upload can't be stored (TMPDIR says where): %s", error)
            raise UploadNotStored("the server can't store the file now; try again later, or a smaller one") from None
        yield Upload(path, form.finished_name())
    finally:
        path.unlink(missing_ok=True)


# What browsers write in place of these in a file's name, and nothing else
# (https://html.spec.whatwg.org/multipage/form-control-infrastructure.html#multipart-form-data).
_ESCAPED_BY_BROWSERS = {b"%22": b'"', b"%0D": b"\r", b"%0A": b"\n"}


def shown_name(sent: bytes) -> str:
    """Turn what a sender calls its file into a name that can be shown: no folders, nothing that isn't printable."""
    for written, meant in _ESCAPED_BY_BROWSERS.items():
        sent = sent.replace(written, meant)
    last = sent.decode("utf-8", "replace").replace("\\", "/").rpartition("/")[2]
    name = " ".join("".join(char if char.isprintable() else " " for char in last).split())
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"


class _Form:
    """Parses a form as it comes and writes its one file."""

    def __init__(self, boundary: bytes, file: BinaryIO) -> None:
        self.n_file = self._n_bytes = self._n_parts = 0
        self._file = file
        self._name: bytes | None = None
        self._is_done = False
        self._in_file = False
        self._header: list[bytearray] = [bytearray(), bytearray()]
        self._headers: dict[bytes, bytes] = {}
        callbacks: MultipartCallbacks = {
            "on_part_begin": self._part_begin,
            "on_header_field": self._header_field,
            "on_header_value": self._header_value,
            "on_header_end": self._header_end,
            "on_headers_finished": self._headers_finished,
            "on_part_data": self._part_data,
            "on_end": self._end,
        }
        try:
            self._parser = MultipartParser(boundary, callbacks)
        except FormParserError as error:
            raise NoForm(f"the form can't be read: {error}") from None

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes."""
        self._n_bytes += len(chunk)
        try:
            self._parser.write(chunk)
        except FormParserError as error:
            raise NoFile(f"the form can't be read: {error}") from None
        if self._n_bytes - self.n_file > _MOST_AROUND:
            raise NoFile(f"the form has more than {_MOST_AROUND:,} bytes beside its file; send the file alone")

    def finished_name(self) -> str:
        """Return the file's name, once all has come."""
        if not self._is_done:
            raise NoFile("the form ends in the middle; send it again")
        if self._name is None or (not self._name and not self.n_file):
            raise NoFile("no file was chosen")
        return shown_name(self._name) or "unnamed"

    def _part_begin(self) -> None:
        self._headers, self._in_file = {}, False
        self._n_parts += 1
        if self._n_parts > _MOST_PARTS:
            raise NoFile(f"the form has more than {_MOST_PARTS} parts; send the file alone")

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._header[0] += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._header[1] += data[start:end]

    def _header_end(self) -> None:
        field, value = self._header
        self._headers[bytes(field).lower()] = bytes(value)
        self._header = [bytearray(), bytearray()]

    def _headers_finished(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition"))
        if options.get(b"name") != FIELD.encode() or b"filename" not in options:
            return
        if self._name is not None:
            raise NoFile("the form holds several files; send one at a time")
        self._in_file, self._name = True, options[b"filename"]

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        if self._in_file:
            self.n_file += end - start
            self._file.write(data[start:end])

    def _end(self) -> None:
        self._is_done = True
