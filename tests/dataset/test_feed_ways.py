"""What must not change the batches: threads, kind of cache, shares; and what is left when a reader stops early."""

import errno
import itertools
import os
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import genre_spark.dataset.feed as feed_module
from genre_spark.dataset.feed import Feed, open_feed
from genre_spark.errors import FeedError
from genre_spark.features import Segments

LAYOUTS = st.lists(st.lists(st.integers(1, 4), min_size=1, max_size=4), min_size=1, max_size=3)
MEMORY = {"cache_bytes": 2**30}


def labels(small_datasets, n_tracks):
    return {small_datasets.track_id(n): n % 7 for n in range(n_tracks)}


def epochs_of(feed: Feed, count: int = 2) -> list[list[tuple[list[str], list[float], list[int]]]]:
    with feed:
        return [
            [(batch.track_ids, batch.x.tolist(), batch.y.tolist()) for batch in feed.epoch(index)]
            for index in range(count)
        ]


@settings(max_examples=25)
@given(
    layout=LAYOUTS,
    batch_size=st.integers(1, 9),
    seed=st.none() | st.integers(0, 3),
    segments=st.none() | st.just(Segments(count=2, length_s=1.0, overlap_s=0.0)),
    is_cached=st.booleans(),
)
def test_batches_do_not_depend_on_the_number_of_threads(small_datasets, layout, batch_size, seed, segments, is_cached):
    dataset, n_tracks = small_datasets.write(layout, segments=segments), sum(map(sum, layout))
    options = {"batch_size": batch_size, "seed": seed, **(MEMORY if is_cached else {})}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(feed_module, "SHUFFLE_BYTES", 7 * 60)
        epochs = [
            epochs_of(
                open_feed(dataset, "melgram", labels(small_datasets, n_tracks), reader_threads=threads, **options)
            )
            for threads in (0, 1, 2, 5)
        ]
    assert all(others == epochs[0] for others in epochs)


@settings(max_examples=25)
@given(layout=LAYOUTS, batch_size=st.integers(1, 9), seed=st.none() | st.integers(0, 3))
def test_the_disk_cache_gives_the_same_batches_as_memory_and_leaves_nothing_behind(
    small_datasets, tmp_path_factory, layout, batch_size, seed
):
    dataset, n_tracks = small_datasets.write(layout), sum(map(sum, layout))
    folder = tmp_path_factory.mktemp("cache") / "below"
    options = {"batch_size": batch_size, "seed": seed}
    wanted = labels(small_datasets, n_tracks)
    on_disk = open_feed(dataset, "melgram", wanted, cache_dir=folder, disk_cache_bytes=60 * n_tracks, **options)
    in_memory = open_feed(dataset, "melgram", wanted, **MEMORY, **options)
    for index in range(3):
        for one, other in zip(on_disk.epoch(index), in_memory.epoch(index), strict=True):
            assert (one.track_ids, one.y.tolist()) == (other.track_ids, other.y.tolist())
            np.testing.assert_array_equal(one.x, other.x)
        if index == 0:
            for file in dataset.files():
                Path(file).unlink()
    on_disk.close()
    in_memory.close()
    assert list(folder.iterdir()) == []


def test_tensors_go_to_disk_only_where_memory_is_too_small_and_the_limit_allows(small_datasets, tmp_path):
    dataset, n_bytes = small_datasets.write([[5]]), 5 * 60
    for options, is_used in (
        ({}, True),
        ({"disk_cache_bytes": n_bytes}, True),
        ({"disk_cache_bytes": n_bytes - 1}, False),
        ({"cache_bytes": n_bytes}, False),
    ):
        folder = tmp_path / str(options)
        feed = open_feed(dataset, "melgram", labels(small_datasets, 5), batch_size=2, cache_dir=folder, **options)
        list(feed.epoch(0))
        assert folder.exists() == is_used


