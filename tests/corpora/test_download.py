"""Downloading from a real web server that breaks, lies and refuses; killed processes; full and read-only disks."""

import contextlib
import datetime
import hashlib
import ipaddress
import json
import logging
import pickle
import re
import resource
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import replace
from email.utils import formatdate
from pathlib import Path

import pytest

from genre_spark.corpora.download import Plan, download_fma
from genre_spark.corpora.fetch import Patience
from genre_spark.corpora.synthetic import write_synthetic_corpus
from genre_spark.errors import DownloadError
from genre_spark.settings import SyntheticSettings
from tests.fma_server import Answer, packed

QUICK = Patience(attempts=3, first_wait_s=0.001, longest_wait_s=0.01, connect_timeout_s=2, read_timeout_s=2)
ZIP = "fma_small.zip"


def wait_for(condition):
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)


@pytest.fixture
def root(tmp_path):
    return tmp_path / "music"


@pytest.fixture
def download(site, published, root):
    def run(subset="small", **options):
        options = {"base_url": site.url, "archives": published.archives, "patience": QUICK, **options}
        download_fma(options.pop("root", root), subset, **options)

    return run


def unpacked(root):
    """All that stands under `root` but zips, records and the lock."""
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and path.suffix != ".zip" and path.name not in (".unpacked.json", ".download.lock")
    }


def assert_complete(root, published):
    assert unpacked(root) == published.files
    for name, content in published.zips.items():
        assert (root / name).read_bytes() == content


# What goes well


def test_metadata_and_clips_are_fetched_checked_and_unpacked(download, root, published, site):
    download()
    assert_complete(root, published)
    assert [request.name for request in site.requests] == ["fma_metadata.zip", ZIP]
    assert {request.asked["Accept-Encoding"] for request in site.requests} == {"identity"}


def test_no_pickle_is_ever_written(download, root, published):
    download()
    assert not [path for path in root.rglob("*") if "pickle" in path.name]


def test_a_second_run_asks_the_server_for_nothing(download, root, published, site):
    download()
    del site.requests[:]
    plans = []
    download(on_plan=plans.append)
    assert site.requests == []
    assert (plans[0].download_bytes, plans[0].unpack_bytes) == (0, 0)


def test_zips_that_were_put_there_by_hand_are_not_fetched(download, root, published, site):
    root.mkdir()
    for name, content in published.zips.items():
        (root / name).write_bytes(content)
    plans = []
    download(on_plan=plans.append)
    assert site.requests == []
    assert_complete(root, published)
    # Sizes come from the zips; the pickle is not among them.
    expected = sum(map(len, published.files.values()))
    assert (plans[0].download_bytes, plans[0].unpack_bytes, plans[0].is_approximate) == (0, expected, False)


@pytest.mark.parametrize(("end", "what"), [(-1, "perhaps an unfinished download"), (None, "not what was published")])
def test_a_wrong_zip_that_stands_there_is_named_and_left_alone(download, root, published, site, end, what):
    content = bytearray(published.zips[ZIP][:end])
    content[0] ^= end is None
    root.mkdir()
    (root / ZIP).write_bytes(content)
    with pytest.raises(DownloadError) as caught:
        download()
    for part in (str(root / ZIP), published.archives["small"].sha1, hashlib.sha1(content).hexdigest(), what):
        assert part in str(caught.value)
    assert (root / ZIP).read_bytes() == content
    assert site.requests == []


def test_zips_go_when_they_are_not_to_be_kept(download, root, published, site):
    download(keep_archives=False)
    assert unpacked(root) == published.files
    assert not list(root.glob("*.zip"))
    del site.requests[:]
    download(keep_archives=False)
    assert site.requests == []


