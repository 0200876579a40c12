"""`genre-spark report` as a person calls it."""

import subprocess
import sys
from pathlib import Path

import pytest

from genre_spark.evaluation.confused import read_confused

GENRE_SPARK = Path(sys.executable).parent / "genre-spark"


def report(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([GENRE_SPARK, "report", *map(str, arguments)], capture_output=True, text=True, check=False)


@pytest.fixture
def heard(make_run, write_confused, write_clip) -> Path:
    run = make_run("dnn", epochs=2)
    write_confused(run, [{"uri": write_clip(seconds=1).as_uri()}, {"uri": "gone.mp3"}])
    return run


def test_a_page_with_excerpts_and_the_figures_come_of_one_command(heard: Path, tmp_path: Path) -> None:
    out, figures = tmp_path / "new" / "[b]report[/b].html", tmp_path / "figures"
    answer = report("--run", heard, "--out", out, "--figures", figures)
    assert answer.returncode == 0, answer
    assert f"report -> {out}" in answer.stdout
    assert f"8 figures -> {figures}" in answer.stdout
    assert "2/2 tracks" in answer.stderr
    assert out.read_text().count("data:audio/mpeg") == 1
    assert len(list(figures.iterdir())) == 8


@pytest.mark.parametrize("options", [["--no-audio"], ["--audio-mb", "0"]])
def test_audio_can_be_left_out(heard: Path, tmp_path: Path, options: list[str]) -> None:
    answer = report("--run", heard, "--out", tmp_path / "report.html", *options)
    assert answer.returncode == 0, answer
    page = (tmp_path / "report.html").read_text()
    assert "data:audio" not in page
    assert "Folk taken for Rock" in page


def test_limits_on_audio_are_the_settings(heard: Path, tmp_path: Path) -> None:
    answer = report("--run", heard, "--out", tmp_path / "report.html", "--set", "audio.max_duration_s=0.5")
    assert answer.returncode == 0, answer
    assert "audio.max_duration_s=0.5" in (tmp_path / "report.html").read_text()


def test_an_experiment_needs_no_run(experiment: Path, tmp_path: Path) -> None:
    answer = report("--experiment", experiment, "--out", tmp_path / "report.html")
    assert answer.returncode == 0, answer
    assert "Experiment: models side by side" in (tmp_path / "report.html").read_text()


def test_what_is_wrong_is_said_in_one_line(experiment: Path, tmp_path: Path) -> None:
    (experiment / "results.csv").unlink()
    out = tmp_path / "report.html"
    for arguments, said in (
        (["--out", out], "no run is named"),
        (["--experiment", experiment, "--out", out], "results.csv: missing"),
        (["--experiment", tmp_path / "none", "--figures", tmp_path, "--out", out], "results.csv: missing"),
    ):
        answer = report(*arguments)
        assert answer.returncode == 1
        assert said in answer.stderr
        assert "Traceback" not in answer.stderr
        assert not out.exists()


def test_tracks_that_a_real_model_mistook_can_be_heard(run: Path, tmp_path: Path) -> None:
    confused = read_confused(run)
    assert confused is not None
    ranks = confused["rank"].to_pylist()
    answer = report("--run", run, "--out", tmp_path / "report.html")
    assert answer.returncode == 0, answer
    page = (tmp_path / "report.html").read_text()
    assert page.count("data:audio/mpeg") == page.count("data:image/png") == sum(rank <= 3 for rank in ranks)
    assert "not at hand" not in page


def test_evaluations_of_bundles_need_no_run(make_evaluation, write_clip, tmp_path: Path) -> None:
    folder = make_evaluation(confused=[{"uri": write_clip(seconds=1).as_uri()}])
    out, figures = tmp_path / "report.html", tmp_path / "figures"
    answer = report("--evaluation", folder, "--evaluation", folder, "--out", out, "--figures", figures)
    assert answer.returncode == 0, answer
    assert "Held against other datasets" in answer.stdout
    assert answer.stdout.count("other-dataset") == 2
    assert f"8 figures -> {figures}" in answer.stdout
    assert out.read_text().count("data:audio/mpeg") == 2
