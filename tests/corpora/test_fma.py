"""The FMA loader, on the genuine metadata where it is at hand and on small files of the same layout."""

import csv
import itertools
import os
import time
from collections import Counter
from pathlib import Path
from random import Random

import pandas as pd
import pytest

from genre_spark.corpora.fma import SUBSETS, load_fma
from genre_spark.corpora.tracks import TRACK_SCHEMA
from genre_spark.errors import CorpusError
from tests.peak_memory import peak_growth_mb

GENUINE = Path(__file__).parents[3] / "shared" / "data" / "fma"

# The genuine header in short: the same name stands under several groups, as it does there.
COLUMNS = [
    ("album", "title"),
    ("artist", "bio"),
    ("artist", "name"),
    ("set", "split"),
    ("set", "subset"),
    ("track", "duration"),
    ("track", "genre_top"),
    ("track", "license"),
    ("track", "title"),
]


def row(track_id, subset="small", genre="Rock", artist="Band", album="Album", split="training", bio="", seconds="168"):
    return [str(track_id), album, bio, artist, split, subset, seconds, genre, "CC BY", "Song"]


def write_corpus(root, rows, clips=None, subset="small", columns=COLUMNS):
    metadata = root / "fma_metadata" / "tracks.csv"
    metadata.parent.mkdir(parents=True, exist_ok=True)
    header = [["", *(group for group, _ in columns)], ["", *(name for _, name in columns)]]
    with metadata.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([*header, ["track_id", *[""] * len(columns)], *rows])
    for number in [int(row[0]) for row in rows] if clips is None else clips:
        clip = root / f"fma_{subset}" / f"{number // 1000:03}" / f"{number:06}.mp3"
        clip.parent.mkdir(parents=True, exist_ok=True)
        clip.write_bytes(b"")
    return root


def test_the_genuine_excerpt_gives_the_rows_that_pandas_reads(caplog):
    if not GENUINE.is_dir():
        pytest.skip("the genuine FMA excerpt is not at ../shared/data/fma")
    table = load_fma(GENUINE)
    genuine = pd.read_csv(GENUINE / "fma_metadata" / "tracks.csv", index_col=0, header=[0, 1])
    assert {int(track_id) for track_id in table["track_id"].to_pylist()} == {
        2, 5, 182, 255, 256, 368, 459, 574, 676, 690
    }  # fmt: skip
    for track in table.to_pylist():
        expected = genuine.loc[int(track["track_id"])]
        assert track["genre"] == expected["track", "genre_top"]
        assert track["artist"] == expected["artist", "name"].strip()
        assert track["album"] == expected["album", "title"].strip()
        assert track["split"] == expected["set", "split"]
        assert track["duration_s"] == expected["track", "duration"]
        assert track["licence"] == expected["track", "license"].strip()
        assert track["uri"].endswith(f"/fma_small/000/{int(track['track_id']):06}.mp3")
    assert caplog.messages == [
        f"48 of 58 tracks of subset small have no audio file under {GENUINE / 'fma_small'}: left out"
    ]


def test_every_row_of_the_genuine_excerpt_is_found_when_its_audio_is_there(tmp_path):
    metadata = GENUINE / "fma_metadata" / "tracks.csv"
    if not metadata.is_file():
        pytest.skip("the genuine FMA excerpt is not at ../shared/data/fma")
    genuine = pd.read_csv(metadata, index_col=0, header=[0, 1])
    write_corpus(tmp_path, [], clips=genuine.index, subset="large")
    (tmp_path / "fma_metadata" / "tracks.csv").unlink()
    (tmp_path / "fma_metadata" / "tracks.csv").symlink_to(metadata)
    table = load_fma(tmp_path, "large")
    assert table.num_rows == len(genuine) == 682
    genres = genuine["track", "genre_top"]
    assert Counter(table["genre"].to_pylist()) == {**genres.value_counts(), None: genres.isna().sum()}
    for track in table.to_pylist():
        expected = genuine.loc[int(track["track_id"])]
        assert track["artist"] == " ".join(expected["artist", "name"].split())
        assert track["album"] == (None if pd.isna(expected["album", "title"]) else expected["album", "title"].strip())
        assert track["split"] == expected["set", "split"]
        assert track["duration_s"] == expected["track", "duration"]


