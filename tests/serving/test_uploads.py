"""Uploads that are too large, too slow, or lie about it."""

import resource
import socket
import sys
import time

import httpx
import pytest

from genre_spark.serving.uploads import shown_name
from tests.serving.conftest import MAX_MB, MAX_UPLOAD_S, Served, wait

FORM = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
BLOCK = bytes(100_000)


def head(*lines: str) -> bytes:
    fixed = ("POST /predict HTTP/1.1", "Host: 127.0.0.1", "Content-Type: multipart/form-data; boundary=x")
    return ("\r\n".join([*fixed, *lines]) + "\r\n\r\n").encode()


def answer_of(connection: socket.socket) -> str:
    received = b""
    while chunk := connection.recv(65_536):
        received += chunk
    return received.decode()


def test_a_file_above_the_limit_is_refused_before_it_is_sent(served: Served) -> None:
    with served.connect() as connection:
        connection.sendall(head(f"Content-Length: {10**12}", "Connection: close"))
        answer = answer_of(connection)
    assert answer.startswith("HTTP/1.1 413")
    assert f"serve.max_upload_mb={MAX_MB}" in answer


def test_an_endless_body_without_a_length_is_cut_off(served: Served) -> None:
    with served.connect() as connection:
        connection.sendall(head("Transfer-Encoding: chunked") + b"%x\r\n%b\r\n" % (len(FORM), FORM))
        sent = 0
        with pytest.raises(OSError):  # noqa: PT012 - it ends when the server closes the connection
            while sent < 100_000_000:
                connection.sendall(b"%x\r\n%b\r\n" % (len(BLOCK), BLOCK))
                sent += len(BLOCK)
    assert sent < 50_000_000
    assert not served.uploads()


def test_one_who_stops_in_time_reads_why(served: Served) -> None:
    with served.connect() as connection:
        connection.sendall(head("Transfer-Encoding: chunked") + b"%x\r\n%b\r\n" % (len(FORM), FORM))
        for _ in range(11):
            connection.sendall(b"%x\r\n%b\r\n" % (len(BLOCK), BLOCK))
        answer = answer_of(connection)
    assert answer.startswith("HTTP/1.1 413")
    assert "UploadTooLarge" in answer


def test_a_length_that_is_too_small_ends_the_form_in_the_middle(served: Served) -> None:
    with served.connect() as connection:
        connection.sendall(
            head(f"Content-Length: {len(FORM) + 10}", "Connection: close") + FORM + b"0123456789 and more"
        )
        answer = answer_of(connection)
    assert answer.startswith("HTTP/1.1 400")
    assert "NoFile" in answer


@pytest.mark.parametrize("drips", [False, True])
def test_a_body_that_never_ends_is_given_up(served: Served, drips: bool) -> None:
    begin = time.monotonic()
    with served.connect() as connection:
        connection.sendall(head("Content-Length: 500000") + FORM)
        connection.settimeout(0.1)
        answer = b""
        while not answer and time.monotonic() < begin + 5 * MAX_UPLOAD_S:
            if drips:
                connection.sendall(b"a")
            try:
                answer = connection.recv(65_536)
            except TimeoutError:
                continue
    assert answer.startswith(b"HTTP/1.1 408")
    assert MAX_UPLOAD_S <= time.monotonic() - begin < MAX_UPLOAD_S + 2
    wait(lambda: not served.uploads())


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        (b"--x\r\n\r\n\r\n" * 100_000, "more than 32 parts"),
        (
            FORM.replace(b"file", b"other") + bytes(900_000),
            "64,000 bytes beside its file",
        ),
    ],
)
def test_a_form_that_is_not_about_its_file_is_refused_at_once(served: Served, parts: bytes, reason: str) -> None:
    with served.connect() as connection:
        connection.sendall(head(f"Content-Length: {len(parts) + len(FORM)}") + parts)
        answer = answer_of(connection)
    assert answer.startswith("HTTP/1.1 400")
    assert reason in answer


def test_a_boundary_that_is_too_long_is_refused(served: Served) -> None:
    headers = {"content-type": f"multipart/form-data; boundary={'x' * 257}"}
    answer = httpx.post(f"{served.address}predict", headers=headers, content=b"")
    assert (answer.status_code, answer.json()["error"]) == (415, "NoForm")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="prlimit is Linux's own")
def test_a_file_that_can_not_be_written_is_refused(served: Served) -> None:
    limits = resource.prlimit(served.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(served.process.pid, resource.RLIMIT_FSIZE, (200_000, limits[1]))
    try:
        answer = httpx.post(f"{served.address}predict", files={"file": ("a.wav", bytes(900_000))})
    finally:
        resource.prlimit(served.process.pid, resource.RLIMIT_FSIZE, limits)
    assert (answer.status_code, answer.json()["error"]) == (507, "UploadNotStored")
    assert not served.uploads()
    assert "File too large" in " ".join(served.log.read_text().split())
    assert "Traceback" not in served.log.read_text()


@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        (b"song.mp3", "song.mp3"),
        (b"../../x", "x"),
        (b"C:\\music\\x.mp3", "x.mp3"),
        ("Für Elise.ogg".encode(), "Für Elise.ogg"),
        ("gpj.\u202e3pm".encode(), "gpj. 3pm"),
        (b"a\x00\x1b[31mb", "a [31mb"),
        (b"12%22 mix %0A%20.mp3", '12" mix %20.mp3'),  # as browsers send a quotation mark and a line's end
        (b"\xff\xfe", "\ufffd\ufffd"),
        (b"folder/", ""),
        (b"a" * 500, "a" * 119 + "…"),
    ],
)
def test_a_name_is_shown_without_folders_and_tricks(sent: bytes, shown: str) -> None:
    assert shown_name(sent) == shown
