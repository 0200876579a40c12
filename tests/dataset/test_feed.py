import gc
import os
import threading
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import genre_spark.dataset.feed as feed_module
from genre_spark.dataset.feed import Batch, open_feed
from genre_spark.dataset.store import open_dataset
from genre_spark.errors import DatasetError, FeedError
from genre_spark.features import Segments

CACHED = 2**30
N_TRACKS = 19  # of the default layout


def labels(small_datasets, numbers=range(N_TRACKS)):
    return {small_datasets.track_id(n): n % 7 for n in numbers}


def numbers_of(batches: Iterator[Batch]) -> list[int]:
    """Track numbers as the tensors say them."""
    return [int(x.flat[0]) for batch in batches for x in batch.x]


def assert_batches_belong_together(batches: list[Batch], small_datasets, spec):
    for batch in batches:
        assert batch.x.dtype == np.float32
        assert batch.y.dtype == np.int32
        assert batch.x.shape == (len(batch.track_ids), *spec.shape)
        for track_id, x, y in zip(batch.track_ids, batch.x, batch.y, strict=True):
            number = int(x.flat[0])
            np.testing.assert_array_equal(x, small_datasets.tensor(number, spec))
            assert track_id == small_datasets.track_id(number)
            assert y == number % 7


@settings(max_examples=60)
@given(
    layout=st.lists(st.lists(st.integers(1, 5), min_size=1, max_size=4), min_size=1, max_size=4),
    batch_size=st.integers(1, 9),
    seed=st.none() | st.integers(0, 3),
    cache_bytes=st.sampled_from([0, CACHED]),
    buffer_rows=st.integers(1, 30),
    feature=st.sampled_from(["melgram", "melgram_mean"]),
    data=st.data(),
)
def test_every_wanted_track_comes_once_per_epoch_with_its_tensor_and_its_label(
    small_datasets, layout, batch_size, seed, cache_bytes, buffer_rows, feature, data
):
    n_tracks = sum(map(sum, layout))
    wanted = data.draw(st.sets(st.integers(0, n_tracks - 1), min_size=1))
    dataset = small_datasets.write(layout)
    spec = dataset.spec(feature)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(feed_module, "SHUFFLE_BYTES", buffer_rows * spec_bytes(spec))
        feed = open_feed(
            dataset,
            feature,
            labels(small_datasets, wanted),
            batch_size=batch_size,
            seed=seed,
            cache_bytes=cache_bytes,
        )
        for index in (0, 1):
            batches = list(feed.epoch(index))
            assert sorted(numbers_of(batches)) == sorted(wanted)
            assert_batches_belong_together(batches, small_datasets, spec)
            assert len(batches) == feed.n_batches
            assert [len(batch.y) for batch in batches[:-1]] == [batch_size] * (feed.n_batches - 1)
            if seed is None:
                assert numbers_of(batches) == sorted(wanted)


def spec_bytes(spec):
    return 4 * int(np.prod(spec.shape))


@pytest.fixture(params=[0, CACHED], ids=["from disk", "from memory"])
def cache_bytes(request):
    return request.param


@pytest.fixture
def open_small(small_datasets, cache_bytes, monkeypatch):
    """Open a feed whose shuffle buffer holds fewer tracks than the dataset."""
    monkeypatch.setattr(feed_module, "SHUFFLE_BYTES", 8 * 60)
    dataset = small_datasets.write()

    def open_it(**options):
        options = {"batch_size": 4, "cache_bytes": cache_bytes, "seed": 5, **options}
        return open_feed(dataset, "melgram", labels(small_datasets), **options)

    return open_it


@pytest.mark.parametrize("seed", [0, 5])
def test_an_epoch_is_repeatable_from_seed_and_index_alone(open_small, seed):
    first = open_small(seed=seed)
    third_epoch = [numbers_of(first.epoch(index)) for index in range(4)][2]
    np.random.seed(1)
    assert numbers_of(open_small(seed=seed, batch_size=3).epoch(2)) == third_epoch


def test_epochs_and_seeds_give_different_orders(open_small):
    orders = {tuple(numbers_of(open_small(seed=seed).epoch(index))) for seed in (0, 1, 2) for index in (0, 1)}
    assert len(orders) == 6
    assert tuple(range(N_TRACKS)) not in orders


