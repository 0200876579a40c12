"""What a program gets from the server: the model's own answers, named errors, and nothing that outlives them."""

import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest
import soundfile

from genre_spark.dataset.store import Dataset
from genre_spark.models.bundle import load_bundle
from genre_spark.models.predict import Prediction, predict_files
from genre_spark.models.timeline import predict_timeline
from genre_spark.serving.guards import HEADERS
from tests.serving.conftest import MAX_UPLOAD_S, Served, a_server, wait


@pytest.fixture(scope="module")
def clip(dataset: Dataset) -> Path:
    return Path(dataset.tracks()["uri"].to_pylist()[0].removeprefix("file://"))


def assert_refused(answer: httpx.Response, status: int, error: str, detail: str = "") -> None:
    assert (answer.status_code, answer.json()["error"]) == (status, error), answer.text
    assert detail in answer.json()["detail"]


def test_the_answer_is_that_of_predict_and_of_the_timeline(served: Served, run: Path, clip: Path) -> None:
    answer = served.post(clip).json()
    bundle = load_bundle(run / "bundle")
    (wanted,) = predict_files(bundle, [clip])
    timeline = predict_timeline(bundle, clip)
    assert isinstance(wanted, Prediction)
    assert (answer["file"], answer["genre"], answer["duration_s"]) == (clip.name, wanted.genre, timeline.duration_s)
    assert answer["probabilities"] == pytest.approx(wanted.probabilities, abs=1e-6)
    assert len(answer["timeline"]) == len(timeline.moments)
    for found, moment in zip(answer["timeline"], timeline.moments, strict=True):
        assert (found["start_s"], found["end_s"]) == (moment.start_s, moment.end_s)
        assert found["probabilities"] == pytest.approx(moment.probabilities, abs=1e-6)


def test_a_longer_song_has_a_moment_for_each_window(served: Served, write_clip: Callable[..., Path]) -> None:
    answer = served.post(write_clip(seconds=65, rate=4_000, channels=1)).json()
    assert [moment["start_s"] for moment in answer["timeline"]] == [0, 15, 30, 35]
    assert answer["timeline"][-1]["end_s"] == answer["duration_s"] == 65


@pytest.mark.parametrize("name", ["../../x", "..\\..\\x", "/etc/x", "x\r\nSet-Cookie: y"])
def test_what_a_sender_calls_its_file_is_no_path(served: Served, clip: Path, name: str) -> None:
    assert served.post(clip, name=name).json()["file"] in ("x", "x Set-Cookie: y")
    assert not served.uploads()
    assert not (served.temporary / "x").exists()


def test_markup_in_a_file_name_is_text(served: Served, clip: Path) -> None:
    page = served.post(clip, name="<img src=x onerror=alert(1)>.mp3", accept="text/html").text
    assert "<img" not in page
    assert "&lt;img src=x onerror=alert(1)&gt;.mp3" in page
    # The policy forbids inline styles: there must be none.
    assert " style=" not in page
    assert "<style" not in page


@pytest.mark.parametrize(
    ("content", "error"),
    [(b"", "AudioEmpty"), (b"no audio " * 999, "AudioUndecodable"), (b"\x7fELF" + bytes(9_999), "AudioUndecodable")],
)
def test_what_is_no_audio_is_named_by_the_senders_name_for_it(
    served: Served, tmp_path: Path, content: bytes, error: str
) -> None:
    (tmp_path / "bad.mp3").write_bytes(content)
    answer = served.post(tmp_path / "bad.mp3")
    assert_refused(answer, 422, error, "bad.mp3: ")
    assert str(served.temporary) not in answer.text
    page = served.post(tmp_path / "bad.mp3", accept="text/html")
    assert page.status_code == 422
    assert f'<code id="error">{error}</code>' in page.text


