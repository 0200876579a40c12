"""A library of one's own: by its folders, and by a table."""

import os
from collections import Counter
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from genre_spark.corpora.folder import load_folder
from genre_spark.corpora.tracks import TRACK_SCHEMA
from genre_spark.errors import CorpusError

EMOTIFY = Path(__file__).parents[3] / "shared" / "data" / "emotify"


@pytest.fixture
def library(tmp_path):
    root = tmp_path / "library"
    root.mkdir()
    return root


def write_files(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")


def write_table(root, text, encoding="utf-8"):
    table = root / "tracks.csv"
    table.write_text(text, encoding=encoding, newline="")
    return table


def refusal(root, table=None):
    with pytest.raises(CorpusError) as caught:
        load_folder(root, table)
    message = str(caught.value)
    assert "\n" not in message
    return message


def genres_by_id(table):
    return dict(zip(table["track_id"].to_pylist(), table["genre"].to_pylist(), strict=True))


def test_the_first_folder_is_the_genre_however_deep_a_file_lies(library, caplog):
    write_files(library, "rock/a.mp3", "rock/Album 1/b.FLAC", "folk & world/x/y/c.ogg")
    assert genres_by_id(load_folder(library)) == {
        "rock/a": "rock",
        "rock/Album 1/b": "rock",
        "folk & world/x/y/c": "folk & world",
    }
    assert caplog.messages == []


def test_addresses_are_percent_encoded_and_lead_back_to_the_file(library):
    write_files(library, "röck/50% #1?.mp3")
    (uri,) = load_folder(library)["uri"].to_pylist()
    assert uri.isascii()
    assert Path(unquote(urlsplit(uri).path)) == (library / "röck" / "50% #1?.mp3").resolve()


@pytest.mark.parametrize("extension", ["mp3", "wav", "flac", "ogg", "oga", "opus", "au", "aif", "aiff", "m4a", "wma"])
def test_audio_is_known_by_its_extension(library, extension):
    write_files(library, f"rock/a.{extension}")
    assert load_folder(library)["track_id"].to_pylist() == ["rock/a"]


def test_other_files_are_counted_and_hidden_ones_are_not(library, caplog):
    write_files(library, "rock/a.mp3", "rock/cover.jpg", "top.mp3", "rock/._a.mp3", ".git/a.mp3", ".DS_Store")
    assert load_folder(library)["track_id"].to_pylist() == ["rock/a"]
    assert caplog.messages == [f"2 files under {library} are not audio in a genre's folder: ignored"]


def test_files_that_differ_in_the_extension_alone_keep_it_in_their_ids(library):
    write_files(library, "rock/a.mp3", "rock/a.flac", "rock/b.mp3", "pop/a.mp3")
    assert set(genres_by_id(load_folder(library))) == {"rock/a.mp3", "rock/a.flac", "rock/b", "pop/a"}


def test_ids_stay_unique_when_a_name_looks_like_another_s_with_its_extension(library):
    write_files(library, "rock/a.mp3", "rock/a.flac", "rock/a.mp3.flac")
    assert set(genres_by_id(load_folder(library))) == {"rock/a.mp3", "rock/a.flac", "rock/a.mp3.flac"}


def test_linked_folders_are_followed_but_not_in_a_circle(library, tmp_path):
    write_files(tmp_path / "elsewhere", "b.mp3")
    write_files(library, "rock/a.mp3")
    (library / "jazz").symlink_to(tmp_path / "elsewhere")
    (library / "rock" / "up").symlink_to(library)
    table = load_folder(library)
    assert genres_by_id(table) == {"rock/a": "rock", "jazz/b": "jazz"}
    assert table["uri"].to_pylist()[0] == (tmp_path / "elsewhere" / "b.mp3").resolve().as_uri()


def test_a_name_that_is_not_utf8_gets_a_readable_id_and_its_very_bytes_as_address(library):
    (library / "rock").mkdir()
    try:
        Path(os.fsdecode(os.fsencode(library) + b"/rock/caf\xe9.mp3")).write_bytes(b"")
    except OSError:
        pytest.skip("this file system holds UTF-8 names only")
    (track,) = load_folder(library).to_pylist()
    assert track["track_id"] == r"rock/caf\xe9"
    assert track["uri"].endswith("/rock/caf%E9.mp3")


def test_a_missing_folder_is_refused_by_name(tmp_path):
    assert refusal(tmp_path / "no") == f"{tmp_path}/no: no such folder; give the folder that holds your music"


@pytest.mark.parametrize("names", [(), ("a.mp3", "b.mp3"), ("rock/cover.jpg",)])
def test_a_folder_without_genre_folders_that_hold_audio_is_refused(library, names):
    write_files(library, *names)
    assert refusal(library).startswith(f"{library}: no audio below a genre's folder")


def test_a_table_gives_what_it_says_and_blanks_are_unknown(library):
    table = write_table(
        library,
        "track_id,title,path,genre,artist,album,split,duration_s,license\n"
        '7, Song , a/b c.mp3 , Rock ,"Band, The",LP,training,12.5,CC BY\n'
        "8,,x.wav,,,,,,\n"
        "\n",
    )
    unknown = dict.fromkeys(TRACK_SCHEMA.names)
    assert load_folder(library, table).to_pylist() == [
        {
            "track_id": "7",
            "uri": (library.resolve() / "a" / "b c.mp3").as_uri(),
            "genre": "Rock",
            "artist": "Band, The",
            "album": "LP",
            "split": "training",
            "duration_s": 12.5,
            "licence": "CC BY",
            "pcm_hash": None,
        },
        unknown | {"track_id": "8", "uri": (library.resolve() / "x.wav").as_uri()},
    ]


def test_a_table_without_genres_is_for_prediction_and_says_so(library, caplog):
    write_files(library, "a.mp3", "b.mp3")
    table = write_table(library, "track_id,path,licence\na,a.mp3,CC0\nb,b.mp3,\n")
    loaded = load_folder(library, table)
    assert loaded["genre"].null_count == 2
    assert loaded["licence"].to_pylist() == ["CC0", None]
    assert caplog.messages == [f"{table}: has no column genre: its tracks are good for prediction, not for training"]


def test_three_columns_are_enough_and_a_byte_order_mark_does_no_harm(library):
    table = write_table(library, "track_id,path,genre\r\na,a.mp3,Rock\r\n", "utf-8-sig")
    assert genres_by_id(load_folder(library, table)) == {"a": "Rock"}


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("a.mp3", "{root}/a.mp3"),
        ("./x/../a.mp3", "{root}/a.mp3"),
        ("..a/b.mp3", "{root}/..a/b.mp3"),
        ("/music/a b.mp3", "/music/a%20b.mp3"),
        ("file:///music/a%20b.mp3", "/music/a%20b.mp3"),
        ("FILE://localhost/music/a%23.mp3", "/music/a%23.mp3"),
        ("/music/100%.mp3", "/music/100%25.mp3"),
    ],
)
def test_a_path_may_be_relative_absolute_or_an_address(library, path, expected):
    table = write_table(library, f"track_id,path,genre\na,{path},Rock\n")
    assert load_folder(library, table)["uri"].to_pylist() == ["file://" + expected.format(root=library.resolve())]


