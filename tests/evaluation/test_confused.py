import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from genre_spark.errors import RunError
from genre_spark.evaluation.confused import (
    CONFUSED_SCHEMA,
    PAIRS,
    TRACKS_PER_PAIR,
    ConfusedPair,
    confused_pairs,
    confused_tracks,
    read_confused,
)

COUNTS = st.integers(1, 12).flatmap(
    lambda n: st.lists(st.lists(st.integers(0, 3), min_size=n, max_size=n), min_size=n, max_size=n)
)


def write(run: Path, table: pa.Table) -> Path:
    folder = run / "evaluation" / "confused.parquet"
    folder.mkdir(parents=True)
    pq.write_table(table, folder / "part-00000.parquet")
    return run


def rows(n: int) -> pa.Table:
    row = {
        "true": "Folk", "predicted": "Rock", "pair_count": n, "rank": 1, "track_id": "1", "uri": "file:///1.mp3",
        "artist": None, "p_true": 0.25, "p_predicted": 0.5,
    }  # fmt: skip
    return pa.Table.from_pylist([row] * n, schema=CONFUSED_SCHEMA)


@given(COUNTS)
def test_the_pairs_are_the_largest_counts_off_the_diagonal_ties_by_name(counts: list[list[int]]) -> None:
    # Names in an order that is not that of the rows.
    labels = [f"genre {(7 * index) % 13}" for index in range(len(counts))]
    expected = sorted(
        (-count, labels[true], labels[predicted])
        for true, row in enumerate(counts)
        for predicted, count in enumerate(row)
        if true != predicted and count
    )[:PAIRS]
    found = confused_pairs(np.array(counts), labels)
    assert [(-pair.count, labels[pair.true], labels[pair.predicted]) for pair in found] == expected


def test_a_model_without_a_mistake_confuses_nothing() -> None:
    assert confused_pairs(np.diag([3, 0, 5]), ["a", "b", "c"]) == []


def test_of_each_pair_the_surest_tracks_come_and_equal_ones_in_the_order_of_their_ids(spark: Any) -> None:
    labels, random = ["a", "b", "c"], np.random.default_rng(0)
    tracks = [
        {
            "track_id": f"{number:02d}", "uri": f"u{number}", "artist": "x" if number % 2 else None, "genre": "a",
            "predicted": "b" if number < 20 else "c",
            "probabilities": [0.125, p, 0.875 - p] if number < 20 else [0.0, 0.0, 1.0],
        }
        for number, p in enumerate(random.choice([0.5, 0.625, 0.75], 27).tolist())
    ]  # fmt: skip
    random.shuffle(tracks)
    schema = "track_id string, uri string, artist string, genre string, predicted string, probabilities array<float>"
    table = spark.createDataFrame([tuple(track.values()) for track in tracks], schema).repartition(3)
    pairs = [ConfusedPair(0, 1, 20), ConfusedPair(0, 2, 7)]
    found = confused_tracks(table, pairs, labels).toPandas()
    ours = [track for track in tracks if track["predicted"] == "b"]
    best = sorted(ours, key=lambda track: (-track["probabilities"][1], track["track_id"]))[:TRACKS_PER_PAIR]
    assert found["track_id"].tolist() == [*(track["track_id"] for track in best), "20", "21", "22", "23", "24"]
    assert found["rank"].tolist() == [1, 2, 3, 4, 5] * 2
    assert found["pair_count"].tolist() == [20] * 5 + [7] * 5
    assert found["p_true"].tolist() == [0.125] * 5 + [0] * 5
    assert found["p_predicted"].tolist() == [*(track["probabilities"][1] for track in best), 1, 1, 1, 1, 1]


def test_a_run_that_an_older_version_evaluated_has_no_such_table(tmp_path: Path) -> None:
    assert read_confused(tmp_path) is None
    (tmp_path / "evaluation").mkdir()
    assert read_confused(tmp_path) is None


def test_a_table_is_read_as_it_was_written(tmp_path: Path) -> None:
    found = read_confused(write(tmp_path, rows(50)))
    assert found is not None
    assert found.equals(rows(50))


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (rows(2).drop_columns(["artist"]), "has columns true string, .*, not true string"),
        (rows(2).append_column("title", pa.array(["x", "y"])), "has columns .*title string, not true string"),
        (rows(2).cast(CONFUSED_SCHEMA.set(2, pa.field("pair_count", pa.int32()))), "has columns .*pair_count int32"),
        (rows(51), "has 51 rows, more than 50"),
    ],
)
def test_another_table_is_refused_with_what_is_wrong(tmp_path: Path, table: pa.Table, message: str) -> None:
    with pytest.raises(RunError, match=rf"part-00000\.parquet: {message}.*genre-spark evaluate --run .* again"):
        read_confused(write(tmp_path, table))


def test_a_file_that_is_no_parquet_is_refused_in_one_line(tmp_path: Path) -> None:
    (write(tmp_path, rows(1)) / "evaluation" / "confused.parquet" / "part-00000.parquet").write_bytes(b"PAR1 no\n" * 9)
    with pytest.raises(RunError, match=r"confused\.parquet: can't be read") as refusal:
        read_confused(tmp_path)
    assert "\n" not in str(refusal.value)


@pytest.mark.timeout(30)
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    folder = tmp_path / "evaluation" / "confused.parquet"
    folder.mkdir(parents=True)
    os.mkfifo(folder / "part-0.parquet")
    with pytest.raises(RunError, match="no ordinary file"):
        read_confused(tmp_path)


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "evaluation" / "confused.parquet").mkdir(parents=True)
    with pytest.raises(RunError, match="holds no Parquet file"):
        read_confused(tmp_path)