@pytest.mark.parametrize("keep", [True, False])
def test_missing_and_wrong_sized_members_are_repaired(download, root, published, site, keep):
    download(keep_archives=keep)
    (root / "fma_small/002/002002.mp3").unlink()
    (root / "fma_small/000/000002.mp3").write_bytes(b"short")
    shutil.rmtree(root / "fma_small/004")
    untouched = (root / "fma_small/006/006002.mp3").stat()
    del site.requests[:]
    plans = []
    download(keep_archives=keep, on_plan=plans.append)
    assert unpacked(root) == published.files
    assert [request.name for request in site.requests] == ([] if keep else [ZIP])
    names = ("002/002002", "000/000002", "004/004002")
    assert plans[0].unpack_bytes == sum(len(published.files[f"fma_small/{name}.mp3"]) for name in names)
    again = (root / "fma_small/006/006002.mp3").stat()
    assert (again.st_ino, again.st_mtime_ns) == (untouched.st_ino, untouched.st_mtime_ns)


@pytest.mark.parametrize("record", ["", "[]", "{", '{"sha1": 1}', "[" * 100_000, None])
def test_a_damaged_record_is_as_good_as_none(download, root, published, site, record):
    download()
    path = root / "fma_small/.unpacked.json"
    if record is None:
        known = json.loads(path.read_text())
        record = json.dumps(known | {"sizes": {"../../etc/passwd": 3}})
    path.write_text(record)
    # Of the right size, so that only its CRC-32 tells.
    clip = root / "fma_small/000/000002.mp3"
    clip.write_bytes(bytes(len(clip.read_bytes())))
    del site.requests[:]
    download()
    assert_complete(root, published)
    assert site.requests == []


def test_a_new_edition_on_the_list_replaces_the_old_one(download, root, published, site):
    download()
    content = packed({"fma_small/000/000002.mp3": b"new"})
    site.files[ZIP] = content
    (root / ZIP).unlink()
    newer = replace(published.archives["small"], sha1=hashlib.sha1(content).hexdigest())
    download(archives=published.archives | {"small": newer})
    assert (root / "fma_small/000/000002.mp3").read_bytes() == b"new"


def test_progress_grows_to_the_end_of_each_phase(download, published):
    seen = {}
    download(on_progress=lambda what, done, total: seen.setdefault(what, []).append((done, total)))
    assert list(seen) == [
        f"{phase} fma_{what}.zip" for what in ("metadata", "small") for phase in ("fetching", "checking", "unpacking")
    ]
    for what, steps in seen.items():
        done = [step[0] for step in steps]
        assert done == sorted(done), what
        assert steps[-1][0] == steps[-1][1] > 0, what


def test_the_plan_says_what_is_needed_before_anything_is_fetched(download, site, published):
    plans = []

    def on_plan(plan):
        assert site.requests == []
        plans.append(plan)

    download(on_plan=on_plan)
    assert plans[0].download_bytes == sum(map(len, published.zips.values()))
    assert plans[0].needed_bytes == plans[0].download_bytes + plans[0].unpack_bytes
    assert plans[0].is_approximate
    assert plans[0].free_bytes > 0


# What breaks on the way


def test_a_broken_download_goes_on_where_it_broke(download, root, published, site):
    # More breaks than attempts: each brings something new, so it counts anew.
    site.answers[ZIP] = [Answer(cut=50_000) for _ in range(5)]
    download()
    assert_complete(root, published)
    assert [request.range for request in site.of(ZIP)] == [None, *(f"bytes={n * 50_000}-" for n in range(1, 6))]
    assert sum(request.sent for request in site.of(ZIP)) == len(published.zips[ZIP])
    validators = {request.asked.get("If-Range") for request in site.of(ZIP)[1:]}
    assert validators == {f'"{published.archives["small"].sha1}"'}


def test_a_later_run_goes_on_where_an_earlier_one_gave_up(download, root, published, site):
    site.answers[ZIP] = [Answer(cut=50_000), *[Answer(status=503)] * 3]
    with pytest.raises(DownloadError, match=r"fma_small\.zip: answers 503 .*gave up after 3 attempts.*run again"):
        download()
    assert (root / f"{ZIP}.part").stat().st_size == 50_000
    assert not (root / ZIP).exists()
    del site.requests[:]
    plans = []
    download(on_plan=plans.append)
    assert_complete(root, published)
    assert plans[0].download_bytes == len(published.zips[ZIP]) - 50_000
    assert [request.range for request in site.requests] == ["bytes=50000-"]
    assert not list(root.glob("*.part*"))


