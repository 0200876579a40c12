"""Addresses: what is one, what is refused, and that nothing secret is shown."""

# ruff: noqa: F811 (a fixture and the arguments that ask for it have one name)

import sys
import time

import pyarrow.fs as pafs
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from genre_spark.errors import AudioNotFound, CorpusError
from genre_spark.filesystems import (
    is_remote,
    join_address,
    list_files,
    local_path,
    masked,
    open_address,
    open_file,
    remote_address,
)
from genre_spark.object_stores import ATTEMPTS, _region
from tests.s3_server import s3, s3_server  # noqa: F401


def refusal(address, error=CorpusError):
    with pytest.raises(error) as caught:
        remote_address(address, error)
    message = str(caught.value)
    assert "\n" not in message
    assert "hunter2" not in message
    return message


@pytest.mark.parametrize("address", ["/a/b.mp3", "a.mp3", "C:/x", "file:///a.mp3", "x y://a", "://a", "s3:/bucket/a"])
def test_paths_and_file_addresses_are_local(address):
    assert not is_remote(address)


@pytest.mark.parametrize("address", ["s3://b/a", "S3A://b/a", "gs://b", "https://h/a?b", "made-up+1.0://x/\ny"])
def test_what_has_a_scheme_is_remote(address):
    assert is_remote(address)


@given(st.text(st.one_of(st.sampled_from("/.:%#?@& +2F"), st.characters(exclude_categories=["Cs"])), min_size=1))
def test_every_name_comes_back_from_its_address(name):
    assume(not name.endswith("/"))
    parts = name.split("/")
    address = join_address("s3://bucket/x/", name)
    if "::" in name or {"", ".", ".."} & set(parts):
        with pytest.raises(CorpusError):
            remote_address(address, CorpusError)
        return
    assert remote_address(address, CorpusError) == address
    filesystem, path = open_address(address, CorpusError)
    assert isinstance(filesystem, pafs.S3FileSystem)
    assert path == f"bucket/x/{name}"


@pytest.mark.parametrize(
    ("address", "canonical"),
    [
        ("S3://Bucket/a b/ü.mp3", "s3://Bucket/a%20b/%C3%BC.mp3"),
        ("s3://b/100%.mp3", "s3://b/100%25.mp3"),
        ("s3://b/100%25.mp3", "s3://b/100%25.mp3"),
        ("s3://b", "s3://b"),
        ("hdfs:///a", "hdfs:///a"),
        ("hdfs://me@name:8020/a", "hdfs://me@name:8020/a"),
        ("abfs://container@account.dfs.core.windows.net/a", "abfs://container@account.dfs.core.windows.net/a"),
        ("s3://b/a/", "s3://b/a"),
        ("s3://b/", "s3://b"),
    ],
)
def test_an_address_has_one_form(address, canonical):
    assert remote_address(address, CorpusError) == canonical
    assert remote_address(canonical, CorpusError) == canonical


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("s3://key:hunter2@b/a", "s3://***@b/a: credentials don't belong into an address"),
        ("s3://hunter2@b/a", "s3://***@b/a: credentials"),
        ("s3://key:hun/hunter2@b/a", "s3://***@b/a: credentials"),
        ("s3://key:hun/hunter2", "s3://***: credentials"),
        ("https://hunter2@host/a", "https://***@host/a: credentials"),
        ("hdfs://me:hunter2@host/a", "hdfs://***@host/a: credentials"),
        ("abfs://acc:hunter2@container/a", "abfs://***@container/a: credentials"),
        ("s3://b/a?secret_key=hunter2", "s3://b/a?***: its query holds credentials"),
        ("https://h/a?x=1&X-Goog-Signature=hunter2", "https://h/a?***: its query holds credentials"),
        ("https://h/a?sv=1&sig=hunter2", "https://h/a?***: its query holds credentials"),
        ("https://h/a?Access_Token=hunter2#x", "https://h/a?***: its query holds credentials"),
        ("s3://b/a?region=hunter2", "s3://b/a?***: a path ends at ? and #"),
        ("s3://b/a#b", "s3://b/a: a path ends at ? and #"),
        ("s3:///a", "s3:///a: names no bucket"),
        ("s3://b/%ff", "s3://b/%ff: its percent-encoded bytes are no UTF-8"),
        ("s3://b/x/../a", "s3://b/x/../a: has an empty part, . or .. in its path"),
        ("s3://b/x/%2e%2E/a", "s3://b/x/%2e%2E/a: has an empty part, . or .. in its path"),
        ("s3://b//a", "s3://b//a: has an empty part"),
        ("zip://a::s3://b/c.zip", "zip://***: chained addresses"),
        ("memory://x/a%3A%3Ab", "memory://x/a%3A%3Ab: has :: in its path"),
        ("nosuch://x/a", "nosuch://x/a: nothing here opens nosuch://; copy it, or install its fsspec package"),
        ("box://x/a", "box://x/a: box:// needs more: "),
        ("file:///a", "file:///a: is no remote address"),
    ],
)
def test_an_address_that_is_not_opened_is_refused_by_name_and_without_a_secret(address, message):
    assert refusal(address).startswith(message)
    assert "hunter2" not in masked(address)


