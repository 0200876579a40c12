"""The run folder of one of scikit-learn's methods.

RUN/
  classical.json   how it was made; a folder without it is no finished run
  split.parquet    track_id, genre, part
  evaluation/      predictions.parquet, metrics.json and confusion.csv, as of any run
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, ValidationError

from genre_spark.corpora.splits import write_split
from genre_spark.dataset.store import Dataset
from genre_spark.errors import RunError
from genre_spark.evaluation.judgement import JUDGED_FIRST
from genre_spark.evaluation.metrics import build_metrics
from genre_spark.evaluation.metrics_file import write_metrics
from genre_spark.evaluation.score import PREDICTIONS
from genre_spark.experiments.classical import Chosen, choose, voted
from genre_spark.experiments.features import read_rows
from genre_spark.experiments.plan import Method
from genre_spark.files import replace_folder, staging_folder
from genre_spark.models.run import CLASSICAL_RECORD, EVALUATION, SPLIT
from genre_spark.models.training_plan import Task
from genre_spark.provenance import now, versions_of

FORMAT_VERSION = 1


class ClassicalRecord(BaseModel):
    """`classical.json`.

    Parameters
    ----------
    model, split : str
        As in the experiment.
    seed : int
    spec_digest, split_digest, tracks_digest : str
        As in `genre_spark.models.run.RunRecord`.
    parameters : dict of str to float
        Chosen on the validation part.
    tried : dict of str to float
        Accuracy on the validation part of each candidate.
    trainable_parameters : int, optional
        Numbers that the fit determined, where they can be counted.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format_version: int = FORMAT_VERSION
    model: str
    split: str
    seed: int
    spec_digest: str
    split_digest: str
    tracks_digest: str
    labels: list[str]
    parameters: dict[str, float]
    tried: dict[str, float]
    trainable_parameters: int | None
    training_s: float
    versions: dict[str, str]
    created: str

    @property
    def plan(self) -> dict[str, Any]:
        """What decided its numbers."""
        names = ("model", "split", "seed", "spec_digest", "split_digest", "tracks_digest", "labels")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True, eq=False)
class Fitted:
    """A method that was fitted, and what it is to be judged on."""

    task: Task
    seed: int
    chosen: Chosen
    x: np.ndarray
    split: pa.Table
    truth: np.ndarray


def classical_plan(task: Task, seed: int) -> dict[str, Any]:
    """What decides the numbers of such a run. The commonest genre is that, whatever the feature."""
    return {
        "model": task.model,
        "split": task.scheme,
        "seed": seed,
        "spec_digest": "" if task.model == "majority" else task.spec.digest,
        "split_digest": task.split_digest,
        "tracks_digest": task.tracks_digest,
        "labels": task.labels,
    }


def fit_classical(dataset: Dataset, task: Task, method: Method, seed: int) -> Fitted:
    """Fit a method on the training part, its parameter chosen on the validation part.

    Raises
    ------
    ExperimentError, DatasetError
        If the feature is no summary, is not finite, or can't be read.
    """
    number_of = {label: number for number, label in enumerate(task.labels)}
    split = task.split.sort_by("track_id")
    truth = np.array([number_of[genre] for genre in split["genre"].to_pylist()])
    part_of = np.array(split["part"].to_pylist())
    if method == "majority":
        x = np.zeros((len(truth), 1, 1), np.float32)
    else:
        x = read_rows(dataset, task.spec.name).of(split["track_id"].to_pylist())
    training, validation = ((x[part_of == part], truth[part_of == part]) for part in ("training", "validation"))
    return Fitted(task, seed, choose(method, training, validation, len(task.labels), seed), x, split, truth)


def judge_classical(fitted: Fitted, run: Path) -> ClassicalRecord:
    """Judge a method on every part, and write its run folder.

    Raises
    ------
    RunError
        If the folder can't be written.
    """
    task, chosen, split = fitted.task, fitted.chosen, fitted.split
    part_of = np.array(split["part"].to_pylist())
    predicted = voted(chosen.scores, fitted.x)
    record = ClassicalRecord(
        **classical_plan(task, fitted.seed),
        parameters=chosen.parameters,
        tried=chosen.tried,
        trainable_parameters=chosen.size,
        training_s=chosen.training_s,
        versions=versions_of(["numpy", "scikit-learn", "pyarrow"]),
        created=now(),
    )
    names = pa.array([task.labels[number] for number in predicted], pa.string())
    table = split.select(["track_id", "part", "genre"]).append_column("predicted", names)
    with staging_folder(run, RunError) as staging:
        (staging / EVALUATION).mkdir()
        write_split(task.split, staging / SPLIT)
        pq.write_table(table, staging / EVALUATION / PREDICTIONS)
        confusions = {
            str(part): _confusion(fitted.truth, predicted, part_of == part, task) for part in np.unique(part_of)
        }
        judged = next(part for part in JUDGED_FIRST if part in confusions)
        write_metrics(staging / EVALUATION, build_metrics(confusions, task.labels, judged))
        (staging / CLASSICAL_RECORD).write_text(record.model_dump_json(indent=2) + "\n", encoding="utf-8")
        replace_folder(staging, run)
    return record


def read_classical(run: Path) -> ClassicalRecord:
    """Read the record of such a run.

    Raises
    ------
    RunError
        If it is missing, damaged, or of another version.
    """
    file = run / CLASSICAL_RECORD
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        return ClassicalRecord.model_validate(content)
    except (OSError, ValueError, ValidationError) as error:
        raise RunError(f"{file}: no record of a finished run ({type(error).__name__}); remove {run}") from None


def _confusion(truth: np.ndarray, predicted: np.ndarray, chosen: np.ndarray, task: Task) -> np.ndarray:
    counts = np.zeros((len(task.labels), len(task.labels)), np.int64)
    np.add.at(counts, (truth[chosen], predicted[chosen]), 1)
    return counts
