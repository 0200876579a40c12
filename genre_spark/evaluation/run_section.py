"""What the report's sections on runs show."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from genre_spark.errors import GenreSparkError
from genre_spark.evaluation.confused import read_confused
from genre_spark.evaluation.figures import accuracy_figure, kept_place, loss_figure, to_svg
from genre_spark.evaluation.judged_section import judged_section
from genre_spark.evaluation.summary import (
    SummaryRow,
    percent,
    read_evaluated,
    read_history_if_any,
    summary_row,
    titles,
)  # fmt: skip
from genre_spark.models.bundle import read_description
from genre_spark.models.run import BUNDLE, RunRecord


def run_sections(runs: Sequence[Path]) -> list[dict[str, Any]]:
    """Read runs and draw their figures.

    Parameters
    ----------
    runs : sequence of Path
        Evaluated run folders.

    Returns
    -------
    list of dict
        What the templates take of each.

    Raises
    ------
    RunError
        If one is unfinished, not evaluated, or was trained again since.
    """
    found = [(run, *read_evaluated(run)) for run in runs]
    rows = [summary_row(run, record, metrics) for run, record, metrics in found]
    named = titles(rows, [row.split for row in rows])
    often = Counter(named)
    sections = []
    for number, ((run, record, metrics), row, title) in enumerate(zip(found, rows, named, strict=True), start=1):
        ids = f"run-{number}"
        sections.append(
            {
                **judged_section(ids, title, row, metrics, read_confused(run)),
                # Two headings of one page are never the same.
                "heading": title if often[title] == 1 else f"{title}, {row.split} split",
                "folder": run,
                "record": record,
                "files": "the run's evaluation/",
                "settings": json.dumps(record.settings, indent=2, ensure_ascii=False, default=str),
                **_curves(ids, run, record, row, title),
            }
        )
    return sections


def _curves(ids: str, run: Path, record: RunRecord, row: SummaryRow, title: str) -> dict[str, Any]:
    history = read_history_if_any(run)
    if history is None:
        return {"history": None}
    place, epochs = kept_place(history, record.best_epoch), len(history["epoch"])
    is_last = place == epochs - 1
    kept = f"after {epochs} epochs" if is_last else f"the weights of epoch {place + 1} of {epochs} were kept"
    accuracy, loss = (
        f"{kept}: training {show(history[quantity][place])}, validation {show(history[f'val_{quantity}'][place])}"
        for quantity, show in (("accuracy", percent), ("loss", "{:.2f}".format))
    )
    of_segments = reads_segments(run)
    what = f"{title} on segments" if of_segments else title
    return {
        "history": [dict(zip(history, values, strict=True)) for values in zip(*history.values(), strict=True)],
        "kept_accuracy": accuracy,
        "kept_loss": loss,
        "of_segments": of_segments,
        "accuracy_svg": to_svg(
            accuracy_figure(
                history, model=record.model, chance=row.chance, best_epoch=record.best_epoch, of_segments=of_segments
            ),
            ids=f"{ids}-accuracy",
            description=f"Curve of the accuracy of {what}; {accuracy}",
        ),
        "loss_svg": to_svg(
            loss_figure(history, best_epoch=record.best_epoch),
            ids=f"{ids}-loss",
            description=f"Curve of the loss of {what}; {loss}",
        ),
    }


def reads_segments(run: Path) -> bool:
    """Tell whether the training's rows, which the curves count, are segments of tracks."""
    try:
        return read_description(run / BUNDLE).spec.segments is not None
    except GenreSparkError:
        return False  # the judgement needs no bundle
