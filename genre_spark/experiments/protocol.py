"""Run an experiment: train every cell, then judge every cell, then one table.

Each training has a run folder of its own; what is finished is not computed again. The test part is read when no
training is left that could be changed by it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from genre_spark.dataset.store import Dataset
from genre_spark.errors import DatasetError, ExperimentError, SplitError
from genre_spark.evaluation.metrics import METRICS
from genre_spark.evaluation.score import evaluate
from genre_spark.experiments.classical_run import RECORD, classical_plan, read_classical, run_classical
from genre_spark.experiments.plan import Cell, Experiment, cells_of
from genre_spark.experiments.results import Results, gather
from genre_spark.models.architectures import find_architecture
from genre_spark.models.checkpoints_folder import is_finished
from genre_spark.models.run import EVALUATION, read_run_record
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
        return (self.run / RECORD).exists() if self.cell.method else is_finished(self.run)

    @property
    def is_judged(self) -> bool:
        return (self.run / EVALUATION / METRICS).exists()

    def check(self) -> None:
        """Refuse a finished run that other data or settings made."""
        if self.cell.method:
            wanted, found = classical_plan(self.task, self.cell.seed), read_classical(self.run).plan
        else:
            wanted, found = training_plan(self.task, self.settings), plan_of_run(read_run_record(self.run))
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
    for work in works:
        if work.is_trained:
            work.check()
    tell = on_cell or (lambda *_: None)
    left = [work for work in works if not work.is_trained]
    for position, work in enumerate(left):
        tell("training", work.cell, position, len(left))
        _train(work)
    left = [work for work in works if not work.is_judged]
    spark = session() if left else None
    for position, work in enumerate(left):
        tell("judging", work.cell, position, len(left))
        assert spark is not None
        evaluate(spark, work.run, settings.evaluate, dataset_path=work.dataset.folder.address)
    return gather(experiment, [(work.cell, work.run, work.dataset) for work in works], settings.split.group_by, out)


def _train(work: _Work) -> None:
    if work.cell.method:
        run_classical(work.dataset, work.task, work.cell.method[0], work.cell.seed, work.run)
    else:
        # A run that was interrupted, or a training that was killed, is gone on with.
        train(work.dataset, work.cell.model, work.cell.split, work.run, work.settings, resume=True)


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
        parts = set(work.task.split["part"].to_pylist())
        if "validation" not in parts:
            raise SplitError(f"{work.dataset}: the {work.cell.split} split has no validation part to choose on")