def test_without_a_seed_tracks_come_in_the_order_of_files_and_rows(open_small):
    feed = open_small(seed=None)
    assert numbers_of(feed.epoch(0)) == numbers_of(feed.epoch(1)) == list(range(N_TRACKS))


def test_the_shuffle_buffer_mixes_row_groups(small_datasets, monkeypatch):
    monkeypatch.setattr(feed_module, "SHUFFLE_BYTES", 40 * 60)
    dataset = small_datasets.write([[10] * 5] * 4)
    feed = open_feed(dataset, "melgram", labels(small_datasets, range(200)), batch_size=20, seed=0)
    groups_per_batch = [len({int(x.flat[0]) // 10 for x in batch.x}) for batch in feed.epoch(0)]
    # A batch of 20 of unmixed row groups would have 2 or 3.
    assert np.mean(groups_per_batch) > 6


def test_changing_a_batch_in_place_does_not_change_the_next_epoch(open_small):
    feed = open_small(seed=None, batch_size=N_TRACKS)
    next(feed.epoch(0)).x[:] = -1
    assert numbers_of(feed.epoch(1)) == list(range(N_TRACKS))


def test_memory_is_filled_once_and_only_if_everything_fits(small_datasets):
    dataset = small_datasets.write()
    for spare, comes_again in ((0, True), (-1, False)):
        feed = open_feed(
            dataset, "melgram", labels(small_datasets), batch_size=4, cache_bytes=N_TRACKS * 60 + spare, seed=1
        )
        list(feed.epoch(0))
        moved = Path(dataset.files()[0])
        hidden = moved.with_name("hidden")
        moved.rename(hidden)
        if comes_again:
            assert len(numbers_of(feed.epoch(1))) == N_TRACKS
        else:
            with pytest.raises(FeedError, match="can't be read"):
                list(feed.epoch(1))
        hidden.rename(moved)


class ConsumerFailed(Exception):
    pass


def open_files() -> int:
    return len(os.listdir("/dev/fd"))  # noqa: PTH208


def test_no_thread_and_no_open_file_is_left_when_the_consumer_stops_or_fails(open_small):
    def consumer(feed):
        with feed:
            for _batch in feed.epoch(0):
                raise ConsumerFailed

    list(open_small().epoch(0))  # pyarrow's own threads start with its first use
    before = threading.active_count(), open_files()
    with pytest.raises(ConsumerFailed):
        consumer(open_small())
    assert (threading.active_count(), open_files()) == before
    stopped_early = open_small().epoch(0)
    next(stopped_early)
    del stopped_early
    gc.collect()
    assert (threading.active_count(), open_files()) == before


def test_a_closed_feed_says_so(open_small):
    feed = open_small()
    epoch = feed.epoch(0)
    next(epoch)
    feed.close()
    with pytest.raises(FeedError, match="'melgram' is closed"):
        next(epoch)
    with pytest.raises(FeedError, match="'melgram' is closed"):
        next(feed.epoch(1))


def test_two_epochs_can_be_read_side_by_side(open_small):
    feed = open_small()
    expected = [numbers_of(feed.epoch(0)), numbers_of(feed.epoch(1))]
    side_by_side = list(zip(feed.epoch(0), feed.epoch(1), strict=True))
    assert [numbers_of(pair[index] for pair in side_by_side) for index in (0, 1)] == expected


@pytest.mark.parametrize("name", ["a b ü", "100%41", "a#b?c;d", "[1]"])
def test_any_path_can_be_read(small_datasets, tmp_path, name):
    dataset = small_datasets.write(path=tmp_path / name)
    feed = open_feed(dataset, "melgram", labels(small_datasets), batch_size=4)
    assert numbers_of(feed.epoch(0)) == list(range(N_TRACKS))


def test_labels_without_features_are_refused_with_one_name_and_the_count(small_datasets):
    dataset = small_datasets.write()
    with pytest.raises(FeedError, match=r"2 of 4 tracks have no features, among them 'track 0100 ö'"):
        open_feed(dataset, "melgram", labels(small_datasets, [0, 1, 100, 101]), batch_size=4)


def test_no_labels_no_files_no_feature_and_no_batch_size_are_refused(small_datasets):
    dataset = small_datasets.write()
    wanted = labels(small_datasets)
    with pytest.raises(FeedError, match="no track is asked for; check the split"):
        open_feed(dataset, "melgram", {}, batch_size=4)
    with pytest.raises(FeedError, match="batch_size=0 must be a positive integer"):
        open_feed(dataset, "melgram", wanted, batch_size=0)
    with pytest.raises(DatasetError, match="has no feature 'mfcc'"):
        open_feed(dataset, "mfcc", wanted, batch_size=4)
    empty = replace(dataset, listed=dataset.listed.slice(0, 0))
    with pytest.raises(FeedError, match="holds no file with features; extract it"):
        open_feed(empty, "melgram", wanted, batch_size=4)


def test_a_track_that_stands_in_two_files_is_refused(small_datasets):
    dataset = small_datasets.write()
    file = Path(dataset.files()[0])
    file.with_name("part-00009.parquet").write_bytes(file.read_bytes())
    listed = dataset.listed.to_pylist()
    twice = [*listed, listed[0] | {"name": "features/part-00009.parquet"}]
    pq.write_table(pa.Table.from_pylist(twice, schema=dataset.listed.schema), dataset.path / dataset.manifest.files)
    dataset = open_dataset(dataset.path)
    with pytest.raises(FeedError, match=r"part-00009\.parquet: track 'track 0000 ö' stands in .*part-00000\.parquet"):
        open_feed(dataset, "melgram", labels(small_datasets), batch_size=4)


def test_a_missing_column_is_refused_by_name(small_datasets):
    dataset = small_datasets.write()
    file = Path(dataset.files()[1])
    pq.write_table(pq.read_table(file).drop_columns("melgram"), file)
    with pytest.raises(DatasetError, match=r"part-00001\.parquet: column 'melgram' is missing"):
        open_feed(dataset, "melgram", labels(small_datasets), batch_size=4)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_tensor_that_is_not_finite_is_refused_by_its_track(small_datasets, cache_bytes, value):
    def tensor(number, spec):
        x = small_datasets.tensor(number, spec)
        if number == 6:
            x.flat[-1] = value
        return x

    dataset = small_datasets.write(tensor=tensor)
    feed = open_feed(dataset, "melgram", labels(small_datasets), batch_size=4, cache_bytes=cache_bytes, seed=1)
    with pytest.raises(FeedError, match="of track 'track 0006 ö' holds NaN or infinity"):
        list(feed.epoch(0))
    others = [number for number in range(N_TRACKS) if number != 6]
    feed = open_feed(dataset, "melgram", labels(small_datasets, others), batch_size=4, cache_bytes=cache_bytes)
    assert numbers_of(feed.epoch(0)) == others


def rewrite(file, **columns):
    table = pq.read_table(file)
    for name, values in columns.items():
        table = table.set_column(table.schema.get_field_index(name), name, [values])
    pq.write_table(table, file)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        (
            pa.array([[1.0] * 15] * 6 + [[1.0] * 14, []], pa.list_(pa.float32())),
            r"'melgram' of track 'track 0006 ö' has 14 values, where shape \(3, 5\) has 15;",
        ),
        (
            pa.array([[1.0] * 15] * 7 + [None], pa.list_(pa.float32())),
            r"'melgram' of track 'track 0007 ö' is missing, where shape \(3, 5\) has 15;",
        ),
        (pa.array([[1.0] * 14] * 8, pa.list_(pa.float32())), "of track 'track 0000 ö' is float32 of size"),
        (pa.array([[1.0] * 15] * 8, pa.list_(pa.float64())), "of track 'track 0000 ö' is float64 of size"),
        (pa.array([1.0] * 8, pa.float32()), "melgram"),
    ],
    ids=["ragged", "null", "of another shape", "of another type", "no list"],
)
def test_a_tensor_column_of_another_form_is_refused_by_its_track(small_datasets, tensors, message, cache_bytes):
    dataset = small_datasets.write()
    rewrite(Path(dataset.files()[0]), melgram=tensors)
    feed = open_feed(dataset, "melgram", labels(small_datasets), batch_size=4, cache_bytes=cache_bytes)
    with pytest.raises(FeedError, match=f"{message}.*extract the dataset again") as refusal:
        list(feed.epoch(0))
    assert "\n" not in str(refusal.value)
    assert len(str(refusal.value)) < 400
    if "where shape" in message:
        assert str(refusal.value).startswith(f"{dataset.files()[0]}: feature ")


def test_a_segment_of_another_size_is_refused_by_track_number_and_file(small_datasets, cache_bytes):
    """Of a row group in the second file; what petastorm says of it is a number for each of its rows."""
    dataset = small_datasets.write(segments=Segments(count=2, length_s=1.0, overlap_s=0.0))
    file = Path(dataset.files()[1])
    rows = pq.read_table(file)["melgram"].to_pylist()
    rewrite(file, melgram=pa.array([rows[0], rows[1][:-1]], pa.list_(pa.float32())))
    feed = open_feed(dataset, "melgram", labels(small_datasets), batch_size=4, cache_bytes=cache_bytes)
    with pytest.raises(FeedError, match=r"'melgram' of track 'track 0008 ö' \(segment 1\) has \d+ values, ") as refusal:
        list(feed.epoch(0))
    assert str(refusal.value).startswith(f"{file}: ")


def test_a_file_that_is_damaged_after_opening_is_named(small_datasets, cache_bytes):
    dataset = small_datasets.write()
    file = Path(dataset.files()[1])
    feed = open_feed(dataset, "melgram", labels(small_datasets), batch_size=4, cache_bytes=cache_bytes)
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(FeedError, match=f"^{file}: feature 'melgram' can't be read: .*; extract the dataset again$"):
        list(feed.epoch(0))


@pytest.mark.parametrize("seed", [None, 3])
def test_tracks_that_vanish_or_double_after_opening_are_noticed(small_datasets, cache_bytes, seed):
    dataset = small_datasets.write()
    options = {"batch_size": 4, "cache_bytes": cache_bytes, "seed": seed}
    feed = open_feed(dataset, "melgram", labels(small_datasets), **options)
    ids = pq.read_table(Path(dataset.files()[-1]))["track_id"].to_pylist()
    rewrite(Path(dataset.files()[-1]), track_id=pa.array([*ids[:-1], "somebody else"]))
    with pytest.raises(FeedError, match=f"1 of {N_TRACKS} tracks did not come in this epoch, among them '{ids[-1]}'"):
        list(feed.epoch(0))
    feed = open_feed(dataset, "melgram", labels(small_datasets, range(N_TRACKS - 1)), **options)
    rewrite(Path(dataset.files()[-1]), track_id=pa.array([*ids[:-1], ids[0]]))
    with pytest.raises(FeedError, match=f"track '{ids[0]}' came twice"):
        list(feed.epoch(0))


THREE = Segments(count=3, length_s=1.0, overlap_s=0.0)


@settings(max_examples=40)
@given(
    layout=st.lists(st.lists(st.integers(1, 4), min_size=1, max_size=3), min_size=1, max_size=3),
    count=st.integers(1, 4),
    batch_size=st.integers(1, 9),
    seed=st.none() | st.integers(0, 3),
    cache_bytes=st.sampled_from([0, CACHED]),
    buffer_rows=st.integers(1, 30),
    data=st.data(),
)
def test_every_segment_of_every_wanted_track_comes_once_per_epoch_with_its_tensor_and_its_tracks_label(
    small_datasets, layout, count, batch_size, seed, cache_bytes, buffer_rows, data
):
    n_tracks = sum(map(sum, layout))
    wanted = data.draw(st.sets(st.integers(0, n_tracks - 1), min_size=1))
    dataset = small_datasets.write(layout, segments=Segments(count=count, length_s=1.0, overlap_s=0.0))
    spec = dataset.spec("melgram")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(feed_module, "SHUFFLE_BYTES", buffer_rows * spec_bytes(spec))
        feed = open_feed(
            dataset,
            "melgram",
            labels(small_datasets, wanted),
            batch_size=batch_size,
            seed=seed,
            cache_bytes=cache_bytes,
        )
        assert (feed.n_tracks, feed.n_rows) == (len(wanted), len(wanted) * count)
        for index in (0, 1):
            batches = list(feed.epoch(index))
            in_order = [track + 1_000 * segment for track in sorted(wanted) for segment in range(count)]
            assert sorted(numbers_of(batches)) == sorted(in_order)
            if seed is None:
                assert numbers_of(batches) == in_order
            assert len(batches) == feed.n_batches
            assert [len(batch.y) for batch in batches[:-1]] == [batch_size] * (feed.n_batches - 1)
            for batch in batches:
                for track_id, x, y in zip(batch.track_ids, batch.x, batch.y, strict=True):
                    number = int(x.flat[0])
                    np.testing.assert_array_equal(x, small_datasets.tensor(number, spec))
                    assert track_id == small_datasets.track_id(number % 1_000)
                    assert y == number % 1_000 % 7


def test_segments_of_a_track_are_shuffled_apart(small_datasets, cache_bytes):
    dataset = small_datasets.write(segments=THREE)
    feed = open_feed(dataset, "melgram", labels(small_datasets), batch_size=100, seed=0, cache_bytes=cache_bytes)
    (batch,) = feed.epoch(0)
    neighbours = sum(one == other for one, other in pairwise(batch.track_ids))
    # In the order of the rows 38 of the 56 pairs of neighbours are of one track, at random 2.
    assert neighbours < 10


def test_tensors_of_segments_are_cached_only_if_all_segments_fit(small_datasets):
    dataset = small_datasets.write(segments=THREE)
    for spare, comes_again in ((0, True), (-1, False)):
        cache = 3 * N_TRACKS * 60 + spare
        feed = open_feed(dataset, "melgram", labels(small_datasets), batch_size=4, cache_bytes=cache)
        list(feed.epoch(0))
        moved = Path(dataset.files()[0])
        hidden = moved.rename(moved.with_name("hidden"))
        if comes_again:
            assert len(numbers_of(feed.epoch(1))) == 3 * N_TRACKS
        else:
            with pytest.raises(FeedError, match="can't be read"):
                list(feed.epoch(1))
        hidden.rename(moved)


def test_a_segment_that_is_not_finite_is_refused_by_track_and_number(small_datasets, cache_bytes):
    def tensor(number, spec):
        return small_datasets.tensor(number, spec) + (np.nan if number == 2_006 else 0)

    dataset = small_datasets.write(segments=THREE, tensor=tensor)
    feed = open_feed(dataset, "melgram", labels(small_datasets), batch_size=4, cache_bytes=cache_bytes, seed=1)
    with pytest.raises(FeedError, match=r"of track 'track 0006 ö' \(segment 2\) holds NaN or infinity"):
        list(feed.epoch(0))


def test_a_file_with_part_of_a_tracks_segments_is_refused(small_datasets):
    dataset = small_datasets.write(segments=THREE)
    file = Path(dataset.files()[0])
    pq.write_table(pq.read_table(file).slice(0, 23), file)
    with pytest.raises(
        DatasetError, match=r"part-00000\.parquet: the rows of track 'track 0007 ö' are not its segments"
    ):
        open_feed(dataset, "melgram", labels(small_datasets), batch_size=4)


@pytest.mark.parametrize("seed", [None, 3])
@pytest.mark.parametrize(
    ("last", "message"),
    [
        ([0, 1, 1], r"track 'track 0018 ö' \(segment 1\) came twice"),
        ([0, 1, 3], "track 'track 0018 ö' has no segment 3"),
        ([-1, 1, 2], "track 'track 0018 ö' has no segment -1"),
    ],
)
def test_segments_that_change_after_opening_are_noticed(small_datasets, cache_bytes, seed, last, message):
    dataset = small_datasets.write(segments=THREE)
    options = {"batch_size": 4, "cache_bytes": cache_bytes, "seed": seed}
    feed = open_feed(dataset, "melgram", labels(small_datasets), **options)
    file = Path(dataset.files()[-1])
    rewrite(file, segment=pa.array([*pq.read_table(file)["segment"].to_pylist()[:-3], *last], pa.int32()))
    with pytest.raises(FeedError, match=message):
        list(feed.epoch(0))


@pytest.mark.parametrize("seed", [None, 3])
def test_segments_that_vanish_after_opening_are_counted(small_datasets, cache_bytes, seed):
    dataset = small_datasets.write(segments=THREE)
    options = {"batch_size": 4, "cache_bytes": cache_bytes, "seed": seed}
    feed = open_feed(dataset, "melgram", labels(small_datasets), **options)
    file = Path(dataset.files()[-1])
    pq.write_table(pq.read_table(file).slice(0, 28), file)
    message = rf"2 of {3 * N_TRACKS} segments did not come in this epoch, among them 'track 0018 ö' \(segment 1\)"
    with pytest.raises(FeedError, match=message):
        list(feed.epoch(0))
