"""The tables of an experiment: what each model reached, and how it compares with the reference.

OUT/
  results.csv       a row for each model and split
  comparisons.csv   each model against the reference, on the same tracks
  results.md        both, to be read
  runs/             a run folder for each training
"""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from genre_spark.corpora.groups import Kind, group_tracks
from genre_spark.corpora.splits import read_split
from genre_spark.dataset.store import Dataset
from genre_spark.errors import ExperimentError
from genre_spark.evaluation.bootstrap import Estimate, Judged, accuracy_and_f1, accuracy_difference
from genre_spark.evaluation.judgement import JUDGED_FIRST
from genre_spark.evaluation.score import PREDICTIONS
from genre_spark.experiments.classical_run import ClassicalRecord, read_classical
from genre_spark.experiments.plan import Cell, Experiment
from genre_spark.files import complete_file
from genre_spark.models.run import EVALUATION, SPLIT, RunRecord, read_run_record

# Of fewer groups than that, drawing them anew tells little: of one, nothing.
_FEWEST_GROUPS = 10

RESULTS, COMPARISONS, PAGE = "results.csv", "comparisons.csv", "results.md"

Made = tuple[Cell, Path, Dataset]


@dataclass(frozen=True)
class Row:
    """What one model reached under one split.

    Parameters
    ----------
    part : str
        The part that was judged: `validation` where the split has no test part.
    n, groups : int
        Tracks judged, over all folds, and how many groups they make: of one artist, or of whatever `split.group_by`
        keeps together.
    accuracy, macro_f1 : Estimate
        Means over the seeds; intervals by drawing groups.
    seed_spread : float, optional
        Standard deviation of the accuracy over the seeds.
    training_accuracy : float
    gap : float
        Accuracy on the training part minus that on the judged part.
    validation_accuracy : float
        What choices were made by.
    parameters : int, optional
    training_s : float
        Seconds that one training took, the mean.
    trainings : int
    """

    model: str
    split: str
    part: str
    n: int
    groups: int
    accuracy: Estimate
    macro_f1: Estimate
    seed_spread: float | None
    training_accuracy: float
    gap: float
    validation_accuracy: float
    parameters: int | None
    training_s: float
    trainings: int


@dataclass(frozen=True)
class Comparison:
    """A model beside the reference on the same tracks.

    Parameters
    ----------
    groups : int
        How many groups the tracks make.
    difference : Estimate
        Accuracy of the model minus that of the reference.
    """

    model: str
    reference: str
    split: str
    groups: int
    difference: Estimate

    @property
    def verdict(self) -> str:
        """What the interval allows to say."""
        if self.groups < _FEWEST_GROUPS:
            return "too few groups to say"
        if self.difference.low > 0:
            return "better"
        return "worse" if self.difference.high < 0 else "no difference shown"


@dataclass(frozen=True)
class Results:
    """Both tables, and what keeps tracks together in a group."""

    rows: list[Row]
    comparisons: list[Comparison]
    group_by: tuple[Kind, ...]


def gather(experiment: Experiment, made: Sequence[Made], group_by: Sequence[Kind], out: Path) -> Results:
    """Read all predictions of an experiment, and write its tables.

    Raises
    ------
    ExperimentError
        If the models of a split were judged on different tracks.
    """
    rows, comparisons = [], []
    for split in experiment.splits:
        judged: dict[str, _Pooled] = {}
        of_split = [each for each in made if each[0].split == split]
        labels = sorted({label for cell, run, _ in of_split for label in _record(cell, run).labels})
        group_of = _groups(of_split[0], group_by)
        for model in experiment.models:
            cells = [each for each in of_split if each[0].model == model]
            judged[model] = pooled = _pooled(cells, labels, group_of)
            rows.append(_row(model, split, cells, pooled))
        reference = experiment.compared_with
        for model in experiment.models:
            if model == reference:
                continue
            if judged[model].track_ids != judged[reference].track_ids:
                raise ExperimentError(
                    f"{model} and {reference} were judged on different tracks of the {split} split; extract both "
                    "features from the same track table"
                )
            difference = accuracy_difference(judged[model].judged, judged[reference].judged)
            groups = len(np.unique(judged[model].judged.clusters))
            comparisons.append(Comparison(model, reference, split, groups, difference))
    results = Results(rows, comparisons, tuple(group_by))
    _write(out / RESULTS, _csv([_flat(row) for row in rows]))
    _write(out / COMPARISONS, _csv([_flat(each) | {"verdict": each.verdict} for each in comparisons]))
    _write(out / PAGE, markdown(results))
    return results


@dataclass(frozen=True, eq=False)
class _Pooled:
    """The judged part of all folds, and accuracies on the others."""

    part: str
    track_ids: list[str]
    judged: Judged
    training_accuracy: float
    validation_accuracy: float


def _groups(made: Made, group_by: Sequence[Kind]) -> dict[str, int]:
    """Which group each track is in: the same for all models, whatever else their datasets hold."""
    _, run, dataset = made
    tracks = dataset.tracks()
    tracks = tracks.filter(pc.is_in(tracks["track_id"], read_split(run / SPLIT)["track_id"]))
    return dict(zip(tracks["track_id"].to_pylist(), group_tracks(tracks, group_by).tolist(), strict=True))


def _record(cell: Cell, run: Path) -> ClassicalRecord | RunRecord:
    return read_classical(run) if cell.method else read_run_record(run)


