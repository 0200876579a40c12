import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from genre_spark.errors import RunError
from genre_spark.evaluation.metrics import build_metrics
from genre_spark.evaluation.metrics_file import read_metrics, write_metrics
from genre_spark.models.reliability import ReliabilityBin
from genre_spark.models.run import read_run_record, write_run_record

LABELS = ("Folk", "Hip-Hop", "Pop", "Rock")
CONFUSION = np.array([[5, 1, 0, 0], [2, 3, 1, 0], [0, 0, 4, 2], [0, 0, 0, 6]])

FIRST = {
    "part",
    "accuracy",
    "accuracy_interval",
    "n",
    "labels",
    "confusion",
    "per_genre",
    "macro_f1",
    "chance",
    "parts",
}
FIRST_PER_GENRE = ("precision", "recall", "f1", "support")


@pytest.mark.parametrize("more", [set(), {"ece", "reliability"}])
def test_metrics_of_earlier_versions_are_read_too(tmp_path: Path, more: set[str]) -> None:
    metrics = build_metrics({"test": CONFUSION}, LABELS, "test")
    old = {name: value for name, value in metrics.items() if name in FIRST | more}
    old["per_genre"] = {
        genre: {name: values[name] for name in FIRST_PER_GENRE} for genre, values in metrics["per_genre"].items()
    }
    (tmp_path / "evaluation").mkdir()
    (tmp_path / "evaluation" / "metrics.json").write_text(json.dumps(old, indent=2), encoding="utf-8")
    found = read_metrics(tmp_path)
    assert {name: found[name] for name in old.keys() - {"per_genre"}} == {
        name: value for name, value in old.items() if name != "per_genre"
    }
    for genre, values in found["per_genre"].items():
        assert {name: values[name] for name in FIRST_PER_GENRE} == old["per_genre"][genre]
        assert values["f1_interval"] is values["recall_interval"] is values["precision_interval"] is None
    assert found["macro_f1_interval"] is found["accuracy_interval_by_artist"] is found["unseen"] is None


def test_what_a_bundle_reached_elsewhere_is_not_taken_for_what_a_run_reached(tmp_path: Path) -> None:
    write_metrics(tmp_path / "evaluation", build_metrics({"all": CONFUSION}, LABELS, "all"))
    assert read_metrics(tmp_path)["part"] == "all"
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(RunError, match=r"not the run on its own; .*`genre-spark evaluate --run") as refusal:
        read_metrics(tmp_path)
    assert str(tmp_path / "evaluation") in str(refusal.value)


def test_a_row_of_the_matrix_is_one_line_of_the_file(tmp_path: Path) -> None:
    labels = ['say "\\n"', "a\nb", "c", "[[1, 2]]"]
    metrics = build_metrics({"test": CONFUSION}, labels, "test")
    write_metrics(tmp_path / "evaluation", metrics)
    lines = (tmp_path / "evaluation" / "metrics.json").read_text(encoding="utf-8").splitlines()
    assert "    [5, 1, 0, 0]," in lines
    assert read_metrics(tmp_path) == metrics


def test_metrics_read_back_as_they_were_written(tmp_path: Path) -> None:
    confusions = {"validation": CONFUSION + 1, "test": CONFUSION}
    reliability = [ReliabilityBin(low=10 / 15, high=11 / 15, n=18, confidence=0.7, accuracy=0.75)]
    metrics = build_metrics(confusions, LABELS, "test", reliability=reliability)
    write_metrics(tmp_path / "evaluation", metrics)
    assert read_metrics(tmp_path) == metrics
    assert sorted(path.name for path in (tmp_path / "evaluation").iterdir()) == ["confusion.csv", "metrics.json"]


def test_pandas_reads_the_confusion_matrix(tmp_path: Path) -> None:
    labels = ["R&B, Soul", 'a "quoted" one', "演歌", "Rock"]
    write_metrics(tmp_path, build_metrics({"test": CONFUSION}, labels, "test"))
    table = pd.read_csv(tmp_path / "confusion.csv", index_col=0)
    assert table.index.tolist() == labels
    assert table.columns.tolist() == labels
    assert table.to_numpy().tolist() == CONFUSION.tolist()


def test_a_run_that_was_not_evaluated_is_refused_with_the_command_that_does_it(tmp_path: Path) -> None:
    with pytest.raises(RunError) as refusal:
        read_metrics(tmp_path)
    assert f"`genre-spark evaluate --run {tmp_path}`" in str(refusal.value)


def test_a_run_on_all_tracks_is_not_sent_to_an_evaluation_that_it_can_t_have(make_run: Callable[..., Path]) -> None:
    run = make_run(split="all", evaluated=False)
    record = read_run_record(run)
    write_run_record(run, record.model_copy(update={"tracks": {"training": 800}}))
    with pytest.raises(RunError, match=r"left no tracks to judge it on.*--bundle .*bundle --dataset OTHER --out DIR"):
        read_metrics(run)


@pytest.mark.parametrize(
    "damage",
    [
        lambda metrics: metrics | {"accuracy": "high"},
        lambda metrics: metrics | {"labels": ["Folk"]},
        lambda metrics: metrics | {"part": "<b>all</b>"},
        lambda metrics: metrics | {"macro_f1_interval": [0.5]},
        lambda metrics: metrics | {"confusion": [[1, 2], [3]]},
        lambda metrics: metrics | {"reliability": [{"low": 0, "high": 1, "n": 0, "confidence": 1, "accuracy": 1}]},
        lambda metrics: {"labels": []},
        lambda metrics: [],
    ],
)
def test_damaged_metrics_are_refused_in_one_line(tmp_path: Path, damage) -> None:
    metrics = build_metrics({"test": CONFUSION}, LABELS, "test")
    (tmp_path / "evaluation").mkdir()
    (tmp_path / "evaluation" / "metrics.json").write_text(json.dumps(damage(metrics)), encoding="utf-8")
    with pytest.raises(RunError, match=r"metrics\.json.*genre-spark evaluate") as refusal:
        read_metrics(tmp_path)
    assert "\n" not in str(refusal.value)
