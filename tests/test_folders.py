"""Folders: the same on a local disk, an S3 server and what fsspec opens."""

# ruff: noqa: F811 (a fixture and the arguments that ask for it have one name)

import errno
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from genre_spark.errors import CorpusError, DatasetError
from genre_spark.folders import Folder
from tests.s3_server import BUCKET, SECRET, s3, s3_server  # noqa: F401

ODD_NAMES = ["röck/50% #1?.txt", "a b/%20.txt", "日本.bin", "a=1/b&c+d.txt", "'x\"y.txt", ".hidden", "x y/z.", "C:\\x"]


@pytest.fixture(params=["disk", "s3", "memory"])
def folder(request, tmp_path):
    if request.param == "s3":
        request.getfixturevalue("s3")
        return Folder(f"s3://{BUCKET}/data sets/röck%20%25", DatasetError)
    if request.param == "memory":
        pytest.importorskip("fsspec")
        return Folder(f"memory://{uuid.uuid4().hex}/data", DatasetError)
    return Folder(tmp_path / "röck %", DatasetError)


def names_of(folder, below=""):
    return [file.name for file in folder.files(below)]


def line_of(caught):
    message = str(caught.value)
    assert "\n" not in message
    assert SECRET not in message
    return message


def test_what_is_written_is_read_and_listed(folder):
    started = time.time()
    folder.write("b/c/2.bin", b"22")
    folder.write("b/1.bin", b"1")
    folder.write("a.bin", b"")
    assert [folder.read(name) for name in ("a.bin", "b/1.bin", "b/c/2.bin")] == [b"", b"1", b"22"]
    assert [file[:2] for file in folder.files()] == [("a.bin", 0), ("b/1.bin", 1), ("b/c/2.bin", 2)]
    assert names_of(folder, "b") == ["b/1.bin", "b/c/2.bin"]
    assert folder.names() == ["a.bin", "b"]
    for file in folder.files():
        assert file.mtime is None or abs(file.mtime - started) < 60


def test_a_folder_that_is_missing_or_holds_no_file_is_not_there(folder):
    assert not folder.exists()
    assert (folder.names(), folder.files(), folder.files("below")) == ([], [], [])
    folder.filesystem.create_dir(folder.path("a/b"), recursive=True)
    assert not folder.exists()
    assert (folder.names(), folder.files()) == ([], [])
    folder.write("a/b/c", b"c")
    assert folder.exists()
    assert folder.names() == ["a"]


@pytest.mark.parametrize("name", ODD_NAMES)
def test_odd_names_come_back_as_they_are(folder, name):
    if "?" in name and folder.filesystem.type_name.startswith("py::"):
        with pytest.raises(DatasetError, match="did not rename it; fsspec takes"):
            folder.write(name, b"")
        assert not folder.exists()
        return
    folder.write(name, name.encode())
    assert folder.read(name) == name.encode()
    assert names_of(folder) == [name]
    folder.move([(name, f"moved/{name}")])
    assert names_of(folder) == [f"moved/{name}"]
    assert Folder(folder.join("moved"), DatasetError).read(name) == name.encode()
    folder.delete([f"moved/{name}"])
    assert not folder.exists()


SEGMENT = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="/"), min_size=1, max_size=20)


@hypothesis_settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(SEGMENT.filter(lambda part: part not in (".", "..")), min_size=1, max_size=3).map("/".join))
def test_every_name_on_a_disk_comes_back(tmp_path, name):
    folder = Folder(tmp_path / uuid.uuid4().hex, DatasetError)
    folder.write(name, b"x")
    assert names_of(folder) == [name]
    assert Path(folder.join(name)).read_bytes() == b"x"


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/etc/passwd", "a//b", "a/", ".", "a\0b"])
def test_a_name_that_leads_out_of_the_folder_is_refused(folder, name):
    for use in (folder.read, lambda name: folder.write(name, b""), folder.join, lambda name: folder.delete([name])):
        with pytest.raises(DatasetError, match="is no name of a file in this folder"):
            use(name)


def test_the_keys_in_the_bucket_are_the_plain_names(s3):
    Folder("s3://music/röck%201", DatasetError).write("50% #1?.txt", b"x")
    assert s3.client.get_object(Bucket=BUCKET, Key="röck 1/50% #1?.txt")["Body"].read() == b"x"


def test_a_folder_pickles_as_its_address(folder):
    folder.write("a", b"a")
    copy = pickle.loads(pickle.dumps(folder))
    assert vars(copy) == {"address": folder.address, "error": DatasetError}
    assert copy == folder
    assert copy.read("a") == b"a"


