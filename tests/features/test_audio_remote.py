"""Audio that doesn't lie on this machine: the same samples, and errors that name the address and no secret."""

import os
import signal
import socket
import time
from pathlib import Path

import numpy as np
import pytest

from genre_spark.errors import AudioEmpty, AudioNotFound, AudioTooLong, AudioUndecodable
from genre_spark.features.audio import decode
from genre_spark.object_stores import ATTEMPTS
from tests.s3_server import KEY, SECRET


def refusal(address, error=AudioNotFound, **options):
    with pytest.raises(error) as caught:
        decode(address, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert SECRET not in message
    assert KEY not in message
    return message


@pytest.mark.parametrize("name", ["clip.wav", "clip.flac", "clip.ogg", "clip.aiff", "clip.mp3"])
@pytest.mark.parametrize("channels", [1, 2])
def test_samples_from_a_bucket_are_bit_for_bit_those_from_disk(s3, write_clip, name, channels):
    path = write_clip(name, channels=channels)
    s3.put(f"röck/{name} #1?", path)
    remote, local = decode(f"s3://music/r%C3%B6ck/{name}%20%231%3F"), decode(path)
    assert remote.sample_rate == local.sample_rate
    np.testing.assert_array_equal(remote.samples, local.samples)


def test_real_mp3s_from_a_bucket_are_bit_for_bit_those_from_disk(s3, music):
    for path in sorted(music.glob("fma/fma_small/*/*.mp3"))[:4]:
        s3.put(path.name, path)
        np.testing.assert_array_equal(decode(f"s3://music/{path.name}").samples, decode(path).samples)


def test_s3a_is_another_name_for_s3(s3, write_clip):
    path = write_clip()
    s3.put("clip.wav", path)
    np.testing.assert_array_equal(decode("s3a://music/clip.wav").samples, decode(path).samples)


def test_what_fsspec_opens_is_decoded_too(write_clip):
    fsspec = pytest.importorskip("fsspec")
    path = write_clip("clip.flac")
    fsspec.filesystem("memory").pipe("/x/50% #1?.flac", path.read_bytes())
    np.testing.assert_array_equal(decode("memory://x/50%25%20%231%3F.flac").samples, decode(path).samples)


def test_a_missing_object_and_a_missing_bucket_are_named(s3):
    for address in ("s3://music/no.mp3", "s3://no-such-bucket/a.mp3", "memory://no.mp3"):
        assert refusal(address) == f"{address}: no such file or folder; check the bucket's name too"


def test_an_object_that_may_not_be_read_says_so(s3, monkeypatch, tmp_path):
    s3.put("a.mp3", b"x")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    assert refusal("s3://music/a.mp3").startswith("s3://music/a.mp3: access denied (or no such file); check the cred")


def test_credentials_may_stand_in_the_standard_file(s3, monkeypatch, tmp_path, write_clip):
    path = write_clip()
    s3.put("clip.wav", path)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    (tmp_path / "credentials").write_text(f"[default]\naws_access_key_id={KEY}\naws_secret_access_key={SECRET}\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    np.testing.assert_array_equal(decode("s3://music/clip.wav").samples, decode(path).samples)


def test_a_store_that_is_not_there_is_given_up_soon(s3, monkeypatch):
    silence_s = 1
    monkeypatch.setattr("genre_spark.object_stores.SILENCE_TIMEOUT_S", silence_s)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    started = time.monotonic()
    assert refusal("s3://music/a.mp3").startswith("s3://music/a.mp3: can't be read: NETWORK_CONNECTION")
    assert time.monotonic() - started < 6 * ATTEMPTS * silence_s


def test_a_store_that_never_answers_is_given_up(s3, monkeypatch):
    silence_s = 1
    monkeypatch.setattr("genre_spark.object_stores.SILENCE_TIMEOUT_S", silence_s)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        started = time.monotonic()
        assert "s3://music/a.mp3: can't be read: NETWORK_CONNECTION" in refusal("s3://music/a.mp3")
        assert ATTEMPTS * silence_s <= time.monotonic() - started < 6 * ATTEMPTS * silence_s
        silent.setblocking(False)
        for _ in range(ATTEMPTS):
            silent.accept()[0].close()
        with pytest.raises(BlockingIOError):  # nobody called once more
            silent.accept()


def test_an_object_above_the_limit_is_refused_before_it_is_read(s3):
    s3.put("long.wav", bytes(2_500_000))
    message = refusal("s3://music/long.wav", AudioTooLong, max_file_mb=2)
    assert message == "s3://music/long.wav: has 2.5 MB, more than audio.max_file_mb=2"


def test_objects_that_are_no_audio_get_the_errors_of_files(s3, write_clip):
    s3.put("empty.mp3", b"")
    s3.put("text.mp3", b"just text " * 50)
    s3.put("clip.wav", write_clip(seconds=2.0))
    assert refusal("s3://music/empty.mp3", AudioEmpty) == "s3://music/empty.mp3: the file is empty (0 bytes)"
    assert refusal("s3://music/text.mp3", AudioUndecodable).startswith("s3://music/text.mp3: not audio")
    assert refusal("s3://music/clip.wav", AudioTooLong, max_duration_s=1.5).startswith(
        "s3://music/clip.wav: lasts 2.0 s"
    )


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        (f"s3://{KEY}:{SECRET}@music/a.mp3", "s3://***@music/a.mp3: credentials don't belong into an address"),
        (f"ftp://someone:{SECRET}@host/a.mp3", "ftp://***@host/a.mp3: credentials don't belong into an address"),
        (f"https://host/a.mp3?token={SECRET}", "https://host/a.mp3?***: its query holds credentials"),
        ("nosuch://host/a.mp3", "nosuch://host/a.mp3: nothing here opens nosuch://"),
    ],
)
def test_an_address_that_is_not_opened_is_refused_without_its_secret(address, shown):
    assert refusal(address).startswith(shown)


def test_a_forked_process_reads_from_the_store_too(s3, write_clip):
    path = write_clip()
    s3.put("clip.wav", path)
    expected = decode("s3://music/clip.wav").samples
    child = os.fork()
    if child == 0:  # what pyspark's daemon does
        signal.alarm(120)  # its end, should it hang
        try:
            same = np.array_equal(decode("s3://music/clip.wav").samples, expected)
            os._exit(0 if same else 1)
        except BaseException:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_local_name_that_looks_like_an_address_is_opened_as_a_path(tmp_path, monkeypatch, write_clip):
    monkeypatch.chdir(tmp_path)
    Path("s3:").mkdir()
    write_clip().rename("s3:/clip.wav")
    assert decode(Path("s3://clip.wav")).duration_s == 1.0
