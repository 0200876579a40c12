"""The track table: what is accepted, what is refused, and that it survives a file."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from genre_spark.corpora.tracks import TRACK_SCHEMA, check_tracks, read_tracks, track_table, tracks_digest, write_tracks
from genre_spark.errors import CorpusError

ROWS = [
    {"track_id": "b", "uri": "file:///b.mp3", "genre": "Rock", "artist": "X", "album": "Y", "split": "test"},
    {"track_id": "a", "uri": "file:///a.mp3"},
]


def test_a_track_table_is_sorted_and_what_is_unknown_is_null():
    table = track_table(ROWS, "here")
    assert table.schema == TRACK_SCHEMA
    assert table.to_pylist()[0] == {
        "track_id": "a", "uri": "file:///a.mp3", "genre": None, "artist": None, "album": None, "split": None
    }  # fmt: skip
    assert table.to_pylist()[1] == ROWS[0]


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


def test_a_missing_column_is_refused_by_name():
    with pytest.raises(CorpusError, match="here: not a track table: column 'artist' is missing"):
        check_tracks(track_table(ROWS, "here").drop_columns(["artist"]), "here")


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
