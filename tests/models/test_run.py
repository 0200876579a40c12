import csv
import json
import math
import os
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest
from pydantic import ValidationError

from genre_spark.corpora.leaks import CROSSING_SCHEMA
from genre_spark.errors import RunError
from genre_spark.models.run import (
    HISTORY_COLUMNS,
    RunRecord,
    read_history,
    read_run_record,
    write_crossing,
    write_history,
    write_run_record,
)


def epoch_row(epoch: int, **changed: float) -> dict[str, float]:
    return {
        "epoch": epoch,
        "loss": 2.0 / epoch,
        "accuracy": 0.1 * epoch,
        "val_loss": 2.1 / epoch,
        "val_accuracy": 1 / 3,
        "seconds": 0.5,
        **changed,
    }


def test_a_record_reads_back_as_it_was_written(tmp_path: Path, record: RunRecord) -> None:
    write_run_record(tmp_path / "run", record)
    assert read_run_record(tmp_path / "run") == record
    content = json.loads((tmp_path / "run" / "run.json").read_text(encoding="utf-8"))
    assert content["format_version"] == 3
    assert content["leaks"]["kinds"]["artist"]["examples"][0]["tracks"] == {"training": 2, "test": 1}
    assert content["tracks"] == {"training": 56, "validation": 12, "test": 12}


def test_a_record_cannot_be_changed(record: RunRecord) -> None:
    with pytest.raises(ValidationError, match="frozen"):
        record.model = "cnn2d"


def test_a_missing_run_is_refused_with_the_command_that_makes_one(tmp_path: Path) -> None:
    run = tmp_path / "nowhere"
    with pytest.raises(RunError) as refusal:
        read_run_record(run)
    assert "no such run folder" in str(refusal.value)
    assert f"`genre-spark train ... --run {run}`" in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_run_without_its_record_is_called_unfinished(tmp_path: Path) -> None:
    write_history(tmp_path, [epoch_row(1)])
    with pytest.raises(RunError, match=r"unfinished run \(run.json is missing\).*genre-spark train"):
        read_run_record(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format_version": 1}, "format_version=1, this program reads 3; train again"),
        ({"format_version": 4}, "format_version=4, this program reads 3; install a newer genre_spark"),
        ({"format_version": "4"}, "format_version='4', this program reads 3; train again"),
        ({"leaks": None}, "leaks: "),
        ({"epochs": "many"}, "epochs: "),
        ({"surprise": 1}, "surprise: "),
    ],
)
def test_a_record_of_another_version_or_form_is_refused_by_name(
    tmp_path: Path, record: RunRecord, change: dict[str, object], message: str
) -> None:
    (tmp_path / "run.json").write_text(json.dumps({**record.model_dump(), **change}), encoding="utf-8")
    with pytest.raises(RunError) as refusal:
        read_run_record(tmp_path)
    assert message in str(refusal.value)
    assert str(tmp_path / "run.json") in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "\ud800"])
def test_a_damaged_record_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "run.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(RunError, match=r"run\.json"):
        read_run_record(tmp_path)


@pytest.mark.timeout(30)
@pytest.mark.parametrize(("name", "read"), [("run.json", read_run_record), ("history.csv", read_history)])
def test_a_pipe_in_a_run_is_not_waited_for(name: str, read: Callable[[Path], object], tmp_path: Path) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises(RunError, match=f"{name}: can't be read: .*no ordinary file"):
        read(tmp_path)


def test_pandas_reads_what_crosses_the_borders(tmp_path: Path) -> None:
    rows = [["artist", "artist"], ["A", "A"], ["1", "2"], ["training", "test"]]
    write_crossing(tmp_path, pa.table(rows, schema=CROSSING_SCHEMA))
    assert [path.name for path in tmp_path.iterdir()] == ["leaks.parquet"]
    assert pd.read_parquet(tmp_path / "leaks.parquet").to_dict("list") == dict(
        zip(CROSSING_SCHEMA.names, rows, strict=True)
    )


def test_a_history_reads_back_bit_for_bit(tmp_path: Path) -> None:
    rows = [epoch_row(1), epoch_row(2, loss=math.inf), epoch_row(3)]
    write_history(tmp_path, rows)
    assert read_history(tmp_path) == {name: [row[name] for row in rows] for name in HISTORY_COLUMNS}


def test_a_diverged_loss_stays_in_the_history(tmp_path: Path) -> None:
    write_history(tmp_path, [epoch_row(1, loss=math.nan)])
    assert math.isnan(read_history(tmp_path)["loss"][0])


def test_pandas_reads_the_history(tmp_path: Path) -> None:
    write_history(tmp_path, [epoch_row(1), epoch_row(2)])
    table = pd.read_csv(tmp_path / "history.csv")
    assert list(table.columns) == ["epoch", "loss", "accuracy", "val_loss", "val_accuracy", "seconds"]
    assert table["epoch"].tolist() == [1, 2]
    assert table["val_accuracy"].tolist() == [1 / 3, 1 / 3]


def test_a_missing_history_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"history.csv: missing; train again"):
        read_history(tmp_path)


def test_a_history_without_epochs_is_refused(tmp_path: Path) -> None:
    write_history(tmp_path, [])
    with pytest.raises(RunError, match=r"history.csv: has no epoch"):
        read_history(tmp_path)


def test_a_history_that_lacks_a_column_is_refused_by_its_name(tmp_path: Path) -> None:
    with (tmp_path / "history.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["epoch", "loss", "accuracy", "val_loss", "seconds"], [1, 2, 0.1, 2, 1]])
    with pytest.raises(RunError, match=r"history.csv: column 'val_accuracy' is missing"):
        read_history(tmp_path)


@pytest.mark.parametrize("line", ["1,2.0,much,2.0,0.1,1", "1,2.0"])
def test_a_history_with_something_else_than_numbers_is_refused(tmp_path: Path, line: str) -> None:
    (tmp_path / "history.csv").write_text(f"{','.join(HISTORY_COLUMNS)}\n{line}\n", encoding="utf-8")
    with pytest.raises(RunError, match=r"history.csv: a value is no number"):
        read_history(tmp_path)


def test_a_write_that_fails_leaves_the_old_history_and_nothing_beside_it(tmp_path: Path) -> None:
    write_history(tmp_path, [epoch_row(1)])
    with pytest.raises(KeyError):
        write_history(tmp_path, [epoch_row(1), {"epoch": 2}])
    assert read_history(tmp_path)["epoch"] == [1.0]
    assert [path.name for path in tmp_path.iterdir()] == ["history.csv"]


def test_a_folder_that_is_no_run_is_told_what_it_is(tmp_path: Path, record: RunRecord) -> None:
    for name in "fedcba":
        write_run_record(tmp_path / "several" / name, record)
    with pytest.raises(RunError, match=r"several: .* holds some; name one of them: a, b, c, d, e and 1 more"):
        read_run_record(tmp_path / "several")
    of_scikit_learn = tmp_path / "experiment" / "runs" / "svm"
    of_scikit_learn.mkdir(parents=True)
    (of_scikit_learn / "classical.json").write_text("{}")
    with pytest.raises(RunError, match=r"svm: is a method of scikit-learn's; .* report --experiment .*/experiment`"):
        read_run_record(of_scikit_learn)
