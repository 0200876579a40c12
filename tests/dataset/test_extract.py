import functools
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from genre_spark.corpora.tracks import read_tracks, track_table
from genre_spark.dataset import tasks
from genre_spark.dataset.extract import extract, task_sizes
from genre_spark.dataset.progress import Progress
from genre_spark.dataset.rows import tensors_of
from genre_spark.dataset.store import MANIFEST, Dataset, open_dataset
from genre_spark.errors import DatasetError, ExtractionFailed
from genre_spark.features import decode, extract_file, resolve_specs
from genre_spark.features.measure import pcm_hash
from genre_spark.filesystems import local_path
from genre_spark.settings import Settings, load_settings
from genre_spark.spark import watch

SPECS = resolve_specs(["mfcc_mean"])


def snapshot(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(file): (file.stat().st_mtime_ns, file.stat().st_ino) for file in folder.rglob("*") if file.is_file()}


def test_every_track_is_one_row_or_one_error_row(dataset: Dataset, corpus: Path) -> None:
    rows = dataset.tracks()["track_id"].to_pylist()
    errors = dataset.errors()["track_id"].to_pylist()
    assert sorted(rows + errors) == sorted(read_tracks(corpus)["track_id"].to_pylist())
    assert dataset.manifest.counts == {"tracks": 24, "features": 23, "errors": 1, "rows": 23}


def test_rows_keep_the_tracks_columns(dataset: Dataset, corpus: Path) -> None:
    wanted = {row["track_id"]: row for row in read_tracks(corpus).to_pylist()}
    for row in dataset.tracks().to_pylist():
        assert row == wanted[row["track_id"]] | {"pcm_hash": pcm_hash(decode(row["uri"]).samples)}


def test_copies_share_their_hash_whatever_their_names_and_lossless_encodings(
    spark: object, tmp_path: Path, settings: Settings
) -> None:
    lameenc = pytest.importorskip("lameenc")
    samples = (np.random.default_rng(0).uniform(-0.3, 0.3, 44_100) * 32_767).astype(np.int16)
    for name in ("a.wav", "b.flac"):
        soundfile.write(tmp_path / name, samples, 44_100)
    soundfile.write(tmp_path / "silence.wav", np.zeros(44_100), 44_100)
    encoder = lameenc.Encoder()
    encoder.set_in_sample_rate(44_100)
    encoder.set_channels(1)
    encoder.silence()
    (tmp_path / "c.mp3").write_bytes(encoder.encode(samples.tobytes()) + encoder.flush())
    rows = [{"track_id": path.stem, "uri": path.as_uri(), "pcm_hash": "old"} for path in tmp_path.iterdir()]
    found = extract(spark, track_table(rows, "test"), SPECS, tmp_path / "d", settings).tracks().to_pylist()
    hashes = {row["track_id"]: row["pcm_hash"] for row in found}
    assert hashes["a"] == hashes["b"] == xxhash.xxh3_128_hexdigest((samples / np.float32(32_768)).tobytes())
    assert hashes["silence"] is None
    assert hashes["c"] not in (None, "old", hashes["a"])


def test_the_job_gives_bit_for_bit_what_a_direct_call_gives(dataset: Dataset) -> None:
    table = pa.concat_tables(pq.read_table(file) for file in dataset.files())
    for row in (0, 11, 22):
        expected = extract_file(table["uri"][row].as_py())
        for name, array in expected.items():
            np.testing.assert_array_equal(tensors_of(table[name].slice(row, 1), dataset.spec(name))[0], array)


def test_an_unreadable_file_is_an_error_row_with_class_and_reason(dataset: Dataset) -> None:
    (error,) = dataset.errors().to_pylist()
    assert error["error"] == "AudioUndecodable"
    assert Path(error["uri"]).name in error["detail"]
    assert dataset.manifest.errors == {"AudioUndecodable": 1}


