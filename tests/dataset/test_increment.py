"""A dataset that is brought up to date again and again is what one extraction of the last track table gives."""

import itertools
import json
import logging
import os
import random
import threading
import time
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pytest

from genre_spark.dataset import assembly
from genre_spark.dataset.extract import extract
from genre_spark.dataset.feed import open_feed
from genre_spark.dataset.lease import LOCK
from genre_spark.dataset.progress import Progress
from genre_spark.dataset.rows import ERRORS, FEATURES
from genre_spark.dataset.store import MANIFEST, open_dataset
from genre_spark.errors import DatasetError, ExtractionFailed, FeedError
from genre_spark.features import FeatureSpec
from genre_spark.settings import Settings, load_settings
from tests.dataset.library import SEGMENTED, SPECS, Library, assert_sound, content

GROUP = 3


class Killed(BaseException):
    """Stands for a job's end: nothing catches it."""


def set_to(*overrides: str) -> Settings:
    return load_settings(
        [],
        ["extract.min_file_mb=1", f"extract.tracks_per_row_group={GROUP}", "extract.max_error_fraction=1", *overrides],
    )


def unneeded():
    raise AssertionError("asked for Spark where there is nothing to compute")


@pytest.fixture
def library(tmp_path):
    return Library(tmp_path / "library", tracks=3)


@pytest.fixture
def update(spark, tmp_path, library):
    """Extract the library, and give the dataset and the last word of the progress."""

    def run(settings=None, *, specs=SPECS, session=spark, tracks=None, **options):
        told = [Progress()]
        tracks = library.table() if tracks is None else tracks
        settings = settings or set_to()
        dataset = extract(session, tracks, specs, tmp_path / "data", settings, on_progress=told.append, **options)
        assert told[-1].phase == "done"
        return dataset, told[-1]

    return run


def snapshot(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(file): (file.stat().st_mtime_ns, file.stat().st_ino) for file in folder.rglob("*") if file.is_file()}


def identities(found):
    """What the rows of a dataset were computed from, by track."""
    return {
        row["track_id"]: (table, row["uri"] if table == ERRORS else None, row["audio_bytes"], row["audio_modified"])
        for table in (FEATURES, ERRORS)
        for row in found[table]
    }


def differences(found, wanted):
    for table in (FEATURES, ERRORS):
        assert [row["track_id"] for row in found[table]] == [row["track_id"] for row in wanted[table]]
        for one, other in zip(found[table], wanted[table], strict=True):
            yield from (
                (one["track_id"], name, one.get(name), other[name]) for name in other if one.get(name) != other[name]
            )


def happens(library, chance):
    """Something happens to a library; say to which track."""
    names = list(library.rows)
    name = chance.choice(names)
    what = chance.choice(
        ["add", "add", "change", "touch", "rename", "unname", "move", "spoil", "mend", "remove", "add broken"]
    )
    if what in ("add", "add broken"):
        name = library.add()
        if what == "add broken":
            library.spoil(name)
    elif what == "rename":
        library.rows[name] |= {"genre": f"Genre {chance.random()}", "artist": "Ann", "duration_s": 1.5}
    elif what == "unname":
        library.rows[name]["genre"] = None
    elif what == "remove":
        if len(names) > 2:
            del library.rows[name]
    else:
        {
            "change": library.change,
            "touch": library.touch,
            "move": library.move,
            "spoil": library.spoil,
            "mend": library.change,
        }[what](name)