def test_last_modified_ties_the_parts_where_there_is_no_strong_etag(download, root, published, site):
    site.answers[ZIP] = [Answer(cut=50_000, headers={"ETag": 'W/"weak"'})]
    download()
    assert_complete(root, published)
    assert site.of(ZIP)[1].asked["If-Range"].endswith("GMT")
    assert site.of(ZIP)[1].status == 206


def test_a_file_without_validators_is_gone_on_with_by_its_size(download, root, published, site):
    bare = {"ETag": None, "Last-Modified": None}
    site.answers[ZIP] = [Answer(cut=50_000, headers=bare), Answer(headers=bare)]
    download()
    assert_complete(root, published)
    assert site.of(ZIP)[1].range == "bytes=50000-"
    assert "If-Range" not in site.of(ZIP)[1].asked


@pytest.mark.parametrize("validators", [{}, {"ETag": None, "Last-Modified": None}])
def test_a_file_that_changed_meanwhile_starts_anew(download, root, published, site, validators):
    good = site.files[ZIP]
    site.files[ZIP] = b"x" * (len(good) - 5)
    site.answers[ZIP] = [Answer(cut=50_000, headers=validators), *[Answer(status=503)] * 3]
    with pytest.raises(DownloadError):
        download()
    site.files[ZIP] = good
    download()
    assert_complete(root, published)


def test_a_part_of_another_address_starts_anew(download, root, published, site):
    site.answers[ZIP] = [Answer(cut=50_000), *[Answer(status=503)] * 3]
    with pytest.raises(DownloadError):
        download()
    del site.requests[:]
    download(base_url=f"{site.url}mirror")
    assert [request.range for request in site.requests] == [None]
    assert_complete(root, published)


@pytest.mark.parametrize("note", ["", "[]", '{"url": 1}', None])
def test_a_part_that_nobody_knows_starts_anew(download, root, published, site, note):
    root.mkdir()
    (root / f"{ZIP}.part").write_bytes(b"something else")
    if note is not None:
        (root / f"{ZIP}.part.json").write_text(note)
    download()
    assert_complete(root, published)
    assert [request.range for request in site.of(ZIP)] == [None]


def test_a_server_that_ignores_ranges_is_read_from_the_start(download, root, published, site):
    site.answers[ZIP] = [Answer(cut=50_000), Answer(ranges=False)]
    download()
    assert_complete(root, published)
    assert [request.status for request in site.of(ZIP)] == [200, 200]


def test_a_server_without_ranges_that_always_breaks_is_given_up(download, site):
    site.always[ZIP] = Answer(ranges=False, cut=50_000)
    with pytest.raises(DownloadError, match="gave up after 3 attempts"):
        download()
    # The first one brought something, three brought nothing more.
    assert len(site.of(ZIP)) == 4


@pytest.mark.parametrize(
    "wrong",
    [
        {"Content-Range": "bytes 0-9/10"},
        {"Content-Range": "bytes 49999-TOTAL/TOTAL"},
        {"Content-Range": "bytes 50001-TOTAL/TOTAL"},
        {"Content-Range": "bytes 50000-99999/400000"},
        {"Content-Range": "rubbish"},
        {"Content-Range": f"bytes {'9' * 5_000}-{'9' * 5_000}/{'9' * 5_000}"},
        {"Content-Range": None},
        {"ETag": '"another"'},
    ],
)
def test_another_range_than_asked_for_is_not_appended(download, root, published, site, wrong):
    total = str(len(published.zips[ZIP]))
    wrong = {name: value and value.replace("TOTAL", total) for name, value in wrong.items()}
    site.answers[ZIP] = [Answer(cut=50_000), Answer(headers=wrong)]
    download()
    assert_complete(root, published)
    assert [request.status for request in site.of(ZIP)] == [200, 206, 200]


def test_a_partial_answer_that_nobody_asked_for_is_refused(download, site, root):
    site.always[ZIP] = Answer(status=206, headers={"Content-Range": "bytes 0-1/2"})
    with pytest.raises(DownloadError, match="another range"):
        download()