def test_a_full_disk_is_told_before_anything_is_written(small_datasets, tmp_path, monkeypatch):
    def no_space(*_arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    feed = open_feed(
        small_datasets.write(), "melgram", labels(small_datasets, 19), batch_size=2, cache_dir=tmp_path / "cache"
    )
    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", no_space)
        with pytest.raises(FeedError, match=r"cache: a cache of 0 MB can't be written: No space left on device; make"):
            next(feed.epoch(0))
    assert len(list(feed.epoch(0))) == 10


def test_more_than_a_real_disk_holds_is_refused_by_folder_and_size(tmp_path):
    from genre_spark.dataset.feed_order import on_disk

    with pytest.raises(FeedError, match=rf"{tmp_path}: a cache of \d+ MB can't be written: .*lower disk_cache_bytes"):
        on_disk(tmp_path, 2**45, 2**10)
    assert list(tmp_path.iterdir()) == []


def test_a_cache_folder_that_is_a_file_is_refused(small_datasets, tmp_path):
    (tmp_path / "file").write_text("")
    feed = open_feed(
        small_datasets.write(), "melgram", labels(small_datasets, 19), batch_size=2, cache_dir=tmp_path / "file"
    )
    with pytest.raises(FeedError, match="file: a cache of 0 MB can't be written: File exists"):
        next(feed.epoch(0))


@settings(max_examples=20)
@given(
    layout=LAYOUTS,
    shard_count=st.integers(1, 6),
    segments=st.none() | st.just(Segments(count=2, length_s=1.0, overlap_s=0.0)),
    seed=st.none() | st.integers(0, 3),
    is_cached=st.booleans(),
    data=st.data(),
)
def test_shares_are_even_and_cover_every_wanted_track_once(
    small_datasets, layout, shard_count, segments, seed, is_cached, data
):
    dataset, n_tracks = small_datasets.write(layout, segments=segments), sum(map(sum, layout))
    every = labels(small_datasets, n_tracks)
    wanted = {track_id: every[track_id] for track_id in data.draw(st.sets(st.sampled_from(sorted(every)), min_size=1))}
    options = {"batch_size": 3, "seed": seed, **(MEMORY if is_cached else {})}
    if shard_count > len(wanted):
        with pytest.raises(FeedError, match=f"shard_count={shard_count} is more than the {len(wanted)} tracks"):
            open_feed(dataset, "melgram", wanted, cur_shard=0, shard_count=shard_count, **options)
        return
    shares = []
    for shard in range(shard_count):
        feed = open_feed(dataset, "melgram", wanted, cur_shard=shard, shard_count=shard_count, **options)
        rows = list(itertools.chain(*(zip(b.track_ids, b.y.tolist(), strict=True) for b in feed.epoch(0))))
        assert all(wanted[track_id] == y for track_id, y in rows)
        assert len(rows) == feed.n_rows == feed.n_tracks * (2 if segments else 1)
        shares.append({track_id for track_id, _ in rows})
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    assert sorted(itertools.chain(*shares)) == sorted(wanted)


def test_a_share_reads_only_the_row_groups_that_hold_it(small_datasets):
    dataset = small_datasets.write([[2, 2, 2], [2, 2, 2]])
    feed = open_feed(
        dataset, "melgram", labels(small_datasets, 12), batch_size=3, cur_shard=0, shard_count=4, reader_threads=0
    )
    file = Path(dataset.files()[0])
    content = bytearray(file.read_bytes())
    import pyarrow.parquet as pq

    for row_group in (2,):  # of tracks 4 and 5; the share's are 0 to 2
        columns = pq.read_metadata(file).row_group(row_group)
        for number in range(columns.num_columns):
            start = columns.column(number).data_page_offset
            content[start : start + 8] = b"\xff" * 8
    file.write_bytes(content)
    Path(dataset.files()[1]).unlink()
    assert [int(x.flat[0]) for batch in feed.epoch(0) for x in batch.x] == [0, 1, 2]


@pytest.mark.parametrize("shard", [(None, 2), (0, None), (2, 2), (-1, 2), (0, 0)])
def test_impossible_shares_are_refused(small_datasets, shard):
    with pytest.raises(FeedError, match=f"cur_shard={shard[0]} must be"):
        open_feed(
            small_datasets.write(),
            "melgram",
            labels(small_datasets, 19),
            batch_size=2,
            cur_shard=shard[0],
            shard_count=shard[1],
        )


def test_a_negative_number_of_threads_is_refused(small_datasets):
    with pytest.raises(FeedError, match="reader_threads=-1 must not be negative"):
        open_feed(small_datasets.write(), "melgram", labels(small_datasets, 19), batch_size=2, reader_threads=-1)


@settings(max_examples=15)
@given(
    threads=st.integers(0, 4),
    taken=st.integers(0, 6),
    ending=st.sampled_from(["close", "exception", "forgotten"]),
    options=st.sampled_from([{}, {"seed": 1}, {"seed": 1, **MEMORY}]),
)
def test_an_epoch_that_is_left_leaves_no_thread(small_datasets, threads, taken, ending, options):
    before = set(threading.enumerate())
    dataset = small_datasets.write([[1] * 30])
    feed = open_feed(dataset, "melgram", labels(small_datasets, 30), batch_size=2, reader_threads=threads, **options)
    epoch = feed.epoch(0)
    for _ in range(taken):
        next(epoch)
    if ending == "close":
        feed.close()
        with pytest.raises(FeedError, match="is closed"):
            next(epoch)
    elif ending == "exception":
        with pytest.raises(KeyError), feed:
            raise KeyError
    else:
        del epoch
    assert set(threading.enumerate()) <= before


@pytest.mark.parametrize("place", ["memory", "disk"])
@pytest.mark.parametrize("segments", [None, Segments(count=2, length_s=1.0, overlap_s=0.0)])
def test_the_whole_part_comes_in_the_order_of_files_and_rows(small_datasets, tmp_path, place, segments):
    dataset = small_datasets.write(segments=segments)
    options = MEMORY if place == "memory" else {"cache_dir": tmp_path}
    feed = open_feed(dataset, "melgram", labels(small_datasets, 19), batch_size=4, seed=3, **options)
    x, y, track_ids = feed.arrays()
    numbers = [n + 1_000 * segment for n in range(19) for segment in range(2 if segments else 1)]
    spec = dataset.spec("melgram")
    np.testing.assert_array_equal(x, [small_datasets.tensor(number, spec) for number in numbers])
    assert track_ids == [small_datasets.track_id(number % 1_000) for number in numbers]
    assert y.tolist() == [number % 1_000 % 7 for number in numbers]
    assert (x.dtype, y.dtype, x.shape[1:]) == (np.float32, np.int32, spec.shape)
    with pytest.raises(ValueError, match="read-only"):
        x[0] = 0
    assert sorted(int(row.flat[0]) for batch in feed.epoch(0) for row in batch.x) == sorted(numbers)


def test_a_part_that_fits_into_no_cache_is_not_handed_out_whole(small_datasets):
    feed = open_feed(small_datasets.write(), "melgram", labels(small_datasets, 19), batch_size=4)
    with pytest.raises(FeedError, match=r"the part's 0 MB fit into no cache; raise cache_bytes, or name a cache_dir"):
        feed.arrays()
    feed.close()
    with pytest.raises(FeedError, match="is closed"):
        feed.arrays()


def test_row_groups_that_are_wanted_whole_are_read_into_the_cache_and_copied_nowhere(small_datasets, monkeypatch):
    dataset = small_datasets.write([[3, 2], [4]])
    monkeypatch.setattr(feed_module.RowCopier, "copy", None)  # to call it is an error
    with open_feed(dataset, "melgram", labels(small_datasets, 9), batch_size=4, **MEMORY) as feed:
        x, _, track_ids = feed.arrays()
        for tensor, track_id in zip(x, track_ids, strict=True):
            number = next(n for n in range(9) if small_datasets.track_id(n) == track_id)
            np.testing.assert_array_equal(tensor, small_datasets.tensor(number, feed.spec))


@settings(max_examples=25)
@given(layout=LAYOUTS, chosen=st.integers(1, 2**12 - 1), threads=st.integers(0, 3), is_on_disk=st.booleans())
def test_tracks_among_others_come_into_the_cache_with_their_own_tensors(
    small_datasets, tmp_path_factory, layout, chosen, threads, is_on_disk
):
    wanted = [n for n in range(sum(map(sum, layout))) if chosen >> n % 12 & 1]
    if not wanted:
        return
    cache = {"cache_dir": tmp_path_factory.mktemp("cache")} if is_on_disk else MEMORY
    labels_of = {small_datasets.track_id(n): n % 7 for n in wanted}
    dataset = small_datasets.write(layout)
    with open_feed(dataset, "melgram", labels_of, batch_size=4, reader_threads=threads, **cache) as feed:
        x, y, track_ids = feed.arrays()
        assert sorted(track_ids) == sorted(labels_of)
        numbers = {small_datasets.track_id(n): n for n in wanted}
        for tensor, label, track_id in zip(x, y, track_ids, strict=True):
            np.testing.assert_array_equal(tensor, small_datasets.tensor(numbers[track_id], feed.spec))
            assert label == labels_of[track_id]