@pytest.mark.parametrize(
    ("seed", "specs", "steps", "overrides"),
    [
        (0, SPECS, 8, []),
        (1, SEGMENTED, 7, []),
        (2, SPECS, 7, ["extract.min_file_mb=0", "extract.tracks_per_task=1"]),
        *(pytest.param(seed, (SPECS, SEGMENTED)[seed % 2], 40, [], marks=pytest.mark.slow) for seed in (3, 4)),
    ],
)
def test_after_whatever_happens_the_dataset_is_what_a_fresh_one_would_be(
    update, library, tmp_path, spark, monkeypatch, seed, specs, steps, overrides
):
    chance, settings = random.Random(seed), set_to(*overrides)
    library.spoil(library.add())
    known, kept, failed = {}, {FEATURES: [], ERRORS: []}, False
    for step in range(steps):
        for _ in range(chance.choice([0, 1, 1, 3]) if step else 0):
            happens(library, chance)
        prune, retry, dies = chance.random() < 0.3, chance.random() < 0.2, chance.random() < 0.3
        fresh = library.content(specs)
        now = identities(fresh)
        old = {name: of for name, of in known.items() if name in now}
        changed = {name for name in now if name not in old or now[name][2:] != old[name][2:]}
        changed |= {name for name in old if old[name][0] == ERRORS and (retry or failed or now[name] != old[name])}
        table = library.table()
        table = table.take(chance.sample(range(len(table)), len(table)))
        salvaged = 0
        if dies and changed:
            with monkeypatch.context() as patch:

                def die(*_arguments):
                    raise Killed

                patch.setattr(assembly, "commit", die)
                with pytest.raises(Killed):
                    update(settings, specs=specs, tracks=table)
            if step:
                assert identities(content(open_dataset(tmp_path / "data"))) == known
            salvaged = len(changed) - (sum(now[name][0] == ERRORS for name in changed) if retry or failed else 0)
        dataset, progress = update(settings, specs=specs, tracks=table, prune=prune, retry_errors=retry)
        assert (progress.done, progress.salvaged) == (len(changed) - salvaged, salvaged)
        assert progress.up_to_date == len(now) - len(changed)
        gone = set(known) - set(now)
        assert (progress.unwanted, progress.removed) == ((0, len(gone)) if prune else (len(gone), 0))
        for kind in (FEATURES, ERRORS):
            kept[kind] = [] if prune else [row for row in kept[kind] if row["track_id"] in gone]
            fresh[kind] = sorted(fresh[kind] + kept[kind], key=lambda row: (row["track_id"], row.get("segment", 0)))
        found = content(dataset)
        assert list(differences(found, fresh)) == []
        assert_sound(dataset, GROUP)
        known, kept = identities(found), found
        failed = not found[FEATURES]
    again, progress = update(settings, specs=specs, session=unneeded)
    assert (progress.done, again.manifest) == (0, dataset.manifest)


def test_a_second_run_reads_no_audio_asks_for_no_spark_and_writes_nothing(update, library):
    library.spoil(library.add())
    dataset, _ = update()
    before = snapshot(dataset.path)
    for clip in library.folder.iterdir():
        clip.chmod(0)
    library.path("track 001 ö").unlink()  # its features are known
    again, progress = update(session=unneeded)
    assert (progress.done, progress.up_to_date, progress.audio_bytes) == (0, 4, 0)
    assert snapshot(dataset.path) == before
    assert again.manifest == dataset.manifest


def test_clocks_that_jump_cost_at_most_a_track_that_is_computed_again(update, library, monkeypatch):
    real, jumps = time.time, itertools.cycle([0.0, -1e6, 1e9, -1e9])
    monkeypatch.setattr(time, "time", lambda: real() + next(jumps))
    dataset, _ = update()
    name = next(iter(library.rows))
    for seconds in (4_102_444_800, 0, 86_400):  # the year 2100, and the days that a machine without a clock begins with
        os.utime(library.path(name), (seconds, seconds))
        dataset, progress = update()
        assert (progress.done, progress.up_to_date) == (1, 2)
        _, progress = update(session=unneeded)
        assert (progress.done, progress.up_to_date) == (0, 3)
    assert content(dataset) == library.content()


def test_by_hash_only_other_bytes_are_computed_and_size_and_time_may_be_what_they_were(update, library):
    by_hash = set_to("extract.changed_by=hash")
    dataset, _ = update(by_hash)
    assert content(dataset) == library.content(by_hash=True)
    before = snapshot(dataset.path)
    before_touch = library.path("track 001 ö").stat().st_mtime
    library.touch("track 001 ö")
    again, progress = update(by_hash)
    assert (progress.done, progress.unchanged) == (3, 3)
    assert snapshot(dataset.path) == before
    assert again.manifest == dataset.manifest

    path = library.path("track 002 ö")
    status = path.stat()
    library.change("track 002 ö")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    library.rows["track 003 ö"]["genre"] = "Jazz"
    dataset, progress = update(by_hash)
    assert (progress.done, progress.unchanged, progress.told) == (3, 2, 1)
    os.utime(library.path("track 001 ö"), (0, before_touch))
    assert content(dataset) == library.content(by_hash=True)


