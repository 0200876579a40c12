"""The GTZAN loader: both of its layouts, and what it passes over."""

from collections import Counter
from importlib import resources

import pytest

from genre_spark.corpora.gtzan import fault_filtered_split, load_gtzan
from genre_spark.corpora.tracks import TRACK_SCHEMA
from genre_spark.errors import CorpusError


def write_clips(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")
    return root


@pytest.mark.parametrize("above", ["", "genres", "genres_original"])
@pytest.mark.parametrize("extension", ["wav", "au", "mp3", "WAV"])
def test_a_copy_is_found_from_its_root_and_from_the_folder_above(tmp_path, above, extension, caplog):
    write_clips(tmp_path / above, f"blues/blues.00000.{extension}", f"hip hop/hip hop.00099.{extension}")
    assert load_gtzan(tmp_path).to_pylist() == [
        dict.fromkeys(TRACK_SCHEMA.names)
        | {
            "track_id": track_id,
            "uri": (tmp_path / above / genre / f"{track_id}.{extension}").resolve().as_uri(),
            "genre": genre,
        }
        for track_id, genre in (("blues.00000", "blues"), ("hip hop.00099", "hip hop"))
    ]
    assert caplog.messages == []


def test_files_with_other_names_are_counted_and_hidden_ones_are_not(tmp_path, caplog):
    write_clips(
        tmp_path, "blues/blues.00000.wav", "blues/blues.1.wav", "blues/jazz.00001.wav", "blues/blues.00002.png",
        "blues/._blues.00000.wav", ".cache/blues.00003.wav", "features_30_sec.csv",
    )  # fmt: skip
    assert load_gtzan(tmp_path)["track_id"].to_pylist() == ["blues.00000"]
    assert caplog.messages == [f"3 files under {tmp_path} are not named as GTZAN's clips: ignored"]


def test_a_clip_in_two_formats_is_refused_with_both_names(tmp_path):
    write_clips(tmp_path, "blues/blues.00000.au", "blues/blues.00000.wav")
    with pytest.raises(CorpusError, match=r"blues.00000.wav: blues.00000.au is the same clip; keep one of the two"):
        load_gtzan(tmp_path)


def test_a_missing_folder_is_refused_by_name(tmp_path):
    with pytest.raises(CorpusError, match=r"/no: no such folder; unpack GTZAN into it"):
        load_gtzan(tmp_path / "no")


def test_a_folder_without_clips_is_refused_with_an_example(tmp_path):
    write_clips(tmp_path, "rock/song.wav")
    with pytest.raises(CorpusError, match=r"no GTZAN clips; it must hold files such as .*/blues/blues.00000.wav"):
        load_gtzan(tmp_path)


GENRES = ("blues", "classical", "country", "disco", "hiphop", "jazz", "metal", "pop", "reggae", "rock")
# Training, validation and test clips of each genre in the published lists, which number the 1,000 clips in this order.
COUNTS = [
    (46, 23, 31), (48, 20, 31), (45, 23, 30), (42, 22, 29), (47, 18, 27), (43, 17, 27), (44, 20, 27), (41, 13, 30),
    (43, 17, 26), (44, 24, 32),
]  # fmt: skip


@pytest.fixture(scope="module")
def whole_corpus(tmp_path_factory):
    root = tmp_path_factory.mktemp("gtzan")
    return write_clips(root, *(f"{genre}/{genre}.{number:05}.wav" for genre in GENRES for number in range(100)))


def test_the_fault_filtered_split_is_the_published_one(whole_corpus, caplog):
    table = load_gtzan(whole_corpus, fault_filtered=True)
    assert Counter(table["split"].to_pylist()) == {"training": 443, "validation": 197, "test": 290}
    counts = Counter(zip(table["genre"].to_pylist(), table["split"].to_pylist(), strict=True))
    for genre, of_genre in zip(GENRES, COUNTS, strict=True):
        assert tuple(counts[genre, part] for part in ("training", "validation", "test")) == of_genre
    assert caplog.messages == [
        "70 of 1000 clips are in no part of the fault-filtered split (faulty, or not GTZAN's): left out"
    ]


def test_no_clip_is_in_two_parts():
    text = resources.files("genre_spark.corpora").joinpath("gtzan_fault_filtered.csv").read_text(encoding="utf-8")
    runs = [run.split("-") for line in text.splitlines()[1:] for run in line.split(",")[2].split()]
    # A clip that stood in two runs would be counted twice here and once there.
    assert sum(int(run[-1]) - int(run[0]) + 1 for run in runs) == len(fault_filtered_split()) == 930


def test_clips_at_the_ends_of_the_published_lists_are_in_their_parts():
    # Lines 30, 1000; 1, 986; 13, 991 of the published lists, which count from 1 through all genres.
    split = fault_filtered_split()
    assert (split["blues.00029"], split["rock.00099"]) == ("training", "training")
    assert (split["blues.00000"], split["rock.00085"]) == ("validation", "validation")
    assert (split["blues.00012"], split["rock.00090"]) == ("test", "test")
    assert "hiphop.00039" not in split
    assert "jazz.00042" not in split


def test_clips_of_the_split_that_are_not_there_are_counted(tmp_path, caplog):
    write_clips(tmp_path, "blues/blues.00000.wav", "rock/rock.00099.wav")
    assert load_gtzan(tmp_path, fault_filtered=True)["split"].to_pylist() == ["validation", "training"]
    assert caplog.messages == [f"928 of the 930 clips of the split are not under {tmp_path}"]


def test_other_clips_have_no_part_in_the_split(tmp_path):
    write_clips(tmp_path, "polka/polka.00000.wav")
    with pytest.raises(CorpusError, match=r"none of its 1 clips is in the fault-filtered split"):
        load_gtzan(tmp_path, fault_filtered=True)


def test_without_the_fault_filter_all_clips_are_there_and_no_split(whole_corpus):
    table = load_gtzan(whole_corpus)
    assert table.num_rows == table["split"].null_count == 1_000
