"""Files and folders that appear under their names only when they are complete."""

import contextlib
import errno
import re
import shutil
import stat
import uuid
from collections.abc import Iterator
from pathlib import Path

from genre_spark.errors import GenreSparkError


@contextlib.contextmanager
def complete_file(path: Path, error: type[GenreSparkError]) -> Iterator[Path]:
    """Give a temporary name to write to; the file takes its own name when the body ends well.

    Parameters
    ----------
    path : Path
        Its folder is made where it is missing.
    error : type of GenreSparkError
        Raised, with the path and the reason, where the file can't be written.
    """
    partial = _beside(path, "partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        partial.replace(path)
    except OSError as reason:
        raise error(f"{path}: can't be written: {reason.strerror or reason}") from None
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()


@contextlib.contextmanager
def staging_folder(path: Path, error: type[GenreSparkError]) -> Iterator[Path]:
    """Give a folder beside `path` to write to, which is gone when the body ends.

    The body ends with `replace_folder(staging, path)` when all is written.

    Parameters
    ----------
    path : Path
        The folder above it is made where it is missing.
    error : type of GenreSparkError
        Raised, with the path and the reason, where something can't be written.
    """
    staging = _beside(path, "partial")
    try:
        staging.mkdir(parents=True)
        yield staging
    except OSError as reason:
        raise error(f"{reason.filename or path}: can't be written: {reason.strerror or reason}") from None
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def replace_folder(staging: Path, path: Path) -> None:
    """Let `staging` take the name of `path`; what stood there goes only when the new folder is in its place."""
    if not path.exists():
        staging.rename(path)
        return
    old = _beside(path, "old")
    path.rename(old)
    try:
        staging.rename(path)
    except OSError:
        old.rename(path)
        raise
    shutil.rmtree(old, ignore_errors=True)


def is_leftover(name: str) -> bool:
    """Tell whether a name is one that a killed process left behind: nobody reads what it stands for."""
    return re.fullmatch(r"\..+\.[0-9a-f]{8}\.(partial|old)", name) is not None


def check_ordinary(file: Path) -> None:
    """Raise an `OSError` for what is no ordinary file: a pipe would be waited for, a device read without end."""
    if not stat.S_ISREG(file.stat().st_mode):
        raise OSError(errno.EINVAL, "is no ordinary file")


def printable(path: str | Path) -> str:
    r"""Turn a path into text that any file and terminal takes: bytes that are no UTF-8 become `\udcXX`."""
    return str(path).encode("utf-8", "backslashreplace").decode("utf-8")


def visible(text: str) -> str:
    r"""Write out what a terminal would obey instead of showing: an escape becomes `\x1b`. Names are a stranger's."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def _beside(path: Path, ending: str) -> Path:
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.{ending}")