def test_files_hold_row_groups_of_the_wanted_size(dataset: Dataset) -> None:
    assert len(dataset.files()) == 6
    for file in dataset.files():
        groups = pq.read_metadata(file)
        assert all(groups.row_group(group).num_rows <= 4 for group in range(groups.num_row_groups))


@given(
    tracks=st.integers(1, 2_000_000),
    bytes_per_track=st.integers(1, 300_000_000),
    most=st.integers(1, 2_000),
    band=st.tuples(st.integers(1, 32), st.integers(1, 512)),
)
def test_tasks_hold_each_track_once_in_files_no_larger_than_wanted(tracks, bytes_per_track, most, band):
    names = {"tracks_per_task": most, "min_file_mb": min(band), "max_file_mb": max(band)}
    wanted = load_settings([], [f"extract.{name}={value}" for name, value in names.items()]).extract
    sizes = task_sizes(tracks, bytes_per_track, wanted)
    assert sum(sizes) == tracks
    assert min(sizes) > 0
    assert max(sizes) <= most
    assert max(sizes) == 1 or max(sizes) * bytes_per_track <= max(band) * 1_000_000


def test_the_last_tasks_are_smaller_where_their_files_suffice(settings: Settings) -> None:
    wanted = settings.extract.model_copy(update={"tracks_per_task": 256, "min_file_mb": 8, "max_file_mb": 128})
    assert task_sizes(1_000, 1_325_000, wanted) == [16] * 54 + [8] * 17
    assert task_sizes(200, 1_325_000, wanted) == [7] * 28 + [4], "files of 8 MB, that no others have to join"


def test_the_manifest_says_what_made_it(dataset: Dataset) -> None:
    content = json.loads((dataset.path / MANIFEST).read_text())
    assert content["digests"] == {spec.name: spec.digest for spec in dataset.manifest.specs}
    assert {"librosa", "pyspark", "soundfile", "python"} <= set(content["versions"])


def test_nothing_is_left_beside_the_dataset(dataset: Dataset) -> None:
    assert [path.name for path in dataset.path.parent.iterdir()] == [dataset.path.name]


def test_a_second_run_changes_nothing(
    spark: object, dataset: Dataset, corpus: Path, settings: Settings, tmp_path: Path
) -> None:
    again = shutil.copytree(dataset.path, tmp_path / "dataset")
    before = snapshot(again)
    extract(spark, read_tracks(corpus), dataset.manifest.specs, again, settings)
    assert snapshot(again) == before


def test_other_features_need_overwrite(spark: object, dataset: Dataset, corpus: Path, settings: Settings) -> None:
    before = snapshot(dataset.path)
    with pytest.raises(
        DatasetError, match=r"holds a dataset of other features \(mfcc_mean, mfcc, melgram\); .* --overwrite"
    ):
        extract(spark, read_tracks(corpus), SPECS, dataset.path, settings)
    assert snapshot(dataset.path) == before


def test_a_folder_that_is_no_dataset_is_never_replaced(
    spark: object, corpus: Path, settings: Settings, tmp_path: Path
) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(DatasetError, match="exists and is no dataset"):
        extract(spark, read_tracks(corpus), SPECS, tmp_path, settings, overwrite=True)
    assert (tmp_path / "thesis.txt").read_text() == "mine"


def test_overwrite_replaces_a_dataset(spark: object, corpus: Path, settings: Settings, tmp_path: Path) -> None:
    tracks = read_tracks(corpus).slice(0, 3)
    first = extract(spark, tracks, SPECS, tmp_path / "d", settings)
    second = extract(spark, tracks.slice(0, 2), SPECS, tmp_path / "d", settings, overwrite=True)
    assert (first.manifest.counts["tracks"], second.manifest.counts["tracks"]) == (3, 2)
    assert second.tracks()["track_id"].to_pylist() == tracks["track_id"].to_pylist()[:2]