def test_a_web_address_keeps_its_query_where_that_is_no_secret():
    pytest.importorskip("aiohttp")
    for address in ("https://host:8080/a//b.mp3?id=5&x=y", "https://host/a%20b.mp3"):
        assert remote_address(address, CorpusError) == address


def test_without_fsspec_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "fsspec", None)
    assert refusal("sftp://host/a.mp3") == (
        "sftp://host/a.mp3: nothing here opens sftp://; `pip install 'genre-spark[remote]'`"
    )
    assert remote_address("s3://bucket/a", CorpusError) == "s3://bucket/a"


def test_the_error_class_is_the_caller_s():
    refusal("nosuch://x", AudioNotFound)


def test_a_local_file_is_opened_by_its_path_and_by_its_address(tmp_path):
    path = tmp_path / "50% #1?.txt"
    path.write_bytes(b"content")
    assert local_path(path.as_uri(), CorpusError) == path
    for address in (path, str(path), path.as_uri(), f"FILE://localhost{path.as_uri()[7:]}"):
        with open_file(address, CorpusError) as file:
            assert (file.size(), file.read()) == (7, b"content")
    with (
        pytest.raises(CorpusError, match=r"none\.txt: no such file or folder"),
        open_file(tmp_path / "none.txt", CorpusError),
    ):
        pass


def test_a_store_is_opened_once_per_environment(s3, monkeypatch):
    first, _ = open_address("s3://music/a", CorpusError)
    assert open_address("s3://music/b", CorpusError)[0] is first
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    assert open_address("s3://music/a", CorpusError)[0] is not first


@pytest.mark.parametrize("name", ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"])
def test_both_names_of_the_endpoint_are_honoured_and_the_narrower_one_wins(s3, monkeypatch, name):
    s3.put("a.txt", b"content")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv(name, s3.endpoint)
    with open_file("s3://music/a.txt", CorpusError) as file:
        assert file.read() == b"content"


def test_the_region_comes_from_the_environment_or_the_profile_and_never_from_the_network(monkeypatch, tmp_path):
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    config = tmp_path / "config"
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    assert _region() == "us-east-1"
    config.write_text("[default]\nregion = eu-west-1\n[profile music]\nregion = eu-west-2\n")
    assert _region() == "eu-west-1"
    monkeypatch.setenv("AWS_PROFILE", "music")
    assert _region() == "eu-west-2"
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-3")
    assert _region() == "eu-west-3"
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    assert _region() == "eu-central-1"
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name)
    config.write_text("no sections here")
    assert _region() == "us-east-1"


def test_a_google_store_that_is_not_there_is_given_up(monkeypatch):
    silence_s = 1
    monkeypatch.setattr("genre_spark.object_stores.SILENCE_TIMEOUT_S", silence_s)
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "http://127.0.0.1:9")
    started = time.monotonic()
    with pytest.raises(CorpusError, match=r"^gs://bucket/a: [^\n]+$"), open_file("gs://bucket/a", CorpusError):
        pass
    assert time.monotonic() - started < 6 * ATTEMPTS * silence_s


def test_hdfs_without_its_library_says_so(monkeypatch):
    monkeypatch.delenv("HADOOP_HOME", raising=False)
    monkeypatch.delenv("ARROW_LIBHDFS_DIR", raising=False)
    with pytest.raises(CorpusError, match=r"^hdfs://127.0.0.1:9/a: can't be read: [^\n]+$"):
        list_files("hdfs://127.0.0.1:9/a", CorpusError)
