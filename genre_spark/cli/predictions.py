"""Predictions as a program wants to read them; `genre_spark.cli.prediction_tables` has them for people."""

import csv
import json
import sys
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Literal, TextIO

from genre_spark.cli.prediction_tables import Result, print_tables
from genre_spark.models.predict import Failure, Prediction
from genre_spark.models.timeline import TimedPrediction


def print_predictions(
    results: Iterable[Result],
    form: Literal["table", "json", "csv"],
    *,
    labels: Sequence[str] | None = None,
    timeline: bool = False,
    top: int = 3,
    sure_from: float = 0.0,
    file: TextIO | None = None,
) -> None:
    """Print predictions; JSON and CSV one by one as they come.

    Parameters
    ----------
    results : iterable of Prediction, TimedPrediction or Failure
        One per file.
    form : {"table", "json", "csv"}
        JSON is a list of `{"path", "genre", "probabilities": {genre: p}}` or `{"path", "error", "detail"}`; with a
        timeline it has `"duration_s"` and `"timeline": [{"start_s", "end_s", "probabilities"}]` besides. CSV has the
        columns path, genre, one per genre (`p_<genre>`), error and detail; with timelines it has a row per moment, the
        columns start_s and end_s behind the path, and genre and probabilities are the moment's. Where the model isn't
        sure, the genre is null in JSON and empty in CSV.
    labels : sequence of str, optional
        All genres, for the header of a CSV; by default those of the first prediction, for which it has to wait.
    timeline : bool
        The results have timelines, in a CSV.
    top : int
        Genres of a file in a table.
    sure_from : float
        Probability below which a moment of a timeline has no genre.
    file : text file, optional
        By default standard output.
    """
    file = sys.stdout if file is None else file
    if form == "json":
        _print_json(results, file)
    elif form == "csv":
        if labels is None:
            results = list(results)
            labels = next((list(result.probabilities) for result in results if isinstance(result, Prediction)), [])
        columns = ["path", *(("start_s", "end_s") if timeline else ()), "genre", *map(_column, labels)]
        writer = csv.DictWriter(file, [*columns, "error", "detail"])
        writer.writeheader()
        for result in results:
            writer.writerows(_rows(result, sure_from))
            file.flush()
    else:
        print_tables(list(results), top=top, sure_from=sure_from, file=file)


def _print_json(results: Iterable[Result], file: TextIO) -> None:
    before = "[\n"
    for result in results:
        text = json.dumps(_as_mapping(result), indent=2, ensure_ascii=False, allow_nan=False)
        file.write(before + textwrap.indent(text, "  "))
        file.flush()
        before = ",\n"
    file.write("[]\n" if before == "[\n" else "\n]\n")


def _as_mapping(result: Result) -> dict[str, Any]:
    if not isinstance(result, TimedPrediction):
        return asdict(result)
    of_time = asdict(result.timeline)
    return asdict(result.prediction) | {"duration_s": of_time["duration_s"], "timeline": of_time["moments"]}


def _rows(result: Result, sure_from: float) -> Iterator[dict[str, Any]]:
    if isinstance(result, Failure):
        yield asdict(result)
    elif isinstance(result, Prediction):
        yield {"path": result.path, "genre": result.genre, **_shares(result.probabilities)}
    else:
        for moment in result.timeline.moments:
            times = {"start_s": f"{moment.start_s:.3f}", "end_s": f"{moment.end_s:.3f}"}
            genre = moment.leading(sure_from)
            yield {"path": result.timeline.path, **times, "genre": genre, **_shares(moment.probabilities)}


def _shares(probabilities: Mapping[str, float]) -> dict[str, str]:
    return {_column(genre): f"{p:.6f}" for genre, p in probabilities.items()}


def _column(genre: str) -> str:
    return f"p_{genre}"
