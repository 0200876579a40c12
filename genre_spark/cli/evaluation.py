"""What `genre-spark evaluate` says when it is done."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from genre_spark.evaluation.judged import interval_of_accuracy, is_fitted_on
from genre_spark.files import printable

# Genres that the model doesn't know are all in metrics.json; a line has room for some.
_SHOWN = 5


def outcome_line(model: str, metrics: Mapping[str, Any], out: str | Path) -> str:
    """Put an evaluation into a line: how many were right, and how many were not counted.

    Parameters
    ----------
    model : str
    metrics : mapping
        As `metrics.json` holds it.
    out : str or Path
        Folder of the evaluation.
    """
    part = "" if metrics["part"] == "all" else f"{metrics['part']} "
    low, high = interval_of_accuracy(metrics)
    over = f" over {metrics['artists']} artists" if metrics.get("accuracy_interval_by_artist") else ""
    line = (
        f"{model}: {metrics['accuracy']:.1%} of {metrics['n']} {part}tracks right ({low:.1%} to {high:.1%}{over}, "
        f"chance {metrics['chance']:.1%}, calibration error {metrics['ece']:.1%}"
        f"{', fitted on these tracks' if is_fitted_on(metrics['part'], metrics['n']) else ''})"
    )
    apart = []
    if unseen := metrics.get("unseen"):
        names = [f"{name!r} ({n})" for name, n in list(unseen.items())[:_SHOWN]]
        more = f" and {len(unseen) - _SHOWN:,} genres more" if len(unseen) > _SHOWN else ""
        apart.append(f"{sum(unseen.values())} of genres that the model doesn't know: {', '.join(names)}{more}")
    if unlabelled := metrics.get("unlabelled"):
        apart.append(f"{unlabelled} without a genre")
    if apart:
        line += f"; predicted and not counted: {'; '.join(apart)}"
    return f"{line} -> {printable(out)}"