def test_addresses_paths_and_uris_have_one_form(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for address in ("a b", tmp_path / "a b", (tmp_path / "a b").as_uri()):
        folder = Folder(address, DatasetError)
        assert folder.address == str(folder) == folder.path() == folder.join() == str(tmp_path / "a b")
        assert folder.local == tmp_path / "a b"
        assert folder.join("ü#") == folder.path("ü#") == str(tmp_path / "a b/ü#")
        assert folder.uri("ü#") == (tmp_path / "a b/ü#").as_uri()
    remote = Folder("S3://music/a b/", DatasetError)
    assert (remote.address, remote.local) == ("s3://music/a%20b", None)
    assert remote.path("ü#") == "music/a b/ü#"
    assert remote.join("ü#") == remote.uri("ü#") == "s3://music/a%20b/%C3%BC%23"


def test_credentials_in_an_address_are_refused_unseen():
    with pytest.raises(CorpusError) as caught:
        Folder("s3://key:hunter2@music/a", CorpusError)
    assert "hunter2" not in line_of(caught)


def test_a_missing_file_stays_a_missing_file(folder):
    for _ in range(2):
        with pytest.raises(FileNotFoundError) as caught:
            folder.read("none.bin")
        assert "none.bin" in str(caught.value)
        folder.write("other.bin", b"")


def test_a_big_file_appears_only_when_its_body_ends_well(folder):
    table = pa.table({"x": range(300_000)})
    with folder.created("features/part-0.parquet") as file:
        pq.write_table(table, file, compression="none")
        assert not folder.exists()
    with folder.opened("features/part-0.parquet") as file:
        assert pq.read_table(file).equals(table)
    size = folder.files()[0].size
    for failure in (ZeroDivisionError, KeyboardInterrupt, SystemExit):
        with pytest.raises(failure), folder.created("features/part-0.parquet") as file:  # noqa: PT012
            file.write(b"x" * 100)
            raise failure
    assert folder.files()[0].size == size
    assert folder.files()[0].size == len(folder.read("features/part-0.parquet"))
    with pytest.raises(ZeroDivisionError), folder.created("features/part-1.parquet"):
        _ = 1 / 0
    assert names_of(folder) == ["features/part-0.parquet"]
    if folder.local:
        assert list((folder.local / "features").iterdir()) == [folder.local / "features/part-0.parquet"]


def test_what_is_no_parquet_is_refused_by_name(folder):
    folder.write("x.parquet", b"no parquet at all")
    with pytest.raises(DatasetError) as caught, folder.opened("x.parquet") as file:
        pq.read_table(file)
    assert line_of(caught).startswith(f"{folder}/x.parquet: can't be read: ")


def test_a_reader_sees_only_whole_contents(folder):
    if folder.local is None and folder.filesystem.type_name != "s3":
        pytest.skip("a store without a replacing rename has a gap between the old file and the new one")
    contents = [bytes([number]) * size for number, size in enumerate([10, 200_000, 3, 1_000_000])]
    folder.write("manifest.json", contents[0])
    seen, ended = set(), threading.Event()

    def poll():
        while not ended.is_set():
            try:
                seen.add(folder.read("manifest.json"))
            except DatasetError as error:
                # moto closes the old object's buffer under whoever reads it (moto.s3.models, value).
                if "INTERNAL_FAILURE" not in str(error):
                    raise

    reader = threading.Thread(target=poll)
    reader.start()
    deadline = time.monotonic() + 1
    while time.monotonic() < deadline:
        for content in contents:
            folder.write("manifest.json", content)
    ended.set()
    reader.join()
    assert len(seen) > 1
    assert seen <= set(contents)


WRITER = """
import sys, time
from genre_spark.errors import DatasetError
from genre_spark.folders import Folder
with Folder(sys.argv[1], DatasetError).created("big.bin") as file:
    file.write(b"x" * 10_000_000)
    file.flush()
    print("written", flush=True)
    time.sleep(60)
"""


def test_a_killed_writer_leaves_no_visible_file(folder):
    if folder.filesystem.type_name.startswith("py::"):
        pytest.skip("lies in the memory of this process")
    with subprocess.Popen([sys.executable, "-c", WRITER, folder.address], stdout=subprocess.PIPE) as writer:
        assert writer.stdout.readline() == b"written\n"
        writer.send_signal(signal.SIGKILL)
    assert not folder.exists()
    assert (folder.names(), folder.files()) == ([], [])
    folder.write("big.bin", b"x")
    assert folder.names() == ["big.bin"]


def test_files_are_moved_and_a_move_that_broke_off_is_made_again(folder):
    pairs = [(f"staging/{number}.bin", f"features/{number}.bin") for number in range(12)]
    for number, (old, _) in enumerate(pairs):
        folder.write(old, bytes([number]))
    folder.write(pairs[3][1], b"an older one")
    folder.move(pairs[:8])
    folder.write(pairs[5][0], b"copied and not yet deleted")
    folder.move(pairs)
    assert names_of(folder) == sorted(new for _, new in pairs)
    contents = {number: folder.read(new) for number, (_, new) in enumerate(pairs)}
    assert contents.pop(5) == b"copied and not yet deleted"
    assert contents == {number: bytes([number]) for number in contents}
    folder.move(pairs)
    folder.move([(new, new) for _, new in pairs])
    assert len(folder.files()) == 12
    with pytest.raises(DatasetError) as caught:
        folder.move([*pairs, ("none.bin", "gone.bin")])
    assert f"{folder}/none.bin: " in line_of(caught)


def test_files_and_folders_are_deleted_and_missing_ones_are_fine(folder):
    folder.delete(["none", "none/none"])
    folder.delete_folder("none")
    folder.delete_folder()
    for number in range(8):
        folder.write(f"a/{number}", b"")
        folder.write(f"b/c/{number}", b"")
    folder.delete([f"a/{number}" for number in range(10)])
    assert folder.names() == ["b"]
    folder.write("bc", b"")
    folder.delete_folder("b")
    assert folder.names() == ["bc"]
    folder.delete_folder()
    assert not folder.exists()


def test_a_missing_bucket_is_named_and_not_made(s3):
    folder = Folder("s3://no-such-bucket/a", DatasetError)
    assert not folder.exists()
    with pytest.raises(FileNotFoundError):
        folder.read("x")
    with pytest.raises(DatasetError) as caught:
        folder.write("ü.bin", b"x")
    assert line_of(caught) == (
        "s3://no-such-bucket/a/%C3%BC.bin: can't be written: there is no such bucket; "
        "make it, or check its name and the store's address"
    )
    with pytest.raises(DatasetError, match="no such bucket"), folder.created("x") as file:
        file.write(b"x")
    assert [bucket["Name"] for bucket in s3.client.list_buckets()["Buckets"]] == [BUCKET]


class Refusing(BaseHTTPRequestHandler):
    def refuse(self):
        body = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.send_response(403)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = refuse  # noqa: N815

    def log_message(self, *_):
        pass


def test_refused_credentials_are_said_and_not_shown(s3, monkeypatch):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Refusing)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
    folder = Folder("s3://music/a", DatasetError)
    uses = [
        lambda: folder.write("x", b"x"),
        lambda: folder.read("x"),
        lambda: folder.delete(["x"]),
        lambda: folder.delete_folder("x"),
        lambda: folder.move([("x", "y")]),
        folder.files,
        folder.exists,
    ]
    for use in uses:
        with pytest.raises(DatasetError, match=r"^s3://music/a(/x)?: .*access denied.*; check the cred") as caught:
            use()
        line_of(caught)
    server.shutdown()
    server.server_close()