def test_an_mp3_with_a_damaged_middle_is_named(served: Served, clip: Path, tmp_path: Path) -> None:
    content = clip.read_bytes()
    third = len(content) // 3
    (tmp_path / "hole.mp3").write_bytes(content[:third] + bytes(third) + content[2 * third :])
    answer = served.post(tmp_path / "hole.mp3")
    assert answer.status_code == 422
    assert answer.json()["error"] in ("AudioUndecodable", "AudioShortened")


@pytest.mark.parametrize(
    ("headers", "content", "status", "error"),
    [
        ({"content-type": "application/json"}, b"{}", 415, "NoForm"),
        ({"content-type": "multipart/form-data"}, b"", 415, "NoForm"),
        ({"content-type": "multipart/form-data; boundary=x"}, b"--x--\r\n", 400, "NoFile"),
        ({"content-type": "multipart/form-data; boundary=x"}, b"nonsense", 400, "NoFile"),
        (
            {"content-type": "multipart/form-data; boundary=x"},
            b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nends here',
            400,
            "NoFile",
        ),
        (
            {"content-type": "multipart/form-data; boundary=x"},
            b'--x\r\nContent-Disposition: form-data; name="file"; filename=""\r\n\r\n\r\n--x--\r\n',
            400,
            "NoFile",
        ),
        (
            {"content-type": "multipart/form-data; boundary=x"},
            b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\na\r\n' * 2 + b"--x--\r\n",
            400,
            "NoFile",
        ),
    ],
)
def test_what_is_no_form_with_one_file_is_refused(
    served: Served, headers: dict[str, str], content: bytes, status: int, error: str
) -> None:
    assert_refused(httpx.post(f"{served.address}predict", headers=headers, content=content), status, error)
    assert not served.uploads()


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "http://127.0.0.1:1"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"origin": "null", "sec-fetch-site": "cross-site"},
    ],
)
def test_another_web_page_can_not_send_files(served: Served, clip: Path, headers: dict[str, str]) -> None:
    assert_refused(served.post(clip, **headers), 403, "ForeignOrigin")


def test_the_page_itself_can(served: Served, clip: Path) -> None:
    own = {"origin": served.address.rstrip("/"), "sec-fetch-site": "same-origin"}
    assert served.post(clip, **own).status_code == 200
    assert served.post(clip, **{**own, "origin": "null"}).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "[::2]", ""])
def test_a_foreign_name_that_points_here_gets_nothing(served: Served, host: str) -> None:
    for path in ("", "state", "static/page.js"):
        assert httpx.get(served.address + path, headers={"host": host}).status_code == 400


@pytest.mark.parametrize("path", ["", "state", "static/page.css", "predict", "nowhere", "static/../app.py"])
def test_every_answer_has_the_headers_that_guard_it(served: Served, path: str) -> None:
    headers = httpx.get(served.address + path).headers
    assert {name: headers.get(name) for name in HEADERS} == HEADERS
    assert "server" not in headers


def test_a_link_to_an_answer_leads_to_the_form(served: Served) -> None:
    answer = httpx.get(f"{served.address}predict")
    assert (answer.status_code, answer.headers["location"]) == (303, "/")


def test_files_beyond_the_queue_are_sent_away_at_once(served: Served, clip: Path) -> None:
    open_ones = [half_sent(served) for _ in range(2)]
    wait(lambda: len(served.uploads()) == 2)
    answer = served.post(clip)
    assert_refused(answer, 503, "Busy", "serve.waiting=1")
    assert answer.headers["retry-after"]
    for connection in open_ones:
        connection.close()
    # Those who went away leave no file and no place taken.
    wait(lambda: not served.uploads(), MAX_UPLOAD_S / 2)
    with ThreadPoolExecutor(2) as both:
        assert [answer.status_code for answer in both.map(served.post, [clip, clip])] == [200, 200]


def half_sent(served: Served):
    connection = served.connect()
    connection.sendall(
        b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9999\r\n"
        b"Content-Type: multipart/form-data; boundary=x\r\n\r\n"
        b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nsome'
    )
    return connection


