from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from genre_spark.errors import ExperimentError
from genre_spark.evaluation.bootstrap import Estimate
from genre_spark.evaluation.experiment_figure import experiment_figure
from genre_spark.evaluation.experiment_results import ComparisonRow, ResultRow, read_results
from genre_spark.evaluation.figures import to_svg
from genre_spark.experiments import results as written


def test_the_best_model_of_a_split_stands_first_beside_its_comparison(experiment: Path) -> None:
    [found] = read_results(experiment)
    assert (found.split, found.part, found.n, found.groups) == ("artist", "test", 200, 40)
    assert [row.model for row in found.rows] == ["svm:<fma>", "majority"]
    assert found.rows[0].seed_spread == 0.02
    assert found.rows[1].seed_spread is None
    assert found.comparisons["svm:<fma>"].verdict == "better"


def test_what_an_experiment_writes_is_what_is_read(tmp_path: Path) -> None:
    half = Estimate(0.5, 0.4, 0.6)
    row = written.Row("dnn", "artist", "test", 20, 5, half, half, None, 0.9, 0.4, 0.5, None, 1.5, 1)
    (tmp_path / written.RESULTS).write_text(written._csv([written._flat(row)]))
    beside = written.Comparison("dnn", "svm", "artist", 5, Estimate(0.1, -0.1, 0.3))
    (tmp_path / written.COMPARISONS).write_text(written._csv([written._flat(beside) | {"verdict": beside.verdict}]))
    [found] = read_results(tmp_path)
    assert (found.rows[0].accuracy, found.rows[0].accuracy_low, found.rows[0].macro_f1_high) == (0.5, 0.4, 0.6)
    assert found.comparisons["dnn"].difference_low == -0.1
    # Of one model there is nothing to compare.
    (tmp_path / written.COMPARISONS).write_text(written._csv([]))
    assert read_results(tmp_path)[0].comparisons == {}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("0.51", "much", r"results\.csv: accuracy: Input should be a valid number"),
        ("0.51", "nan", r"results\.csv: accuracy: "),
        ("accuracy_low", "other", r"results\.csv: accuracy_low: Field required"),
        ("majority,artist,test", "majority,artist", r"results\.csv: "),
    ],
)
def test_a_damaged_table_is_refused_with_its_column(experiment: Path, old: str, new: str, message: str) -> None:
    file = experiment / "results.csv"
    file.write_text(file.read_text().replace(old, new))
    with pytest.raises(ExperimentError, match=f"{message}.*genre-spark experiment"):
        read_results(experiment)


def test_a_folder_without_results_is_refused(experiment: Path, tmp_path: Path) -> None:
    with pytest.raises(ExperimentError, match=r"none/results\.csv: missing"):
        read_results(tmp_path / "none")
    file = experiment / "results.csv"
    file.write_text(file.read_text().splitlines()[0])
    with pytest.raises(ExperimentError, match="has no row"):
        read_results(experiment)
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(ExperimentError, match="can't be read"):
        read_results(experiment)


def test_dots_are_accuracies_and_lines_their_intervals(experiment: Path) -> None:
    rows = read_results(experiment)[0].rows
    axes = experiment_figure(rows).axes[0]
    drawn = [np.asarray(line.get_xydata()).tolist() for line in axes.lines]
    assert drawn == [[[0.41, 0], [0.6, 0]], [[0.51, 0]], [[0.3, 1], [0.5, 1]], [[0.4, 1]]]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["svm:<fma>", "majority"]
    bottom, top = axes.get_ylim()
    assert bottom > top
    svg = ElementTree.fromstring(to_svg(experiment_figure(rows)))
    assert {"51.0 %", "40.0 %", "accuracy"} <= {
        "".join(element.itertext()) for element in svg.iter() if "text" in element.tag
    }


def test_no_column_that_is_read_is_missing_from_what_is_written() -> None:
    half = Estimate(0.5, 0.4, 0.6)
    row = written._flat(written.Row("dnn", "artist", "test", 20, 5, half, half, None, 0.9, 0.4, 0.5, None, 1.5, 1))
    assert set(ResultRow.model_fields) <= set(row)
    beside = written._flat(written.Comparison("dnn", "svm", "artist", 5, half)) | {"verdict": ""}
    assert set(ComparisonRow.model_fields) <= set(beside)
