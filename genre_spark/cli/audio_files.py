"""Which audio files a person means who names files, folders and patterns."""

import glob
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from genre_spark.corpora.folder import AUDIO_EXTENSIONS
from genre_spark.errors import AudioNotFound
from genre_spark.files import printable
from genre_spark.filesystems import is_remote, local_path


def audio_files(arguments: Iterable[str]) -> list[str | Path]:
    """Files that arguments stand for, in their order.

    Parameters
    ----------
    arguments : iterable of str
        A file; a folder, for all audio below it; or a pattern, in which `*`, `?` and `[abc]` stand for a part of a name
        and `**` for any folders: `music/**/*.mp3`. What exists is never a pattern, whatever its name. Of what folders
        and patterns name, only what looks like audio by its extension and isn't hidden is taken, sorted by path; links
        to folders are not followed. Addresses such as `s3://bucket/song.mp3` are taken as they are.

    Returns
    -------
    list of str or Path
        A file that was named itself is in it even if there is none: whoever reads it finds out.

    Raises
    ------
    AudioNotFound
        If a folder or a pattern has no audio file, or a folder can't be listed.
    """
    return [file for argument in arguments for file in _meant(argument)]


def _meant(argument: str) -> list[str | Path]:
    if is_remote(argument):
        return [argument]
    path = local_path(argument, AudioNotFound)
    if os.path.isdir(path):  # noqa: PTH112 - what can't be looked at is for the decoder to report, in one place
        found = sorted(_audio_below(path))
        if not found:
            raise AudioNotFound(f"{printable(path)}: no audio in this folder; looked for {_extensions()}")
        return [*found]
    if os.path.lexists(path) or not glob.has_magic(str(path)):
        return [path]
    matches = sorted(set(_matches(path)))
    if not matches:
        raise AudioNotFound(
            f"{printable(path)}: no such file, and as a pattern it matches no audio; looked for {_extensions()}"
        )
    return [*matches]


def _audio_below(folder: Path) -> Iterator[Path]:
    def refused(error: OSError) -> None:
        raise AudioNotFound(f"{printable(error.filename)}: can't be listed: {error.strerror}") from None

    for where, folders, files in os.walk(folder, onerror=refused):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(where, name) for name in files if _is_audio(name))


def _is_audio(name: str) -> bool:
    return not name.startswith(".") and Path(name).suffix.lower() in AUDIO_EXTENSIONS


def _matches(pattern: Path) -> Iterator[Path]:
    """Audio files that a pattern names, and those below folders that it names."""
    # A folder `Live [1999]` on the way is that folder, too.
    base, parts = Path(), list(pattern.parts)
    while parts and (not glob.has_magic(parts[0]) or os.path.lexists(base / parts[0])):
        base /= parts.pop(0)
    try:
        # Unlike `glob.glob` its `**` goes through no link to a folder, of which a few can make a maze.
        found = sorted(base.glob(str(Path(*parts))))
    except ValueError as error:
        raise AudioNotFound(f"{printable(pattern)}: no pattern: {error}") from None
    walked: set[Path] = set()
    for path in found:
        if any(part.startswith(".") and part != ".." for part in path.relative_to(base).parts):
            continue
        # `**` names each folder below a folder, too.
        if not walked.isdisjoint(path.parents):
            continue
        if path.is_dir():
            if not path.is_symlink():
                walked.add(path)
                yield from _audio_below(path)
        elif _is_audio(path.name):
            yield path


def _extensions() -> str:
    return ", ".join(sorted(AUDIO_EXTENSIONS))