def test_the_folder_of_uploads_is_private(served: Served) -> None:
    with half_sent(served):
        wait(lambda: served.uploads())
        (upload,) = served.uploads()
        assert stat.S_IMODE(upload.parent.stat().st_mode) == 0o700
        assert len(upload.name) == 32
    wait(lambda: not served.uploads())


@pytest.mark.slow
def test_a_file_that_kills_the_decoder_twice_costs_one_answer(served: Served, clip: Path, tmp_path: Path) -> None:
    # Small, and long enough to be killed over.
    soundfile.write(tmp_path / "long.flac", np.zeros(1_000 * 44_100, np.int16), 44_100)
    with ThreadPoolExecutor(1) as sender:
        answer = sender.submit(served.post, tmp_path / "long.flac")
        killed = []
        for _ in range(2):
            wait(lambda: served.uploads() and served.state() == "ready" and served.listener.pid not in killed)
            time.sleep(0.3)
            served.listener.suspend()
            killed.append(served.listener.pid)
            served.listener.send_signal(signal.SIGSEGV)
            served.listener.resume()
            wait(lambda: served.state() == "loading")
    assert_refused(answer.result(), 422, "AudioCrashed", "long.flac: the process that reads it died of SIGSEGV")
    assert served.post(clip).status_code == 200


def test_a_file_that_hangs_the_decoder_is_given_up_and_the_next_one_is_read(served: Served, clip: Path) -> None:
    hanging = served.listener
    hanging.suspend()
    assert_refused(served.post(clip), 504, "AudioTimedOut", "serve.max_predict_s=6")
    wait(lambda: not hanging.is_running(), 5)
    assert served.post(clip).status_code == 200
    assert not served.uploads()


@pytest.mark.slow
def test_a_process_that_died_in_between_is_no_fault_of_the_next_file(served: Served, clip: Path) -> None:
    served.listener.kill()
    assert served.post(clip).status_code == 200


def test_sigterm_ends_all_at_once_and_leaves_nothing(run: Path, tmp_path: Path) -> None:
    with a_server(run / "bundle", tmp_path) as server, half_sent(server):
        # The page is there while the model is still loading.
        assert "The model is loading" in httpx.get(server.address).text
        wait(lambda: server.uploads())
        listener = server.listener
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(3) == 0, server.log.read_text()
        assert not psutil.pid_exists(listener.pid)
        assert not list(server.temporary.iterdir())
        assert "Traceback" not in server.log.read_text()


def test_the_model_ends_with_a_server_that_is_killed(run: Path, tmp_path: Path) -> None:
    with a_server(run / "bundle", tmp_path) as server:
        wait(lambda: psutil.Process(server.process.pid).children())
        listener = server.listener
        server.process.kill()
        server.process.wait()
        wait(lambda: not listener.is_running() or listener.status() == psutil.STATUS_ZOMBIE, 3)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--host", "0.0.0.0"], "say --allow-remote too"),
        (["--host", "192.0.2.1", "--allow-remote"], "192.0.2.1:0: can't be listened on"),
        (["--host", "0.0.0.0", "--allow-remote"], "--set 'serve.host_names=[NAME_OR_ADDRESS]'"),
        (["--host", "::", "--allow-remote"], "--set 'serve.host_names=[NAME_OR_ADDRESS]'"),
        (["--bundle", "nowhere"], "nowhere: no bundle"),
        (["--precision", "0.123"], "0.123"),
    ],
)
def test_what_can_not_be_served_is_refused_in_one_line(run: Path, arguments: list[str], reason: str) -> None:
    command = [Path(sys.executable).parent / "genre-spark", "serve", "--bundle", run / "bundle", *arguments]
    answer = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert answer.returncode == 1
    (line,) = [line for line in answer.stderr.splitlines() if line.startswith("error: ")]
    assert reason in line