def test_a_track_becomes_a_row_with_a_plain_id_and_a_file_address(tmp_path):
    root = write_corpus(tmp_path / "my music #1", [row(2, artist="AWOL\n", album="Ünder, way", bio='two\n"lines"')])
    table = load_fma(root)
    assert table.schema == TRACK_SCHEMA
    assert table.to_pylist() == [
        {
            "track_id": "2",
            "uri": f"file://{tmp_path}/my%20music%20%231/fma_small/000/000002.mp3",
            "genre": "Rock",
            "artist": "AWOL",
            "album": "Ünder, way",
            "split": "training",
            "duration_s": 168.0,
            "licence": "CC BY",
            "pcm_hash": None,
        }
    ]


@pytest.mark.parametrize(
    ("subset", "expected"),
    [("small", {"1"}), ("medium", {"1", "2"}), ("large", {"1", "2", "133297"}), ("full", {"1", "2", "133297"})],
)
def test_subsets_nest(tmp_path, subset, expected):
    rows = [row(1, "small"), row(2, "medium"), row(133_297, "large")]
    assert set(load_fma(write_corpus(tmp_path, rows, subset=subset), subset)["track_id"].to_pylist()) == expected


def test_what_is_empty_in_the_metadata_is_unknown(tmp_path):
    (track,) = load_fma(
        write_corpus(tmp_path, [row(1, genre="", artist=" ", album="", split="", seconds="0")])
    ).to_pylist()
    assert [track[name] for name in ("genre", "artist", "album", "split", "duration_s")] == [None] * 5


def test_control_characters_in_names_become_blanks(tmp_path):
    (track,) = load_fma(write_corpus(tmp_path, [row(1, artist="A\tB\r\n", album="\u202eLP\nII")])).to_pylist()
    assert (track["artist"], track["album"]) == ("A B", "LP II")


@pytest.mark.parametrize("seconds", ["3:20", "-1", "nan"])
def test_a_duration_that_is_no_number_of_seconds_is_refused(tmp_path, seconds):
    assert "tracks.csv: " in refusal(write_corpus(tmp_path, [row(1, seconds=seconds)]))


def test_a_track_without_audio_is_left_out_and_counted(tmp_path, caplog):
    root = write_corpus(tmp_path, [row(1), row(2), row(3)], clips=[2])
    assert load_fma(root)["track_id"].to_pylist() == ["2"]
    assert caplog.messages == [f"2 of 3 tracks of subset small have no audio file under {root / 'fma_small'}: left out"]


def test_a_complete_corpus_is_loaded_without_a_word(tmp_path, caplog):
    load_fma(write_corpus(tmp_path, [row(1), row(2)]))
    assert caplog.messages == []


def test_files_that_are_no_clips_are_passed_over(tmp_path):
    root = write_corpus(tmp_path, [row(1), row(2)], clips=[1])
    for name in ("000/._000002.mp3", "000/000002.txt", "000/README", "checksums", "notes/000002.mp3"):
        (root / "fma_small" / name).parent.mkdir(exist_ok=True)
        (root / "fma_small" / name).write_bytes(b"")
    (root / "fma_small" / "000" / "000002.mp3").mkdir()
    assert load_fma(root)["track_id"].to_pylist() == ["1"]


def test_a_linked_clip_is_addressed_where_it_lies(tmp_path):
    root = write_corpus(tmp_path / "corpus", [row(1), row(2)], clips=[1])
    elsewhere = tmp_path / "elsewhere.mp3"
    elsewhere.write_bytes(b"")
    (root / "fma_small" / "000" / "000002.mp3").symlink_to(elsewhere)
    assert load_fma(root)["uri"].to_pylist()[1] == elsewhere.resolve().as_uri()


