"""The notebooks are run as a reader runs them, on the small corpus."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from genre_spark.dataset.store import Dataset
from genre_spark.evaluation.confused import read_confused
from genre_spark.evaluation.metrics_file import read_metrics
from genre_spark.evaluation.score import evaluate
from genre_spark.evaluation.summary import percent
from genre_spark.settings import Settings

FOLDER = Path(__file__).parents[1] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


@pytest.fixture(scope="module")
def work(
    spark: object,
    corpus: Path,
    dataset: Dataset,
    run: Path,
    settings: Settings,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """A folder as the demo leaves it: a run on the artist split, and one of the same model on the study's."""
    from genre_spark.models.train import train

    folder = tmp_path_factory.mktemp("work")
    (folder / "tracks.parquet").symlink_to(corpus)
    (folder / "dataset").symlink_to(dataset.path)
    (folder / "runs").mkdir()
    (folder / "runs" / "dnn").symlink_to(run)
    train(dataset, "dnn", "study", folder / "runs" / "dnn-random", settings)
    evaluate(spark, folder / "runs" / "dnn-random", settings.evaluate)
    return folder


def executed(name: str, work: Path, monkeypatch: pytest.MonkeyPatch) -> list[nbformat.NotebookNode]:
    """What the cells of a notebook put out, in order. A cell that fails raises."""
    monkeypatch.setenv("GENRE_SPARK_WORK", str(work))
    notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    started = "import sys; sorted({'keras', 'tensorflow', 'pyspark'} & set(sys.modules))"
    notebook.cells.append(nbformat.v4.new_code_cell(started))
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(FOLDER)}}).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert outputs.pop()["data"]["text/plain"] == "[]", "what stands on disk is shown without waiting for a library"
    assert [output["text"] for output in outputs if output.get("name") == "stderr"] == []
    return outputs


def pictures(outputs: list[nbformat.NotebookNode]) -> int:
    return sum("image/png" in output.get("data", {}) for output in outputs)


def sounds(outputs: list[nbformat.NotebookNode]) -> int:
    return sum("<audio" in output.get("data", {}).get("text/html", "") for output in outputs)


def texts(outputs: list[nbformat.NotebookNode]) -> str:
    return "\n".join(output.get("text") or output.get("data", {}).get("text/html", "") for output in outputs)


def test_the_corpus_is_shown_heard_and_measured(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outputs = executed("corpus_and_features", work, monkeypatch)
    splits, clip, study, genres = 2, 2, 3, 2
    assert pictures(outputs) == splits + clip + study + genres
    assert sounds(outputs) == 1
    assert "23 tracks with features, 1 without" in texts(outputs)
    assert "AudioUndecodable" in texts(outputs)
    same_bits = [output["data"]["text/plain"] for output in outputs if "melgram" in str(output.get("data"))]
    assert same_bits == ["{'mfcc_mean': True, 'mfcc': True, 'melgram': True}"]


def test_the_study_is_reproduced_figure_by_figure_and_its_split_compared(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outputs = executed("study_reproduced", work, monkeypatch)
    overview, of_dnn, side_by_side = 1, 3, 2
    assert pictures(outputs) == overview + of_dnn + side_by_side
    # The study's numbers beside ours.
    for number in ("88,584", "69.1", "48.3", percent(read_metrics(work / "runs" / "dnn")["accuracy"])):
        assert number in texts(outputs)
    assert "the artist of" in texts(outputs), "what the study's split lets a model know"


def test_the_mistakes_of_the_best_run_are_shown_and_heard(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outputs = executed("error_analysis", work, monkeypatch)
    mistakes = read_confused(work / "runs" / "dnn").to_pandas()
    heard = min(3, int((mistakes["rank"] == 1).sum()))
    confusion, confidence, reliability, artists, abstention = 1, 1, 1, 1, 1
    assert pictures(outputs) == confusion + heard + confidence + reliability + artists + abstention
    assert sounds(outputs) == heard
    metrics = read_metrics(work / "runs" / "dnn")
    assert f"{percent(metrics['accuracy'])} of {metrics['n']} test tracks right" in texts(outputs)
    assert all(track_id in texts(outputs) for track_id in mistakes["track_id"])


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_committed_without_outputs(path: Path) -> None:
    for cell in nbformat.read(path, as_version=4).cells:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None
