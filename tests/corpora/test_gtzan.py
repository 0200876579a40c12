"""The GTZAN loader: both of its layouts, and what it passes over."""

import pytest

from genre_spark.corpora.gtzan import load_gtzan
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
        {
            "track_id": track_id,
            "uri": (tmp_path / above / genre / f"{track_id}.{extension}").resolve().as_uri(),
            "genre": genre,
            "artist": None,
            "album": None,
            "split": None,
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