def test_too_many_errors_fail_the_job_after_it_has_written_what_it_computed(
    spark: object, corpus: Path, tmp_path: Path, settings: Settings
) -> None:
    good = read_tracks(corpus).slice(0, 1).to_pylist()
    bad = [{"track_id": f"x{i}", "uri": f"file:///nowhere/{i}.mp3"} for i in range(2)]
    tracks = track_table([*good, *bad], "test")
    with pytest.raises(ExtractionFailed, match=r"2 of 3 tracks failed .* extract\.max_error_fraction=0\.5"):
        extract(spark, tracks, SPECS, tmp_path / "d", settings)
    lenient = settings.model_copy(update={"extract": load_settings([], ["extract.max_error_fraction=0.7"]).extract})
    assert extract(spark, tracks, SPECS, tmp_path / "d", lenient).manifest.counts["features"] == 1


def test_a_failed_extraction_never_takes_the_place_of_a_dataset(
    spark: object, corpus: Path, tmp_path: Path, settings: Settings
) -> None:
    good = extract(spark, read_tracks(corpus).slice(0, 2), SPECS, tmp_path / "d", settings)
    before = snapshot(good.path)
    gone = track_table([{"track_id": "x", "uri": "file:///nowhere.mp3"}], "test")
    with pytest.raises(ExtractionFailed, match=r"d: is as it was; .*_work/\w+: 1 of 1 tracks failed"):
        extract(spark, gone, SPECS, good.path, settings, overwrite=True)
    assert open_dataset(good.path).tracks()["track_id"].to_pylist() == good.tracks()["track_id"].to_pylist()
    after = snapshot(good.path)
    assert {name: after[name] for name in before} == before
    (errors,) = (tmp_path / "d" / "_work").glob("*/errors/*.parquet")
    assert pq.read_table(errors)["track_id"].to_pylist() == ["x"]


def test_a_failed_extraction_is_tried_again(
    spark: object, write_clip: Callable[..., Path], tmp_path: Path, settings: Settings
) -> None:
    clip = write_clip("clip.wav")
    hidden = clip.rename(clip.with_suffix(".hidden"))
    tracks = track_table([{"track_id": "x", "uri": clip.as_uri()}], "test")
    with pytest.raises(ExtractionFailed):
        extract(spark, tracks, SPECS, tmp_path / "d", settings)
    hidden.rename(clip)
    assert extract(spark, tracks, SPECS, tmp_path / "d", settings).manifest.counts["features"] == 1


