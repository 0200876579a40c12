"""Tables over runs whose predictions are written by hand."""

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from genre_spark.corpora.splits import SPLIT_SCHEMA, write_split
from genre_spark.corpora.tracks import track_table
from genre_spark.experiments.classical_run import ClassicalRecord
from genre_spark.experiments.plan import Cell, Experiment
from genre_spark.experiments.results import Made, Results, gather, markdown
from genre_spark.models.run import CLASSICAL_RECORD


class Tracks:
    """A dataset that has tracks and nothing else."""

    def __init__(self, artists: dict[str, str]) -> None:
        rows = [
            {"track_id": each, "uri": f"file:///{each}.mp3", "genre": "x", "artist": artists[each]} for each in artists
        ]
        self._table = track_table(rows, "the test")

    def tracks(self) -> pa.Table:
        return self._table


# A and C are tested; B only stands in training.
SPLIT = [*((f"t{n}", "AC"[n % 2], "test") for n in range(24)), ("u0", "A", "training"), ("u1", "B", "training"),
         ("u2", "C", "training"), ("v0", "A", "validation"), ("v1", "C", "validation")]  # fmt: skip
ARTISTS = {track_id: f"artist {number // 2}" for number, (track_id, *_) in enumerate(SPLIT)}


def written(
    folder: Path, model: str, said: dict[str, str], artists: dict[str, str], split: Sequence[tuple[str, ...]] = SPLIT
) -> Made:
    run = folder / model
    (run / "evaluation").mkdir(parents=True)
    rows = [dict(zip(("track_id", "genre", "part"), each, strict=True)) for each in split]
    write_split(pa.Table.from_pylist(rows, schema=SPLIT_SCHEMA), run / "split.parquet")
    predicted = [row | {"predicted": said.get(row["track_id"], row["genre"])} for row in rows]
    pq.write_table(pa.Table.from_pylist(predicted), run / "evaluation" / "predictions.parquet")
    record = ClassicalRecord(
        model=model, split="artist", seed=0, spec_digest="", split_digest="", tracks_digest="", labels=["A", "B", "C"],
        parameters={}, tried={}, trainable_parameters=None, training_s=1.0, versions={}, created="",
    )  # fmt: skip
    (run / CLASSICAL_RECORD).write_text(record.model_dump_json())
    return Cell(f"{model}:x", "artist", 0), run, Tracks(artists)


def gathered(tmp_path: Path, *made: Made) -> Results:
    experiment = Experiment(models=[cell.model for cell, *_ in made], splits=["artist"])
    return gather(experiment, made, ("artist",), tmp_path)


def test_a_genre_that_is_said_and_never_occurs_is_no_hindrance(tmp_path: Path) -> None:
    right = written(tmp_path, "svm", {}, ARTISTS)
    wrong = written(tmp_path, "lda", {"t0": "B", "t1": "B"}, ARTISTS)
    results = gathered(tmp_path, right, wrong)
    assert [row.accuracy.value for row in results.rows] == [1.0, pytest.approx(22 / 24)]
    # Over A and C: each was found in 11 of 12 cases, and never said wrongly.
    assert results.rows[1].macro_f1.value == pytest.approx(2 * 11 / (11 + 12))
    assert results.comparisons[0].difference.value == pytest.approx(-2 / 24)


def test_tracks_that_only_one_dataset_has_change_nothing(tmp_path: Path) -> None:
    # One of theirs stands first, and joins two artists.
    more = {"a0": "artist 3"} | ARTISTS
    same = gathered(tmp_path / "same", *(written(tmp_path / "same", m, {"t4": "C"}, ARTISTS) for m in ("svm", "lda")))
    other = gathered(
        tmp_path / "other",
        written(tmp_path / "other", "svm", {"t4": "C"}, ARTISTS),
        written(tmp_path / "other", "lda", {"t4": "C"}, more),
    )
    assert other == same


def test_of_few_groups_nothing_is_concluded(tmp_path: Path) -> None:
    alone = dict.fromkeys(ARTISTS, "the only one")
    said = {f"t{n}": "B" for n in range(24)}
    results = gathered(tmp_path, written(tmp_path, "svm", {}, alone), written(tmp_path, "lda", said, alone))
    assert results.rows[0].groups == 1
    assert results.comparisons[0].verdict == "too few groups to say"


def test_the_page_says_where_validation_was_judged(tmp_path: Path) -> None:
    split = [(track_id, genre, "validation" if part == "test" else part) for track_id, genre, part in SPLIT]
    on_validation = gathered(tmp_path, written(tmp_path, "svm", {}, ARTISTS, split))
    assert "has no test part" in markdown(on_validation)
    assert "has no test part" not in markdown(gathered(tmp_path / "2", written(tmp_path / "2", "svm", {}, ARTISTS)))