# The number of tracks in FMA's own file, which takes half a minute, and an eighth of it.
SIZES = [pytest.param(106_574, marks=pytest.mark.slow), 13_322]


@pytest.fixture(scope="module", params=SIZES)
def full_size(request, tmp_path_factory):
    """A corpus of as many tracks, and with what makes FMA's metadata hard to read."""
    n_tracks = request.param
    root = tmp_path_factory.mktemp("full")
    random = Random(0)
    pieces = [
        "A quiet band, ",
        "from\nsomewhere ",
        'named "The ""Quotes""" ',
        "\r\n<p>",
        "Ænima 東京 🎸 ",
        "''",
        "\n\n,,",
        '"',
    ]
    biographies = ["".join(random.choices(pieces, k=length)) for length in (0, 1, 40, 160, 800, 6_000)]

    def rows():
        for number in range(1, n_tracks + 1):
            yield row(
                number,
                random.choice(SUBSETS[:3]),
                random.choice(["Rock", "Hip-Hop", "Old-Time / Historic", ""]),
                random.choice(["AWOL", "Sigur Rós", 'The "X"', "A, B & C", "NA", "null", "", "Ends\n", "\r\nBegins"]),
                random.choice(["LP", "", "1,5", "nan", "Ünder way", "'", '"', "🎸"]),
                random.choice(["training", "validation", "test"]),
                random.choices(biographies, (20, 20, 20, 25, 14, 1))[0],
                str(random.randrange(1, 18_350)),
            )

    write_corpus(root, rows(), clips=[])
    for number in range(1, n_tracks + 1):
        folder = root / "fma_full" / f"{number // 1000:03}"
        if number == 1 or number % 1000 == 0:
            folder.mkdir(parents=True)
            seed = folder / f"{number:06}.mp3"
            seed.touch()
        else:
            os.link(seed, f"{folder}/{number:06}.mp3")
    return root, n_tracks


def test_metadata_of_full_size_give_row_for_row_what_another_reader_reads(full_size):
    root, n_tracks = full_size
    began = time.perf_counter()
    table = load_fma(root, "full")
    loading = time.perf_counter() - began
    columns = [table[name].to_pylist() for name in ("track_id", "genre", "artist", "album", "split", "duration_s")]
    loaded = {track_id: others for track_id, *others in zip(*columns, strict=True)}
    began = time.perf_counter()
    with (root / "fma_metadata" / "tracks.csv").open(newline="", encoding="utf-8") as file:
        reader = itertools.islice(csv.reader(file), 3, None)
        count = 0
        for track_id, album, _, artist, split, _, seconds, genre, _, _ in reader:
            assert loaded[track_id] == [genre or None, artist.strip() or None, album or None, split, float(seconds)]
            count += 1
    assert count == len(loaded) == n_tracks
    # Half as long, with a look for every clip; a loop over its rows in Python would take several times as long.
    assert loading < 3 * (time.perf_counter() - began)


def test_metadata_of_full_size_need_little_memory(full_size, tmp_path):
    root, n_tracks = full_size
    assert (root / "fma_metadata" / "tracks.csv").stat().st_size > 2_000 * n_tracks
    load = "assert load_fma(Path(sys.argv[{}]), 'full').num_rows == {}"
    one = write_corpus(tmp_path, [row(1, "full")], subset="full")
    # What the loader imports when it is called is no part of it.
    after = f"import sys\nfrom pathlib import Path\nfrom genre_spark.corpora.fma import load_fma\n{load.format(2, 1)}"
    grown_mb = peak_growth_mb(load.format(1, n_tracks), root, one, after=after)
    # A few blocks of the file, and of each track what is kept: some 150 bytes, and its address. At FMA's size 100 MB
    # of 260.
    assert grown_mb < 65 + 325e-6 * n_tracks


