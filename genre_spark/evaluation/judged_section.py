"""What the report shows of every judgement: confusion matrix, genres, reliability, and confused tracks."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from genre_spark.evaluation.confused_tracks import confused_pairs
from genre_spark.evaluation.confusion_matrix import most_confused
from genre_spark.evaluation.figures import to_svg
from genre_spark.evaluation.judged import Judged, is_fitted_on
from genre_spark.evaluation.metrics import genre_metrics, row_shares
from genre_spark.evaluation.reliability_figure import reliability_figure
from genre_spark.evaluation.summary import judged_tracks, percent
from genre_spark.models.reliability import ReliabilityBin, error_by_chance

# Genres in a table; those with fewer tracks are in `metrics.json`.
MOST_GENRES = 100
# More genres than that are no extreme.
_MOST_TIED = 3


def judged_section(
    ids: str, title: str, row: Judged, metrics: Mapping[str, Any], confused: pa.Table | None
) -> dict[str, Any]:
    """Put together what the templates take of a judgement, and draw its reliability diagram.

    Parameters
    ----------
    ids : str
        Begins all ids of the section.
    title : str
        Tells the model from the others of the page.
    row : Judged
    metrics : mapping
        As `metrics.json` holds it.
    confused : pa.Table or None
        As `genre_spark.evaluation.confused.read_confused` gives it.
    """
    confusion = confusion_of(metrics)
    return {
        "id": ids,
        "title": title,
        "row": row,
        "part": metrics["part"],
        "macro_f1_interval": metrics.get("macro_f1_interval"),
        "by_artist": metrics.get("accuracy_interval_by_artist"),
        "artists": metrics.get("artists"),
        "unseen": _unseen(metrics.get("unseen") or {}),
        "unlabelled": metrics.get("unlabelled") or 0,
        "heard": metrics.get("heard"),
        "commonest": confusion.sum(axis=1).max() / max(row.n, 1),
        "labels": metrics["labels"][:MOST_GENRES],
        "pairs": confused_pairs(confused, metrics),
        "has_excerpts": False,
        **_genres(confusion, metrics),
        **_matrix(confusion, metrics["labels"]),
        **_reliability(ids, title, row, metrics["reliability"]),
    }


def confusion_of(metrics: Mapping[str, Any]) -> np.ndarray:
    """Take the confusion matrix `[shape=(genres, genres)]` out of what `metrics.json` holds."""
    n_genres = len(metrics["labels"])
    return np.array(metrics["confusion"], dtype=np.int64).reshape(n_genres, n_genres)


def _genres(confusion: np.ndarray, metrics: Mapping[str, Any]) -> dict[str, Any]:
    per_genre = metrics["per_genre"]
    most = sorted(per_genre, key=lambda genre: -per_genre[genre]["support"])[:MOST_GENRES]
    listed = set(most)
    occurring = [genre for genre in metrics["labels"] if per_genre[genre]["support"]]
    counted = confusion.sum(axis=1) > 0 if metrics["part"] == "all" else slice(None)
    predicted = dict(zip(metrics["labels"], confusion.sum(axis=0).tolist(), strict=True))
    shown = {genre: _known(per_genre[genre], predicted[genre]) for genre in metrics["labels"] if genre in listed}
    return {
        "per_genre": shown,
        "some_undefined": any(scores["precision"] is None or scores["recall"] is None for scores in shown.values()),
        "has_intervals": any(per_genre[genre].get("f1_interval") for genre in most),
        # As macro-F1: of a bundle on another dataset over the genres that occur in it.
        "means": {name: float(values[counted].mean()) for name, values in genre_metrics(confusion).items()},
        **_extremes({genre: per_genre[genre]["recall"] for genre in occurring}),
    }


def _known(scores: Mapping[str, Any], predicted: int) -> dict[str, Any]:
    """Take out what is a share of nothing: precision of a genre that is never named, recall of one without a track."""
    nothing = [name for name, n in (("precision", predicted), ("recall", scores["support"])) if not n]
    return {**scores, **{key: None for name in nothing for key in (name, f"{name}_interval")}}


def _extremes(recalls: Mapping[str, float]) -> dict[str, Any]:
    """Name the genre that is found most often and the one that is least; None where many are, or all alike."""
    ends = {"easiest": max(recalls.values(), default=0), "hardest": min(recalls.values(), default=0)}
    found: dict[str, Any] = dict.fromkeys(ends)
    for end, recall in ends.items():
        names = [genre for genre in recalls if recalls[genre] == recall]
        if len(names) <= min(_MOST_TIED, len(recalls) - 1):
            found[end] = {"genre": names[0], "others": len(names) - 1, "recall": recall}
    return found


def _matrix(confusion: np.ndarray, labels: Sequence[str]) -> dict[str, Any]:
    """Rows for the heat map: of each the genre, its tracks, its recall, and a count and a share for each column."""
    shown = most_confused(confusion, labels)
    shares = row_shares(shown.counts)
    return {
        "matrix": {
            "names": shown.names,
            "left_out": shown.left_out,
            "rows": [
                {
                    "name": name,
                    "n": int(shown.counts[index].sum()),
                    "recall": float(shares[index, index]),
                    "cells": list(zip(shown.counts[index].tolist(), shares[index].tolist(), strict=True)),
                    # Among the others, right and wrong answers are counted together.
                    "mixed": bool(shown.left_out) and index == len(shown.labels),
                }
                for index, name in enumerate(shown.names)
            ],
        },
        "mistake": _mistake(confusion, labels),
    }


def _mistake(confusion: np.ndarray, labels: Sequence[str]) -> dict[str, Any] | None:
    """Find the one pair of genres that is confused most often.

    None where several are confused as often, and where none is confused twice: which one comes first is luck.
    """
    mistaken = confusion - np.diag(np.diag(confusion))
    most = int(mistaken.max())
    if most < 2 or np.count_nonzero(mistaken == most) > 1:
        return None
    true, predicted = (int(index) for index in np.unravel_index(int(mistaken.argmax()), mistaken.shape))
    return {"count": most, "true": labels[true], "predicted": labels[predicted]}


def _reliability(ids: str, title: str, row: Judged, found: Sequence[Mapping[str, Any]] | None) -> dict[str, Any]:
    if found is None:
        return {"reliability": None}
    table = [ReliabilityBin.model_validate(each) for each in found]
    return {
        "reliability": table,
        "ece_by_chance": error_by_chance(table),
        "is_fitted": is_fitted_on(row.judged_part, row.n),
        "reliability_svg": to_svg(
            reliability_figure(table),
            ids=f"{ids}-reliability",
            description=f"Reliability diagram of {title} on {judged_tracks(row)}: calibration error "
            f"{percent(row.ece)}; the table beside it holds its numbers",
        ),
    }


def _unseen(genres: Mapping[str, int]) -> dict[str, Any] | None:
    """Say how many tracks are of genres that the model doesn't know, and which these are, the commonest first."""
    if not genres:
        return None
    names = sorted(genres, key=lambda genre: (-genres[genre], genre))
    return {"tracks": sum(genres.values()), "genres": len(names), "names": names[:5]}