def _pooled(cells: Sequence[Made], labels: Sequence[str], group_of: Mapping[str, int]) -> _Pooled:
    of_seed: dict[int, list[pa.Table]] = {}
    for cell, run, _ in cells:
        table = pq.read_table(run / EVALUATION / PREDICTIONS, columns=["track_id", "part", "genre", "predicted"])
        of_seed.setdefault(cell.seed, []).append(table)
    tables = [pa.concat_tables(parts).sort_by("track_id") for parts in of_seed.values()]
    parts = set(tables[0]["part"].to_pylist())
    part = next(name for name in JUDGED_FIRST if name in parts)
    chosen = [_of_part(table, part) for table in tables]
    track_ids: list[str] = chosen[0]["track_id"].to_pylist()
    number_of = {label: number for number, label in enumerate(labels)}
    # A track that only this model's dataset has makes the comparison fail by name.
    groups = [group_of.get(track_id, -1) for track_id in track_ids]
    _, clusters = np.unique(groups, return_inverse=True)
    judged = Judged(
        true=np.array([number_of[genre] for genre in chosen[0]["genre"].to_pylist()]),
        predicted=np.array([[number_of[genre] for genre in table["predicted"].to_pylist()] for table in chosen]),
        clusters=clusters,
        genres=len(labels),
    )
    training, validation = (
        float(np.mean([_accuracy(_of_part(table, name)) for table in tables])) for name in ("training", "validation")
    )
    return _Pooled(part, track_ids, judged, training, validation)


def _of_part(table: pa.Table, part: str) -> pa.Table:
    return table.filter(pa.array([name == part for name in table["part"].to_pylist()]))


def _accuracy(table: pa.Table) -> float:
    return float(np.mean(np.array(table["genre"].to_pylist()) == np.array(table["predicted"].to_pylist())))


def _row(model: str, split: str, cells: Sequence[Made], pooled: _Pooled) -> Row:
    judged = pooled.judged
    accuracy, macro_f1 = accuracy_and_f1(judged)
    records = [_record(cell, run) for cell, run, _ in cells]
    return Row(
        model=model,
        split=split,
        part=pooled.part,
        n=len(judged.true),
        groups=int(judged.clusters.max()) + 1,
        accuracy=accuracy,
        macro_f1=macro_f1,
        seed_spread=float(judged.accuracies.std(ddof=1)) if len(judged.predicted) > 1 else None,
        training_accuracy=pooled.training_accuracy,
        gap=pooled.training_accuracy - accuracy.value,
        validation_accuracy=pooled.validation_accuracy,
        parameters=records[0].trainable_parameters,
        training_s=float(np.mean([record.training_s for record in records])),
        trainings=len(records),
    )


def markdown(results: Results) -> str:
    """Both tables as Markdown."""
    lines = [
        "# Results",
        "",
        "Accuracy and macro-F1 (over the genres that occur) in %, means over the seeds. 95 % intervals are from "
        f"drawing whole groups of tracks: the same {', '.join(results.group_by)}. Tracks of which nothing of that is "
        "known are groups of their own. The judged part was predicted when all trainings were done.",
        "",
    ]
    if any(row.part == "validation" for row in results.rows):
        lines += [
            "Where *validation* was judged, the split has no test part: what was chosen was chosen on these very "
            "tracks, and expects too much of new ones.",
            "",
        ]
    lines += [
        "| split | model | judged on | accuracy | seeds \N{PLUS-MINUS SIGN} | macro-F1 | training | gap | validation "
        "| parameters | seconds | trainings |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in sorted(results.rows, key=lambda row: (row.split, -row.accuracy.value)):
        spread = "" if row.seed_spread is None else f"{100 * row.seed_spread:.1f}"
        parameters = "" if row.parameters is None else f"{row.parameters:,}"
        lines.append(
            f"| {row.split} | {row.model} | {row.n:,} {row.part} tracks in {row.groups:,} groups "
            f"| {_percent(row.accuracy)} | {spread} | {_percent(row.macro_f1)} | {100 * row.training_accuracy:.1f} "
            f"| {100 * row.gap:.1f} | {100 * row.validation_accuracy:.1f} | {parameters} | {row.training_s:.1f} "
            f"| {row.trainings} |"
        )
    if results.comparisons:
        lines += [
            "",
            f"## Beside {results.comparisons[0].reference}",
            "",
            "| split | model | accuracy minus the reference's, in points | verdict |",
            "| --- | --- | --- | --- |",
        ]
        for each in results.comparisons:
            lines.append(f"| {each.split} | {each.model} | {_percent(each.difference, sign='+')} | {each.verdict} |")
    return "\n".join(lines) + "\n"


def _percent(estimate: Estimate, sign: str = "") -> str:
    value, low, high = (f"{100 * number:{sign}.1f}" for number in (estimate.value, estimate.low, estimate.high))
    return f"{value} ({low} to {high})"


def _flat(row: Row | Comparison) -> dict[str, object]:
    flat: dict[str, object] = {}
    for name, value in asdict(row).items():
        if isinstance(value, dict):
            flat |= {name if key == "value" else f"{name}_{key}": number for key, number in value.items()}
        else:
            flat[name] = value
    return flat


def _csv(rows: Sequence[dict[str, object]]) -> str:
    text = io.StringIO()
    if rows:
        writer = csv.DictWriter(text, rows[0].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return text.getvalue()


def _write(file: Path, text: str) -> None:
    with complete_file(file, ExperimentError) as partial:
        partial.write_text(text, encoding="utf-8")