@pytest.mark.parametrize("path", ["../a.mp3", "x/../../a.mp3", ".."])
def test_a_relative_path_that_leaves_the_root_is_refused(library, path):
    table = write_table(library, f"track_id,path,genre\na,{path},Rock\n")
    assert refusal(library, table).startswith(f"{table}, line 2: path {path!r} leaves {library}")


@pytest.mark.parametrize("path", ["file://server/a.mp3", "file://", "file:///a.mp3?x"])
def test_a_file_address_that_names_no_file_of_this_machine_is_refused(library, path):
    table = write_table(library, f"track_id,path,genre\na,{path},Rock\n")
    assert refusal(library, table).startswith(f"{table}, line 2: path {path}: ")


def test_a_path_that_only_looks_like_an_address_can_not_leave_the_root(library):
    table = write_table(library, "track_id,path,genre\na,x y://../../../../etc/passwd,Rock\n")
    assert f" leaves {library}" in refusal(library, table)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "{table}: column 'track_id' is missing (found nothing)"),
        ("track_id,genre\na,Rock\n", "{table}: column 'path' is missing (found track_id, genre)"),
        ("track_id;path;genre\na;b;c\n", "{table}: column 'track_id' is missing (found track_id;path;genre)"),
        ("track_id,path,genre,genre\na,b,c,d\n", "{table}: column 'genre' stands twice"),
        ("track_id,path,genre\n", "{table}: has no rows below its header"),
        ("track_id,path,genre\na,b\n", "{table}, line 2: 2 values for 3 columns"),
        ("track_id,path,genre\na,b,c,d\n", "{table}, line 2: 4 values for 3 columns"),
        ("track_id,path,genre\n ,a.mp3,Rock\n", "{table}, line 2: track_id is empty"),
        ("track_id,path,genre\na,,Rock\n", "{table}, line 2: path is empty"),
        ("track_id,path,genre\na,1,x\nb,2,x\na,3,x\n", "{table}, line 4: track_id 'a' stands in line 2 too"),
        ("track_id,path,license,licence\na,b,c,d\n", "{table}: column 'licence' stands twice"),
        ("track_id,path,duration_s\na,b,3:20\n", "{table}, line 2: duration_s '3:20' must be a number of seconds"),
        ("track_id,path,duration_s\na,b,-1\n", "{table}, line 2: duration_s '-1' must be a number of seconds"),
        ("track_id,path,duration_s\na,b,nan\n", "{table}, line 2: duration_s 'nan' must be a number of seconds"),
        ('track_id,path,genre\na,b,"R\tock"\n', "{table}: genre 'R\\tock' holds control characters"),
        ("track_id,path,genre,split\na,1,x,train\n", "{table}, line 2: split 'train' must be one of training"),
        ('track_id,path,genre\na,"b"c,x\n', "{table}, line 2: not CSV"),
        ("track_id,path,genre\na,b\0.mp3,x\n", "{table}, line 2: path 'b\\x00.mp3' can't be followed"),
    ],
)
def test_an_impossible_table_is_refused_with_the_line_and_the_value(library, text, message):
    table = write_table(library, text)
    assert refusal(library, table).startswith(message.format(table=table))