def test_a_file_that_a_name_without_utf_8_stands_for_is_seen_to_change(update, library):
    name = library.add()
    odd = Path(os.fsdecode(os.fsencode(library.folder) + b"/caf\xe9.wav"))
    library.path(name).rename(odd)
    library.rows[name]["uri"] = odd.as_uri()
    update()
    library.change(name)
    dataset, progress = update()
    assert progress.done == 1
    assert content(dataset) == library.content()


def test_error_rows_are_tried_again_when_that_is_asked_for_and_only_they(update, library):
    name = library.add()
    whole = library.path(name).read_bytes()
    library.path(name).write_bytes(bytes(len(whole)))
    library.touch(name)
    dataset, _ = update()
    assert dataset.manifest.counts["errors"] == 1
    status = library.path(name).stat()
    library.path(name).write_bytes(whole)  # a disk that gave wrong bytes, say
    os.utime(library.path(name), ns=(status.st_atime_ns, status.st_mtime_ns))
    assert update(session=unneeded)[1].done == 0
    dataset, progress = update(retry_errors=True)
    assert (progress.done, dataset.manifest.counts["errors"]) == (1, 0)
    assert content(dataset) == library.content()


@pytest.mark.parametrize(
    ("specs", "overrides", "named"),
    [
        (
            [SPECS[0].model_copy(update={"n_mels": 5}), SPECS[1]],
            [],
            r"another spec of 'mel' \(digest \w{16}, not \w{16}\)",
        ),
        (SPECS[:1], [], r"other features \(mel, loud\)"),
        (SEGMENTED, [], r"another spec of 'mel' .*"),
        (SPECS, ["audio.max_duration_s=9"], r"audio\.max_duration_s=1800\.0, not 9\.0"),
    ],
)
def test_what_would_mix_is_refused_by_name_and_replaces_only_when_that_is_asked_for(
    update, small_datasets, library, tmp_path, specs, overrides, named
):
    dataset, _ = update()
    before = snapshot(dataset.path)
    with pytest.raises(DatasetError, match=rf"data: holds a dataset of {named}; .*another folder.*--overwrite"):
        update(set_to(*overrides), specs=specs, session=unneeded)
    assert snapshot(dataset.path) == before
    dataset, _ = update(set_to(*overrides), specs=specs, overwrite=True)
    assert content(dataset) == library.content(specs)
    assert_sound(dataset, GROUP)


def test_a_dataset_of_a_newer_version_is_refused_also_with_overwrite(update, tmp_path):
    dataset, _ = update()
    manifest = dataset.path / MANIFEST
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"format_version": 99}))
    before = snapshot(dataset.path)
    for overwrite in (False, True):
        with pytest.raises(
            DatasetError, match=r"extraction\.json: format_version=99, .*; install a newer genre_spark$"
        ):
            update(session=unneeded, overwrite=overwrite)
    assert snapshot(dataset.path) == before


def test_a_dataset_of_an_older_version_is_replaced_when_that_is_asked_for_wherever_it_lies(spark, library, tmp_path):
    out = tmp_path / "newer albums" / "data"
    (out / "features").mkdir(parents=True)
    (out / "features" / "part-00000.parquet").write_bytes(b"old")
    (out / MANIFEST).write_text('{"format_version": 2, "specs": []}')
    before = snapshot(out)
    with pytest.raises(DatasetError, match=r"format_version=2, this program reads 3; .*--overwrite"):
        extract(unneeded, library.table(), SPECS, out, set_to())
    assert snapshot(out) == before
    dataset = extract(spark, library.table(), SPECS, out, set_to(), overwrite=True)
    assert content(dataset) == library.content()
    assert_sound(dataset, GROUP)


@pytest.mark.parametrize(
    "names",
    [["thesis.txt"], ["features/part-0.parquet"], ["_work.txt", "thesis.txt"], ["_work/a.txt", "files-of-mine.zip"]],
)
def test_files_of_others_are_refused_and_stay(spark, library, tmp_path, names):
    out = tmp_path / "mine"
    for name in names:
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(DatasetError, match=r"mine: exists and is no dataset; name another folder for --out"):
            extract(spark, library.table(), SPECS, out, set_to(), overwrite=overwrite)
    assert {name: (out / name).read_text() for name in names} == dict.fromkeys(names, "mine")


def test_a_commit_removes_no_file_that_only_looks_like_a_list(update, library):
    dataset, _ = update()
    (dataset.path / "files-of-mine.zip").write_text("mine")
    library.add()
    update()
    assert (dataset.path / "files-of-mine.zip").read_text() == "mine"


