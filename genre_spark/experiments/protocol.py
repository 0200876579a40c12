"""Run an experiment: train every cell, then judge every cell, then one table.

Each training has a run folder of its own; what is finished is not computed again. The test part is read when no
training is left that could be changed by it.
"""

import gc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow.compute as pc

from genre_spark.dataset.store import Dataset
from genre_spark.errors import DatasetError, ExperimentError, ModelError, RunError, SplitError
from genre_spark.evaluation.judgement import JUDGED_FIRST
from genre_spark.evaluation.metrics_file import METRICS
from genre_spark.evaluation.score import evaluate
from genre_spark.experiments.classical_run import (
    Fitted,
    classical_plan,
    fit_classical,
    judge_classical,
    read_classical,
)
from genre_spark.experiments.features import not_a_summary
from genre_spark.experiments.plan import Cell, Experiment, cells_of
from genre_spark.experiments.results import Results, gather
from genre_spark.models.architectures import find_architecture
from genre_spark.models.backend import keras
from genre_spark.models.checkpoints_folder import is_finished, unfinished_path
from genre_spark.models.run import CLASSICAL_RECORD, EVALUATION, read_run_record
from genre_spark.models.train import train
from genre_spark.models.training_plan import Task, make_task, plan_of_run, training_plan
from genre_spark.settings import Settings

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

RUNS = "runs"

# Told with what is done and what is to be done of it: ("training", cell, position, of).
OnCell = Callable[[str, Cell, int, int], None]


@dataclass(frozen=True)
class _Work:
    """One cell and where it stands."""

    cell: Cell
    dataset: Dataset
    settings: Settings
    run: Path

    @cached_property
    def task(self) -> Task:
        return make_task(self.dataset, self.cell.model, _feature(self.cell, self.dataset), self.cell.split,
                         self.settings.split)  # fmt: skip

    @property
    def is_trained(self) -> bool:
        return (self.run / CLASSICAL_RECORD).exists() if self.cell.method else is_finished(self.run)

    @property
    def is_judged(self) -> bool:
        return (self.run / EVALUATION / METRICS).exists()

    def check(self) -> None:
        """Refuse a finished run that other data or settings made."""
        if self.cell.method:
            wanted, found = classical_plan(self.task, self.cell.seed), read_classical(self.run).plan
        else:
            record, epochs = read_run_record(self.run), f"models.{self.cell.model}.epochs"
            wanted, found = training_plan(self.task, self.settings), plan_of_run(record)
            # A training that is resumed may get more of them; a finished one had as many as it had.
            wanted[epochs], found[epochs] = getattr(self.settings.models, self.cell.model).epochs, record.epochs
        other = sorted(key for key in wanted if wanted[key] != found.get(key))
        if other:
            key = other[0]
            raise ExperimentError(
                f"{self.run}: was trained with {key}={found.get(key)!r}, not {wanted[key]!r}; take another --out, or "
                "remove it"
            )


def run_experiment(
    experiment: Experiment,
    datasets: Sequence[Dataset],
    settings: Settings,
    out: Path,
    session: "Callable[[], SparkSession]",
    *,
    on_cell: OnCell | None = None,
) -> Results:
    """Train, judge and compare; go on where an earlier call was stopped.

    Parameters
    ----------
    experiment : Experiment
        From `read_experiment`.
    datasets : sequence of Dataset
        Each model reads the first that has its feature.
    settings : Settings
        With the experiment's own in them already.
    out : Path
        Gets a run folder for each training in `runs/`, and the tables.
    session : callable
        Makes a Spark session; called when there is something to judge.
    on_cell : callable, optional
        Called before each training and each judgement.

    Returns
    -------
    Results
        What the tables hold.

    Raises
    ------
    ExperimentError
        If no dataset has a model's feature, a genre has too few tracks, or a run in `out` was made otherwise.
    ModelError, DatasetError, SplitError, RunError, FeedError
        As the trainings and evaluations raise them. What was finished stays.
    """
    works = []
    for cell in cells_of(experiment, settings.split.folds):
        works.append(_Work(cell, _dataset_for(cell, datasets), cell.settings(settings), out / RUNS / cell.name))
    _check_genres(works)
    _check_tracks(works)
    for work in works:
        if work.is_trained:
            work.check()
    tell = on_cell or (lambda *_: None)
    # scikit-learn's come last: they stay in memory until all are judged, and are soon fitted again.
    left = sorted((work for work in works if not work.is_trained), key=lambda work: bool(work.cell.method))
    fitted: dict[Path, Fitted] = {}
    for position, work in enumerate(left):
        tell("training", work.cell, position, len(left))
        if work.cell.method:
            fitted[work.run] = fit_classical(work.dataset, work.task, work.cell.method[0], work.cell.seed)
        else:
            _train(work)
    left = [work for work in works if not work.is_judged]
    spark = None
    for position, work in enumerate(left):
        tell("judging", work.cell, position, len(left))
        if work.run in fitted:
            judge_classical(fitted.pop(work.run), work.run)
        else:
            spark = spark or session()
            evaluate(spark, work.run, settings.evaluate, dataset_path=work.dataset.folder.address)
    return gather(experiment, [(work.cell, work.run, work.dataset) for work in works], settings.split.group_by, out)


