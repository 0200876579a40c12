"""A library that lies in an object store: on a real S3 server, and through fsspec."""

import pytest

from genre_spark.corpora.folder import load_folder
from genre_spark.errors import CorpusError
from genre_spark.filesystems import open_file
from tests.s3_server import SECRET

ODD_NAMES = ["50% #1?.mp3", "a b+c&d=e.mp3", "%41.mp3", "'x' (y) [z]!*~;:@$.mp3", "東京.mp3"]


def refusal(root, table=None):
    with pytest.raises(CorpusError) as caught:
        load_folder(root, table)
    message = str(caught.value)
    assert "\n" not in message
    assert SECRET not in message
    return message


def test_genre_folders_in_a_bucket_give_what_the_same_folders_on_disk_give(s3, tmp_path, caplog):
    names = ["rock/a.mp3", "rock/Album 1/b.FLAC", "röck & roll/c.ogg", "rock/cover.jpg", "top.mp3", "rock/._a.mp3"]
    names += [".git/a.mp3", "rock/.hidden/a.mp3", "pop/a.mp3", "pop/a.wav", *(f"jazz/{name}" for name in ODD_NAMES)]
    for name in names:
        s3.put(f"library/{name}")
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    s3.put("library-2/rock/a.mp3")
    remote, local = load_folder("s3://music/library/"), load_folder(tmp_path)
    assert remote.drop_columns("uri").equals(local.drop_columns("uri"))
    assert [uri.removeprefix("s3://music/library") for uri in remote["uri"].to_pylist()] == [
        uri.removeprefix(tmp_path.resolve().as_uri()) for uri in local["uri"].to_pylist()
    ]
    assert caplog.messages == [
        "2 files under s3://music/library are not audio in a genre's folder: ignored",
        f"2 files under {tmp_path} are not audio in a genre's folder: ignored",
    ]


def test_every_address_leads_back_to_its_very_object(s3):
    for name in ODD_NAMES:
        s3.put(f"rock/{name}", name.encode())
    for track in load_folder("s3://music").to_pylist():
        assert track["uri"].isascii()
        with open_file(track["uri"], CorpusError) as file:
            assert f"{track['track_id']}.mp3" == "rock/" + file.read().decode()


def test_a_bucket_of_more_objects_than_one_answer_holds_is_listed_whole(s3):
    from moto.s3.models import s3_backends

    # Straight into the server's memory: a thousand requests take longer than all other tests here.
    for number in range(1_050):
        s3_backends["123456789012"]["aws"].put_object("music", f"rock/{number:04}.mp3", b"")
    table = load_folder("s3://music")
    assert table["track_id"].to_pylist() == [f"rock/{number:04}" for number in range(1_050)]


@pytest.mark.parametrize("key", ["rock//a.mp3", "rock/x/../a.mp3"])
def test_a_key_that_no_file_system_opens_is_refused_by_name(s3, key):
    s3.put(key)
    assert refusal("s3://music") == (
        f"s3://music/{key}: has an empty part, . or .. in its path; such names can't be opened: rename it"
    )


def test_a_table_in_the_bucket_names_what_is_anywhere(s3, tmp_path):
    s3.put(
        "lists/tracks.csv",
        b"\xef\xbb\xbftrack_id,path,genre\r\n"
        b"a,rock/50% #1?.mp3,Rock\r\n"
        b"b,./x/../b.mp3,Rock\r\n"
        b"c,/srv/c d.mp3,Rock\r\n"
        b"d,file:///srv/c%20d.mp3,Rock\r\n"
        b"e,s3://other/caf%C3%A9 1.mp3,Rock\r\n"
        b"f,gs://other/caf\xc3\xa9%201.mp3,Rock\r\n"
        b"g,hdfs://name:8020/g.mp3,Rock\r\n"
        b"h,abfss://container@account.dfs.core.windows.net/h.mp3,Rock\r\n"
        b"i,MEMORY://i.mp3,Rock\r\n",
    )
    uris = [
        "s3://music/library/rock/50%25%20%231%3F.mp3",
        "s3://music/library/b.mp3",
        "file:///srv/c%20d.mp3",
        "file:///srv/c%20d.mp3",
        "s3://other/caf%C3%A9%201.mp3",
        "gs://other/caf%C3%A9%201.mp3",
        "hdfs://name:8020/g.mp3",
        "abfss://container@account.dfs.core.windows.net/h.mp3",
        "memory://i.mp3",
    ]
    assert load_folder("s3://music/library", "s3://music/lists/tracks.csv")["uri"].to_pylist() == uris
    # The same table beside music on this machine: only the relative paths lead elsewhere.
    with open_file("s3://music/lists/tracks.csv", CorpusError) as file:
        (tmp_path / "tracks.csv").write_bytes(file.read())
    assert load_folder(tmp_path, str(tmp_path / "tracks.csv"))["uri"].to_pylist()[2:] == uris[2:]


