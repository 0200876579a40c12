"""Predictions as a person or a program wants to read them."""

import csv
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Literal

from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from genre_spark.models.predict import Failure, Prediction

SHOWN = 3  # genres of a track in the table
BAR = 10  # characters of a full bar


def print_predictions(results: Sequence[Prediction | Failure], form: Literal["table", "json", "csv"]) -> None:
    """Print predictions to standard output.

    Parameters
    ----------
    results : sequence of Prediction or Failure
        One per file.
    form : {"table", "json", "csv"}
        JSON is a list of `{"path", "genre", "probabilities": {genre: p}}` or `{"path", "error", "detail"}`; CSV has a
        column per genre. Where the model isn't sure, the genre is null in JSON and empty in CSV.
    """
    if form == "json":
        json.dump([asdict(result) for result in results], sys.stdout, indent=2, ensure_ascii=False, allow_nan=False)
        sys.stdout.write("\n")
    elif form == "csv":
        _print_csv(results)
    else:
        _print_table(results)


def _print_csv(results: Sequence[Prediction | Failure]) -> None:
    genres = next((list(result.probabilities) for result in results if isinstance(result, Prediction)), [])
    writer = csv.DictWriter(sys.stdout, ["path", "genre", *(f"p_{genre}" for genre in genres), "error", "detail"])
    writer.writeheader()
    for result in results:
        if isinstance(result, Failure):
            writer.writerow(asdict(result))
        else:
            shares = {f"p_{genre}": f"{p:.6f}" for genre, p in result.probabilities.items()}
            writer.writerow({"path": result.path, "genre": result.genre, **shares})


def _print_table(results: Sequence[Prediction | Failure]) -> None:
    table = Table(Column("file", overflow="fold"), "genre", "probable genres")
    genres = next((result.probabilities for result in results if isinstance(result, Prediction)), {})
    width = max(map(len, genres), default=0)
    for result in results:
        if isinstance(result, Failure):
            table.add_row(escape(result.path), f"[red]{result.error}[/]", escape(result.detail))
            continue
        ranked = sorted(result.probabilities.items(), key=lambda item: -item[1])[:SHOWN]
        lines = "\n".join(f"{escape(genre):<{width}} {p:6.1%} {'█' * round(BAR * p):<{BAR}}" for genre, p in ranked)
        answer = "[dim]not sure[/]" if result.genre is None else f"[bold]{escape(result.genre)}[/]"
        table.add_row(escape(result.path), answer, lines)
    Console(highlight=False).print(table)
