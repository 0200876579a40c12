import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from genre_spark.corpora.splits import make_split
from genre_spark.corpora.tracks import TRACK_SCHEMA
from genre_spark.dataset.feed import open_feed
from genre_spark.dataset.rows import ROW_SCHEMA, feature_table, tensors_of
from genre_spark.dataset.segments import common_segments, whole_tracks
from genre_spark.dataset.store import open_dataset
from genre_spark.errors import DatasetError
from genre_spark.features import FeatureSpec, Segments
from genre_spark.settings import load_settings

TWO = Segments(count=2, length_s=1.5, overlap_s=0.5)


def spec(name: str, segments: Segments | None) -> FeatureSpec:
    return FeatureSpec(
        name=name, kind="mel_spectrogram", sample_rate=8_000, n_mels=3, summary="mean", segments=segments
    )


def rows(ids: str, numbers: list[int | None]) -> pa.Table:
    return pa.table({"track_id": list(ids), "segment": pa.array(numbers, pa.int32())})


def test_specs_that_cut_alike_go_together() -> None:
    assert common_segments([spec("a", TWO), spec("b", Segments(**TWO.model_dump()))]) == TWO
    assert common_segments([spec("a", None), spec("b", None)]) is None


@pytest.mark.parametrize(
    ("one", "other", "message"),
    [
        (TWO, None, "'a' has segments of 2 x 1.5 s with 0.5 s overlap, 'b' has no segments: extract them into two"),
        (None, TWO, "'a' has no segments, 'b' has segments of 2 x 1.5 s with 0.5 s overlap: extract them into two"),
        (
            TWO,
            Segments(),
            "'a' has .*, 'b' has segments of 6 x 5 s with 0.01 s overlap: extract them into two datasets",
        ),
    ],
)
def test_specs_that_cut_otherwise_are_refused_by_name(
    one: Segments | None, other: Segments | None, message: str
) -> None:
    with pytest.raises(DatasetError, match=message):
        common_segments([spec("a", one), spec("b", other)])


@pytest.mark.parametrize("name", ["segment", "start_s"])
def test_a_feature_named_like_a_segments_column_is_refused_where_there_are_segments(name: str) -> None:
    assert common_segments([spec(name, None)]) is None
    with pytest.raises(DatasetError, match=f"feature '{name}': a dataset of segments has a column of this name"):
        common_segments([spec(name, TWO)])


def test_each_track_is_named_once() -> None:
    assert whole_tracks(rows("bbaacc", [0, 1] * 3), TWO, "here") == ["b", "a", "c"]
    assert whole_tracks(rows("bac", [0] * 3), Segments(count=1), "here") == ["b", "a", "c"]
    assert whole_tracks(pa.table({"track_id": ["b", "a"]}), None, "here") == ["b", "a"]


@pytest.mark.parametrize(
    ("ids", "numbers", "at_fault"),
    [
        ("aabb", [0, 1, 1, 0], "b"),
        ("aabb", [0, 1, 0, 0], "b"),
        ("aabbc", [0, 1, 0, 1, 0], "c"),
        ("aabcc", [0, 1, 0, 0, 1], "b"),
        ("abab", [0, 0, 1, 1], "a"),
        ("abba", [0, 1, 0, 1], "a"),
        ("aabb", [0, 1, 0, None], "b"),
        ("aaa", [0, 1, 2], "a"),
    ],
    ids=["out of order", "twice", "cut at the end", "lost", "mixed", "swapped", "null", "more than wanted"],
)
def test_segments_that_are_not_whole_together_and_in_order_are_refused(ids: str, numbers: list, at_fault: str) -> None:
    with pytest.raises(
        DatasetError, match=f"here: the rows of track '{at_fault}' are not its segments 0 to 1 in order"
    ):
        whole_tracks(rows(ids, numbers), TWO, "here")


def test_a_row_is_a_segment_with_its_tracks_columns_its_number_and_its_start() -> None:
    specs = [spec("x", TWO), spec("y", TWO)]
    tracks = [{"track_id": name, "uri": f"{name}.mp3", "genre": "Rock"} for name in "ab"]
    arrays = [{each.name: np.array([[n] * 3, [n + 1] * 3], np.float32) for each in specs} for n in (10, 20)]
    table = feature_table(tracks, arrays, specs)
    assert table.column_names == [*ROW_SCHEMA.names, "segment", "start_s", "x", "y"]
    assert table["track_id"].to_pylist() == ["a", "a", "b", "b"]
    assert table["uri"].to_pylist() == ["a.mp3", "a.mp3", "b.mp3", "b.mp3"]
    assert table.schema.field("segment").type == pa.int32()
    assert table["segment"].to_pylist() == [0, 1, 0, 1]
    assert table["start_s"].to_pylist() == [0.0, 1.0, 0.0, 1.0]
    np.testing.assert_array_equal(tensors_of(table["y"], specs[1])[:, 0], [10, 11, 20, 21])


def test_without_segments_a_row_is_a_track_and_has_no_column_of_theirs() -> None:
    table = feature_table([{"track_id": "a", "uri": "a.mp3"}], [{"x": np.ones(3, np.float32)}], [spec("x", None)])
    assert table.column_names == [*ROW_SCHEMA.names, "x"]
    assert table.num_rows == 1


def test_tracks_of_a_dataset_of_segments_are_named_once_in_order(small_datasets) -> None:
    tracks = small_datasets.write(segments=TWO).tracks()
    assert tracks["track_id"].to_pylist() == [small_datasets.track_id(number) for number in range(19)]
    assert tracks.schema.names == TRACK_SCHEMA.names


def test_a_dataset_that_lost_segments_says_so(small_datasets) -> None:
    dataset = small_datasets.write(segments=TWO)
    file = dataset.files()[1]
    whole = pq.read_table(file)
    pq.write_table(whole.slice(0, 1), file)
    with pytest.raises(DatasetError, match="holds 37 segments where 38 were written; extract it again"):
        open_dataset(dataset.path).tracks()
    pq.write_table(pa.concat_tables([whole.slice(0, 1), whole.slice(0, 1)]), file)
    with pytest.raises(DatasetError, match="the rows of track 'track 0008 ö' are not its segments 0 to 1 in order"):
        open_dataset(dataset.path).tracks()


@pytest.mark.parametrize("scheme", ["study", "artist", "artist-kfold"])
def test_no_split_parts_the_segments_of_a_track(small_datasets, scheme: str) -> None:
    dataset = small_datasets.write([[10, 10], [10]], segments=TWO)
    split = make_split(dataset.tracks(), scheme, load_settings([], []).split).to_pylist()
    assert len(split) == 30
    segments_in: dict[str, dict[str, list[int]]] = {}
    for part in {row["part"] for row in split}:
        labels_of = {row["track_id"]: 0 for row in split if row["part"] == part}
        with open_feed(dataset, "melgram", labels_of, batch_size=7, seed=1) as feed:
            for batch in feed.epoch(0):
                for track_id, x in zip(batch.track_ids, batch.x, strict=True):
                    segments_in.setdefault(track_id, {}).setdefault(part, []).append(int(x.flat[0]) // 1_000)
    assert len(segments_in) == 30
    for parts in segments_in.values():
        assert [sorted(numbers) for numbers in parts.values()] == [[0, 1]]
