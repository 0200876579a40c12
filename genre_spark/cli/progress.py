"""Progress of long work for a person: how much is done, how fast, and how long it still takes."""

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Mapping

from rich.console import Console
from rich.filesize import decimal
from rich.markup import escape
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

# A log gets a line when something begins and ends, and so often between.
_SECONDS_PER_LINE = 60.0


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
        """An epoch is done, with these accuracies; a training that was resumed doesn't begin with the first."""
        note = f"accuracy {row['accuracy']:.0%}"
        if math.isfinite(row["val_accuracy"]):
            note += f", validation {row['val_accuracy']:.0%}"
        self._progress.update(self._task, completed=row["epoch"], note=note)


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
    """Show bytes, rate and time left of each thing that is done: `report(what, done, total)`.

    On a terminal that is a bar. Anywhere else it is a line now and then: a log must tell that hours of work go on.
    """
    if not console.is_terminal:
        yield _Lines(console).report
        return
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
            progress.start()  # not before: an empty bar is an empty line
            # What was there when it began was not transferred now, and says nothing about the rate.
            tasks[what] = progress.add_task(what, total=total, completed=done)
        progress.update(tasks[what], completed=done, total=total)

    try:
        yield report
    except GenreSparkError:
        progress.live.transient = True
        raise
    finally:
        if tasks:
            progress.stop()


class _Lines:
    """What was transferred, in lines of a log."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._what = ""
        self._begin = (0.0, 0)  # seconds and bytes when this thing began
        self._last = 0.0
        self._is_done = False

    def report(self, what: str, done: int, total: int) -> None:
        """So many bytes are done by now."""
        now = time.monotonic()
        if what != self._what:
            self._what, self._begin, self._last, self._is_done = what, (now, done), now, False
            if done < total:
                self._print(f"{decimal(done)} of {decimal(total)}")
                return
        seconds, new = now - self._begin[0], done - self._begin[1]
        rate = new / seconds if seconds > 0 else 0.0
        # Where the size is a guess, more may come after that.
        if done >= total and not self._is_done:
            self._is_done = True
            self._print(f"{decimal(done)} done" + (f", {decimal(round(rate))}/s" if rate else ""))
        elif now - self._last >= _SECONDS_PER_LINE:
            left = f", {(total - done) / rate / 60:.0f} min left" if rate else ""
            self._print(f"{decimal(done)} of {decimal(total)}, {decimal(round(rate))}/s{left}")
        else:
            return
        self._last = now

    def _print(self, text: str) -> None:
        self._console.print(f"{escape(self._what)}: {text}", soft_wrap=True)
