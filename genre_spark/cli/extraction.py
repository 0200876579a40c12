"""What people and machines see of an extraction: how far it is, and what came of it.

People get a bar on a terminal, a line now and then in a log, and a summary. Machines get one JSON object per line
(`--progress-json`); where Spark's pages tell the same of a task, it has Spark's name there.
"""

import contextlib
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.filesize import decimal
from rich.markup import escape
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bars
from rich.table import Table

from genre_spark.dataset.progress import Progress
from genre_spark.dataset.store import Dataset
from genre_spark.errors import SettingsError
from genre_spark.provenance import now

# A log gets a line so often, and a first one as soon as it is clear what is to be done.
_SECONDS_PER_LINE = 60.0

# Phases in which nobody knows yet how much is to be done, or nothing of it is done.
_BEFORE = ("planning", "waiting", "starting Spark")


class Shown:
    """Takes progress, and passes it on to a bar or a log, and to a file of JSON lines."""

    def __init__(self, console: Console, bars: Bars | None, machine: "_JsonLines | None") -> None:
        self._console = console
        self._bars = bars
        self._bar = bars.add_task("", total=None, facts="planning") if bars else None
        self._machine = machine
        self._line_due = 0.0
        self._told_s = time.monotonic()
        self.last = Progress()

    def __call__(self, progress: Progress) -> None:
        """So far it is."""
        self._told_s = time.monotonic()
        self.last = progress
        if self._bars is not None and self._bar is not None:
            total = None if progress.phase in _BEFORE else progress.to_compute
            self._bars.update(self._bar, total=total, completed=progress.done, facts=escape(facts(progress)))

    def tick(self) -> None:
        """Print the line that is due, if one is."""
        now_s = time.monotonic()
        if self._machine is not None:
            self._machine.tick(replace(self.last, wall_s=self.last.wall_s + now_s - self._told_s))
        if self._bars is None and now_s >= self._line_due and self.last.phase != "done":
            self._line_due = now_s + _SECONDS_PER_LINE
            self._console.print(f"extract: {escape(facts(self.last))}", soft_wrap=True)

    def end(self, error: BaseException | None) -> None:
        """Say what came of it."""
        if self._machine is not None:
            self._machine.end(self.last, error)
        if error is not None and not self.last.done:
            return  # the error's line is all that there is to say
        if self._bars is not None:
            self._console.print(summary_table(self.last))
        elif error is not None:
            end = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
            what = f"extract: {end}; {computed(self.last)}, {_errors(self.last)}"
            self._console.print(escape(what), soft_wrap=True)


@contextlib.contextmanager
def extraction_shown(
    console: Console, *, progress_json: str | None = None, every_s: float = 10.0, dataset: str = ""
) -> Iterator[Shown]:
    """Show an extraction while the body works, and its summary when it has ended, well or not.

    Parameters
    ----------
    console : Console
        A bar is drawn where it is a terminal, else it gets lines.
    progress_json : str, optional
        File that JSON lines are added to; `-` is standard output.
    every_s : float
        Seconds between two of them.
    dataset : str
        Name of the dataset in them.

    Raises
    ------
    SettingsError
        If the file can't be written.
    """
    with contextlib.ExitStack() as stack:
        machine = None
        if progress_json is not None:
            machine = _JsonLines(stack.enter_context(_opened(progress_json)), progress_json, every_s, dataset)
        bars = None
        if console.is_terminal:
            columns = (BarColumn(bar_width=12), TextColumn("{task.fields[facts]}"))
            bars = Bars(*columns, console=console, transient=True)
        shown = Shown(console, bars, machine)
        error: BaseException | None = None
        try:
            with bars or contextlib.nullcontext(), _ticking(shown):
                yield shown
        except BaseException as caught:
            error = caught
            raise
        finally:
            shown.end(error)


def facts(progress: Progress) -> str:
    """How far it is, in a line."""
    if progress.phase == "waiting":
        return "waiting for another job on the dataset to end"
    if progress.phase == "planning":
        return f"planning: looked up {progress.tracks:,} tracks" if progress.tracks else "planning"
    if progress.phase == "starting Spark":
        return f"starting Spark: {progress.to_compute:,} of {progress.tracks:,} tracks to compute"
    told = [f"{progress.phase} {progress.done:,}/{progress.to_compute:,} tracks"]
    if progress.tracks_per_s is not None:
        told.append(f"{progress.tracks_per_s:.3g}/s")
    if progress.left_s:
        told.append(f"{timedelta(seconds=round(progress.left_s))} left")
    return ", ".join([*told, _errors(progress)])


def summary_table(progress: Progress) -> Table:
    """What an extraction did, for a terminal."""
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    rows = [
        ("tracks", f"{progress.tracks:,}"),
        ("computed", f"{progress.done - progress.unchanged:,}"),
        *((what, f"{count:,}") for count, what in _others(progress)),
        ("errors", _errors(progress)),
    ]
    if progress.done:
        rows += [
            ("time", f"{timedelta(seconds=round(progress.wall_s))}, {progress.done / progress.wall_s:.3g} tracks/s"),
            ("core-seconds", f"{progress.core_s:,.1f}, {progress.core_s / progress.done:.3f} per track"),
            ("read", decimal(progress.audio_bytes)),
            ("written", decimal(progress.written_bytes)),
        ]
    for name, value in rows:
        table.add_row(name, escape(value))
    return table


