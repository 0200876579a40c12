"""The command line as a person uses it: separate processes, standard output, exit status."""

import csv
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from genre_spark.corpora.tracks import read_tracks
from genre_spark.dataset.store import Dataset, open_dataset

REPOSITORY = Path(__file__).parents[1]
BIN = Path(sys.executable).parent


def genre_spark(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [BIN / "genre-spark", *map(str, arguments)], capture_output=True, text=True, check=False, cwd=REPOSITORY
    )


# Where only the answers matter: command after command in one process, which imports TensorFlow once.
ONE_PROCESS = """
import contextlib, io, json, sys
from genre_spark.cli import main

answers = sys.stdout
for line in sys.stdin:
    status, out, err = 0, io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main(json.loads(line))
        except SystemExit as end:
            status = end.code
    print(json.dumps([status or 0, out.getvalue(), err.getvalue()]), file=answers, flush=True)
"""

Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Command]:
    """`genre-spark` as the function behind it, in a process beside this one."""
    log = tmp_path_factory.mktemp("command") / "stderr"
    with (
        log.open("w") as stderr,
        subprocess.Popen(
            [sys.executable, "-c", ONE_PROCESS],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, text=True, cwd=REPOSITORY,
        ) as process,
    ):  # fmt: skip

        def ask(*arguments: object) -> subprocess.CompletedProcess[str]:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(json.dumps([str(argument) for argument in arguments]) + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
            assert line, log.read_text()
            return subprocess.CompletedProcess(arguments, *json.loads(line))

        yield ask


def assert_one_clear_line(answer: subprocess.CompletedProcess[str], *parts: str) -> None:
    assert answer.returncode == 1, answer
    (line,) = [line for line in answer.stderr.splitlines() if line.startswith("error:")]
    for part in parts:
        assert part in line
    assert "Traceback" not in answer.stderr


@pytest.fixture(scope="module")
def run(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that the command line trained, evaluated and reported."""
    folder = tmp_path_factory.mktemp("cli")
    (folder / "small.yaml").write_text("models: {dnn: {epochs: 2}}\nspark: {master: 'local[1]'}\n")
    config = ["--config", folder / "small.yaml"]
    run = folder / "runs" / "dnn"
    for arguments in (
        ["train", "--dataset", dataset.path, "--model", "dnn", "--split", "artist", "--run", run],
        ["evaluate", "--run", run],
        ["report", "--run", run, "--out", folder / "report.html"],
    ):
        answer = genre_spark(*arguments, *config)
        assert answer.returncode == 0, answer
    return run


def test_the_stages_leave_what_they_say(run: Path) -> None:
    assert (run / "bundle" / "bundle.json").is_file()
    metrics = json.loads((run / "evaluation" / "metrics.json").read_text())
    assert {"accuracy", "n", "labels", "confusion", "per_genre"} <= set(metrics)
    assert "<html" in (run.parents[1] / "report.html").read_text()


def test_predict_answers_in_json_and_counts_a_bad_file_among_good_ones(run: Path, dataset: Dataset) -> None:
    path = dataset.tracks()["uri"][0].as_py().removeprefix("file://")
    answer = genre_spark("predict", "--bundle", run / "bundle", path, "nowhere.mp3", "--format", "json")
    assert answer.returncode == 0
    good, bad = json.loads(answer.stdout)
    assert set(good) == {"path", "genre", "probabilities"}
    assert good["path"] == path
    assert good["genre"] in good["probabilities"]
    assert bad == {"path": "nowhere.mp3", "error": "AudioNotFound", "detail": "nowhere.mp3: No such file or directory"}


def test_predict_answers_in_csv_and_as_a_table(run: Path, dataset: Dataset, command: Command) -> None:
    path = dataset.tracks()["uri"][0].as_py().removeprefix("file://")
    by_csv = command("predict", "--bundle", run / "bundle", path, "--format", "csv")
    (row,) = csv.DictReader(io.StringIO(by_csv.stdout))
    assert row["path"] == path
    assert float(row["p_Rock"]) <= 1
    table = command("predict", "--bundle", run / "bundle", path)
    assert row["genre"] in table.stdout


def test_predict_is_not_sure_below_the_threshold_of_the_stated_precision(
    run: Path, dataset: Dataset, tmp_path: Path, command: Command
) -> None:
    from genre_spark.dataset.scaler import Scaler
    from genre_spark.models.bundle import load_bundle, save_bundle
    from genre_spark.models.calibration import Calibration, Threshold

    known = load_bundle(run / "bundle")
    # No track reaches the threshold of 0.9, and every track that of 0.7.
    thresholds = [Threshold(precision=p, threshold=t, coverage=0.5) for p, t in ((0.7, 0.0), (0.9, 1.0))]
    calibration = Calibration(temperature=5.0, n=100, ece_before=0.2, ece_after=0.1, thresholds=thresholds)
    description = known.description.model_copy(update={"calibration": calibration})
    bundle = tmp_path / "bundle"
    save_bundle(bundle, known.model, Scaler.load(run / "bundle" / "scaler.npz"), description)
    path = dataset.tracks()["uri"][0].as_py().removeprefix("file://")
    sure, unsure = (
        command("predict", "--bundle", bundle, path, "--format", "json", "--precision", precision)
        for precision in (0.7, 0.9)
    )
    ((one,), (two,)) = (json.loads(answer.stdout) for answer in (sure, unsure))
    assert one["genre"] == max(one["probabilities"], key=one["probabilities"].get)
    assert two == one | {"genre": None}
    by_csv = command("predict", "--bundle", bundle, path, "--format", "csv", "--precision", 0.9)
    (row,) = csv.DictReader(io.StringIO(by_csv.stdout))
    assert row["genre"] == row["error"] == ""
    assert float(row[f"p_{one['genre']}"]) == pytest.approx(one["probabilities"][one["genre"]], abs=1e-5)
    table = command("predict", "--bundle", bundle, path, "--precision", 0.9)
    assert "not sure" in table.stdout
    assert one["genre"] in table.stdout
    answer = command("predict", "--bundle", bundle, path, "--precision", 0.8)
    assert_one_clear_line(answer, "precision=0.8", "it has those for 0.7, 0.9")


def test_predict_fails_when_no_file_can_be_read(run: Path, command: Command) -> None:
    answer = command("predict", "--bundle", run / "bundle", "nowhere.mp3", "--format", "json")
    assert answer.returncode == 1
    assert json.loads(answer.stdout)[0]["error"] == "AudioNotFound"


def submit(job: str, *arguments: object) -> None:
    answer = subprocess.run(
        [BIN / "spark-submit", "--master", "local[2]", f"jobs/{job}.py", *map(str, arguments)],
        capture_output=True, text=True, check=False, cwd=REPOSITORY,
        env=os.environ | {"SPARK_CONF_DIR": str(REPOSITORY / "conf")},
    )  # fmt: skip
    assert answer.returncode == 0, answer.stderr


@pytest.mark.slow
def test_spark_submit_of_the_extraction_gives_what_the_function_gives(
    corpus: Path, dataset: Dataset, tmp_path: Path
) -> None:
    layout = ("extract.tracks_per_task=10", "extract.min_file_mb=0", "extract.tracks_per_row_group=4")
    options = [option for setting in layout for option in ("--set", setting)]
    submit("extract", "--tracks", corpus, "--out", tmp_path / "dataset", *options)
    submitted = open_dataset(tmp_path / "dataset")
    one, two = ([Path(file).read_bytes() for file in found.files()] for found in (submitted, dataset))
    assert one == two


@pytest.mark.slow
def test_spark_submit_of_training_and_evaluation_gives_what_the_commands_give(
    dataset: Dataset, run: Path, tmp_path: Path
) -> None:
    again = tmp_path / "run"
    submit("train", "--dataset", dataset.path, "--model", "dnn", "--run", again, "--set", "models.dnn.epochs=2")
    submit("evaluate", "--run", again)
    assert pq.read_table(again / "split.parquet") == pq.read_table(run / "split.parquet")
    one, two = (json.loads((path / "evaluation" / "metrics.json").read_text()) for path in (run, again))
    assert one["confusion"] == two["confusion"]


def test_a_job_takes_what_its_command_takes(command: Command) -> None:
    commands = {
        "evaluate": "evaluate", "export": "export", "extract": "extract", "fit_scaler": "fit-scaler",
        "predict": "predict-library", "train": "train",
    }  # fmt: skip
    jobs = sorted((REPOSITORY / "jobs").glob("*.py"))
    assert [job.stem for job in jobs] == list(commands)
    for job in jobs:
        by_job = subprocess.run([sys.executable, job, "--help"], capture_output=True, text=True, check=True).stdout
        # The first words are the program's name.
        assert by_job.split()[:2] == ["Usage:", job.name]
        assert by_job.split()[2:] == command(commands[job.stem], "--help").stdout.split()[2:]


def test_corpus_makes_a_track_table_of_some_genres(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "tracks.parquet"
    answer = genre_spark("corpus", "fma", "--root", corpus.parent, "--out", out, "--genre", "Rock", "--genre", "Folk")
    assert answer.returncode == 0, answer
    assert "16 tracks of 2 genres (Folk 8, Rock 8) -> " in answer.stdout
    assert set(read_tracks(out)["genre"].to_pylist()) == {"Rock", "Folk"}


def test_bad_input_is_one_clear_line(corpus: Path, tmp_path: Path, command: Command) -> None:
    out = tmp_path / "out"
    no_tracks = tmp_path / "empty.csv"
    no_tracks.write_text("track_id,path,genre\n")
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("extract: {tracks_per_tas: 3}\n")
    for arguments, parts in [
        (["corpus", "folder", "--root", tmp_path / "nowhere", "--out", out], ["nowhere"]),
        (["corpus", "folder", "--root", tmp_path, "--table", no_tracks, "--out", out], ["empty.csv"]),
        (["corpus", "fma", "--root", corpus.parent, "--out", out, "--genre", "Rok"], ["'Rok'", "Rock"]),
        (["corpus", "synthetic", "--root", out, "--out", out, "--genre", "Polka"], ["'Polka'", "Folk"]),
        (["extract", "--tracks", tmp_path / "none.parquet", "--out", out], ["none.parquet", "genre-spark corpus"]),
        (["extract", "--tracks", corpus, "--out", out, "--features", "chroma"], ["'chroma'", "mfcc_mean"]),
        (["extract", "--tracks", corpus, "--out", out, "--config", wrong], ["extract.tracks_per_tas", "wrong.yaml"]),
        (["extract", "--tracks", corpus, "--out", out, "--set", "extract.tracks_per_task=0"], ["tracks_per_task=0"]),
        (["extract", "--tracks", corpus, "--out", out, "--config", "no.yaml"], ["no.yaml"]),
        (["train", "--dataset", tmp_path / "none", "--model", "dnn", "--run", out], ["none", "genre-spark extract"]),
        (["evaluate", "--run", tmp_path / "none"], ["none", "genre-spark train"]),
        (["report", "--run", tmp_path / "none", "--out", out], ["none", "genre-spark train"]),
        (["predict", "--bundle", tmp_path / "none", "a.mp3"], ["none", "no bundle"]),
        (["corpus", "fma", "--root", corpus.parent, "--out", tmp_path], [str(tmp_path), "can't be written"]),
        (["corpus", "fma", "--root", corpus.parent, "--out", wrong / "x"], ["wrong.yaml", "can't be written"]),
    ]:
        assert_one_clear_line(command(*arguments), *parts)
    # And as a process of its own, whose exit status is the shell's.
    assert_one_clear_line(genre_spark(*arguments), *parts)
    assert not out.exists()


def test_debug_shows_where_an_error_arose(tmp_path: Path) -> None:
    answer = genre_spark("evaluate", "--run", tmp_path / "none", "--debug")
    assert answer.returncode == 1
    assert "Traceback" in answer.stderr


def test_every_command_has_help_and_takes_settings(command: Command) -> None:
    for stage in (
        *(["corpus", name] for name in ("fma", "gtzan", "folder", "synthetic")),
        ["extract"],
        ["train"],
        ["evaluate"],
        ["report"],
        ["predict"],
    ):
        answer = command(*stage, "--help")
        assert answer.returncode == 0
        assert {"--config", "--set", "--debug"} <= set(answer.stdout.split())


def test_a_wrong_option_is_a_usage_error() -> None:
    assert genre_spark("train", "--model", "resnet").returncode == 2