def test_an_answer_that_brings_less_than_asked_for_is_completed(download, root, published, site):
    content = published.zips[ZIP]
    half = {"Content-Range": f"bytes 50000-50999/{len(content)}"}
    site.answers[ZIP] = [Answer(cut=50_000), Answer(body=content[50_000:51_000], headers=half)]
    download()
    assert_complete(root, published)
    assert [request.range for request in site.of(ZIP)] == [None, "bytes=50000-", "bytes=51000-"]


def test_416_for_a_file_that_is_all_there_ends_the_download(download, root, published, site):
    # No length and a broken end: the next request asks for what comes after the last byte.
    content = published.zips[ZIP]
    site.answers[ZIP] = [Answer(chunked=True, cut=len(content))]
    download()
    assert_complete(root, published)
    assert [request.status for request in site.of(ZIP)] == [200, 416]


def test_416_for_a_shorter_file_starts_anew(download, root, published, site):
    good = site.files[ZIP]
    site.files[ZIP] = good + b"x" * 999
    site.answers[ZIP] = [Answer(cut=len(good) + 500), *[Answer(status=503)] * 3]
    with pytest.raises(DownloadError):
        download()
    site.files[ZIP] = good
    site.answers[ZIP] = [Answer(status=416, headers={"Content-Range": f"bytes */{len(good)}"})]
    download()
    assert_complete(root, published)


@pytest.mark.parametrize("how", [{"chunked": True}, {"headers": {"Content-Length": None}}])
def test_a_missing_length_is_no_harm(download, root, published, site, how):
    site.always[ZIP] = Answer(**how)
    download()
    assert_complete(root, published)


def test_a_length_that_is_too_large_is_named(download, root, site, published):
    size = len(published.zips[ZIP])
    site.always[ZIP] = Answer(ranges=False, headers={"Content-Length": str(size + 7)})
    with pytest.raises(DownloadError, match="gave up after 3 attempts"):
        download()
    site.always.clear()
    download()  # the server has come to its senses: all bytes were there already
    assert_complete(root, published)
    assert [request.status for request in site.of(ZIP)][4:] == [416]


@pytest.mark.parametrize("length", ["1000", "rubbish", "-5", "9" * 5_000])
def test_a_wrong_length_never_passes_for_the_whole_file(download, root, published, site, length):
    site.answers[ZIP] = [Answer(headers={"Content-Length": length})]
    # With some of these lengths the body arrives whole all the same.
    with contextlib.suppress(DownloadError):
        download()
        assert_complete(root, published)
    assert (root / ZIP).exists() == (root / "fma_small").exists()
    download()
    assert_complete(root, published)


def test_a_silent_server_is_asked_again(download, root, published, site):
    hold = threading.Event()
    site.answers[ZIP] = [Answer(cut=50_000, hold=hold)]
    download(patience=replace(QUICK, read_timeout_s=0.2))
    hold.set()
    assert_complete(root, published)


def test_a_busy_server_is_waited_for_as_long_as_it_asks(download, root, published, site):
    asked_s, longest_s = 100, 0.3
    site.answers[ZIP] = [Answer(status=503, headers={"Retry-After": str(asked_s)})]
    begin = time.monotonic()
    download(patience=replace(QUICK, longest_wait_s=longest_s))
    assert longest_s <= time.monotonic() - begin < asked_s / 2
    assert_complete(root, published)


@pytest.mark.parametrize("value", ["0", "-3", "soon", "9" * 5_000, formatdate(0, usegmt=True), "Mon, 99 Foo 20"])
def test_any_wish_to_wait_is_bounded(download, root, published, site, value):
    site.answers[ZIP] = [Answer(status=429, headers={"Retry-After": value})]
    download()
    assert_complete(root, published)


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 504])
def test_a_status_that_may_pass_is_tried_again(download, root, published, site, status, caplog):
    site.answers[ZIP] = [Answer(status=status)]
    with caplog.at_level(logging.WARNING):
        download()
    assert_complete(root, published)
    assert f"attempt 1 of 3: answers {status}" in caplog.text


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 304])
def test_a_final_status_is_named_and_not_tried_again(download, site, status):
    site.always[ZIP] = Answer(status=status)
    with pytest.raises(DownloadError, match=rf"{ZIP}: answers {status}"):
        download()
    assert len(site.of(ZIP)) == 1


