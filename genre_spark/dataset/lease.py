"""One writer per dataset, on any store that lists what was just written: local disks, NFS, HDFS, S3, GCS.

Each job puts a small file of its own, `_lock/<job>.json`, and then lists them: who sees another one's may not go in.
Of two that begin together at least one sees the other. No clock of one machine is compared with another's, and nothing
is asked of the store but to list strongly consistently.

Who is in counts up a number, the beat, in `_lock/<job>.beat`. It is a file of its own because the other one must never
be missing, not even for the moment in which some stores replace a file; and because a job that was taken for dead can
then not bring its lease back. It is dead when it ran on this machine and its process is gone, or when its beat has
stayed the same while it was watched here for three beats.
"""

import contextlib
import getpass
import logging
import os
import random
import socket
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from genre_spark.errors import DatasetError
from genre_spark.filesystems import masked
from genre_spark.folders import Folder

LOCK = "_lock"

_ENDING = ".json"
_BEATS_TO_DEATH = 3
_logger = logging.getLogger(__name__)


class Holder(BaseModel):
    """What a lease's file says: who works on the dataset."""

    model_config = ConfigDict(frozen=True)

    job: str
    host: str
    pid: int
    # The same number names another process after a boot, in another container, and when it has been given anew.
    boot_id: str
    process_start: str
    user: str
    command: str
    since: str
    beat_s: float = Field(gt=0.0, le=300.0)

    def __str__(self) -> str:
        text = f"{self.user} since {self.since} ({self.command}, process {self.pid} on {self.host})"
        return "".join(letter if letter.isprintable() else "?" for letter in text)[:300]


class _Other(NamedTuple):
    """A lease of another job; without a holder where its file says nothing, without a beat where it is not in yet."""

    job: str
    holder: Holder | None
    beat: bytes | None


class Lease:
    """The right to write a dataset, which somebody may have taken away."""

    def __init__(self, folder: Folder, beat_s: float) -> None:
        self._folder = folder
        self._holder = _myself(beat_s)
        self._job = self._holder.job
        self._placed = False
        self._watched: dict[str, tuple[bytes | None, float, float]] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._count, name="dataset-lease", daemon=True)

    def check(self) -> None:
        """Make sure that the dataset is still ours; to be called before what was written becomes part of it.

        Raises
        ------
        DatasetError
            If another job took this one for dead, and its place.
        """
        if not self._is_placed():
            raise DatasetError(
                f"{self._folder}: another job took this one for dead and may write here now; "
                "nothing more is written: start it again"
            )

    def _acquire(self, wait_s: float) -> None:
        deadline = time.monotonic() + wait_s
        while (rival := self._try()) is not None:
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                who = rival.holder or "a job that says nothing of itself"
                raise DatasetError(
                    f"{self._folder}: {who} works on it; wait for its end (--wait, or extract.wait_s); if you are sure "
                    f"that nobody does, remove {masked(self._folder.join(_file(rival.job)))}"
                )
            time.sleep(min(left_s, self._pause_s()))
        self._thread.start()

    def _release(self) -> None:
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()
        if self._placed:
            self._remove(self._job)
        if self._folder.local is not None:
            # A job that was refused at once leaves no empty folder behind.
            with contextlib.suppress(OSError):
                (self._folder.local / LOCK).rmdir()
                self._folder.local.rmdir()

    def _place(self) -> None:
        content = self._holder.model_dump_json().encode()
        try:
            self._folder.write(_file(self._job), content)
        except DatasetError:
            # Another job's end may have removed the empty folder under our hands.
            self._folder.write(_file(self._job), content)

    def _try(self) -> _Other | None:
        """Go in, or say who is in the way."""
        while True:
            if (living := self._living()) is not None:
                return living
            self._placed = True
            self._place()
            entered, rival = self._contend()
            if entered:
                self._folder.write(_beat_file(self._job), b"0")
                return None
            self._remove(self._job)
            self._placed = False
            if rival is not None:
                return rival

    def _contend(self) -> tuple[bool, _Other | None]:
        """Wait, with our file in its place, until no other is there; or until one that goes first is."""
        while True:
            others = self._others()
            if not self._is_placed():  # removed by somebody who took us for dead
                return False, None
            if not others:
                return True, None
            for other in others:
                if self._is_dead(other):
                    self._take_over(other)
                # Of two that came together the one with the smaller name stays, lest both go.
                elif other.beat is not None or other.job < self._job:
                    return False, other
            time.sleep(random.uniform(0.01, 0.05))  # noqa: S311 (no secret)

    def _living(self) -> _Other | None:
        """Look at all other leases until one is known to live, or all are gone or dead, which are removed."""
        while others := self._others():
            for other in others:
                before = self._watched.get(other.job)
                if self._is_dead(other):
                    self._take_over(other)
                elif _process_lives(other.holder) or (before is not None and before[0] != other.beat):
                    return other
            time.sleep(self._pause_s() / 8)
        return None

    def _is_dead(self, other: _Other) -> bool:
        lives = _process_lives(other.holder)
        if lives is not None:
            return not lives
        now = time.monotonic()
        seen, watched_s, last = self._watched.get(other.job, (other.beat, 0.0, now))
        # A pause in which this process did not run is no time in which it watched.
        watched_s = watched_s + min(now - last, self._holder.beat_s) if seen == other.beat else 0.0
        self._watched[other.job] = (other.beat, watched_s, now)
        return watched_s >= _BEATS_TO_DEATH * (other.holder or self._holder).beat_s

    def _take_over(self, other: _Other) -> None:
        who = other.holder or "the job before"
        _logger.warning("%s: %s is gone; its lease %s is removed", self._folder, who, _file(other.job))
        self._remove(other.job)

    def _others(self) -> list[_Other]:
        """Each other lease that is there."""
        names = [file.name for file in self._folder.files(LOCK) if file.name.endswith(_ENDING)]
        jobs = [name.removeprefix(f"{LOCK}/").removesuffix(_ENDING) for name in names]
        contents = [
            (job, self._content(_file(job)), self._content(_beat_file(job))) for job in jobs if job != self._job
        ]
        return [_Other(job, _parsed(content), beat) for job, content, beat in contents if content is not None]

    def _content(self, name: str) -> bytes | None:
        try:
            return self._folder.read(name)
        except FileNotFoundError:
            return None

    def _is_placed(self) -> bool:
        return self._content(_file(self._job)) is not None

    def _remove(self, job: str) -> None:
        try:
            # The lease last: what dies in between leaves one that the next job takes over, and no beat without a lease.
            self._folder.delete([_beat_file(job)])
            self._folder.delete([_file(job)])
        except DatasetError as reason:
            _logger.warning("%s (a lease that has ended: the next job takes it over)", reason)

    def _count(self) -> None:
        beat = 0
        while not self._ended.wait(self._holder.beat_s):
            beat += 1
            try:
                self._folder.write(_beat_file(self._job), str(beat).encode())
            except DatasetError as reason:
                _logger.warning("%s; tried again in %g s", reason, self._holder.beat_s)

    def _pause_s(self) -> float:
        return min(2.0, self._holder.beat_s) * random.uniform(0.5, 1.5)  # noqa: S311 (no secret)


