"""What `genre-spark evaluate` says, and what it takes."""

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from genre_spark.cli.evaluation import outcome_line
from genre_spark.cli.stages import app

METRICS: dict[str, Any] = {
    "part": "all", "accuracy": 0.75, "n": 8, "accuracy_interval": [0.409, 0.929], "chance": 0.25, "ece": 0.1,
    "unseen": {}, "unlabelled": 0,
}  # fmt: skip


def test_the_line_says_how_many_were_right_and_how_sure_that_is() -> None:
    assert outcome_line("dnn", METRICS, Path("out")) == (
        "dnn: 75.0% of 8 tracks right (40.9% to 92.9%, chance 25.0%, calibration error 10.0%) -> out"
    )
    of_run = METRICS | {"part": "test", "unseen": None, "unlabelled": None}
    assert "75.0% of 8 test tracks right" in outcome_line("dnn", of_run, Path("out"))


def test_a_calibration_error_on_the_tracks_of_the_calibration_is_said_to_be_so() -> None:
    """The study's split has no test part: there it is judged on what the temperature was fitted on."""
    fitted = "calibration error 10.0%, fitted on these tracks)"
    assert fitted in outcome_line("dnn", METRICS | {"part": "validation", "n": 40}, Path("out"))
    assert "fitted" not in outcome_line("dnn", METRICS | {"part": "test", "n": 40}, Path("out"))
    # Too few for a temperature.
    assert "fitted" not in outcome_line("dnn", METRICS | {"part": "validation", "n": 19}, Path("out"))


def test_the_interval_is_the_one_over_artists_where_it_is_known() -> None:
    """Tracks of an artist are right or wrong together: over tracks it would be too narrow."""
    by_artist = METRICS | {"accuracy_interval_by_artist": [0.312, 0.955], "artists": 12}
    assert "tracks right (31.2% to 95.5% over 12 artists, chance" in outcome_line("dnn", by_artist, Path("out"))


def test_the_line_names_what_was_predicted_and_not_counted() -> None:
    unseen = {"Techno\x1b[2J": 40, "Ska": 3, "c": 1, "d": 1, "e": 1, "f": 1, "g": 1}
    line = outcome_line("dnn", METRICS | {"unseen": unseen, "unlabelled": 12}, Path("out"))
    assert (
        "predicted and not counted: 48 of genres that the model doesn't know: 'Techno\\x1b[2J' (40), 'Ska' (3)" in line
    )
    assert "'e' (1) and 2 genres more; 12 without a genre" in line
    assert line.isprintable()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name a run with --run RUN, or a model with --bundle BUNDLE --dataset DATASET --out DIR"),
        (["--dataset", "d"], "name a run with --run"),
        (["--run", "r", "--out", "o"], "name a run with --run"),
        (["--bundle", "b"], "--bundle needs --dataset DATASET and --out DIR, and takes no --run"),
        (["--bundle", "b", "--dataset", "d"], "--bundle needs --dataset DATASET and --out DIR"),
        (["--bundle", "b", "--dataset", "d", "--out", "o", "--run", "r"], "takes no --run"),
        (["--bundle", "nowhere", "--dataset", "d", "--out", "o"], "nowhere: no bundle"),
        (["--bundle", "b", "--dataset", "d", "--out", "s3://bucket/o"], "s3://bucket/o: an evaluation needs a local"),
        (["--bundle", "b", "--dataset", "d", "--out", "file:///tmp/a?b"], "holds ? or #"),
    ],
)
def test_options_that_don_t_go_together_are_refused_in_one_line(arguments: list[str], message: str) -> None:
    answer = CliRunner().invoke(app, ["evaluate", *arguments])
    assert answer.exit_code == 1
    assert answer.stdout == ""
    assert answer.stderr.startswith("error: ")
    assert message in answer.stderr
    assert answer.stderr.count("\n") == 1


def test_a_dataset_and_a_folder_are_looked_at_before_spark_starts(run: Path, dataset: Any, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("")
    bundle = ["evaluate", "--bundle", str(run / "bundle")]
    answer = CliRunner().invoke(app, [*bundle, "--dataset", str(tmp_path / "none"), "--out", str(tmp_path / "out")])
    assert (answer.exit_code, "no dataset" in answer.stderr) == (1, True)
    answer = CliRunner().invoke(app, [*bundle, "--dataset", str(dataset.path), "--out", str(tmp_path)])
    assert (answer.exit_code, "holds 'mine.txt'" in answer.stderr) == (1, True)
    answer = CliRunner().invoke(app, [*bundle, "--dataset", str(dataset.path), "--out", str(run / "evaluation")])
    assert (answer.exit_code, "lies in the run folder" in answer.stderr) == (1, True)


@pytest.mark.slow
def test_a_bundle_is_held_against_a_dataset(run: Path, dataset: Any, tmp_path: Path) -> None:
    out = tmp_path / "[red] out"
    arguments = ["--bundle", run / "bundle", "--dataset", dataset.path, "--out", out]
    answer = CliRunner().invoke(app, ["evaluate", *map(str, arguments)])
    assert answer.exit_code == 0, answer.stderr
    assert answer.stdout.startswith("dnn: ")
    assert "of 23 tracks right" in answer.stdout
    assert answer.stdout.endswith(f"-> {out}\n")
    names = ["confused.parquet", "confusion.csv", "confusion.png", "metrics.json", "predictions.parquet"]
    assert sorted(path.name for path in out.iterdir()) == names
