"""Judgement in numbers, from confusion matrices (rows true, columns predicted) and a table of confidence."""

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from genre_spark.errors import RunError
from genre_spark.models.reliability import ReliabilityBin, error_of_table
from genre_spark.models.run import EVALUATION, write_atomically

METRICS = "metrics.json"
CONFUSION = "confusion.csv"

# 97.5 % quantile of the standard normal: two-sided 95 %.
Z_95 = 1.959963984540054


class _PartAccuracy(BaseModel):
    accuracy: float
    n: int


class _GenreMetrics(BaseModel):
    precision: float
    recall: float
    f1: float
    support: int


class _MetricsFile(BaseModel):
    """Schema of `metrics.json`."""

    model_config = ConfigDict(extra="forbid")

    part: str
    accuracy: float
    accuracy_interval: tuple[float, float]
    n: int
    labels: list[str]
    confusion: list[list[int]]
    per_genre: dict[str, _GenreMetrics]
    macro_f1: float
    chance: float
    parts: dict[str, _PartAccuracy]
    # Evaluations from before the calibration have none.
    ece: float | None = None
    reliability: list[ReliabilityBin] | None = None


def accuracy(confusion: np.ndarray) -> float:
    """Share of the tracks on the diagonal of `confusion` `[shape=(genres, genres)]`; 0 where there is no track."""
    return float(_ratio(np.trace(confusion), confusion.sum()))


def wilson_interval(hits: int, n: int, *, z: float = Z_95) -> tuple[float, float]:
    """Wilson's score interval of a proportion.

    Unlike the textbook interval it stays within 0 and 1 and is sensible for few tracks and for proportions near an
    end (E. B. Wilson 1927, "Probable inference, the law of succession, and statistical inference").

    Parameters
    ----------
    hits, n : int
        Successes and trials; with ``n=0`` nothing is known, and the interval is 0 to 1.
    z : float
        Quantile of the standard normal distribution.

    Returns
    -------
    tuple of float
        Lower and upper end.
    """
    if n == 0:
        return 0.0, 1.0
    share = hits / n
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    margin = z / (1 + z**2 / n) * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    # At 0 of n and n of n the ends are exactly 0 and 1; rounding would leave them a hair off.
    return (0.0 if hits == 0 else centre - margin), (1.0 if hits == n else centre + margin)


def genre_metrics(confusion: np.ndarray) -> dict[str, np.ndarray]:
    """Precision, recall, F1 and support of each genre.

    Parameters
    ----------
    confusion : np.ndarray [shape=(genres, genres)]
        Counts, rows true, columns predicted.

    Returns
    -------
    dict of str to np.ndarray [shape=(genres,)]
        `precision` (0 for a genre never predicted), `recall` (0 for one that never occurs), `f1`, `support` (number
        of true tracks).
    """
    hits, support, predicted = np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0)
    return {
        "precision": _ratio(hits, predicted),
        "recall": _ratio(hits, support),
        "f1": _ratio(2 * hits, support + predicted),
        "support": support,
    }


def row_shares(confusion: np.ndarray) -> np.ndarray:
    """Each row of `confusion` `[shape=(genres, genres)]` as shares of its true genre; 0 in an empty row."""
    return _ratio(confusion, confusion.sum(axis=1, keepdims=True))


def build_metrics(
    confusions: Mapping[str, np.ndarray],
    labels: Sequence[str],
    judged_part: str,
    *,
    reliability: Sequence[ReliabilityBin] | None = None,
) -> dict[str, Any]:
    """Make the content of `metrics.json`.

    Parameters
    ----------
    confusions : mapping of str to np.ndarray [shape=(genres, genres)]
        The confusion matrix of each part, rows true, columns predicted.
    labels : sequence of str
        Genres in the order of the rows.
    judged_part : str
        The part that the model is judged on: all but `parts` is about it.
    reliability : sequence of ReliabilityBin, optional
        How sure the model was of the judged part's tracks, and how often right.

    Returns
    -------
    dict
        `part`, `accuracy`, `accuracy_interval` (Wilson, 95 %), `n`, `labels`, `confusion`, `per_genre`, `macro_f1`
        (the plain mean over all labels), `chance` (1 / number of labels), `parts` (accuracy and n of each), `ece`
        (expected calibration error) and `reliability` (the table behind it); both None where it isn't known.

    Raises
    ------
    RunError
        If the judged part has no matrix, or a matrix doesn't fit the labels.
    """
    if judged_part not in confusions:
        raise RunError(f"part {judged_part!r} was not scored, only {', '.join(confusions) or 'none'}")
    counts = {part: np.asarray(confusion).astype(np.int64) for part, confusion in confusions.items()}
    for part, confusion in counts.items():
        if confusion.shape != (len(labels), len(labels)):
            raise RunError(f"part {part!r}: confusion matrix of shape {confusion.shape} for {len(labels)} labels")
    judged = counts[judged_part]
    genres = genre_metrics(judged)
    return {
        "part": judged_part,
        "accuracy": accuracy(judged),
        "accuracy_interval": list(wilson_interval(int(np.trace(judged)), int(judged.sum()))),
        "n": int(judged.sum()),
        "labels": list(labels),
        "confusion": judged.tolist(),
        "per_genre": {
            label: {name: values[row].item() for name, values in genres.items()} for row, label in enumerate(labels)
        },
        "macro_f1": float(genres["f1"].mean()),
        "chance": 1 / len(labels),
        "parts": {
            part: {"accuracy": accuracy(confusion), "n": int(confusion.sum())} for part, confusion in counts.items()
        },
        "ece": None if reliability is None else error_of_table(reliability),
        "reliability": None if reliability is None else [found.model_dump() for found in reliability],
    }


def write_metrics(evaluation_dir: Path, metrics: Mapping[str, Any]) -> None:
    """Write `metrics.json` and, for spreadsheets and pandas (`index_col=0`), `confusion.csv`."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["true\\predicted", *metrics["labels"]])
    for label, row in zip(metrics["labels"], metrics["confusion"], strict=True):
        writer.writerow([label, *row])
    write_atomically(evaluation_dir / CONFUSION, text.getvalue())
    write_atomically(evaluation_dir / METRICS, json.dumps(metrics, indent=2, ensure_ascii=False, allow_nan=False))


def read_metrics(run: Path) -> dict[str, Any]:
    """Read the metrics of a run.

    Parameters
    ----------
    run : Path
        The run folder.

    Raises
    ------
    RunError
        If the run was not evaluated, or its `metrics.json` is damaged.
    """
    file = run / EVALUATION / METRICS
    again = f"run `genre-spark evaluate --run {run}`"
    try:
        text = file.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        raise RunError(f"{run}: not evaluated yet ({EVALUATION}/{METRICS} is missing); {again}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise RunError(f"{file}: can't be read: {error}; {again} again") from None
    try:
        metrics = _MetricsFile.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "not metrics of this program"
        raise RunError(f"{file}: {where}: {first['msg']}; {again} again") from None
    sizes = {len(metrics.confusion), *(len(row) for row in metrics.confusion)}
    if sizes != {len(metrics.labels)} or set(metrics.per_genre) != set(metrics.labels):
        raise RunError(f"{file}: confusion and per_genre don't fit its {len(metrics.labels)} labels; {again} again")
    return metrics.model_dump(mode="json")


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    shape = np.broadcast_shapes(np.shape(numerator), np.shape(denominator))
    return np.divide(numerator, denominator, out=np.zeros(shape), where=np.asarray(denominator) > 0)
