"""Predictions for people: the most probable genres with bars, and how they move through a song."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TextIO, TypeAlias

from rich.bar import Bar
from rich.console import Console, ConsoleRenderable
from rich.markup import escape
from rich.table import Column, Table

from genre_spark.cli.strips import clock, mean_probabilities, stretches, strip
from genre_spark.files import visible
from genre_spark.models.predict import Failure, Prediction
from genre_spark.models.timeline import TimedPrediction, Timeline

Result: TypeAlias = Prediction | TimedPrediction | Failure

BAR = 10  # characters of a full bar
STRIP = 60  # characters of a strip, at most
SAME = 0.9  # of a file: what is read of it is as good as all
NAME = 24  # characters of a genre beside a strip, at most


def print_tables(results: Sequence[Result], *, top: int, sure_from: float, file: TextIO) -> None:
    """Print one table of all files, or with timelines a table and a timeline per file.

    Parameters
    ----------
    results : sequence of Prediction, TimedPrediction or Failure
        One per file.
    top : int
        Genres of a file, and strips of a timeline.
    sure_from : float
        Probability below which a moment of a timeline has no genre.
    file : text file
    """
    console = Console(file=file, highlight=False)
    together: list[Prediction | Failure] = []
    for result in results:
        if not isinstance(result, TimedPrediction):
            together.append(result)
            continue
        if together:
            console.print(_table(together, top))
            together = []
        console.print(_table([result.prediction], top))
        if result.read_s < SAME * result.timeline.duration_s:
            read, whole = clock(result.read_s), clock(result.timeline.duration_s)
            console.print(f" [dim]that is the answer for the first {read}; what follows goes through all {whole}[/]")
        _print_timeline(result.timeline, top, sure_from, console)
    if together:
        console.print(_table(together, top))


def _table(results: Iterable[Prediction | Failure], top: int) -> Table:
    table = Table(Column("file", overflow="fold"), Column("genre", overflow="fold"), "probable genres")
    for result in results:
        if isinstance(result, Failure):
            table.add_row(_shown(result.path), f"[red]{result.error}[/]", _shown(result.detail))
        else:
            answer = "[dim]not sure[/]" if result.genre is None else f"[bold]{_shown(result.genre)}[/]"
            table.add_row(_shown(result.path), answer, _bars(result.probabilities, top))
    return table


def _bars(probabilities: Mapping[str, float], top: int) -> ConsoleRenderable:
    rows = Table.grid(Column(overflow="fold"), Column(justify="right", no_wrap=True), Column(width=BAR), padding=(0, 1))
    for genre in _most_probable(probabilities, top):
        p = probabilities[genre]
        rows.add_row(_shown(genre), f"{p:.1%}", Bar(1, 0, p, width=BAR))
    return rows


def _print_timeline(timeline: Timeline, top: int, sure_from: float, console: Console) -> None:
    moments = timeline.moments
    rows = Table.grid(
        Column(justify="right", no_wrap=True), Column(overflow="fold"), Column(justify="right", no_wrap=True),
        Column(width=BAR), padding=(0, 1), pad_edge=True,
    )  # fmt: skip
    for found in stretches(moments, sure_from=sure_from):
        times = f"{clock(found.start_s)}-{clock(found.end_s)}"
        p = max(found.probabilities.values()) if found.genre is None else found.probabilities[found.genre]
        answer = "[dim]not sure[/]" if found.genre is None else f"[bold]{_shown(found.genre)}[/]"
        rows.add_row(times, answer, f"{p:.1%}", Bar(1, 0, p, width=BAR))
    console.print(rows)
    if len(moments) > 1:
        # By what the whole timeline says: the answer above may be that for the beginning alone.
        console.print()
        console.print(_strips(timeline, _most_probable(mean_probabilities(moments), top), console.width))
    console.print()


def _strips(timeline: Timeline, genres: Sequence[str], width: int) -> Table:
    columns = max(10, min(STRIP, width - NAME - 3))
    lines = Table.grid(
        Column(max_width=NAME, overflow="ellipsis", no_wrap=True), Column(no_wrap=True), padding=(0, 1), pad_edge=True
    )
    for genre in genres:
        lines.add_row(_shown(genre), strip(timeline.moments, genre, columns))
    first, last = clock(timeline.moments[0].start_s), clock(timeline.moments[-1].end_s)
    lines.add_row("", f"[dim]{first}{last:>{columns - len(first)}}[/]")
    return lines


def _most_probable(probabilities: Mapping[str, float], top: int) -> list[str]:
    return sorted(probabilities, key=lambda genre: -probabilities[genre])[:top]


def _shown(text: str) -> str:
    return escape(visible(text))
