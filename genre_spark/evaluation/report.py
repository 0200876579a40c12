"""What people look at: one self-contained HTML page, and a table for the terminal."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from genre_spark.corpora.tracks import PARTS
from genre_spark.errors import RunError
from genre_spark.evaluation.figures import accuracy_figure, confusion_figure, loss_figure, to_svg
from genre_spark.evaluation.metrics import genre_metrics, read_metrics, row_shares
from genre_spark.evaluation.study import STUDY, STUDY_DATA, STUDY_SOURCE, StudyModel
from genre_spark.models.run import RunRecord, read_history, read_run_record, write_atomically

# Stands where there is no number.
ABSENT = "\N{EN DASH}"

# What a split means for the reader of an accuracy.
SPLITS = {
    "study": "random, as in the study: an artist may stand on both sides",
    "official": "the corpus's own",
    "artist": "no artist stands in two parts",
}
# How far the judged part can be trusted to speak for new music.
JUDGED = {
    "training": "training tracks, which the model learned from",
    "validation": "validation tracks, which the training watched: expect less on new music",
    "test": "test tracks that no training saw",
}


@dataclass(frozen=True)
class SummaryRow:
    """One run in the summary.

    Parameters
    ----------
    name : str
        Name of the run folder.
    model, split : str
    study : StudyModel or None
        The study's numbers for this model.
    parameters : int
        Number of trainable parameters.
    training_s : float
        Wall time of the training, in seconds.
    accuracies : dict of str to float or None
        Accuracy between 0 and 1 on each of `PARTS`; None for a part that doesn't exist.
    judged_part : str
        The part that `n`, `interval` and `macro_f1` are about.
    n : int
        Tracks in the judged part.
    interval : tuple of float
        95 % interval of the accuracy on the judged part.
    chance : float
        Accuracy of guessing.
    macro_f1 : float
    genres : int
    comparable : tuple
        Equal in two rows whose accuracies may be ranked: same split, same judged part, same genres.
    tracks_without_artist : int
        Tracks that name no artist: no split can keep their artists apart.
    """

    name: str
    model: str
    split: str
    study: StudyModel | None
    parameters: int
    training_s: float
    accuracies: dict[str, float | None]
    judged_part: str
    n: int
    interval: tuple[float, float]
    chance: float
    macro_f1: float
    genres: int
    comparable: tuple[str, ...]
    tracks_without_artist: int

    @property
    def accuracy(self) -> float:
        """Accuracy on the judged part."""
        return self.accuracies[self.judged_part] or 0.0


def summary_rows(runs: Sequence[Path]) -> list[SummaryRow]:
    """Read what the summary shows, one row per run in the order given.

    Raises
    ------
    RunError
        If no run is given, or one is unfinished, not evaluated, or was trained again since.
    """
    return [_row(run, *_read(run)) for run in _some(runs)]


def print_summary(rows: Sequence[SummaryRow], console: Console) -> None:
    """Print the summary as a table that is readable at 80 columns."""
    table = Table(box=SIMPLE_HEAD, title="Accuracy in %", title_justify="left", pad_edge=False, collapse_padding=True)
    table.add_column("model", overflow="fold", min_width=10)
    table.add_column("split", overflow="fold", min_width=9)
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


def build_report(runs: Sequence[Path], out: Path, *, note: str | None = None) -> None:
    """Write the report: one HTML file without scripts that loads nothing from anywhere.

    Parameters
    ----------
    runs : sequence of Path
        Evaluated run folders.
    out : Path
        The HTML file; it appears under its name only when it is complete.
    note : str, optional
        Shown at the top: what a reader has to know about the data.

    Raises
    ------
    RunError
        If no run is given, one is unfinished, not evaluated, or was trained again since, or `out` is a folder.
    """
    if out.is_dir():
        raise RunError(f"{out}: is a folder; name a file, such as {out / 'report.html'}")
    sections = [_section(number, run) for number, run in enumerate(_some(runs), start=1)]
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("genre_spark.evaluation"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(percent=percent, study_percent=study_percent, duration=duration, thousands=thousands)
    page = environment.get_template("report.html.j2").render(
        rows=[section["row"] for section in sections],
        sections=sections,
        verdicts=_verdicts([section["row"] for section in sections]),
        note=note,
        parts=PARTS,
        splits=SPLITS,
        judged=JUDGED,
        study_source=STUDY_SOURCE,
        study_data=STUDY_DATA,
    )
    write_atomically(out, page)


def percent(share: float | None) -> str:
    """Format a share of 1 as a percentage with one decimal; a dash for None."""
    return ABSENT if share is None else f"{100 * share:.1f}\N{NO-BREAK SPACE}%"


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


def _some(runs: Sequence[Path]) -> Sequence[Path]:
    if not runs:
        raise RunError("no run is named; give at least one folder that `genre-spark train` made")
    return runs


def _read(run: Path) -> tuple[RunRecord, dict[str, Any]]:
    record, metrics = read_run_record(run), read_metrics(run)
    if metrics["labels"] != record.labels:
        raise RunError(
            f"{run}: its evaluation is of other genres than its model; run `genre-spark evaluate --run {run}` again"
        )
    return record, metrics


def _row(run: Path, record: RunRecord, metrics: dict[str, Any]) -> SummaryRow:
    low, high = metrics["accuracy_interval"]
    return SummaryRow(
        name=run.resolve().name,
        model=record.model,
        split=record.split,
        study=STUDY.get(record.model),
        parameters=record.trainable_parameters,
        training_s=record.training_s,
        accuracies={part: metrics["parts"].get(part, {}).get("accuracy") for part in PARTS}
        | {metrics["part"]: metrics["accuracy"]},
        judged_part=metrics["part"],
        n=metrics["n"],
        interval=(low, high),
        chance=metrics["chance"],
        macro_f1=metrics["macro_f1"],
        genres=len(metrics["labels"]),
        comparable=(record.split, record.split_digest, metrics["part"], *metrics["labels"]),
        tracks_without_artist=record.tracks_without_artist,
    )


def _verdicts(rows: Sequence[SummaryRow]) -> list[dict[str, Any]]:
    """One verdict per group of comparable runs, unseen tracks first."""
    groups: dict[tuple[str, ...], list[SummaryRow]] = {}
    for row in rows:
        groups.setdefault(row.comparable, []).append(row)
    verdicts = [{"best": max(group, key=lambda row: row.accuracy), "rows": group} for group in groups.values()]
    return sorted(verdicts, key=lambda verdict: verdict["best"].judged_part != "test")


def _section(number: int, run: Path) -> dict[str, Any]:
    record, metrics = _read(run)
    history, row = read_history(run), _row(run, record, metrics)
    confusion = np.array(metrics["confusion"], dtype=np.int64).reshape(row.genres, row.genres)
    mistaken = confusion - np.diag(np.diag(confusion))
    worst = np.unravel_index(int(mistaken.argmax()), mistaken.shape)
    ends = f"after {len(history['epoch'])} epochs, training {{}} and validation {{}}"
    return {
        "id": f"run-{number}",
        "row": row,
        "record": record,
        "metrics": metrics,
        "history": [dict(zip(history, values, strict=True)) for values in zip(*history.values(), strict=True)],
        "shares": row_shares(confusion).tolist(),
        "means": {name: float(values.mean()) for name, values in genre_metrics(confusion).items()},
        "commonest": confusion.sum(axis=1).max() / max(row.n, 1),
        "mistake": {
            "count": int(mistaken[worst]),
            "true": metrics["labels"][worst[0]],
            "predicted": metrics["labels"][worst[1]],
        },
        "settings": json.dumps(record.settings, indent=2, ensure_ascii=False, default=str),
        "accuracy_svg": to_svg(
            accuracy_figure(history, model=record.model, chance=row.chance),
            ids=f"run-{number}-accuracy",
            description=f"Curve of the accuracy of {record.model}: "
            + ends.format(percent(history["accuracy"][-1]), percent(history["val_accuracy"][-1])),
        ),
        "loss_svg": to_svg(
            loss_figure(history),
            ids=f"run-{number}-loss",
            description=f"Curve of the loss of {record.model}: "
            + ends.format(f"{history['loss'][-1]:.2f}", f"{history['val_loss'][-1]:.2f}"),
        ),
        "confusion_svg": to_svg(
            confusion_figure(confusion, metrics["labels"]),
            ids=f"run-{number}-confusion",
            description=f"Confusion matrix of {record.model} on {row.n} {row.judged_part} tracks; "
            "the table below holds its numbers",
        ),
    }


def _digits(share: float | None) -> str:
    return ABSENT if share is None else f"{100 * share:.1f}"
