"""A small Free Music Archive on a real web server on loopback, which can be told to misbehave."""

import hashlib
import http.server
import io
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from email.utils import formatdate
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest

from genre_spark.corpora.fma_archives import ARCHIVES, Archive

MODIFIED = formatdate(1_491_004_800, usegmt=True)


@dataclass
class Answer:
    """How one request is answered; by default honestly."""

    status: int | None = None
    ranges: bool = True
    cut: int | None = None  # the connection ends after so many bytes of the body ...
    hold: threading.Event | None = None  # ... once this has happened
    chunked: bool = False
    body: bytes | None = None
    headers: dict[str, str | None] = field(default_factory=dict)  # None: left out


@dataclass
class Request:
    """What a client asked for and got."""

    name: str
    asked: dict[str, str]
    status: int = 0
    sent: int = 0

    @property
    def range(self) -> str | None:
        return self.asked.get("Range")


class Server:
    """Serves `files`, by `answers[name]` one by one while there are any, then by `always[name]`."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.answers: dict[str, list[Answer]] = {}
        self.always: dict[str, Answer] = {}
        self.requests: list[Request] = []
        self.paths: list[str] = []
        self.scheme = "http"
        owner = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                owner.answer(self)

            def log_message(self, *args: Any) -> None:
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        # A client that goes away in the middle is what many tests are about.
        self.http.handle_error = lambda request, address: None
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.http.server_port}/fma/"

    def of(self, name: str) -> list[Request]:
        return [request for request in self.requests if request.name == name]

    def answer(self, handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.close_connection = True
        self.paths.append(handler.path)
        name = urlsplit(handler.path).path.rpartition("/")[2]
        request = Request(name, dict(handler.headers.items()))
        self.requests.append(request)
        scripted = self.answers.get(name)
        how = scripted.pop(0) if scripted else self.always.get(name, Answer())
        status, headers, body = self._content(request, how)
        request.status = status
        handler.send_response(status)
        for key, value in headers.items():
            if value is not None:
                handler.send_header(key, value)
        handler.end_headers()
        body = body[: how.cut]
        if how.chunked:
            body = b"%x\r\n%s\r\n" % (len(body), body) + (b"0\r\n\r\n" if how.cut is None else b"")
        handler.wfile.write(body)
        handler.wfile.flush()
        request.sent = len(body)
        if how.hold is not None:
            how.hold.wait(20)

    def _content(self, request: Request, how: Answer) -> tuple[int, dict[str, str | None], bytes]:
        content = self.files.get(request.name)
        etag = f'"{hashlib.sha1(content or b"").hexdigest()}"'
        headers: dict[str, str | None] = {"ETag": etag, "Last-Modified": MODIFIED, "Content-Type": "application/zip"}
        status, body = 200, content or b""
        if how.status is not None or content is None:
            status, body = how.status or 404, b"no"
        elif request.range and how.ranges and request.asked.get("If-Range", etag) in (etag, MODIFIED):
            start = int(request.range.removeprefix("bytes=").rstrip("-"))
            if start >= len(content):
                status, headers["Content-Range"], body = 416, f"bytes */{len(content)}", b""
            else:
                status, body = 206, content[start:]
                headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        body = how.body if how.body is not None else body
        headers |= {"Content-Length": str(len(body)), "Connection": "close"}
        if how.chunked:
            headers |= {"Content-Length": None, "Transfer-Encoding": "chunked"}
        return status, headers | how.headers, body

    def close(self) -> None:
        self.http.shutdown()
        self.http.server_close()


def packed(members: dict[str, bytes], method: int = zipfile.ZIP_BZIP2) -> bytes:
    """A zip as FMA's authors make theirs: bzip2, plain files that may only be read."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as opened:
        for name, content in members.items():
            info = zipfile.ZipInfo(name, (2017, 4, 1, 0, 0, 0))
            info.external_attr = 0o444 << 16 | 0o2 << 30
            opened.writestr(info, content, method)
    return buffer.getvalue()


@dataclass(frozen=True)
class Published:
    """What stands on the server, and what should stand on disk in the end."""

    archives: dict[str, Archive]
    zips: dict[str, bytes]
    files: dict[str, bytes]


@pytest.fixture(scope="session")
def published() -> Published:
    """12 clips of noise, 30 kB each, and two tables; a pickle that must never be written."""
    random = np.random.default_rng(0)
    clips = {f"fma_small/{n // 1000:03}/{n:06}.mp3": random.bytes(30_000 + n % 7) for n in range(2, 24_000, 2_000)}
    small = {"fma_small/README.txt": b"read me\n", **clips}
    metadata = {
        "fma_metadata/README.txt": b"read me\n",
        "fma_metadata/not_found.pickle": b"no pickle is read here",
        "fma_metadata/tracks.csv": b"track_id,1,2\n" * 30_000,
        "fma_metadata/raw_genres.csv": b"genre\n",
    }
    archives, zips, files = {}, {}, {}
    for subset, members in (("metadata", metadata), ("small", small)):
        sums = [
            f"{hashlib.sha1(data).hexdigest()}  {name.partition('/')[2]}\n"
            for name, data in members.items()
            if not name.endswith("README.txt")
        ]
        members[f"fma_{subset}/checksums"] = "".join(sums).encode()
        content = packed(members)
        zips[f"fma_{subset}.zip"] = content
        files |= {name: data for name, data in members.items() if not name.endswith("pickle")}
        archives[subset] = replace(
            ARCHIVES[subset],
            sha1=hashlib.sha1(content).hexdigest(),
            approx_zip_bytes=len(content),
            approx_unpacked_bytes=sum(map(len, members.values())),
            approx_members=len(members),
        )
    return Published(archives, zips, files)


@pytest.fixture
def site(published: Published, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """The server with both archives on it; no proxy stands before it."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "requests_ca_bundle", "curl_ca_bundle"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    server = Server()
    server.files = dict(published.zips)
    yield server
    server.close()