def refusal(root, subset="small"):
    with pytest.raises(CorpusError) as caught:
        load_fma(root, subset)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_an_unknown_subset_is_refused(tmp_path):
    assert refusal(tmp_path, "tiny") == "fma: unknown subset 'tiny'; known are small, medium, large, full"


def test_a_missing_root_is_refused_with_what_belongs_there(tmp_path):
    root = tmp_path / "no"
    assert (
        refusal(root)
        == f"{root}: no such folder; unpack fma_metadata.zip and fma_small.zip into it, or fetch it with --download"
    )


def test_missing_metadata_is_refused_by_name(tmp_path):
    message = refusal(tmp_path)
    assert message == (
        f"{tmp_path}/fma_metadata/tracks.csv: no such file; "
        f"unpack fma_metadata.zip into {tmp_path}, or fetch it with --download"
    )


def test_a_missing_audio_folder_is_refused_by_name(tmp_path):
    write_corpus(tmp_path, [row(1)], clips=[])
    assert refusal(tmp_path) == (
        f"{tmp_path}/fma_small: no such folder; unpack fma_small.zip into {tmp_path}, or fetch it with --download"
    )


def test_a_corpus_without_any_clip_is_refused(tmp_path):
    write_corpus(tmp_path, [row(1), row(2)], clips=[999])
    assert "none of the 2 tracks of subset small has audio here; unpack fma_small.zip" in refusal(tmp_path)


@pytest.mark.parametrize(
    "column",
    ["album/title", "artist/name", "set/split", "set/subset", "track/genre_top", "track/duration", "track/license"],
)
def test_a_missing_column_is_refused_by_name(tmp_path, column):
    columns = [("x", "y") if column == "/".join(pair) else pair for pair in COLUMNS]
    message = refusal(write_corpus(tmp_path, [row(1)], columns=columns))
    assert f"tracks.csv: column {column} is missing" in message


@pytest.mark.parametrize(
    "text",
    ["", "track_id,genre\n2,Rock\n", "a,b\nc,d\ne,f\ng,h\n", ",a\n,b\n", ",a\n,b\ntrack_id\n"],
    ids=["empty", "one header row", "another third row", "too short", "ragged"],
)
def test_another_table_is_refused(tmp_path, text):
    root = write_corpus(tmp_path, [row(1)])
    (root / "fma_metadata" / "tracks.csv").write_text(text)
    assert "tracks.csv: not FMA's tracks.csv: its third row must begin with track_id" in refusal(root)


def test_metadata_that_were_cut_off_are_refused(tmp_path):
    root = write_corpus(tmp_path, [row(1), row(2)])
    file = root / "fma_metadata" / "tracks.csv"
    file.write_bytes(file.read_bytes()[:-20])
    assert "tracks.csv: damaged or not FMA's: " in refusal(root)


def test_metadata_that_are_not_text_are_refused(tmp_path):
    root = write_corpus(tmp_path, [row(1, artist="Käse")])
    file = root / "fma_metadata" / "tracks.csv"
    file.write_bytes(file.read_text(encoding="utf-8").encode("latin-1"))
    assert "tracks.csv: " in refusal(root)
    file.write_bytes(b"\xff\xfb\x90\x00" * 100)
    assert "tracks.csv: can't be read: " in refusal(root)


def test_an_id_that_is_no_number_is_refused_with_its_value(tmp_path):
    root = write_corpus(tmp_path, [row(1), ["x7", *row(1)[1:]]], clips=[1])
    assert "track_id 'x7' is not a number" in refusal(root)


def test_metadata_with_no_track_of_the_subset_are_refused(tmp_path):
    assert "lists no track of subset small" in refusal(write_corpus(tmp_path, [row(1, "large")]))


def test_metadata_without_a_row_are_refused(tmp_path):
    write_corpus(tmp_path, [], clips=[2])
    assert "lists no track of subset small" in refusal(tmp_path)
