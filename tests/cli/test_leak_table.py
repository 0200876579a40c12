"""What `genre-spark corpus leaks` and `split` say about tracks, through the command itself."""

import csv
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from genre_spark.cli import app
from genre_spark.corpora.splits import SPLIT_SCHEMA, write_split
from genre_spark.corpora.tracks import PARTS, track_table, write_tracks

# artist, album, pcm_hash, part
ROWS = [
    ("A", "x", "01", "training"),
    ("A", "y", "02", "test"),
    ("B", "z", "03", "training"),
    ("C", "w", "03", "test"),
    ("D", "v", "05", "test"),
    ("E", "u", "06", "validation"),
]


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    return write_corpus(tmp_path, ROWS)


def write_corpus(folder: Path, rows: list[tuple[Any, ...]]) -> Path:
    tracks = track_table(
        [
            {"track_id": f"t{number}", "uri": f"file:///{number}", "genre": "gh"[number % 2], "split": part}
            | {"artist": artist, "album": album, "pcm_hash": pcm}
            for number, (artist, album, pcm, part) in enumerate(rows)
        ],
        "test",
    )
    write_tracks(tracks, folder / "tracks.parquet")
    write_split(
        tracks.select(["track_id", "genre", "split"]).rename_columns(SPLIT_SCHEMA.names), folder / "split.parquet"
    )
    return folder


def leaks(folder: Path, *options: str, split: str | None = None) -> Result:
    chosen = split or str(folder / "split.parquet")
    return CliRunner().invoke(
        app, ["corpus", "leaks", "--tracks", str(folder / "tracks.parquet"), "--split", chosen, *options]
    )


def words(answer: Result) -> str:
    assert answer.exit_code == 0, answer.output
    return " ".join(answer.stdout.split())


def test_leaks_are_counted_and_named_so_that_a_person_knows_them(corpus: Path) -> None:
    said = words(leaks(corpus))
    assert "artists 1 2 1 (33%)" in said
    assert "albums 0 0 0 (0%)" in said
    assert "identical recordings 1 2 1 (33%)" in said
    assert "A: 1 training, 1 test" in said
    assert "t2: 1 training, 1 test" in said
    assert "Nothing" not in said


def test_what_the_split_was_not_grouped_by_is_not_called_clean(corpus: Path) -> None:
    said = words(leaks(corpus, "--set", "split.group_by=[album]"))
    assert "artists 1 2 1 (33%)" in said
    assert "None of what split.group_by names (albums) stands in more than one part; the rest does." in said


def test_nothing_is_said_to_leak_only_as_far_as_it_is_known(tmp_path: Path) -> None:
    folder = write_corpus(tmp_path, [(None, None, None, part) for part in (*PARTS, "test")])
    said = words(leaks(folder, split="official"))
    assert "Nothing that is known stands in more than one part." in said
    assert "4 of 4 tracks name no artist: theirs can't be told." in said
    assert "4 of 4 tracks name no album." in said
    assert "The signal of 4 of 4 tracks is unknown" in said


def test_every_track_on_two_sides_is_written_as_csv(corpus: Path) -> None:
    out = corpus / "crossing.csv"
    assert "8 rows -> " in words(leaks(corpus, "--out", str(out)))
    with out.open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert [tuple(row.values()) for row in rows if row["kind"] == "pcm"] == [
        ("pcm", "t2", "t2", "training"),
        ("pcm", "t2", "t3", "test"),
    ]


def test_tracks_that_the_table_lacks_are_counted_and_a_stranger_s_split_is_refused(corpus: Path) -> None:
    few = corpus / "few"
    few.mkdir()
    write_corpus(few, ROWS[:3])
    said = words(leaks(few, split=str(corpus / "split.parquet")))
    assert "3 tracks of the split are not in the track table." in said
    tracks = track_table([{"track_id": "other", "uri": "file:///a", "genre": "g"}], "test")
    write_tracks(tracks, few / "tracks.parquet")
    answer = leaks(few, split=str(corpus / "split.parquet"))
    assert answer.exit_code == 1
    assert "they don't belong together" in " ".join(answer.stderr.split())


def test_a_split_that_is_neither_a_scheme_nor_a_file_is_refused(corpus: Path) -> None:
    answer = leaks(corpus, split="artsit")
    assert answer.exit_code == 1
    assert "artsit: no split file, and no scheme; known are study, official" in " ".join(answer.stderr.split())