def test_a_server_that_is_not_there_is_named(download, site):
    url = site.url
    site.close()
    with pytest.raises(DownloadError, match=r"fma_metadata\.zip: .*refused.*gave up after 3 attempts") as caught:
        download(base_url=url)
    assert "\n" not in str(caught.value)


def test_a_host_that_does_not_exist_is_named_at_once(download, site, caplog):
    try:
        socket.getaddrinfo("nosuchhost.invalid", 80)
    except socket.gaierror as error:
        if error.errno != socket.EAI_NONAME:
            pytest.skip(f"no resolver answers here: {error}")
    with pytest.raises(DownloadError, match=r"nosuchhost\.invalid.*look at the address") as caught:
        download(base_url="http://nosuchhost.invalid/")
    assert "\n" not in str(caught.value)
    assert not caplog.messages


def test_a_server_that_speaks_no_https_is_named_at_once(download, site, caplog):
    with pytest.raises(DownloadError, match="speaks no https"):
        download(base_url=site.url.replace("http:", "https:"))
    assert not caplog.messages


def test_a_proxy_that_is_not_there_is_named_without_its_password(download, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    monkeypatch.setenv("http_proxy", f"http://me:secret@127.0.0.1:{port}")
    with pytest.raises(DownloadError, match=f"proxy http://127.0.0.1:{port};") as caught:
        download(base_url="http://mirror.invalid/fma")
    assert "secret" not in str(caught.value)


def test_a_web_page_or_recoded_body_is_refused(download, site):
    site.answers[ZIP] = [Answer(headers={"Content-Type": "text/html; charset=utf-8"})]
    with pytest.raises(DownloadError, match="web page"):
        download()
    site.answers[ZIP] = [Answer(headers={"Content-Encoding": "gzip"})]
    with pytest.raises(DownloadError, match="sent as gzip"):
        download()


def test_redirects_are_followed_within_http(download, root, published, site):
    site.answers["fma_metadata.zip"] = [Answer(status=302, headers={"Location": f"{site.url}other/fma_metadata.zip"})]
    download()
    assert "/fma/other/fma_metadata.zip" in site.paths
    assert_complete(root, published)


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/x.zip", "data:,x"])
def test_redirects_to_anything_else_are_refused(download, root, site, target):
    site.always[ZIP] = Answer(status=302, headers={"Location": target})
    with pytest.raises(DownloadError, match="redirects from http to"):
        download()
    assert not (root / ZIP).exists()


def test_endless_redirects_are_refused(download, site):
    site.always[ZIP] = Answer(status=302, headers={"Location": f"{site.url}{ZIP}"})
    with pytest.raises(DownloadError, match="redirects"):
        download()
    assert len(site.of(ZIP)) == 6


# What is not what was published


def test_a_wrong_sum_is_named_and_the_file_is_gone(download, root, published, site):
    wrong = bytearray(published.zips[ZIP])
    wrong[1_000] ^= 1
    site.files[ZIP] = bytes(wrong)
    with pytest.raises(DownloadError) as caught:
        download()
    for part in (str(root / ZIP), published.archives["small"].sha1, hashlib.sha1(wrong).hexdigest()):
        assert part in str(caught.value)
    assert not list(root.glob(f"{ZIP}*"))
    assert not (root / "fma_small").exists()
    site.files[ZIP] = published.zips[ZIP]
    download()
    assert_complete(root, published)


def test_an_endless_file_is_cut_off(download, root, site, published):
    body = b"x" * (2 * len(published.zips[ZIP]))
    site.answers[ZIP] = [Answer(body=body)]
    with pytest.raises(DownloadError, match="is the limit"):
        download()
    site.answers[ZIP] = [Answer(body=body, chunked=True)]
    with pytest.raises(DownloadError, match="sends more than"):
        download()
    assert not list(root.glob(f"{ZIP}*"))


def test_a_password_in_the_address_is_never_shown_or_written(download, root, site, published):
    site.answers[ZIP] = [Answer(cut=50_000), *[Answer(status=503)] * 3]
    with pytest.raises(DownloadError) as caught:
        download(base_url=site.url.replace("://", "://me:secret@"))
    assert "secret" not in str(caught.value)
    assert "secret" not in (root / f"{ZIP}.part.json").read_text()
    assert site.requests[0].asked["Authorization"].startswith("Basic ")


@pytest.mark.parametrize("url", ["", "fma", "ftp://host/fma/", "http://", "http://[", "http://me:secret@h/?a=1"])
def test_an_impossible_address_is_named(download, url):
    with pytest.raises(DownloadError, match="not the address of a folder") as caught:
        download(base_url=url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("url", ["file:///fma", "FILE:fma", "/data/fma", "~/fma"])
def test_zips_on_this_machine_are_no_mirror(download, url):
    with pytest.raises(DownloadError, match="put its zips into"):
        download(base_url=url)


def test_an_unknown_subset_is_named(download):
    with pytest.raises(DownloadError, match=r"unknown subset 'tiny'; known are small"):
        download("tiny")


# Proxies and certificates


def test_the_proxy_of_the_environment_is_used(download, root, published, site, monkeypatch):
    # Nothing but the proxy knows this host.
    monkeypatch.setenv("HTTP_PROXY", site.url)
    monkeypatch.setenv("http_proxy", site.url)
    download(base_url="http://fma.invalid/fma/")
    assert f"http://fma.invalid/fma/{ZIP}" in site.paths
    assert_complete(root, published)


def test_no_proxy_is_respected(download, root, published, site, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9/")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    download()
    assert_complete(root, published)


@pytest.fixture
def secured(site, tmp_path):
    """The server behind TLS, and the certificate that it signed itself."""
    x509 = pytest.importorskip("cryptography.x509")
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = tmp_path / "server.pem"
    pem.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    site.http.socket = context.wrap_socket(site.http.socket, server_side=True)
    site.scheme = "https"
    return pem


def test_a_certificate_that_nobody_knows_is_refused_at_once(download, secured, site):
    with pytest.raises(DownloadError, match="REQUESTS_CA_BUNDLE"):
        download()
    assert site.requests == []


def test_a_certificate_bundle_of_the_environment_is_used(download, root, published, secured, site, monkeypatch):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(secured))
    download()
    assert_complete(root, published)


def test_a_bundle_that_is_not_there_is_named(download, secured, monkeypatch):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/no/such/bundle.pem")
    with pytest.raises(DownloadError, match=r"/no/such/bundle\.pem"):
        download()


def test_https_is_never_left_for_http(download, root, secured, site, monkeypatch):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(secured))
    site.always[ZIP] = Answer(status=301, headers={"Location": f"http://127.0.0.1:9/{ZIP}"})
    with pytest.raises(DownloadError, match="redirects from https to http, which is not followed"):
        download()


# Interrupted, killed, and two at once


def test_an_interrupt_at_any_moment_leaves_what_the_next_run_completes(site, published, tmp_path):
    steps = []
    options = {"base_url": site.url, "archives": published.archives, "patience": QUICK}
    download_fma(tmp_path / "whole", "small", on_progress=lambda *step: steps.append(step), **options)
    for moment in range(1, len(steps) + 1, 4):
        root = tmp_path / f"at {moment}"
        left = iter(range(moment))

        def interrupt(what, done, total, left=left):
            if next(left, None) is None:
                raise KeyboardInterrupt

        with contextlib.suppress(KeyboardInterrupt):
            download_fma(root, "small", on_progress=interrupt, **options)
        names = {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}
        for name in names & published.files.keys():
            assert (root / name).read_bytes() == published.files[name]
        assert not [name for name in names if name.endswith(".partial")]
        # Every byte that is there is safe: only what is missing is asked for.
        expected = []
        for name, content in published.zips.items():
            part = root / f"{name}.part"
            if part.exists() and part.stat().st_size < len(content):
                expected.append((name, f"bytes={part.stat().st_size}-"))
            elif not part.exists() and not (root / name).exists():
                expected.append((name, None))
        site.requests.clear()
        download_fma(root, "small", **options)
        assert_complete(root, published)
        assert [(request.name, request.range) for request in site.requests] == expected


SCRIPT = """
import os, pickle, signal, sys
from pathlib import Path
from genre_spark.corpora.download import download_fma
from genre_spark.corpora.fetch import Patience
from genre_spark.errors import DownloadError

root, url, archives, phase, user = sys.argv[1:]
archives = pickle.loads(Path(archives).read_bytes())

def on_progress(what, done, total):
    if phase and what.startswith(phase) and done > total // 2:
        os.kill(os.getpid(), signal.SIGKILL)

if user and os.getuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
try:
    download_fma(root, "small", base_url=url, archives=archives, on_progress=on_progress,
                 patience=Patience(2, 0.001, 0.01))
except DownloadError as error:
    sys.exit(f"named: {error}")
"""


@pytest.fixture
def process(site, published, tmp_path):
    """Start a download in a process of its own."""
    archives = tmp_path / "archives.pickle"
    archives.write_bytes(pickle.dumps(published.archives))
    archives.chmod(0o644)

    def start(root, phase="", user="", archives=archives, **options):
        command = [sys.executable, "-c", SCRIPT, str(root), site.url, str(archives), phase, user]
        return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, **options)

    return start


