"""`metrics.json` and `confusion.csv`: written for people and programs, read back with suspicion."""

import csv
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from genre_spark.errors import RunError
from genre_spark.evaluation.judgement import part_to_judge
from genre_spark.evaluation.metrics import ALL
from genre_spark.files import check_ordinary
from genre_spark.models.reliability import ReliabilityBin
from genre_spark.models.run import EVALUATION, RUN_RECORD, read_run_record, write_atomically

METRICS = "metrics.json"
CONFUSION = "confusion.csv"


class _PartAccuracy(BaseModel):
    accuracy: float
    n: int


Interval = tuple[float, float]


class _GenreMetrics(BaseModel):
    precision: float
    recall: float
    f1: float
    support: int
    # Evaluations by earlier versions have no intervals.
    precision_interval: Interval | None = None
    recall_interval: Interval | None = None
    f1_interval: Interval | None = None


class _MetricsFile(BaseModel):
    """Schema of `metrics.json`.

    `part` is a part of a run's split, or "all": every track, of a genre that the model knows, of a
    dataset that a bundle was held against. `macro_f1` is the mean F1 over all `labels`, whether tracks of theirs were
    judged or not; of "all" it is the mean over those that occur, as a dataset may have two genres out of eight. What is
    taken for one of the others is a mistake there too. `artists` counts those that the judged tracks name;
    `accuracy_interval_by_artist` is there where nearly all name one, and there are ten or more.
    """

    model_config = ConfigDict(extra="forbid")

    part: Literal["training", "validation", "test", "all"]
    accuracy: float
    accuracy_interval: Interval
    n: int
    labels: list[str]
    confusion: list[list[int]]
    per_genre: dict[str, _GenreMetrics]
    macro_f1: float
    chance: float
    parts: dict[str, _PartAccuracy]
    # Evaluations from before the calibration have none.
    ece: float | None = None
    reliability: list[ReliabilityBin] | None = None
    # Nor have evaluations by earlier versions these.
    macro_f1_interval: Interval | None = None
    accuracy_interval_by_artist: Interval | None = None
    artists: int | None = None
    # Of a bundle that was held against a dataset; null of a run, whose split holds tracks with known genres only.
    dataset: str | None = None
    bundle: str | None = None
    model: str | None = None
    feature: str | None = None
    # Of the judged tracks, those that the bundle was trained on; null where that isn't known.
    heard: int | None = None
    unseen: dict[str, int] | None = None
    unlabelled: int | None = None


def write_metrics(evaluation_dir: Path, metrics: Mapping[str, Any]) -> None:
    """Write `metrics.json` and, for spreadsheets and pandas (`index_col=0`), `confusion.csv`."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["true\\predicted", *metrics["labels"]])
    for label, row in zip(metrics["labels"], metrics["confusion"], strict=True):
        writer.writerow([label, *row])
    write_atomically(evaluation_dir / CONFUSION, text.getvalue())
    write_atomically(evaluation_dir / METRICS, _json(metrics))


def _json(metrics: Mapping[str, Any]) -> str:
    """Dump as JSON that people can read: a row of the matrix on one line, as thousands of genres have thousands."""
    entries = []
    for key, value in metrics.items():
        if key == "confusion":
            text = "[\n" + ",\n".join(f"  {json.dumps(row)}" for row in value) + "\n]"
        else:
            text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
        # JSON's own line breaks only: those in a name are escaped.
        entries.append(f"  {json.dumps(key)}: " + text.replace("\n", "\n  "))
    return "{\n" + ",\n".join(entries) + "\n}\n"


def read_metrics(run: Path) -> dict[str, Any]:
    """Read the metrics of a run.

    Parameters
    ----------
    run : Path
        The run folder.

    Raises
    ------
    RunError
        If the run was not evaluated or can't be, its `metrics.json` is damaged, or is about another dataset.
    """
    if not (run / EVALUATION / METRICS).exists():
        if (run / RUN_RECORD).exists():
            part_to_judge(run, read_run_record(run))
        again = evaluate_run_again(run)
        raise RunError(f"{run}: not evaluated yet ({EVALUATION}/{METRICS} is missing); {again}")
    metrics = read_evaluation(run / EVALUATION, again=evaluate_run_again(run))
    if metrics["part"] == ALL and (run / RUN_RECORD).exists():
        raise RunError(
            f"{run / EVALUATION}: is what a bundle reached on tracks of a dataset, not the run on its own; move it to "
            f"another folder, and {evaluate_run_again(run)}"
        )
    return metrics


def evaluate_run_again(run: Path) -> str:
    """Say what makes the evaluation of a run."""
    return f"run `genre-spark evaluate --run {run}`"


def evaluate_bundle_again(folder: Path) -> str:
    """Say what makes the evaluation of a bundle in a folder."""
    return f"run `genre-spark evaluate --bundle BUNDLE --dataset DATASET --out {folder}`"


def read_evaluation(folder: Path, *, again: str | None = None) -> dict[str, Any]:
    """Read the metrics in the folder of an evaluation.

    Parameters
    ----------
    folder : Path
        What `genre-spark evaluate --bundle` wrote, or `evaluation/` of a run.
    again : str, optional
        What an error tells to run; by default, `evaluate_bundle_again`'s words.

    Raises
    ------
    RunError
        If there is no `metrics.json`, or it is damaged.
    """
    file, again = folder / METRICS, again or evaluate_bundle_again(folder)
    try:
        check_ordinary(file)
        text = file.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        raise RunError(f"{folder}: holds no evaluation ({METRICS} is missing); {again}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise RunError(f"{file}: can't be read: {error}; {again} again") from None
    try:
        metrics = _MetricsFile.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "not metrics of this program"
        raise RunError(f"{file}: {where}: {first['msg']}; {again} again") from None
    sizes = {len(metrics.confusion), *(len(row) for row in metrics.confusion)}
    if sizes != {len(metrics.labels)} or set(metrics.per_genre) != set(metrics.labels):
        raise RunError(f"{file}: confusion and per_genre don't fit its {len(metrics.labels)} labels; {again} again")
    return metrics.model_dump(mode="json")
