"""Joining and changing files: every row that stays is there once, bit for bit, and the sizes come into their band."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from genre_spark.dataset.ledger import CHANGE_SCHEMA
from genre_spark.dataset.rewrite import Group, Rewriting, grouped
from genre_spark.dataset.rows import ERROR_SCHEMA, ERRORS, FEATURES, feature_schema, feature_table
from genre_spark.errors import DatasetError
from genre_spark.folders import Folder
from tests.dataset.library import SEGMENTED, SPECS

SIZES = st.lists(st.integers(0, 20), max_size=30)


def named(sizes):
    return [(str(number), size) for number, size in enumerate(sizes)]


@settings(max_examples=300)
@given(sizes=SIZES, smallest=st.integers(0, 12), spread=st.integers(0, 12))
def test_only_small_files_are_joined_each_once_in_their_order_and_never_beyond_the_band(sizes, smallest, spread):
    largest = smallest + spread
    groups = grouped(named(sizes), smallest, largest)
    order = [int(name) for group in groups for name in group]
    assert order == sorted(set(order))
    assert all(len(group) > 1 for group in groups)
    assert all(sizes[number] < smallest for number in order)
    assert all(sum(sizes[int(name)] for name in group) <= largest for group in groups)


@settings(max_examples=300)
@given(increments=SIZES, smallest=st.integers(1, 12), factor=st.integers(2, 4))
def test_after_any_increments_all_files_but_one_are_in_the_band(increments, smallest, factor):
    largest = smallest * factor
    files = []
    for size in increments:
        files.append(min(size, largest))
        groups = grouped(named(files), smallest, largest)
        joined = {int(name) for group in groups for name in group}
        files = [size for number, size in enumerate(files) if number not in joined] + [
            sum(files[int(name)] for name in group) for group in groups
        ]
        assert sum(size < smallest for size in files) <= 1
        assert all(size <= largest for size in files)


def tensor(track, version, spec):
    parts = spec.segments.count if spec.segments else None
    shape = (parts, *spec.shape) if parts else spec.shape
    return np.random.default_rng([track, version]).standard_normal(shape).astype(np.float32)


def write(folder, name, tracks, specs):
    """One file; a row group for each two tracks."""
    with folder.created(name) as file, pq.ParquetWriter(file, feature_schema(specs)) as writer:
        for begin in range(0, len(tracks), 2):
            some = tracks[begin : begin + 2]
            rows = [{"track_id": str(track), "uri": f"{version}.wav", "genre": "Folk"} for track, version in some]
            arrays = [{spec.name: tensor(track, version, spec) for spec in specs} for track, version in some]
            writer.write_table(feature_table(rows, arrays, specs))


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    layout=st.lists(st.integers(1, 5), min_size=1, max_size=4),
    group=st.integers(1, 4),
    specs=st.sampled_from([SPECS, SEGMENTED]),
    data=st.data(),
)
def test_rows_stay_change_or_go_and_no_other_row_does(tmp_path, layout, group, specs, data):
    folder = Folder(tmp_path, DatasetError)
    names, tracks = [], {}
    for number, size in enumerate(layout):
        names.append(f"{FEATURES}/{number}.parquet")
        # The same tracks in each file, as where a track's new row is joined to the file of its old one.
        tracks[names[-1]] = [(track, number) for track in range(size)]
        write(folder, names[-1], tracks[names[-1]], specs)
    fates = {
        (name, track): data.draw(st.sampled_from(["stays", "stays", "goes", "told"]))
        for name in names
        for track, _ in tracks[name]
    }
    changes = [
        {"file": name, "track_id": str(track), "dropped": fate == "goes"}
        | ({"uri": "new.wav", "genre": None, "duration_s": 2.5} if fate == "told" else {})
        for (name, track), fate in fates.items()
        if fate != "stays"
    ]
    with folder.created("changes.parquet") as file:
        pq.write_table(pa.Table.from_pylist(changes, schema=CHANGE_SCHEMA), file)
    per_track = specs[0].segments.count if specs[0].segments else 1
    rewriting = Rewriting(str(tmp_path), "_work/1", feature_schema(specs), group * per_track)
    made = rewriting(Group(FEATURES, names, "changes.parquet"))

    wanted = [
        (track, version, fates[name, track]) for name in names for track, version in tracks[name]
        if fates[name, track] != "goes"
    ]  # fmt: skip
    if not wanted:
        assert made == []
        return
    (made,) = made
    with folder.opened(made.name) as file, pq.ParquetFile(file) as parquet:
        assert (made.rows, made.bytes) == (parquet.metadata.num_rows, file.size())
        sizes = [parquet.metadata.row_group(number).num_rows for number in range(parquet.num_row_groups)]
        assert parquet.schema_arrow.equals(feature_schema(specs), check_metadata=True)
        rows = parquet.read().to_pylist()
    assert all(size == group * per_track for size in sizes[:-1])
    assert 0 < sizes[-1] <= group * per_track
    assert len(rows) == len(wanted) * per_track
    for number, (track, version, fate) in enumerate(wanted):
        told = {"uri": "new.wav", "genre": None, "duration_s": 2.5}
        kept = {"uri": f"{version}.wav", "genre": "Folk", "duration_s": None}
        for segment, row in enumerate(rows[number * per_track : (number + 1) * per_track]):
            assert row["track_id"] == str(track)
            assert {name: row[name] for name in kept} == (told if fate == "told" else kept)
            for spec in specs:
                values = tensor(track, version, spec)
                values = values[segment] if spec.segments else values
                assert np.array(row[spec.name], np.float32).tobytes() == values.tobytes()


def test_error_rows_are_joined_and_dropped_too(tmp_path):
    folder = Folder(tmp_path, DatasetError)
    for name in ("a", "b"):
        rows = [{"track_id": f"{name}{n}", "uri": "u", "error": "AudioError", "detail": "d"} for n in range(2)]
        with folder.created(f"{ERRORS}/{name}") as file:
            pq.write_table(pa.Table.from_pylist(rows, schema=ERROR_SCHEMA), file)
    changes = [{"file": f"{ERRORS}/a", "track_id": "a1", "dropped": True}]
    with folder.created("changes") as file:
        pq.write_table(pa.Table.from_pylist(changes, schema=CHANGE_SCHEMA), file)
    (made,) = Rewriting(str(tmp_path), "_work/1", feature_schema(SPECS), 2)(
        Group(ERRORS, [f"{ERRORS}/a", f"{ERRORS}/b"], "changes")
    )
    table = pq.read_table(tmp_path / made.name)
    assert table["track_id"].to_pylist() == ["a0", "b0", "b1"]
    assert (made.table, made.rows) == (ERRORS, 3)


@pytest.mark.parametrize("spoil", [lambda file: file.unlink(), lambda file: file.write_bytes(file.read_bytes()[:-20])])
def test_a_file_that_is_missing_or_damaged_is_named_and_nothing_is_written(tmp_path, spoil):
    folder = Folder(tmp_path, DatasetError)
    names = [f"{FEATURES}/{number}.parquet" for number in range(2)]
    for name in names:
        write(folder, name, [(0, 0)], SPECS)
    spoil(tmp_path / names[1])
    with pytest.raises(DatasetError, match=r"features/1\.parquet.* can't be read: "):
        Rewriting(str(tmp_path), "_work/1", feature_schema(SPECS), 2)(Group(FEATURES, names, None))
    assert folder.files("_work") == []