def test_a_table_in_another_encoding_is_refused(library):
    table = write_table(library, "track_id,path,genre\na,a.mp3,Fränkisch\n", "latin-1")
    assert refusal(library, table) == f"{table}: not UTF-8 text; save it as a CSV file in UTF-8"


def test_a_missing_table_is_refused_by_name(library):
    assert refusal(library, library / "no.csv").startswith(f"{library}/no.csv: no such file")
    assert refusal(library, library) == f"{library}: can't be read: Is a directory"


def test_real_music_is_listed_alike_by_its_table_and_by_its_folders():
    if not EMOTIFY.is_dir():
        pytest.skip("the Emotify clips are not at ../shared/data/emotify")
    by_table = load_folder(EMOTIFY, EMOTIFY / "tracks.csv")
    by_folder = load_folder(EMOTIFY)
    counts = {"classical": 60, "electronic": 58, "pop": 60, "rock": 60}
    assert Counter(by_table["genre"].to_pylist()) == Counter(by_folder["genre"].to_pylist()) == counts
    assert set(by_table["uri"].to_pylist()) == set(by_folder["uri"].to_pylist())
    assert by_table["artist"].null_count == 0


def test_control_characters_in_names_are_written_out_and_the_files_are_found(library):
    """A library that can't be written to can't be renamed."""
    write_files(library, "ro\nck/a\x1b[2J\u202e.mp3")
    (row,) = [row for row in load_folder(library).to_pylist() if row["genre"] == "ro\\nck"]
    assert row["track_id"] == "ro\\nck/a\\x1b[2J\\u202e"
    assert Path(unquote(row["uri"].removeprefix("file://"))).samefile(library / "ro\nck" / "a\x1b[2J\u202e.mp3")


