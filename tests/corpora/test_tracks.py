"""The track table: what is accepted, what is refused, and that it survives a file."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from genre_spark.corpora.tracks import (
    TRACK_SCHEMA,
    check_tracks,
    read_tracks,
    stream_tracks,
    track_table,
    tracks_digest,
    write_tracks,
)
from genre_spark.errors import CorpusError

ROWS = [
    {"track_id": "b", "uri": "file:///b.mp3", "genre": "Rock", "artist": "X", "album": "Y", "split": "test"},
    {"track_id": "a", "uri": "file:///a.mp3"},
]


def test_a_track_table_is_sorted_and_what_is_unknown_is_null():
    table = track_table(ROWS, "here")
    assert table.schema == TRACK_SCHEMA
    unknown = dict.fromkeys(TRACK_SCHEMA.names)
    assert table.to_pylist() == [unknown | ROWS[1], unknown | ROWS[0]]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "here: no tracks"),
        ([*ROWS, ROWS[1]], "here: track_id 'a' stands 2 times"),
        ([{"track_id": "", "uri": "file:///a"}], "here: a row has an empty track_id"),
        ([{"track_id": "a", "uri": ""}], "here: a row has an empty uri"),
        ([{"track_id": "a"}], "here: not a track table: .*'uri'"),
        ([{"track_id": "a", "uri": "file:///a", "split": "train"}], "here: split 'train' is none of training"),
    ],
)
def test_an_impossible_row_is_refused(rows, message):
    with pytest.raises(CorpusError, match=f"^{message}"):
        track_table(rows, "here")


def test_files_that_stand_for_several_tracks_are_said_once(caplog):
    rows = [ROWS[0], ROWS[1], {"track_id": "c", "uri": "file:///a.mp3"}, {"track_id": "d", "uri": "file:///a.mp3"}]
    assert track_table(rows, "here").num_rows == 4
    assert caplog.messages == [
        "here: 1 files stand for more than one track each, such as file:///a.mp3: "
        "a random split can put a file on both sides"
    ]


@pytest.mark.parametrize("name", ["track_id", "uri", "genre"])
def test_a_missing_column_is_refused_by_name(name):
    with pytest.raises(CorpusError, match=f"here: not a track table: column '{name}' is missing"):
        check_tracks(track_table(ROWS, "here").drop_columns([name]), "here")


def test_a_table_without_the_columns_that_may_be_unknown_gets_them_empty():
    table = check_tracks(track_table(ROWS, "here").select(["track_id", "uri", "genre"]), "here")
    assert table.schema == TRACK_SCHEMA
    assert all(table[name].null_count == 2 for name in TRACK_SCHEMA.names[3:])


@pytest.mark.parametrize("column", ["track_id", "genre", "artist", "album"])
@pytest.mark.parametrize("character", ["\n", "\0", "\t", "\x1b", "\x85", "\u2028", "\u202e", "\u2066", "\u200f"])
def test_control_characters_in_a_name_are_refused_and_shown_as_escapes(column, character):
    name = f"R{character}ock"
    with pytest.raises(CorpusError) as caught:
        track_table([{**ROWS[0], column: name}], "here")
    assert str(caught.value) == f"here: {column} {name!a} holds control characters; rename it"


@pytest.mark.parametrize("column", ["track_id", "genre", "artist", "album", "uri"])
def test_half_a_character_is_refused_and_shown_as_an_escape(column):
    with pytest.raises(CorpusError, match=r"^here: 'R\\ud83cck' holds half a character"):
        track_table([{**ROWS[0], column: "R\ud83cck"}], "here")


@pytest.mark.parametrize(
    "name", ["R&B / Soul", "«Ünder» 'x' \"y\"", "🎸", "👩‍👩‍👧", "עברית", "日本語", "C:\\x", "<b>", "%s {x}"]
)
def test_ordinary_punctuation_and_other_scripts_are_names_like_any(name, caplog):
    row = {**ROWS[0], "genre": name, "artist": name, "album": name, "track_id": name}
    assert track_table([row], "here").to_pylist()[0]["genre"] == name
    assert caplog.messages == []


def test_text_that_is_no_utf8_in_a_file_is_refused():
    table = track_table(ROWS, "here")
    odd = pa.Array.from_buffers(pa.string(), 2, pa.array([b"Rock", b"caf\xe9"]).buffers())
    with pytest.raises(CorpusError, match=r"^here: not a track table: .*UTF8"):
        check_tracks(table.set_column(2, "genre", odd), "here")


@pytest.mark.parametrize("seconds", [-1.0, float("nan"), float("inf")])
def test_an_impossible_duration_is_refused(seconds):
    with pytest.raises(CorpusError, match="here: a duration_s is negative or no number"):
        track_table([{**ROWS[0], "duration_s": seconds}], "here")


@pytest.mark.parametrize(
    ("first", "second"),
    [("Hip-Hop", "hip-hop"), ("Hip Hop", "HipHop"), ("Cafe\u0301", "Café"), ("Pop ", "Pop"), ("STRASSE", "Straße")],
)
def test_genres_that_are_surely_one_are_told_apart_but_named(first, second, caplog):
    rows = [{**ROWS[0], "genre": first}, {**ROWS[1], "genre": second}]
    assert set(track_table(rows, "here")["genre"].to_pylist()) == {first, second}
    (message,) = caplog.messages
    assert message.startswith("here: genres ")
    assert ascii(first) in message
    assert ascii(second) in message


def test_genres_that_differ_in_a_letter_are_not_remarked_on(caplog):
    track_table([{**ROWS[0], "genre": "Pop"}, {**ROWS[1], "genre": "Bop"}], "here")
    assert caplog.messages == []


@pytest.mark.parametrize(
    "uri",
    [
        "s3://AKIA:hunter2hunter2@bucket/a.mp3",
        "https://user:hunter2@example.org/a.mp3",
        "https://example.org/a.mp3?X-Amz-Signature=hunter2",
        "s3://bucket/a.mp3?secret_key=hunter2",
    ],
)
def test_an_address_with_credentials_never_gets_into_a_track_table(uri):
    with pytest.raises(CorpusError, match=r"^here: .*environment$") as caught:
        track_table([{**ROWS[0], "uri": uri}], "here")
    assert "hunter2" not in str(caught.value)


def test_further_columns_and_other_text_types_are_put_right():
    table = track_table(ROWS, "here")
    other = table.set_column(2, "genre", table["genre"].dictionary_encode()).append_column("year", pa.array([1, 2]))
    assert check_tracks(other, "here").equals(table)


def test_a_column_that_can_not_be_text_is_refused_on_one_line():
    table = track_table(ROWS, "here")
    lists = table.set_column(2, "genre", pa.array([["a"], ["b"]]))
    with pytest.raises(CorpusError, match=r"^here: not a track table: [^\n]+$"):
        check_tracks(lists, "here")


def test_a_table_comes_back_from_its_file_and_leaves_nothing_beside_it(tmp_path):
    path = tmp_path / "new" / "tracks.parquet"
    table = track_table(ROWS, "here")
    write_tracks(table, path)
    assert read_tracks(path).equals(table)
    assert [file.name for file in path.parent.iterdir()] == ["tracks.parquet"]


def test_a_missing_file_is_refused_with_the_command_that_makes_one(tmp_path):
    with pytest.raises(CorpusError, match=r"tracks.parquet: no such track table; make one with `genre-spark corpus"):
        read_tracks(tmp_path / "tracks.parquet")


@pytest.mark.parametrize("content", [b"", b"track_id,uri\n", b"PAR1" + bytes(100) + b"PAR1"])
def test_a_file_that_is_not_parquet_is_refused_by_name(tmp_path, content):
    path = tmp_path / "tracks.parquet"
    path.write_bytes(content)
    with pytest.raises(CorpusError, match=r"^[^\n]*tracks.parquet: not a Parquet file: [^\n]+$"):
        read_tracks(path)


@pytest.mark.parametrize("read", [read_tracks, lambda path: list(stream_tracks(path, "it"))])
def test_a_table_in_text_and_a_folder_are_pointed_to_the_stage_that_was_left_out(tmp_path, read):
    (tmp_path / "mine.csv").write_text("track_id,path\n")
    with pytest.raises(CorpusError, match=r"make a track table of it with `genre-spark corpus folder .*mine\.csv`"):
        read(tmp_path / "mine.csv")
    with pytest.raises(CorpusError, match=r"is a folder, not a track table; .* corpus folder --root .* --out tracks"):
        read(tmp_path)


def test_another_table_is_refused_by_the_column_that_it_lacks(tmp_path):
    path = tmp_path / "other.parquet"
    pq.write_table(pa.table({"track_id": ["a"]}), path)
    with pytest.raises(CorpusError, match=r"other.parquet: not a track table: column 'uri' is missing"):
        read_tracks(path)


def test_the_digest_depends_on_the_rows_and_not_on_their_order():
    table = track_table(ROWS, "here")
    digest = tracks_digest(table)
    assert len(digest) == 16
    assert int(digest, 16) >= 0
    assert tracks_digest(table.take([1, 0])) == digest
    assert tracks_digest(track_table([{**ROWS[0], "genre": "Pop"}, ROWS[1]], "here")) != digest
    assert tracks_digest(track_table(ROWS[:1], "here")) != digest