def test_a_process_killed_while_fetching_loses_no_byte(download, process, root, published, site):
    hold = threading.Event()
    site.answers[ZIP] = [Answer(cut=131_072, hold=hold)]
    running = process(root)
    part = root / f"{ZIP}.part"
    wait_for(lambda: part.exists() and part.stat().st_size == 131_072)
    running.kill()
    running.communicate()
    hold.set()
    site.requests.clear()
    download()
    assert_complete(root, published)
    assert [(request.name, request.range) for request in site.requests] == [(ZIP, "bytes=131072-")]


@pytest.mark.parametrize("phase", ["fetching fma_s", "checking fma_s", "unpacking fma_m", "unpacking fma_s"])
def test_a_process_killed_in_any_phase_leaves_what_the_next_run_completes(
    download, process, root, published, site, phase
):
    running = process(root, phase)
    running.communicate()
    assert running.returncode == -signal.SIGKILL
    for name in published.files.keys() & unpacked(root).keys():
        assert (root / name).read_bytes() == published.files[name]
    site.requests.clear()
    download()
    assert_complete(root, published)
    # What was fetched before the kill is not asked for again.
    if phase in ("checking fma_s", "unpacking fma_s"):
        assert site.requests == []


def test_a_second_download_into_the_same_folder_is_refused(download, process, root, published, site):
    hold = threading.Event()
    site.answers[ZIP] = [Answer(cut=50_000, hold=hold)]
    running = process(root)
    wait_for(lambda: site.of(ZIP))
    with pytest.raises(DownloadError, match=r"music: another download into this folder is running"):
        download()
    hold.set()
    running.communicate()
    assert running.returncode == 0
    assert_complete(root, published)