def test_files_that_a_table_names_and_that_do_not_exist_are_told_at_once(library, tmp_path, caplog):
    table = tmp_path / "tracks.csv"
    rows = [f"a,{tmp_path}/tracks.csv,Rock", "b,nowhere/b.mp3,Rock", "c,s3://bucket/c.mp3,Rock"]
    table.write_text("\n".join(["track_id,path,genre", *rows]))
    load_folder(library, table)
    missing = library.resolve() / "nowhere" / "b.mp3"
    assert f"of the first 2 files, 1 don't exist, such as {missing}; is {library} the folder" in caplog.text


def test_a_table_among_the_genres_folders_is_pointed_at(library, caplog):
    write_files(library, "Rock/a.mp3", "tracks.csv")
    load_folder(library)
    assert "ignored; if tracks.csv says what is what, give it as --table" in caplog.text


# Links and depths


def test_links_in_a_circle_are_left_and_a_link_to_itself_is_one_file(tmp_path):
    write_files(tmp_path, "Rock/a.mp3")
    (tmp_path / "Rock" / "up").symlink_to(tmp_path)
    (tmp_path / "Rock" / "self").symlink_to("self")
    (tmp_path / "Rock" / "loop.mp3").symlink_to("loop.mp3")
    table = load_folder(tmp_path)
    assert table["track_id"].to_pylist() == ["Rock/a", "Rock/loop"]
    assert table["uri"].to_pylist()[1] == (tmp_path.resolve() / "Rock" / "loop.mp3").as_uri()


def test_a_link_that_leads_nowhere_is_named_itself_by_folder_and_by_table(tmp_path):
    """What it leads to would tell nobody which link to mend."""
    write_files(tmp_path, "Rock/a.mp3")
    (tmp_path / "Rock" / "b.mp3").symlink_to("/nowhere/at/all.mp3")
    link = (tmp_path.resolve() / "Rock" / "b.mp3").as_uri()
    assert load_folder(tmp_path)["uri"].to_pylist()[1] == link
    table = tmp_path / "tracks.csv"
    table.write_text("track_id,path,genre\nb,Rock/b.mp3,Rock\n")
    assert load_folder(tmp_path, table)["uri"].to_pylist() == [link]


def test_a_folder_that_links_reach_in_many_ways_is_listed_once_per_genre(tmp_path):
    # With each level there are twice as many ways to the file: a million here.
    for level in range(20):
        (tmp_path / f"Rock/{level:02}").mkdir(parents=True)
        for name in ("x", "y"):
            (tmp_path / f"Rock/{level:02}/{name}").symlink_to(tmp_path / f"Rock/{level + 1:02}")
    write_files(tmp_path, "Rock/20/a.mp3")
    (tmp_path / "Best").symlink_to(tmp_path / "Rock" / "20")
    assert load_folder(tmp_path)["track_id"].to_pylist() == ["Best/a", "Rock/20/a"]


@pytest.mark.parametrize("names", ["abcd", "dcba"])
def test_of_several_links_to_a_folder_the_same_is_taken_on_every_disk(tmp_path, names):
    write_files(tmp_path, "elsewhere/a.mp3", "library/Rock/x/deep/b.mp3")
    (tmp_path / "library" / "Rock" / "0").symlink_to(tmp_path / "library" / "Rock" / "x" / "deep")
    for name in names:
        (tmp_path / "library" / "Rock" / name).symlink_to(tmp_path / "elsewhere")
    assert load_folder(tmp_path / "library")["track_id"].to_pylist() == ["Rock/a/a", "Rock/x/deep/b"]


def test_folders_may_lie_deeper_than_python_recurses(tmp_path, monkeypatch):
    (tmp_path / "Rock").mkdir()
    monkeypatch.chdir(tmp_path / "Rock")
    depth = min(1_200, (4_000 - len(str(tmp_path))) // 2)
    for _ in range(depth):
        Path("d").mkdir()
        os.chdir("d")
    Path("a.mp3").touch()
    try:
        assert load_folder(tmp_path)["track_id"].to_pylist() == ["Rock/" + "d/" * depth + "a"]
    finally:
        # What removes the folder after the test does recurse.
        Path("a.mp3").unlink()
        for _ in range(depth):
            os.chdir("..")
            Path("d").rmdir()
