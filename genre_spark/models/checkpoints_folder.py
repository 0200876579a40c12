"""The folder of a training that is under way: RUN.unfinished, beside the run that it will be.

It becomes RUN when the training is done. Until then whatever stands at RUN is not touched, and what a killed training
left in its folder can be gone on with.
"""

import contextlib
import fcntl
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from genre_spark.errors import RunError
from genre_spark.files import is_leftover
from genre_spark.models.checkpoints import STATE, check_plan
from genre_spark.models.run import (
    CHECKPOINT,
    CONTENTS,
    RUN_RECORD,
    TENSORBOARD,
    TRAIN_LOG,
    read_run_record,
)  # fmt: skip

LOCK = ".lock"


def unfinished_path(run: Path) -> Path:
    """Where the training of a run is under way."""
    return run.with_name(f"{run.name}.unfinished")


def is_finished(run: Path) -> bool:
    """Tell whether a run stands there whose training was not interrupted."""
    return (run / RUN_RECORD).exists() and not (run / CHECKPOINT / STATE).exists()


@contextlib.contextmanager
def unfinished_run(run: Path, plan: Mapping[str, Any], epochs: int, *, overwrite: bool, resume: bool) -> Iterator[Path]:
    """Give the folder to train in; it is kept where the body fails after its first checkpoint.

    Parameters
    ----------
    run : Path
        The run that it will be.
    plan : mapping
        What decides the training's numbers.
    epochs : int
        How many it is to have.
    overwrite : bool
        Begin anew, whatever stands there.
    resume : bool
        Go on with what was stopped, where there is something.

    Raises
    ------
    RunError
        If something stands there that is not to be replaced or gone on with, or another training works there.
    """
    work = unfinished_path(run)
    _refuse_foreign(run, work)
    try:
        work.mkdir(parents=True, exist_ok=True)
        with (work / LOCK).open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise RunError(
                    f"{work}: another training is under way there; wait for it, or name another --run"
                ) from None
            try:
                _refuse_occupied(run, work, overwrite=overwrite, resume=resume)
                stopped = _stopped(run, work) if resume else None
                if stopped:
                    # Where it lies: a refusal leaves no copy.
                    check_plan(stopped / CHECKPOINT, plan, epochs, run)
                if stopped != work:
                    _empty(work)
                if stopped == run:
                    _copy_stopped(run, work)
                yield work
            finally:
                if not (work / CHECKPOINT / STATE).exists():
                    shutil.rmtree(work, ignore_errors=True)
    except OSError as reason:
        raise RunError(f"{reason.filename or work}: can't be written: {reason.strerror or reason}") from None


def _refuse_foreign(run: Path, work: Path) -> None:
    """Refuse a folder that is never to be replaced: only what a training writes may stand in it."""
    for folder in (run, work):
        if folder.exists() and not folder.is_dir():
            raise RunError(f"{folder}: is a file; name a folder for --run")
        names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
        foreign = {name for name in names if not is_leftover(name)} - CONTENTS - {LOCK}
        if foreign:
            raise RunError(
                f"{folder}: exists and holds {min(foreign)!r}, which is no part of a run; name another folder"
            )


def _refuse_occupied(run: Path, work: Path, *, overwrite: bool, resume: bool) -> None:
    stopped = _stopped(run, work)
    if overwrite or (resume and stopped):
        return
    if stopped:
        raise RunError(
            f"{stopped}: holds a training that was stopped; go on with --resume, or begin anew with --overwrite"
        )
    if run.is_dir() and any(run.iterdir()):
        what = "a finished run" if resume else "a run"
        raise RunError(f"{run}: holds {what}; replace it with --overwrite, or name another folder for --run")


def _stopped(run: Path, work: Path) -> Path | None:
    """Find the folder of a training that was stopped; None where there is nothing to go on with."""
    return next((folder for folder in (work, run) if (folder / CHECKPOINT / STATE).exists()), None)


def _copy_stopped(run: Path, work: Path) -> None:
    """Have a training that was stopped, and left a run, in the folder to train in."""
    read_run_record(run)
    # Copied: the run stays what it is until a better one is there. The state comes last, it says that all is there.
    if (run / TENSORBOARD).is_dir():
        shutil.copytree(run / TENSORBOARD, work / TENSORBOARD)
    if (run / TRAIN_LOG).exists():
        shutil.copy2(run / TRAIN_LOG, work / TRAIN_LOG)
    shutil.copytree(run / CHECKPOINT, work / CHECKPOINT, ignore=shutil.ignore_patterns(STATE))
    shutil.copy2(run / CHECKPOINT / STATE, work / CHECKPOINT / f"{STATE}.copy")
    (work / CHECKPOINT / f"{STATE}.copy").rename(work / CHECKPOINT / STATE)


def _empty(work: Path) -> None:
    for path in work.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != LOCK:
            path.unlink()