def _train(work: _Work) -> None:
    try:
        # A run that was interrupted, or a training that was killed, is gone on with.
        train(work.dataset, work.cell.model, work.cell.split, work.run, work.settings, resume=True)
    except (ModelError, RunError) as error:
        raise type(error)(
            f"{work.cell.name}: {error}; to begin this training anew, remove {work.run} and {unfinished_path(work.run)}"
        ) from None
    finally:
        # Keras' models hold themselves, and the data that was put on the device for them.
        keras.utils.clear_session()
        gc.collect()


def _feature(cell: Cell, dataset: Dataset) -> str:
    if cell.method:
        return cell.method[1] or dataset.manifest.specs[0].name
    return find_architecture(cell.model).feature


def _dataset_for(cell: Cell, datasets: Sequence[Dataset]) -> Dataset:
    for dataset in datasets:
        try:
            dataset.spec(_feature(cell, dataset))
        except DatasetError:
            continue
        return dataset
    raise ExperimentError(
        f"model {cell.model}: no dataset has its feature {_feature(cell, datasets[0])!r} "
        f"({', '.join(map(str, datasets))}); extract it"
    )


def _check_genres(works: Sequence[_Work]) -> None:
    """Refuse a genre that can't be both learnt and judged."""
    for dataset in {id(work.dataset): work.dataset for work in works}.values():
        counts: dict[str, int] = {}
        for genre in dataset.tracks()["genre"].to_pylist():
            if genre is not None:
                counts[genre] = counts.get(genre, 0) + 1
        few = sorted(genre for genre, count in counts.items() if count < 2)
        if few:
            raise ExperimentError(
                f"{dataset}: genre {few[0]!r} has a single track, which can't be both learnt and judged; add "
                "tracks, or leave the genre out"
            )
    for work in works:
        if work.cell.method and work.cell.model != "majority" and len(work.task.spec.shape) != 1:
            raise not_a_summary(work.dataset, work.task.spec)
        parts = set(work.task.split["part"].to_pylist())
        if "validation" not in parts:
            raise SplitError(f"{work.dataset}: the {work.cell.split} split has no validation part to choose on")


def _check_tracks(works: Sequence[_Work]) -> None:
    """Refuse models that would be judged on different tracks: their datasets differ."""
    judged: dict[tuple[str, int | None], tuple[_Work, list[str]]] = {}
    for work in works:
        split = work.task.split.sort_by("track_id")
        part = next(name for name in JUDGED_FIRST if name in split["part"].to_pylist())
        track_ids = split.filter(pc.equal(split["part"], part))["track_id"].to_pylist()
        first, wanted = judged.setdefault((work.cell.split, work.cell.fold), (work, track_ids))
        if track_ids != wanted:
            odd = min(set(track_ids) ^ set(wanted))
            raise ExperimentError(
                f"{work.cell.model} and {first.cell.model} would be judged on different tracks of the "
                f"{work.cell.split} split ({odd!r}, for instance): {work.dataset} and {first.dataset} hold different "
                "tracks; extract both from a track table without those that are errors in one of them"
            )
