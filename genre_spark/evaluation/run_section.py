"""What the report's section on one run shows."""

import json
from pathlib import Path
from typing import Any

from genre_spark.evaluation.confused import read_confused
from genre_spark.evaluation.figures import accuracy_figure, loss_figure, to_svg
from genre_spark.evaluation.judged_section import judged_section
from genre_spark.evaluation.summary import SummaryRow, percent, read_evaluated, read_history_if_any, summary_row
from genre_spark.models.run import RunRecord


def run_section(number: int, run: Path) -> dict[str, Any]:
    """Read a run and draw its figures.

    Parameters
    ----------
    number : int
        Its place on the page: part of all ids.
    run : Path
        An evaluated run folder.

    Returns
    -------
    dict
        What the templates take.

    Raises
    ------
    RunError
        If it is unfinished, not evaluated, or was trained again since.
    """
    record, metrics = read_evaluated(run)
    row = summary_row(run, record, metrics)
    ids = f"run-{number}"
    return {
        **judged_section(ids, row, metrics, read_confused(run)),
        "record": record,
        "files": "the run's evaluation/",
        "settings": json.dumps(record.settings, indent=2, ensure_ascii=False, default=str),
        **_curves(ids, run, record, row),
    }


def _curves(ids: str, run: Path, record: RunRecord, row: SummaryRow) -> dict[str, Any]:
    history = read_history_if_any(run)
    if history is None:
        return {"history": None}
    ends = f"after {len(history['epoch'])} epochs, training {{}} and validation {{}}"
    return {
        "history": [dict(zip(history, values, strict=True)) for values in zip(*history.values(), strict=True)],
        "accuracy_svg": to_svg(
            accuracy_figure(history, model=record.model, chance=row.chance),
            ids=f"{ids}-accuracy",
            description=f"Curve of the accuracy of {record.model}: "
            + ends.format(percent(history["accuracy"][-1]), percent(history["val_accuracy"][-1])),
        ),
        "loss_svg": to_svg(
            loss_figure(history),
            ids=f"{ids}-loss",
            description=f"Curve of the loss of {record.model}: "
            + ends.format(f"{history['loss'][-1]:.2f}", f"{history['val_loss'][-1]:.2f}"),
        ),
    }