def computed(progress: Progress) -> str:
    """What was computed, in a line."""
    return (
        f"computed {progress.done - progress.unchanged} in {progress.wall_s:.0f} s "
        f"({progress.core_s / max(1, progress.done):.3f} core-seconds each), "
        f"read {decimal(progress.audio_bytes)}, wrote {decimal(progress.written_bytes)}"
    )


def summary_line(progress: Progress, dataset: Dataset) -> str:
    """Say what an extraction did, in a line."""
    counts, kinds = dataset.manifest.counts, dataset.manifest.errors
    predictor = dataset.manifest.predictor
    names = ", ".join(spec.name for spec in dataset.manifest.specs)
    what = f"with {names}" if predictor is None else f"predicted by {predictor.architecture}"
    errors = f"{_of_kinds(kinds)}, see {dataset}/errors" if kinds else "no errors"
    parts = [f"{counts['features']} of {counts['tracks']} tracks {what} -> {dataset}; {errors}"]
    parts.append(computed(progress) if progress.done else "nothing was to be computed")
    return "; ".join([*parts, *(f"{count} {what}" for count, what in _others(progress))])


def _others(progress: Progress) -> list[tuple[int, str]]:
    """Tracks that nothing was computed for."""
    counts = (
        (progress.salvaged, "taken over from a job that was stopped"),
        (progress.up_to_date + progress.unchanged, "up to date"),
        (progress.told, "renamed or moved"),
        (progress.removed, "removed"),
    )
    return [(count, what) for count, what in counts if count]


def _errors(progress: Progress) -> str:
    return _of_kinds(progress.errors) if progress.errors else "no errors"


def _of_kinds(kinds: dict[str, int]) -> str:
    total = sum(kinds.values())
    return f"{total:,} error{'s' * (total != 1)} ({', '.join(f'{count:,} {kind}' for kind, count in kinds.items())})"


@contextlib.contextmanager
def _ticking(shown: Shown) -> Iterator[None]:
    """Let lines be printed while the body works: also when nothing is told for long."""
    ended = threading.Event()

    def tick() -> None:
        while not ended.wait(0.5):
            shown.tick()

    thread = threading.Thread(target=tick, name="genre_spark-lines", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


# -- for machines -----------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _opened(name: str) -> Iterator[Callable[[str], object]]:
    """Give what writes a line, which is out when that returns."""
    if name == "-":
        yield lambda line: print(line, end="", flush=True)
        return
    with contextlib.ExitStack() as stack:
        try:
            # Added to: a job that is started again goes on in the same file.
            file = stack.enter_context(Path(name).open("ab", buffering=0))
        except OSError as error:
            raise SettingsError(f"--progress-json {name}: can't be written: {error.strerror}") from None
        yield lambda line: file.write(line.encode())


class _JsonLines:
    """One object per line and interval."""

    def __init__(self, write: Callable[[str], object], name: str, every_s: float, dataset: str) -> None:
        self._write_line: Callable[[str], object] | None = write
        self._name = name
        self._every_s = every_s
        self._dataset = dataset
        self._due = time.monotonic() + every_s

    def tick(self, progress: Progress) -> None:
        # "done" is what the last line says, and nobody knows yet that it went well.
        if time.monotonic() >= self._due and progress.phase != "done":
            self._due = time.monotonic() + self._every_s
            self._write(json_object(progress, self._dataset))

    def end(self, progress: Progress, error: BaseException | None) -> None:
        last = json_object(progress, self._dataset) | {"phase": "failed" if error else "done", "left_s": None}
        if error is not None:
            last["error"] = type(error).__name__
            last["detail"] = " ".join(str(error).split())
        self._write(last)

    def _write(self, content: dict[str, Any]) -> None:
        if self._write_line is None:
            return
        try:
            self._write_line(json.dumps(content, ensure_ascii=False) + "\n")
        except OSError as error:
            # A full disk under a log must not cost the hours that the job took so far.
            print(f"--progress-json {self._name}: no longer written: {error.strerror}", file=sys.stderr)
            self._write_line = None


def json_object(progress: Progress, dataset: str) -> dict[str, Any]:
    """How far it is, as `--progress-json` tells it; docs/scale.md says what stands there."""
    return {
        "time": now(),
        "dataset": dataset,
        "phase": progress.phase,
        "tracks": progress.tracks,
        "to_compute": progress.to_compute,
        "up_to_date": progress.up_to_date,
        "salvaged": progress.salvaged,
        "done": progress.done,
        "unchanged": progress.unchanged,
        "errors": progress.errors,
        "tracks_per_s": progress.tracks_per_s and round(progress.tracks_per_s, 3),
        "left_s": progress.left_s and round(progress.left_s, 1),
        "wall_s": round(progress.wall_s, 1),
        # Spark's names and units for what it tells of a task.
        "executorCpuTime": round(progress.core_s * 1e9),
        "bytesRead": progress.audio_bytes,
        "bytesWritten": progress.written_bytes,
        "recordsRead": progress.done,
        "recordsWritten": progress.written_rows,
        "numActiveTasks": progress.tasks.active,
        "numCompletedTasks": progress.tasks.completed,
        "numFailedTasks": progress.tasks.failed,
    }
