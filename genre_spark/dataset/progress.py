"""How far an extraction is: what tasks report, and what people and machines are told."""

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple


class WrittenFile(NamedTuple):
    """A Parquet file of a job: its table, its name in the job's folder, rows and bytes."""

    table: str
    name: str
    rows: int
    bytes: int


@dataclass(frozen=True)
class Receipt:
    """What a task did.

    Attributes
    ----------
    task : int
    files : list of WrittenFile
    tracks, unchanged : int
        Tracks of the task, and those of them whose audio is what it was.
    errors : dict of str to int
        Error rows by class.
    core_s : float
        Processor time, in seconds.
    audio_bytes : int
        Bytes of the audio files.
    """

    task: int
    files: list[WrittenFile]
    tracks: int
    unchanged: int
    errors: dict[str, int]
    core_s: float
    audio_bytes: int


class TaskCounts(NamedTuple):
    """Spark's tasks of a job: those that run, those that are done, and attempts that failed."""

    active: int = 0
    completed: int = 0
    failed: int = 0


_NO_TASKS = TaskCounts()


@dataclass(frozen=True)
class Progress:
    """State of an extraction; the last one is its summary.

    Attributes
    ----------
    tracks : int
        Tracks of the track table.
    to_compute : int
        Those that this job computes; the others are in the dataset as they are (`up_to_date`), or in what an earlier
        attempt left (`salvaged`).
    done : int
        Computed so far, error rows included.
    unchanged : int
        Of those, tracks whose audio turned out to be what it was.
    errors : dict of str to int
        Error rows of this job so far, by class.
    core_s, wall_s : float
        Processor time of the tasks, and time since the job began, in seconds.
    audio_bytes, written_bytes, written_rows : int
        Read and written so far.
    tracks_per_s, left_s : float or None
        Rate of the last minute, and what is left at that rate, in seconds; None while nobody can tell.
    tasks : TaskCounts
        Of the Spark job that runs, or of the last one.
    removed, told : int
        Rows of the dataset that were pruned, and that have other names now (set at the end).
    unwanted : int
        Tracks of the dataset that the track table lacks, where they were kept.
    phase : str
        What the job is doing.
    """

    tracks: int = 0
    to_compute: int = 0
    up_to_date: int = 0
    salvaged: int = 0
    done: int = 0
    unchanged: int = 0
    errors: dict[str, int] = field(default_factory=dict)
    core_s: float = 0.0
    wall_s: float = 0.0
    audio_bytes: int = 0
    written_bytes: int = 0
    written_rows: int = 0
    tracks_per_s: float | None = None
    left_s: float | None = None
    tasks: TaskCounts = _NO_TASKS
    removed: int = 0
    told: int = 0
    unwanted: int = 0
    phase: str = "planning"


class Pace:
    """How fast it goes: the rate of the last minute.

    Tasks tell of many tracks at once, and a cluster's last ones take longer than a minute: where nothing came in for
    so long, the time since what came last counts as well.
    """

    window_s = 60.0

    def __init__(self) -> None:
        # When how many were done: each time that there were more.
        self._steps: deque[tuple[float, int]] = deque()

    def rate(self, now_s: float, done: int) -> float | None:
        """So many are done now; return how many come in a second, or None while that is unknown."""
        steps = self._steps
        if not steps or done > steps[-1][1]:
            steps.append((now_s, done))
        # The window begins with the last step before it, or before what came last.
        while len(steps) > 2 and steps[1][0] <= now_s - self.window_s:
            steps.popleft()
        begun_s, before = steps[0]
        return (done - before) / (now_s - begun_s) if done > before and now_s > begun_s else None


class Tally:
    """Adds receipts up and tells of them. A task that ran twice counts once."""

    def __init__(self, on_progress: Callable[[Progress], None] | None) -> None:
        self._on_progress = on_progress
        self._begun = time.monotonic()
        self._pace = Pace()
        self._sums: dict[str, Any] = {}
        self._errors: Counter[str] = Counter()
        self.now = Progress()

    @property
    def elapsed_s(self) -> float:
        """Seconds since the job began."""
        return time.monotonic() - self._begun

    def set(self, **changes: Any) -> None:
        """Change some of what is told, and tell it."""
        self.now = replace(self.now, wall_s=self.elapsed_s, **changes)
        if self._on_progress is not None:
            self._on_progress(self.now)

    def add(self, receipts: Iterable[Receipt], tasks: TaskCounts | None = None) -> None:
        """Add what came in since the last call, and tell it."""
        for receipt in receipts:
            self._errors.update(receipt.errors)
            of_task = {
                "done": receipt.tracks,
                "unchanged": receipt.unchanged,
                "core_s": receipt.core_s,
                "audio_bytes": receipt.audio_bytes,
                "written_bytes": sum(file.bytes for file in receipt.files),
                "written_rows": sum(file.rows for file in receipt.files),
            }
            self._sums = {name: self._sums.get(name, 0) + amount for name, amount in of_task.items()}
        done = self._sums.get("done", 0)
        rate = self._pace.rate(self.elapsed_s, done)
        self.set(
            errors=dict(self._errors.most_common()),
            tracks_per_s=rate,
            left_s=(self.now.to_compute - done) / rate if rate else None,
            tasks=tasks or self.now.tasks,
            **self._sums,
        )