def test_overwriting_where_all_fails_keeps_what_was_and_tries_the_failed_again(update, library, spark):
    dataset, _ = update()
    before = content(dataset)
    whole = {name: (library.path(name).read_bytes(), library.path(name).stat()) for name in library.rows}
    for name, (audio, status) in whole.items():
        library.path(name).write_bytes(bytes(len(audio)))
        os.utime(library.path(name), ns=(status.st_atime_ns, status.st_mtime_ns))
    good = library.add()
    strict = set_to("extract.max_error_fraction=0.5")
    with pytest.raises(ExtractionFailed, match=r"data: is as it was; .* 3 of 4 tracks failed"):
        update(strict, overwrite=True)
    assert content(open_dataset(dataset.path)) == before
    # What was wrong was not the files: they are as they were, and read well now.
    for name, (audio, status) in whole.items():
        library.path(name).write_bytes(audio)
        os.utime(library.path(name), ns=(status.st_atime_ns, status.st_mtime_ns))
    dataset, progress = update(strict, overwrite=True)
    assert (progress.salvaged, progress.done) == (1, 3)
    assert content(dataset) == library.content()
    assert good in dataset.tracks()["track_id"].to_pylist()


def test_the_number_of_files_grows_with_bytes_and_not_with_increments(spark, tmp_path):
    library = Library(tmp_path / "library")
    # 154 kB a track, and an error row now and then.
    big = [
        FeatureSpec(
            name="big", kind="mel_spectrogram", sample_rate=8_000, n_fft=256, hop_length=8, n_mels=128, n_frames=300
        )
    ]
    settings = set_to("extract.max_file_mb=2")
    increments = 15
    for increment in range(increments):
        library.add()
        if increment % 4 == 1:
            library.spoil(library.add())
        dataset = extract(spark, library.table(), big, tmp_path / "data", settings)
        sizes = sorted(row["bytes"] for row in dataset.listed.to_pylist() if row["table"] == FEATURES)
        assert sizes[-1] <= 2_000_000
        assert all(size >= 1_000_000 for size in sizes[1:]), "all but one are in the band"
        assert len(dataset.names(ERRORS)) <= 1
        assert_sound(dataset, GROUP)
    assert 2 <= len(sizes) <= increments * 154_000 / 1_000_000 + 1
    assert content(dataset)[FEATURES] == library.content(big)[FEATURES]


def test_the_same_history_gives_the_same_bytes(spark, library, tmp_path):
    tables = [library.table()]
    for _ in range(2):
        library.add()
        library.rows["track 001 ö"]["genre"] = f"Genre {len(tables)}"
        tables.append(library.table())
    told = []
    for name in ("one", "two"):
        for table in tables:
            dataset = extract(spark, table, SPECS, tmp_path / name, set_to())
        told.append(
            {file: Path(dataset.folder.join(file)).read_bytes() for file in dataset.names() + dataset.names(ERRORS)}
        )
    assert told[0] == told[1]
    assert told[0]


def test_plain_readers_of_parquet_see_what_the_dataset_holds(spark, update, library):
    update()
    library.spoil(library.add())
    library.change("track 002 ö")
    dataset, _ = update(set_to("extract.min_file_mb=0"))
    assert len(dataset.names()) == 2
    wanted = {row["track_id"]: row["mel"] for row in library.content()[FEATURES]}
    folder = dataset.path / FEATURES

    def as_bytes(ids, tensors):
        return {name: np.array(tensor, np.float32).tobytes().hex() for name, tensor in zip(ids, tensors, strict=True)}

    frame = pd.read_parquet(folder)
    assert as_bytes(frame["track_id"], frame["mel"]) == wanted
    with duckdb.connect() as connection:
        rows = connection.sql(f"SELECT track_id, mel FROM '{folder}/*.parquet'").fetchall()
    assert as_bytes(*zip(*rows, strict=True)) == wanted
    rows = spark.read.parquet(str(folder)).select("track_id", "mel").collect()
    assert as_bytes(*zip(*rows, strict=True)) == wanted
    assert [row.track_id for row in spark.read.parquet(str(dataset.path / ERRORS)).collect()] == ["track 004 ö"]
    with open_feed(dataset, "mel", dict.fromkeys(wanted, 1), batch_size=2, seed=0) as feed:
        batches = list(feed.epoch(0))
    found = {name: x.tobytes().hex() for batch in batches for name, x in zip(batch.track_ids, batch.x, strict=True)}
    assert found == wanted