def test_a_name_that_is_no_utf_8_is_read(
    spark: object, write_clip: Callable[..., Path], tmp_path: Path, settings: Settings
) -> None:
    odd = write_clip().rename(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.wav"))
    bad = Path(os.fsdecode(os.fsencode(tmp_path) + b"/bad\xe9.wav"))
    bad.write_bytes(b"no audio" * 99)
    tracks = track_table([{"track_id": "a", "uri": odd.as_uri()}, {"track_id": "b", "uri": bad.as_uri()}], "test")
    dataset = extract(spark, tracks, SPECS, tmp_path / "d", settings)
    assert dataset.tracks()["track_id"].to_pylist() == ["a"]
    assert "bad\\udce9.wav: not audio" in dataset.errors()["detail"][0].as_py()


def test_no_readable_track_at_all_fails_whatever_is_allowed(spark: object, tmp_path: Path, settings: Settings) -> None:
    tracks = track_table([{"track_id": "x", "uri": "file:///nowhere.mp3"}], "test")
    lenient = settings.model_copy(update={"extract": load_settings([], ["extract.max_error_fraction=1"]).extract})
    with pytest.raises(ExtractionFailed, match="No such file or directory"):
        extract(spark, tracks, SPECS, tmp_path / "d", lenient)


def test_the_order_of_the_track_table_changes_no_byte(
    spark: object, corpus: Path, settings: Settings, tmp_path: Path
) -> None:
    tracks = read_tracks(corpus).slice(6, 12)
    one = extract(spark, tracks, SPECS, tmp_path / "one", settings)
    two = extract(spark, tracks.take(list(range(11, -1, -1))), SPECS, tmp_path / "two", settings)
    assert [Path(file).read_bytes() for file in one.files()] == [Path(file).read_bytes() for file in two.files()]


def test_an_unwritable_place_is_named(spark: object, corpus: Path, settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DatasetError, match="can't be written"):
        extract(spark, read_tracks(corpus), SPECS, tmp_path / "file" / "d", settings)


def test_progress_grows_and_its_last_word_is_the_summary(
    spark: object, corpus: Path, tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    # 24 short clips are done before a person would be told a second time.
    monkeypatch.setattr(tasks, "watch", functools.partial(watch, every_s=0.01))
    told: list[Progress] = []
    dataset = extract(spark, corpus, resolve_specs(["mfcc"]), tmp_path / "d", settings, on_progress=told.append)
    done = [progress.done for progress in told]
    assert done == sorted(done)
    assert any(0 < count < 24 for count in done), "it tells on the way, too"
    last = told[-1]
    assert (last.tracks, last.to_compute, last.done, last.errors) == (24, 24, 24, {"AudioUndecodable": 1})
    assert last.audio_bytes == sum(local_path(uri, DatasetError).stat().st_size for uri in uris_of(corpus))
    assert last.written_bytes == sum(row["bytes"] for row in dataset.listed.to_pylist())
    assert 0 < last.core_s < 2 * last.wall_s + 1
    assert last.phase == "done"
    names = sorted(path.name for path in dataset.path.iterdir() if path.name != "_lock")
    assert names == ["errors", "extraction.json", "features", dataset.manifest.files]


def uris_of(corpus: Path) -> list[str]:
    return read_tracks(corpus)["uri"].to_pylist()


def test_a_track_that_takes_too_long_is_an_error_row_and_the_others_are_not(
    spark: object, tmp_path: Path, settings: Settings, write_clip: Callable[..., Path]
) -> None:
    short = write_clip("short.wav", seconds=0.5)
    # Twelve minutes at 96 kHz take several times longer than any machine needs for half a second.
    soundfile.write(tmp_path / "long.flac", np.zeros(96_000 * 700, np.int16), 96_000)
    rows = [{"track_id": path.stem, "uri": path.as_uri()} for path in (short, tmp_path / "long.flac")]
    patience = load_settings([], ["audio.max_decode_s=1"])
    dataset = extract(spark, track_table(rows, "test"), SPECS, tmp_path / "d", patience)
    assert dataset.tracks()["track_id"].to_pylist() == ["short"]
    [error] = dataset.errors().to_pylist()
    assert error["error"] == "AudioTimedOut"
    assert "long.flac" in error["detail"]
    assert "audio.max_decode_s=1" in error["detail"]


def test_a_clip_that_comes_out_short_is_an_error_or_a_flagged_row_as_the_settings_say(
    spark: object, tmp_path: Path, settings: Settings, write_clip: Callable[..., Path]
) -> None:
    whole, cut = write_clip("whole.wav", seconds=4.0), tmp_path / "cut.wav"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    tracks = track_table([{"track_id": path.stem, "uri": path.as_uri()} for path in (whole, cut)], "test")
    refused = extract(spark, tracks, SPECS, tmp_path / "refused", settings)
    assert refused.errors()["error"].to_pylist() == ["AudioShortened"]
    keep = load_settings([], ["audio.shortened=keep"])
    kept = extract(spark, tracks, SPECS, tmp_path / "kept", keep)
    found = pq.read_table(kept.files()[0], columns=["track_id", "shortened_s"]).to_pylist()
    shortened = {row["track_id"]: row["shortened_s"] for row in found}
    assert shortened["whole"] is None
    assert shortened["cut"] == pytest.approx(2.0, abs=0.01)
