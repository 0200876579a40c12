import functools
import hashlib
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

from genre_spark.corpora.synthetic import write_synthetic_corpus
from genre_spark.corpora.synthetic_plan import plan_tracks, write_metadata
from genre_spark.errors import CorpusError
from genre_spark.files import is_leftover
from genre_spark.settings import SyntheticSettings
from tests.peak_memory import peak_growth_mb

GENUINE = Path(__file__).parents[3] / "shared" / "data" / "fma" / "fma_metadata" / "tracks.csv"

TINY = SyntheticSettings(clips_per_genre=3, artists_per_genre=2, duration_s=0.5, seed=7)
TWO_GENRES = ("Rock", "Folk")


def _digests(root: Path) -> dict[str, str]:
    files = [file for file in root.rglob("*") if file.is_file()]
    return {str(file.relative_to(root)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def _tracks(root: Path) -> pd.DataFrame:
    """As FMA's own code reads it."""
    return pd.read_csv(root / "fma_metadata" / "tracks.csv", index_col=0, header=[0, 1])


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("synthetic") / "corpus"
    write_synthetic_corpus(root, TINY, genres=TWO_GENRES, workers=1)
    return root


def test_three_processes_write_the_same_bytes_as_one(tmp_path: Path) -> None:
    # More clips of an artist than a task has, so that an artist's clips are composed in several processes.
    settings = SyntheticSettings(clips_per_genre=12, artists_per_genre=2, duration_s=0.5, seed=7)
    done: dict[int, int] = {1: 0, 3: 0}

    def count(workers: int) -> None:
        done[workers] += 1

    for workers in done:
        counted = functools.partial(count, workers)
        write_synthetic_corpus(tmp_path / str(workers), settings, genres=TWO_GENRES, workers=workers, on_clip=counted)
    assert done == {1: 24, 3: 24}
    assert _digests(tmp_path / "3") == _digests(tmp_path / "1")


def test_another_seed_gives_other_audio(corpus: Path, tmp_path: Path) -> None:
    write_synthetic_corpus(tmp_path, TINY.model_copy(update={"seed": 8}), genres=TWO_GENRES, workers=1)
    clips, others = ({d for name, d in _digests(root).items() if name.endswith(".mp3")} for root in (corpus, tmp_path))
    assert len(clips) == len(others) == 6
    assert not clips & others


def test_clips_decode_to_audible_stereo_of_the_wanted_length(tmp_path: Path) -> None:
    settings = SyntheticSettings(clips_per_genre=1, artists_per_genre=1, duration_s=1.25)
    write_synthetic_corpus(tmp_path, settings, workers=1)
    clips = sorted(tmp_path.glob("fma_small/*/*.mp3"))
    assert len(clips) == 8
    for clip in clips:
        pcm, rate = soundfile.read(clip)
        assert rate == 44_100
        assert pcm.shape[1] == 2
        # An MP3 is a whole number of frames of 1,152 samples, and the encoder begins with some silence.
        assert 0 <= len(pcm) - 55_125 <= 2 * 1_152
        assert 0.01 < np.abs(pcm).max() < 1
        assert soundfile.info(clip).subtype == "MPEG_LAYER_III"


def test_the_clips_lie_where_fma_puts_them_and_nothing_else_is_left(corpus: Path) -> None:
    expected = {f"fma_small/{number:06d}"[:13] + f"/{number:06d}.mp3" for number in _tracks(corpus).index}
    assert set(_digests(corpus)) == expected | {"fma_metadata/tracks.csv", ".synthetic.json"}


def test_the_table_has_one_row_a_clip_with_the_columns_filled(corpus: Path) -> None:
    tracks = _tracks(corpus)
    assert tracks.index.name == "track_id"
    assert tracks.shape == (6, 52)
    assert tracks["track", "genre_top"].value_counts().to_dict() == {"Rock": 3, "Folk": 3}
    assert set(tracks["set", "subset"]) == {"small"}
    assert set(tracks["track", "bit_rate"]) == {192_000}
    filled = [column for column in tracks.columns if tracks[column].notna().all()]
    assert {("album", "id"), ("album", "title"), ("artist", "id"), ("artist", "name"), ("track", "title")} <= set(
        filled
    )


def test_each_album_has_a_title_of_its_own_and_each_artist_one_licence_of_creative_commons(tmp_path: Path) -> None:
    settings = SyntheticSettings(clips_per_genre=60, artists_per_genre=10)
    write_metadata(tmp_path / "fma_metadata" / "tracks.csv", settings, plan_tracks(settings, TWO_GENRES))
    tracks = _tracks(tmp_path)
    assert set(tracks["track", "duration"]) == {30}
    albums = tracks.groupby([("album", "title"), ("album", "id"), ("artist", "id")]).ngroups
    assert albums == tracks["album", "title"].nunique() == 40
    assert tracks.groupby([("artist", "id"), ("track", "license")]).ngroups == 20
    assert tracks["track", "license"].str.fullmatch(r"Attribution(-\w+)* 4\.0 International").all()
    assert tracks["track", "license"].nunique() == 4


def test_the_bit_rate_of_the_table_is_that_of_the_files(tmp_path: Path) -> None:
    settings = SyntheticSettings(clips_per_genre=1, artists_per_genre=1, duration_s=20.0)
    write_synthetic_corpus(tmp_path, settings, genres=["Pop"], workers=1)
    (clip,) = tmp_path.glob("fma_small/*/*.mp3")
    assert clip.stat().st_size * 8 / 20 == pytest.approx(_tracks(tmp_path)["track", "bit_rate"].item(), rel=0.02)
    assert _tracks(tmp_path)["track", "duration"].item() == 20


def test_the_header_is_the_genuine_one(corpus: Path) -> None:
    if not GENUINE.is_file():
        pytest.skip(f"FMA's metadata is not at {GENUINE}")
    with GENUINE.open(encoding="utf-8") as file:
        genuine = [next(file).rstrip("\r\n") for _ in range(3)]
    assert (corpus / "fma_metadata" / "tracks.csv").read_text(encoding="utf-8").splitlines()[:3] == genuine


@pytest.mark.parametrize(("clips", "artists"), [(40, 10), (100, 20), (30, 3), (7, 5), (2, 10), (1, 1)])
def test_artists_keep_to_one_genre_and_one_part(clips: int, artists: int) -> None:
    settings = SyntheticSettings(clips_per_genre=clips, artists_per_genre=artists)
    tracks = plan_tracks(settings, ("Pop", "Rock", "Folk"))
    assert len(tracks) == len({track.track_id for track in tracks}) == 3 * clips
    kept = {(track.artist_id, track.genre, track.part) for track in tracks}
    assert len(kept) == len({track.artist_id for track in tracks}) == 3 * min(artists, clips)
    albums = {(track.album_id, track.artist_id) for track in tracks}
    assert len(albums) == len({track.album_id for track in tracks})


def test_the_official_parts_are_eighty_ten_and_ten_percent_of_each_genre() -> None:
    tracks = plan_tracks(SyntheticSettings(clips_per_genre=100, artists_per_genre=20), ("Pop", "Rock"))
    for genre in ("Pop", "Rock"):
        parts = [track.part for track in tracks if track.genre == genre]
        assert {part: parts.count(part) for part in set(parts)} == {"training": 80, "validation": 10, "test": 10}


def test_the_full_size_of_fma_small_fits_and_its_order_says_nothing_about_the_genre() -> None:
    tracks = plan_tracks(
        SyntheticSettings(clips_per_genre=1_000, artists_per_genre=100), ("Pop", "Rock", "Folk", "Hip-Hop")
    )
    numbers = [track.track_id for track in tracks]
    assert numbers == sorted(numbers)
    assert 2 <= min(numbers) < max(numbers) <= 155_320
    first_half = [track.genre for track in tracks[:2_000]]
    assert all(420 < first_half.count(genre) < 580 for genre in ("Pop", "Rock", "Folk", "Hip-Hop"))


@pytest.mark.slow
def test_as_many_tracks_as_fma_has_numbers_for_are_planned_within_half_a_gigabyte() -> None:
    program = """
from genre_spark.corpora.synthetic_plan import plan_tracks
from genre_spark.settings import SyntheticSettings
tracks = plan_tracks(SyntheticSettings(clips_per_genre=499_999, artists_per_genre=50_000), ("Rock", "Folk"))
numbers = {track.track_id for track in tracks}
assert (len(numbers), min(numbers), max(numbers)) == (999_998, 2, 999_999)
"""
    assert peak_growth_mb(program) < 500


def test_more_tracks_than_fma_has_numbers_for_are_refused() -> None:
    with pytest.raises(CorpusError, match="clips_per_genre=200000"):
        plan_tracks(SyntheticSettings(clips_per_genre=200_000), [*TWO_GENRES, "Pop", "Hip-Hop", "Electronic"])


def test_no_two_artists_have_the_same_name(tmp_path: Path) -> None:
    settings = SyntheticSettings(clips_per_genre=300, artists_per_genre=300)
    write_metadata(tmp_path / "tracks.csv", settings, plan_tracks(settings, TWO_GENRES))
    tracks = pd.read_csv(tmp_path / "tracks.csv", index_col=0, header=[0, 1])
    assert tracks["artist", "name"].nunique() == tracks["artist", "id"].nunique() == 600


def test_a_second_run_keeps_the_clips(corpus: Path) -> None:
    before = {file: file.stat().st_mtime_ns for file in corpus.rglob("*.mp3")}
    done = []
    write_synthetic_corpus(corpus, TINY, genres=TWO_GENRES, workers=2, on_clip=lambda: done.append(1))
    assert {file: file.stat().st_mtime_ns for file in corpus.rglob("*.mp3")} == before
    assert len(done) == 6


def test_an_interrupted_corpus_is_completed_without_composing_twice(corpus: Path, tmp_path: Path) -> None:
    done = []

    def interrupt() -> None:
        done.append(1)
        if len(done) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_synthetic_corpus(tmp_path, TINY, genres=TWO_GENRES, workers=1, on_clip=interrupt)
    assert not (tmp_path / "fma_metadata").exists()
    early = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*.mp3")}
    assert len(early) == 3
    next(iter(early)).write_bytes(b"")  # as a crash of the machine leaves it
    kept = dict(list(early.items())[1:])
    write_synthetic_corpus(tmp_path, TINY, genres=TWO_GENRES, workers=1)
    assert _digests(tmp_path) == _digests(corpus)
    assert {file: file.stat().st_mtime_ns for file in kept} == kept


@pytest.mark.parametrize("change", [{"seed": 8}, {"duration_s": 0.6}, {"clips_per_genre": 4}])
def test_a_folder_of_other_settings_is_refused_by_name(corpus: Path, change: dict[str, float]) -> None:
    before = _digests(corpus)
    (key,) = change
    with pytest.raises(CorpusError, match=rf"{corpus.name}.*{key}=.*delete it or name another folder"):
        write_synthetic_corpus(corpus, TINY.model_copy(update=change), genres=TWO_GENRES, workers=1)
    assert _digests(corpus) == before


def test_a_corpus_of_an_older_composer_is_refused(corpus: Path, tmp_path: Path) -> None:
    identity = json.loads((corpus / ".synthetic.json").read_text())
    (tmp_path / ".synthetic.json").write_text(json.dumps(identity | {"composer": 0}))
    with pytest.raises(CorpusError, match="composer=0"):
        write_synthetic_corpus(tmp_path, TINY, genres=TWO_GENRES, workers=1)


def test_the_genuine_fma_is_never_written_into(tmp_path: Path) -> None:
    (tmp_path / "fma_small").mkdir()
    with pytest.raises(CorpusError, match="fma_small"):
        write_synthetic_corpus(tmp_path, TINY, genres=TWO_GENRES, workers=1)
    assert list(tmp_path.iterdir()) == [tmp_path / "fma_small"]


@pytest.mark.parametrize("content", ["{", "[]", "\x00"])
def test_a_damaged_identity_is_refused_by_name(content: str, tmp_path: Path) -> None:
    (tmp_path / ".synthetic.json").write_text(content)
    with pytest.raises(CorpusError, match=f"{tmp_path.name}.*name another folder"):
        write_synthetic_corpus(tmp_path, TINY, genres=TWO_GENRES, workers=1)


def test_a_root_that_cannot_be_a_folder_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for root in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(CorpusError, match=f"{root.name}: can't be written"):
            write_synthetic_corpus(root, TINY, genres=TWO_GENRES, workers=1)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_clip_that_cannot_be_written_is_named(workers: int, tmp_path: Path) -> None:
    write_synthetic_corpus(tmp_path, TINY, genres=TWO_GENRES, workers=1)
    folder = min(tmp_path.glob("fma_small/*"))
    shutil.rmtree(tmp_path / "fma_small")
    (tmp_path / "fma_small").mkdir()
    # A file in the place of the folder stops the superuser, too, whom permissions don't.
    folder.write_text("")
    with pytest.raises(CorpusError, match=rf"{folder.name}/\d+\.mp3: can't be written") as raised:
        write_synthetic_corpus(tmp_path, TINY, genres=TWO_GENRES, workers=workers)
    assert "\n" not in str(raised.value)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk with room for some ten clips of a second."""
    mount = shutil.which("mount")
    folder = tmp_path / "disk"
    folder.mkdir()
    if mount is None or subprocess.run([mount, "-t", "tmpfs", "-o", "size=256k", "tmpfs", folder]).returncode:
        pytest.skip("mounting a tmpfs wants Linux and its superuser")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_full_disk_ends_the_work_in_one_line_and_a_rerun_completes_it(small_disk: Path) -> None:
    settings = SyntheticSettings(clips_per_genre=20, artists_per_genre=5, duration_s=1.0)
    with pytest.raises(CorpusError, match=r"mp3: can't be written: No space left on device") as raised:
        write_synthetic_corpus(small_disk, settings, genres=TWO_GENRES, workers=2)
    assert "\n" not in str(raised.value)
    kept = {file: file.stat().st_mtime_ns for file in small_disk.rglob("*.mp3")}
    assert 4 <= len(kept) < 20
    assert all(soundfile.info(file).duration > 0.9 for file in kept)
    assert not [file for file in small_disk.rglob("*") if is_leftover(file.name)]

    subprocess.run(["mount", "-o", "remount,size=64m", small_disk], check=True)
    write_synthetic_corpus(small_disk, settings, genres=TWO_GENRES, workers=2)
    assert {file: file.stat().st_mtime_ns for file in kept} == kept
    assert len(_tracks(small_disk)) == len(list(small_disk.rglob("*.mp3"))) == 40


@pytest.mark.parametrize(
    ("genres", "named"), [(("Rock", "Polka"), "Polka"), ((), "at least one"), (("Pop", "Pop"), "Pop")]
)
def test_impossible_genres_are_refused_by_name(genres: tuple[str, ...], named: str, tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=named):
        write_synthetic_corpus(tmp_path / "new", TINY, genres=genres)
    assert not (tmp_path / "new").exists()
