"""Progress of long work for a person: how much is done, how fast, and how long it still takes."""

import contextlib
from collections.abc import Callable, Iterator, Mapping

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from genre_spark.errors import GenreSparkError


class Counter:
    """What a stage reports to while it works."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress = progress
        self._task = task

    def by_one(self) -> None:
        """One more is done."""
        self._progress.advance(self._task)

    def to(self, done: int) -> None:
        """So many are done by now."""
        self._progress.update(self._task, completed=done)

    def epoch(self, row: Mapping[str, float]) -> None:
        """One more epoch is done, with these accuracies."""
        note = f"accuracy {row['accuracy']:.0%}, validation {row['val_accuracy']:.0%}"
        self._progress.update(self._task, advance=1, note=note)


@contextlib.contextmanager
def counted(console: Console, what: str, total: int, unit: str) -> Iterator[Counter]:
    """Show a bar while the body works; where there is no terminal only its last state is printed."""
    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=12),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeElapsedColumn(),
        TimeRemainingColumn(compact=True),
        TextColumn("{task.fields[note]}"),
        console=console,
    )
    with progress:
        try:
            yield Counter(progress, progress.add_task(what, total=total, note=""))
        except GenreSparkError:
            progress.live.transient = True  # the error's line is all that is left to say
            raise


@contextlib.contextmanager
def transferred(console: Console) -> Iterator[Callable[[str, int, int], None]]:
    """Show a bar of bytes, rate and time left for each thing that is done: `report(what, done, total)`."""
    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=12),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(compact=True),
        console=console,
    )
    tasks: dict[str, TaskID] = {}

    def report(what: str, done: int, total: int) -> None:
        if what not in tasks:
            # What was there when it began was not transferred now, and says nothing about the rate.
            tasks[what] = progress.add_task(what, total=total, completed=done)
        progress.update(tasks[what], completed=done, total=total)

    with progress:
        yield report
