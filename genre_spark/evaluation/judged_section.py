"""What the report shows of every judgement: confusion matrix, genres, reliability, and confused tracks."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from genre_spark.evaluation.confused_tracks import confused_pairs
from genre_spark.evaluation.confusion_matrix import most_confused
from genre_spark.evaluation.figures import to_svg
from genre_spark.evaluation.judged import Judged
from genre_spark.evaluation.metrics import genre_metrics, row_shares
from genre_spark.evaluation.reliability_figure import reliability_figure
from genre_spark.evaluation.summary import percent
from genre_spark.models.reliability import ReliabilityBin, error_by_chance

# Genres in a table; those with fewer tracks are in `metrics.json`.
MOST_GENRES = 100


def judged_section(ids: str, row: Judged, metrics: Mapping[str, Any], confused: pa.Table | None) -> dict[str, Any]:
    """Put together what the templates take of a judgement, and draw its reliability diagram.

    Parameters
    ----------
    ids : str
        Begins all ids of the section.
    row : Judged
    metrics : mapping
        As `metrics.json` holds it.
    confused : pa.Table or None
        As `genre_spark.evaluation.confused.read_confused` gives it.
    """
    confusion = confusion_of(metrics)
    return {
        "id": ids,
        "row": row,
        "part": metrics["part"],
        "macro_f1_interval": metrics.get("macro_f1_interval"),
        "by_artist": metrics.get("accuracy_interval_by_artist"),
        "artists": metrics.get("artists"),
        "unseen": _unseen(metrics.get("unseen") or {}),
        "unlabelled": metrics.get("unlabelled") or 0,
        "commonest": confusion.sum(axis=1).max() / max(row.n, 1),
        "labels": metrics["labels"][:MOST_GENRES],
        "pairs": confused_pairs(confused, metrics),
        "has_excerpts": False,
        **_genres(confusion, metrics),
        **_matrix(confusion, metrics["labels"]),
        **_reliability(ids, row, metrics["reliability"]),
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
    by_recall = sorted(occurring, key=lambda genre: per_genre[genre]["recall"])
    return {
        "per_genre": {genre: per_genre[genre] for genre in metrics["labels"] if genre in listed},
        "has_intervals": any(per_genre[genre].get("f1_interval") for genre in most),
        # As macro-F1: of a bundle on another dataset over the genres that occur in it.
        "means": {name: float(values[counted].mean()) for name, values in genre_metrics(confusion).items()},
        "hardest": by_recall[0] if by_recall else None,
        "easiest": by_recall[-1] if by_recall else None,
    }


def _matrix(confusion: np.ndarray, labels: Sequence[str]) -> dict[str, Any]:
    """Rows for the heat map: of each the genre, its tracks, its recall, and a count and a share for each column."""
    shown = most_confused(confusion, labels)
    shares = row_shares(shown.counts)
    mistaken = confusion - np.diag(np.diag(confusion))
    true, predicted = (int(index) for index in np.unravel_index(int(mistaken.argmax()), mistaken.shape))
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
                }
                for index, name in enumerate(shown.names)
            ],
        },
        "mistake": {
            "count": int(mistaken[true, predicted]),
            "true": labels[true],
            "predicted": labels[predicted],
        },
    }


def _reliability(ids: str, row: Judged, found: Sequence[Mapping[str, Any]] | None) -> dict[str, Any]:
    if found is None:
        return {"reliability": None}
    table = [ReliabilityBin.model_validate(each) for each in found]
    return {
        "reliability": table,
        "ece_by_chance": error_by_chance(table),
        "reliability_svg": to_svg(
            reliability_figure(table),
            ids=f"{ids}-reliability",
            description=f"Reliability diagram of {row.model} on {row.n} {row.tracks_of_part}: calibration error "
            f"{percent(row.ece)}; the table beside it holds its numbers",
        ),
    }


def _unseen(genres: Mapping[str, int]) -> dict[str, Any] | None:
    """Say how many tracks are of genres that the model doesn't know, and which these are, the commonest first."""
    if not genres:
        return None
    names = sorted(genres, key=lambda genre: (-genres[genre], genre))
    return {"tracks": sum(genres.values()), "genres": len(names), "names": names[:5]}