def test_a_reader_sees_one_commit_and_never_a_mixture(update, library):
    dataset, _ = update(set_to("extract.min_file_mb=0"))
    tables = []
    for number in range(12):
        for row in library.rows.values():
            row["genre"] = f"Genre {number}"
        tables.append(library.table())
    update(tracks=tables[-1])
    done, seen, wrong = threading.Event(), set(), []

    def read():
        while not done.is_set():
            try:
                tracks = open_dataset(dataset.path).tracks()
            except DatasetError as error:
                if "changed" not in str(error):
                    wrong.append(str(error))
                continue
            genres = set(tracks["genre"].to_pylist())
            seen.update(genres)
            if len(genres) != 1 or tracks["track_id"].to_pylist() != list(library.rows):
                wrong.append(tracks.to_pylist())

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for table in tables:
        update(tracks=table, session=unneeded)
    done.set()
    for reader in readers:
        reader.join()
    assert wrong == []
    assert len(seen) >= 3, "the readers saw it change"


def test_a_reader_whose_files_are_gone_is_told_to_open_the_dataset_again(update, library):
    old, _ = update()
    labels = dict.fromkeys(library.rows, 0)
    with open_feed(old, "mel", labels, batch_size=2) as feed:
        assert sum(len(batch.track_ids) for batch in feed.epoch(0)) == 3
        library.change("track 002 ö")
        new, _ = update()
        with pytest.raises(DatasetError, match=r"data: was changed .* open it again"):
            old.tracks()
        with pytest.raises(DatasetError, match="data/features/part-00001-000000.parquet"):
            open_feed(old, "mel", labels, batch_size=2)
        with pytest.raises(FeedError, match=r"data/features/part-\S+: feature 'mel' can't be read"):
            list(feed.epoch(1))
    assert new.tracks().num_rows == 3


def test_of_two_jobs_the_second_is_refused_by_name_or_waits_and_has_nothing_to_do(spark, library, tmp_path):
    inside, go_on = threading.Event(), threading.Event()

    def hold(progress):
        if progress.phase == "planning":
            inside.set()
            assert go_on.wait(60)

    first = threading.Thread(
        target=extract, args=(spark, library.table(), SPECS, tmp_path / "data", set_to()), kwargs={"on_progress": hold}
    )
    first.start()
    try:
        assert inside.wait(60)
        with pytest.raises(DatasetError, match=rf"data: .*process {os.getpid()} on .*"):
            extract(unneeded, library.table(), SPECS, tmp_path / "data", set_to())
        threading.Timer(0.3, go_on.set).start()
        told = []
        waits = set_to("extract.wait_s=60")
        dataset = extract(unneeded, library.table(), SPECS, tmp_path / "data", waits, on_progress=told.append)
    finally:
        go_on.set()
        first.join()
    assert (told[-1].done, told[-1].up_to_date, dataset.manifest.commit) == (0, 3, 1)
    assert content(dataset) == library.content()


def test_leftovers_are_left_to_the_job_that_took_this_one_for_dead(update, library, tmp_path):
    update()
    leftover = tmp_path / "data" / "_work" / "old" / "features" / "0000000-a.parquet"
    leftover.parent.mkdir(parents=True)
    leftover.write_bytes(b"of another job")

    def lose_the_lease(progress):
        if progress.phase == "planning":
            for file in (tmp_path / "data" / LOCK).glob("*.json"):
                file.unlink()

    with pytest.raises(DatasetError, match="another job took this one for dead"):
        extract(unneeded, library.table(), SPECS, tmp_path / "data", set_to(), on_progress=lose_the_lease)
    assert leftover.exists()
    update(session=unneeded)
    assert not leftover.exists()


def test_tracks_that_the_table_lacks_stay_with_a_warning_until_they_are_pruned(update, library, caplog):
    dataset, _ = update()
    before = content(dataset)
    gone = library.rows.pop("track 002 ö")
    with caplog.at_level(logging.WARNING, "genre_spark"):
        dataset, progress = update(session=unneeded)
    assert "keeps 1 tracks that the track table lacks (--prune removes them)" in caplog.text
    assert content(dataset) == before
    dataset, progress = update(session=unneeded, prune=True)
    assert (progress.removed, progress.done) == (1, 0)
    assert content(dataset) == library.content()
    library.rows[gone["track_id"]] = gone
    dataset, progress = update()
    assert progress.done == 1
    assert content(dataset) == before
