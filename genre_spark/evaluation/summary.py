"""A line for each run: what it reached, on what, and how far that can be trusted."""

import json
from collections import Counter
from collections.abc import Hashable, Sequence
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
from genre_spark.files import visible
from genre_spark.models.run import HISTORY, RunRecord, read_history, read_run_record

# Stands where there is no number.
ABSENT = "\N{EN DASH}"
# Of the parts, in the terminal: 80 columns are few.
_HEADINGS = ("train", "valid.", "test")
# From more columns on, there are two spaces between numbers.
_ROOMY = 90


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


def titles(rows: Sequence[Judged], beside: Sequence[Hashable]) -> list[str]:
    """Name each row so that it can be told from the others.

    Parameters
    ----------
    rows : sequence of Judged
    beside : sequence of hashable
        What stands beside the name of each, such as its split.

    Returns
    -------
    list of str
        The model, or the folder's name where two rows have the same model and the same beside it; numbered where those
        are the same too.
    """
    found = list(zip((row.model for row in rows), beside, strict=True))
    often = Counter(found)
    names = [row.name if often[key] > 1 else row.model for row, key in zip(rows, found, strict=True)]
    keys = list(zip(names, beside, strict=True))
    return [
        f"{name} ({keys[: place + 1].count(key)})" if key in keys[:place] else name
        for place, (name, key) in enumerate(zip(names, keys, strict=True))
    ]


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
    table = Table(
        box=SIMPLE_HEAD, show_edge=False, title="Accuracy in %", title_justify="left",
        padding=(0, 1 if console.width > _ROOMY else 0), pad_edge=False, collapse_padding=True,
    )  # fmt: skip
    # What gives way where room is short; a number without its end would be another number.
    table.add_column("model", overflow="fold")
    table.add_column("split", overflow="fold")
    for heading in (*_HEADINGS, "95 %\ninter-\nval", "chance", "tracks\njudged", "para-\nmeters", "trained\nfor"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row, title in zip(rows, titles(rows, [row.split for row in rows]), strict=True):
        numbers = [_digits(row.accuracies[part]) for part in PARTS]
        low, high = row.honest_interval
        chance = chance_percent(row.chance).removesuffix("\N{NO-BREAK SPACE}%").replace(" ", "")
        ours = (f"{100 * low:.0f}{ABSENT}{100 * high:.0f}", chance, thousands(row.n))
        size = (compact(row.parameters), duration(row.training_s))
        table.add_row(Text(visible(title)), Text(visible(row.split)), *numbers, *ours, *size)
    table.add_section()
    for model, study in {row.model: row.study for row in rows if row.study}.items():
        accuracies = [f"{100 * share:.4g}" for share in (study.training_accuracy, study.validation_accuracy)]
        theirs = (ABSENT, ABSENT, "12.5", ABSENT, compact(study.parameters), ABSENT)
        table.add_row(f"{model} ({study.study_name})", "the study", *accuracies, *theirs, style="dim")
    console.print(table)
    console.print()
    if any(row.interval_by_artist for row in rows):
        note = "The interval takes an artist's tracks together, as they are right or wrong together."
        console.print(note, highlight=False, style="dim")
    if any(row.study for row in rows):
        note = f"The study's numbers are from other data and no like-for-like comparison: {STUDY_DATA}."
        console.print(note, highlight=False, style="dim")


def percent(share: float | None) -> str:
    """Format a share of 1 as a percentage with one decimal; a dash for None."""
    return ABSENT if share is None else f"{100 * share:.1f}\N{NO-BREAK SPACE}%"


def chance_percent(share: float) -> str:
    """Format the accuracy of guessing: among thousands of genres it is small, but not nothing."""
    return percent(share) if share == 0 or share >= 0.0005 else "< 0.1\N{NO-BREAK SPACE}%"


def points(share: float) -> str:
    """Format a difference of two shares in percentage points, with its sign."""
    return f"{100 * share:+.1f}".replace("-", "\N{MINUS SIGN}")


def of_hundred(share: float) -> str:
    """Say a share as people count: how many of 100."""
    if share in (0, 1):
        return "all" if share else "none"
    if share < 0.005:
        return "fewer than 1"
    return "more than 99" if share > 0.995 else f"about {100 * share:.0f}"


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


def compact(number: float) -> str:
    """Format a count with three digits: 2.80 M of 2,796,648."""
    for size, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        # What would be rounded to a thousand of a unit is one of the next.
        if number >= 0.9995 * size:
            digits = f"{number / size:#.3g}".rstrip(".")
            return f"{digits}\N{NO-BREAK SPACE}{name}"
    return f"{number:.0f}"


def judged_tracks(row: Judged) -> str:
    """Count the judged tracks: "64 test tracks", "1 test track"."""
    return f"{thousands(row.n)} {row.tracks_of_part if row.n != 1 else row.tracks_of_part.removesuffix('s')}"


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