@pytest.mark.parametrize("path", ["../a.mp3", "x/../../a.mp3", "..", "x y://../../../a.mp3"])
def test_a_relative_path_that_leaves_a_remote_root_is_refused(s3, path):
    s3.put("tracks.csv", f"track_id,path\na,{path}\n".encode())
    message = refusal("s3://music/library", "s3://music/tracks.csv")
    assert message.startswith(f"s3://music/tracks.csv, line 2: path {path!r} leaves s3://music/library;")


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("s3://AKIA:hunter2/hunter2@bucket/a.mp3", "s3://***@bucket/a.mp3: credentials don't belong into an address"),
        (
            "https://example.org/a.mp3?X-Amz-Signature=hunter2",
            "https://example.org/a.mp3?***: its query holds credentials",
        ),
        ("s3://bucket/Song #1.mp3", "s3://bucket/Song : a path ends at ? and #"),
        ("nosuch://bucket/a.mp3", "nosuch://bucket/a.mp3: nothing here opens nosuch://"),
        ("s3://bucket/caf%E9.mp3", "s3://bucket/caf%E9.mp3: its percent-encoded bytes are no UTF-8"),
    ],
)
def test_an_address_in_a_table_that_can_not_be_kept_is_refused_with_its_line(tmp_path, path, reason):
    table = tmp_path / "tracks.csv"
    table.write_text(f"track_id,path\na,{path}\n")
    message = refusal(tmp_path, table)
    assert message.startswith(f"{table}, line 2: path {reason}")
    assert "hunter2" not in message


def test_what_is_missing_in_a_store_is_refused_by_name(s3):
    missing = "no such file or folder; check the bucket's name too"
    assert refusal("s3://music/nowhere") == f"s3://music/nowhere: {missing}"
    assert refusal("s3://no-such-bucket/x") == f"s3://no-such-bucket/x: {missing}"
    assert refusal("s3://no-such-bucket") == f"s3://no-such-bucket: {missing}"
    assert refusal("s3://music", "s3://music/no.csv") == f"s3://music/no.csv: {missing}"


def test_a_bucket_without_genre_folders_is_refused(s3):
    s3.put("a.mp3")
    assert refusal("s3://music").startswith(
        "s3://music: no audio below a genre's folder; it must hold s3://music/<genre>"
    )


def test_a_library_behind_fsspec_is_listed_alike():
    fsspec = pytest.importorskip("fsspec")
    memory = fsspec.filesystem("memory")
    for name in [*ODD_NAMES, ".hidden.mp3"]:
        memory.pipe(f"/library/rock/{name}", b"")
    try:
        tracks = load_folder("memory://library").to_pylist()
    finally:
        memory.rm("/library", recursive=True)
    assert {track["track_id"] for track in tracks} == {f"rock/{name[:-4]}" for name in ODD_NAMES}
    assert all(track["uri"].startswith("memory://library/rock/") for track in tracks)


def test_a_key_that_nothing_opens_is_no_harm_where_it_is_no_audio(s3):
    for key in ("rock/a.mp3", "logs//today.txt", "rock/x/../notes.txt", "a::b.jpg"):
        s3.put(key)
    assert load_folder("s3://music")["track_id"].to_pylist() == ["rock/a"]