# Disks


def test_too_little_room_is_refused_before_anything_is_fetched(download, root, published, site):
    huge = replace(published.archives["small"], approx_zip_bytes=10**18, approx_unpacked_bytes=2 * 10**18)
    plans = []
    with pytest.raises(
        DownloadError, match=r"needs about .* \(1\.0 EB to download, 2\.0 EB unpacked\), but only .* are free"
    ) as caught:
        download(archives=published.archives | {"small": huge}, on_plan=plans.append)
    assert "\n" not in str(caught.value)
    assert isinstance(plans[0], Plan)
    assert site.requests == []


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 1 MB."""
    path = tmp_path / "disk"
    path.mkdir()
    mount = shutil.which("mount")
    if (
        mount is None
        or subprocess.run([mount, "-t", "tmpfs", "-o", "size=1000k", "none", path], check=False).returncode
    ):
        pytest.skip("mounting a tmpfs needs root")
    yield path
    subprocess.run(["umount", path], check=True)


def test_a_full_disk_keeps_what_has_come(download, published, site, small_disk):
    # By the list all fits; on the disk the zip of the clips doesn't.
    filler = small_disk / "filler"
    filler.write_bytes(bytes(450_000))
    root = small_disk / "music"
    modest = {
        "metadata": replace(published.archives["metadata"], approx_unpacked_bytes=265_000),
        "small": replace(published.archives["small"], approx_zip_bytes=250_000, approx_unpacked_bytes=600),
    }
    with pytest.raises(DownloadError, match=r"fma_small\.zip\.part.* No space left on device.*what has come is kept"):
        download(root=root, archives=modest)
    have = (root / f"{ZIP}.part").stat().st_size
    assert have > 0
    filler.unlink()
    site.requests.clear()
    modest["small"] = replace(modest["small"], approx_unpacked_bytes=245_000)
    with pytest.raises(DownloadError, match=r"fma_small: needs .* to unpack fma_small\.zip, but only .* are free"):
        download(root=root, archives=modest)
    assert [request.range for request in site.requests] == [f"bytes={have}-"]
    assert (root / ZIP).read_bytes() == published.zips[ZIP]
    assert not list(root.rglob("*.mp3"))


def test_a_file_that_may_not_grow_keeps_what_has_come(process, download, root, published, site):
    # What an unprivileged process can have in place of a full disk: files of at most 100 kB.
    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    download()
    shutil.rmtree(root / "fma_small")
    (root / ZIP).unlink()
    running = process(root, preexec_fn=limit)
    error = running.communicate()[1]
    assert running.returncode == 1
    assert re.fullmatch(rf"named: {root}/{ZIP}\.part: can't be written: File too large; .*run again.*\n", error)
    have = (root / f"{ZIP}.part").stat().st_size
    assert 0 < have <= 100_000
    assert not (root / ZIP).exists()
    site.requests.clear()
    download()
    assert_complete(root, published)
    assert [request.range for request in site.requests] == [f"bytes={have}-"]


def test_a_folder_that_may_not_be_written_is_named(process, published):
    # Root may write anywhere, so it becomes somebody else first; not below pytest's folder, which is closed to others.
    folder = Path(tempfile.mkdtemp())
    try:
        archives = folder / "archives.pickle"
        archives.write_bytes(pickle.dumps(published.archives))
        folder.chmod(0o555)
        running = process(folder, user="other", archives=archives)
        error = running.communicate()[1]
        assert running.returncode == 1
        assert re.match(rf"named: {folder}[^\n]*(Permission denied|Read-only)[^\n]*\n$", error), error
    finally:
        folder.chmod(0o755)
        shutil.rmtree(folder)


def test_a_complete_corpus_may_lie_where_nothing_can_be_written(download, root, published):
    download()
    (root / ".download.lock").unlink()
    for path in [root, *root.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    download()
    assert not (root / ".download.lock").exists()
    for path in [root, *root.rglob("*")]:
        path.chmod(0o755)


@pytest.mark.parametrize("name", ["music", "music/fma_small", "music/fma_small.zip", "music/fma_small.zip.part"])
def test_something_else_in_the_way_is_named(download, root, name, tmp_path):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    if path.suffix:
        path.mkdir()
    else:
        path.write_bytes(b"a file")
    with pytest.raises(DownloadError, match=re.escape(str(path))) as caught:
        download()
    assert "\n" not in str(caught.value)
    assert path.exists()


def test_a_link_in_place_of_the_partial_file_is_not_followed(download, root, tmp_path):
    root.mkdir()
    target = tmp_path / "precious"
    target.write_bytes(b"mine")
    (root / f"{ZIP}.part").symlink_to(target)
    with pytest.raises(DownloadError, match=r"\.part: something other than a file"):
        download()
    assert target.read_bytes() == b"mine"


def test_a_synthetic_corpus_is_never_mixed_with_the_genuine_one(download, root, site):
    settings = SyntheticSettings(clips_per_genre=1, artists_per_genre=1, duration_s=0.5)
    write_synthetic_corpus(root, settings, genres=("Rock",), workers=1)
    before = unpacked(root)
    with pytest.raises(DownloadError, match="holds a synthetic corpus"):
        download()
    assert unpacked(root) == before
    assert site.requests == []


def test_no_folder_is_made_for_a_wrong_wish(download, root):
    with pytest.raises(DownloadError):
        download("tiny")
    assert not root.exists()