def test_a_store_that_does_not_answer_is_an_error_that_names_the_file(s3, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    folder = Folder("s3://music/a", DatasetError)
    with pytest.raises(DatasetError, match=r"^s3://music/a/x: can't be written: ") as caught:
        folder.write("x", b"x")
    line_of(caught)


@pytest.fixture
def small_disk(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_is_named_and_the_old_file_stays(small_disk):
    folder = Folder(small_disk, DatasetError)
    folder.write("a.bin", b"old")
    for name in ("a.bin", "b/c.bin"):
        with pytest.raises(DatasetError) as caught:
            folder.write(name, b"x" * 2_000_000)
        assert line_of(caught) == f"{small_disk}/{name}: can't be written: {os.strerror(errno.ENOSPC)}"
        with pytest.raises(DatasetError, match="written: No space left"), folder.created(name) as file:
            file.write(b"x" * 2_000_000)
    assert names_of(folder) == ["a.bin"]
    assert folder.read("a.bin") == b"old"


def test_a_full_temporary_folder_is_named_where_an_object_is_collected_there(s3, small_disk, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(small_disk))
    folder = Folder("s3://music/a", DatasetError)
    with pytest.raises(DatasetError) as caught, folder.created("x.bin") as file:
        file.write(b"x" * 2_000_000)
    assert line_of(caught) == f"s3://music/a/x.bin: can't be written: no space left in {small_disk}; set TMPDIR"
    assert not folder.exists()


def test_a_file_in_the_way_of_a_folder_is_named(tmp_path):
    folder = Folder(tmp_path, DatasetError)
    folder.write("a", b"")
    with pytest.raises(DatasetError, match=r"a/b: can't be written: (Not a directory|File exists)$"):
        folder.write("a/b", b"")
    with pytest.raises(DatasetError, match=r"a/b: can't be read: Not a directory$"):
        folder.read("a/b")
    (tmp_path / "c").mkdir()
    with pytest.raises(DatasetError, match=r"c: can't be written: Is a directory$"):
        folder.write("c", b"")
