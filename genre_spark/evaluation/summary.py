"""A line for each run: what it reached, on what, and how far that can be trusted."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from genre_spark.corpora.leaks import LeakAudit
from genre_spark.corpora.tracks import PARTS
from genre_spark.errors import RunError
from genre_spark.evaluation.judged import Judged, what_was_judged
from genre_spark.evaluation.metrics_file import read_metrics
from genre_spark.evaluation.study import STUDY, STUDY_DATA, StudyModel
from genre_spark.models.run import HISTORY, RunRecord, read_history, read_run_record

# Stands where there is no number.
ABSENT = "\N{EN DASH}"


@dataclass(frozen=True, kw_only=True)
class SummaryRow(Judged):
    """One run in the summary: `name` is that of its folder.

    Parameters
    ----------
    split : str
    study : StudyModel or None
        The study's numbers for this model.
    parameters : int
        Number of trainable parameters.
    training_s : float
        Wall time of the training, in seconds.
    accuracies : dict of str to float or None
        Accuracy between 0 and 1 on each of `PARTS`; None for a part that doesn't exist.
    n_training : int
        Tracks in the training part.
    comparable : tuple
        Equal in two rows whose accuracies may be ranked: same split, same judged part, same genres.
    same_task : tuple
        Equal in two rows that differ in the split alone: same model, feature, track table, genres, training settings.
    leaks : LeakAudit
        Who stands on both sides of the split.
    """

    split: str
    study: StudyModel | None
    parameters: int
    training_s: float
    accuracies: dict[str, float | None]
    n_training: int
    comparable: tuple[str, ...]
    same_task: tuple[str, ...]
    leaks: LeakAudit


def summary_rows(runs: Sequence[Path]) -> list[SummaryRow]:
    """Read what the summary shows, one row per run in the order given.

    Raises
    ------
    RunError
        If no run is given, or one is unfinished, not evaluated, or was trained again since.
    """
    return [summary_row(run, *read_evaluated(run)) for run in some_runs(runs)]


def print_summary(rows: Sequence[SummaryRow], console: Console) -> None:
    """Print the summary as a table that is readable at 80 columns."""
    table = Table(box=SIMPLE_HEAD, title="Accuracy in %", title_justify="left", pad_edge=False, collapse_padding=True)
    table.add_column("model", overflow="fold", min_width=10)
    table.add_column("split", overflow="fold", min_width=12)
    for heading in ("train", "valid.", "test", "chance", "tracks\njudged", "para-\nmeters", "trained\nfor"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        numbers = [_digits(row.accuracies[part]) for part in PARTS]
        ours = (_digits(row.chance), thousands(row.n), thousands(row.parameters), duration(row.training_s))
        table.add_row(Text(row.model), Text(row.split), *numbers, *ours)
    table.add_section()
    for model, study in {row.model: row.study for row in rows if row.study}.items():
        accuracies = [f"{100 * share:.4g}" for share in (study.training_accuracy, study.validation_accuracy)]
        theirs = (ABSENT, "12.5", ABSENT, thousands(study.parameters), ABSENT)
        table.add_row(f"{model} ({study.study_name})", "the study", *accuracies, *theirs, style="dim")
    console.print(table)
    if any(row.study for row in rows):
        note = f"The study's numbers are from other data and no like-for-like comparison: {STUDY_DATA}."
        console.print(note, highlight=False, style="dim")


def percent(share: float | None) -> str:
    """Format a share of 1 as a percentage with one decimal; a dash for None."""
    return ABSENT if share is None else f"{100 * share:.1f}\N{NO-BREAK SPACE}%"


def points(share: float) -> str:
    """Format a difference of two shares in percentage points, with its sign."""
    return f"{100 * share:+.1f}".replace("-", "\N{MINUS SIGN}")


def of_hundred(share: float) -> str:
    """Say a share as people count: how many of 100."""
    return "all" if share == 1 else "none" if share == 0 else f"about {max(1, min(99, round(100 * share)))}"


def study_percent(share: float) -> str:
    """Format one of the study's shares with the decimals that the study gives."""
    return f"{100 * share:.4g}\N{NO-BREAK SPACE}%"


def duration(seconds: float) -> str:
    """Format seconds in the unit that suits them."""
    for limit, unit, name in ((60, 1, "s"), (3_600, 60, "min")):
        if seconds < limit:
            return f"{seconds / unit:.1f}\N{NO-BREAK SPACE}{name}"
    return f"{seconds / 3_600:.1f}\N{NO-BREAK SPACE}h"


def thousands(number: float) -> str:
    """Format a count with separators."""
    return f"{number:,.0f}"


def some_runs(runs: Sequence[Path]) -> Sequence[Path]:
    """Return `runs` if there is one, or raise a `RunError`."""
    if not runs:
        raise RunError("no run is named; give at least one folder that `genre-spark train` made")
    return runs


def read_evaluated(run: Path) -> tuple[RunRecord, dict[str, Any]]:
    """Read the record and the metrics of a run that was trained and evaluated.

    Raises
    ------
    RunError
        If it is unfinished, not evaluated, or was trained again since.
    """
    record, metrics = read_run_record(run), read_metrics(run)
    if metrics["labels"] != record.labels:
        raise RunError(
            f"{run}: its evaluation is of other genres than its model; run `genre-spark evaluate --run {run}` again"
        )
    return record, metrics


def read_history_if_any(run: Path) -> dict[str, list[float]] | None:
    """Read the history of a run; None where the file is gone: the judgement needs none.

    Raises
    ------
    RunError
        If there is one that can't be read.
    """
    return read_history(run) if (run / HISTORY).exists() else None


def summary_row(run: Path, record: RunRecord, metrics: dict[str, Any]) -> SummaryRow:
    """Put together what the summary shows of a run, from what `read_evaluated` gives."""
    return SummaryRow(
        **what_was_judged(run.resolve().name, record.model, metrics),
        split=record.split,
        study=STUDY.get(record.model),
        parameters=record.trainable_parameters,
        training_s=record.training_s,
        accuracies={part: metrics["parts"].get(part, {}).get("accuracy") for part in PARTS}
        | {metrics["part"]: metrics["accuracy"]},
        n_training=record.tracks["training"],
        comparable=(record.split, record.split_digest, metrics["part"], *metrics["labels"]),
        same_task=(
            record.model,
            record.spec_digest,
            record.tracks_digest,
            _training_settings(record),
            *metrics["labels"],
        ),
        leaks=record.leaks,
    )


def _training_settings(record: RunRecord) -> str:
    chosen = record.settings.get("models", {}).get(record.model)
    return json.dumps([record.epochs, record.batch_size, record.learning_rate, record.seed, chosen], sort_keys=True)


def _digits(share: float | None) -> str:
    return ABSENT if share is None else f"{100 * share:.1f}"