@contextlib.contextmanager
def leased(folder: Folder, *, wait_s: float = 0.0, beat_s: float = 10.0) -> Iterator[Lease]:
    """Hold a dataset as its only writer while the body runs.

    Parameters
    ----------
    folder : Folder
        The dataset's; it need not exist.
    wait_s : float
        How long to wait for another job's end. Whether it lives can take three of its beats more to say.
    beat_s : float
        Seconds between two signs of life.

    Yields
    ------
    Lease
        Its `check` is called before each commit.

    Raises
    ------
    DatasetError
        If another job holds it; the message says who, and what to do.
    """
    lease = Lease(folder, beat_s)
    try:
        lease._acquire(wait_s)
        yield lease
    finally:
        lease._release()


def _file(job: str) -> str:
    return f"{LOCK}/{job}{_ENDING}"


def _beat_file(job: str) -> str:
    return f"{LOCK}/{job}.beat"


def _parsed(content: bytes) -> Holder | None:
    try:
        return Holder.model_validate_json(content)
    except ValidationError:
        return None


def _myself(beat_s: float) -> Holder:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's number without a name
        user = str(os.getuid())
    # No more of the command line: settings may hold a secret.
    command = " ".join([Path(sys.argv[0]).name or "python", *(word for word in sys.argv[1:2] if word.isalpha())])
    return Holder(
        job=uuid.uuid4().hex,
        host=socket.gethostname(),
        pid=os.getpid(),
        boot_id=_boot_id(),
        process_start=(_process(os.getpid()) or ("", ""))[1],
        user=user,
        command=command,
        since=datetime.now().astimezone().isoformat(" ", "seconds"),
        beat_s=beat_s,
    )


def _boot_id() -> str:
    """Name of this boot and of the namespace that process numbers hold in; empty where there is no /proc."""
    try:
        return f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def _process(pid: int) -> tuple[str, str] | None:
    """State of a process, and its start in ticks since the boot; None where there is none."""
    try:
        # The name of the program, in brackets, may hold blanks and brackets.
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        return fields[0], fields[19]
    except (OSError, IndexError):
        return None


def _process_lives(holder: Holder | None) -> bool | None:
    """Tell whether the process of a lease runs, if it is one of this machine and can be told at a look."""
    if holder is None or not holder.boot_id or (holder.host, holder.boot_id) != (socket.gethostname(), _boot_id()):
        return None
    process = _process(holder.pid)
    if process is None or process[1] != holder.process_start or process[0] in "ZX":
        return False
    return None if process[0] in "Tt" else True  # one that is stopped may never go on
