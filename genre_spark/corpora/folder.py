"""A music library of one's own: a folder per genre, or a CSV file that says what is what."""

import csv
import logging
import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from urllib.parse import unquote_to_bytes

import pyarrow as pa

from genre_spark.corpora.tracks import PARTS, track_table
from genre_spark.errors import CorpusError

# Only whose name says audio is listed; whether it can be decoded is found out when it is.
# fmt: off
AUDIO_EXTENSIONS = frozenset({
    ".aac", ".aif", ".aifc", ".aiff", ".au", ".caf", ".flac", ".m4a", ".mka", ".mp2", ".mp3", ".mp4", ".oga", ".ogg",
    ".opus", ".w64", ".wav", ".wma",
})
# fmt: on

REQUIRED_COLUMNS = ("track_id", "path", "genre")
OPTIONAL_COLUMNS = ("artist", "album", "split")

logger = logging.getLogger(__name__)


def load_folder(root: Path, table: Path | None = None) -> pa.Table:
    """Tracks of a music library.

    Parameters
    ----------
    root : Path
        Without a table: `ROOT/<genre>/` holds the genre's audio files, in sub-folders if you like. A track's id is its
        path below `root` without the extension (with it where two files differ in nothing else).
    table : Path, optional
        CSV file with the columns `track_id, path, genre` and, if known, `artist, album, split`. A path is relative to
        `root`, absolute or a `file://` address. An empty genre, artist, album or split is unknown. A file that is
        listed but missing stays in the table: the extraction reports it.

    Raises
    ------
    CorpusError
        If a folder or the table is missing or holds no track, a column is missing, or a row is impossible.
    """
    root = Path(root)
    if not root.is_dir():
        raise CorpusError(f"{root}: no such folder; give the folder that holds your music")
    if table is None:
        return track_table(_genre_folder_rows(root), str(root))
    return track_table(_table_rows(Path(table), root.resolve()), str(table))


def _genre_folder_rows(root: Path) -> list[dict[str, str | None]]:
    files: list[tuple[PurePosixPath, Path]] = []
    others = 0
    for path, resolved in _files_below(root, PurePosixPath(), ()):
        if len(path.parts) > 1 and path.suffix.lower() in AUDIO_EXTENSIONS:
            files.append((path, resolved))
        else:
            others += 1
    if not files:
        raise CorpusError(
            f"{root}: no audio below a genre's folder; it must hold {root}/<genre>/<file>, or give a table"
        )
    if others:
        logger.warning("%d files under %s are not audio in a genre's folder: ignored", others, root)
    stems = Counter(_text(path.with_suffix("")) for path, _ in files)
    ids = [_text(path if stems[_text(path.with_suffix(""))] > 1 else path.with_suffix("")) for path, _ in files]
    if len(set(ids)) < len(ids):  # a/b.mp3 and a/b.wav beside a/b.mp3.wav
        ids = [_text(path) for path, _ in files]
    return [
        {"track_id": track_id, "uri": resolved.as_uri(), "genre": _text(path.parts[0])}
        for track_id, (path, resolved) in zip(ids, files, strict=True)
    ]


def _files_below(folder: Path, below: PurePosixPath, above: tuple[Path, ...]) -> Iterator[tuple[PurePosixPath, Path]]:
    """Files that are not hidden: path below the root, and place on disk. Links are followed, but never in a circle."""
    resolved = folder.resolve()
    if resolved in above:
        return
    try:
        with os.scandir(folder) as entries:
            visible = sorted((entry for entry in entries if not entry.name.startswith(".")), key=lambda e: e.name)
    except OSError as error:
        raise CorpusError(f"{folder}: can't be listed: {error.strerror}; make it readable or move it away") from None
    for entry in visible:
        if entry.is_dir():
            yield from _files_below(Path(entry), below / entry.name, (*above, resolved))
        else:
            yield below / entry.name, Path(entry).resolve() if entry.is_symlink() else resolved / entry.name


def _text(path: PurePosixPath | str) -> str:
    # A name that is not UTF-8 can't be text in a table; its address is percent-encoded and keeps the very bytes.
    return os.fsencode(str(path)).decode("utf-8", "backslashreplace")


def _table_rows(table: Path, root: Path) -> list[dict[str, str | None]]:
    rows: list[dict[str, str | None]] = []
    lines: dict[str, int] = {}
    for line, row in _csv_rows(table):
        where = f"{table}, line {line}"
        track_id, path = row["track_id"], row["path"]
        if not track_id or not path:
            raise CorpusError(f"{where}: {'path' if track_id else 'track_id'} is empty; fill it in or delete the row")
        if track_id in lines:
            raise CorpusError(f"{where}: track_id {track_id!r} stands in line {lines[track_id]} too; make it unique")
        lines[track_id] = line
        known = {name: row.get(name) or None for name in ("genre", *OPTIONAL_COLUMNS)}
        if known["split"] not in (None, *PARTS):
            raise CorpusError(f"{where}: split {known['split']!r} must be one of {', '.join(PARTS)}, or empty")
        rows.append({"track_id": track_id, "uri": _uri(path, root, where), **known})
    if not rows:
        raise CorpusError(f"{table}: has no rows below its header; list at least one track")
    return rows


def _csv_rows(table: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Rows of a CSV file, values stripped, and the numbers of the lines on which they end."""
    try:
        # Spreadsheets put a byte order mark before the first column's name.
        with table.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, strict=True)
            header = [name.strip() for name in next(reader, [])]
            for name in REQUIRED_COLUMNS:
                if name not in header:
                    found = ", ".join(header) or "nothing"
                    raise CorpusError(
                        f"{table}: column {name!r} is missing (found {found}); separate columns by commas"
                    )
            repeated = [name for name, count in Counter(header).items() if name and count > 1]
            if repeated:
                raise CorpusError(f"{table}: column {repeated[0]!r} stands twice; rename or delete one")
            for values in reader:
                if not any(value.strip() for value in values):
                    continue
                if len(values) != len(header):
                    raise CorpusError(
                        f"{table}, line {reader.line_num}: {len(values)} values for {len(header)} columns; "
                        "put a value with commas in it between double quotes"
                    )
                stripped = (value.strip() for value in values)
                yield reader.line_num, dict(zip(header, stripped, strict=True))
    except FileNotFoundError:
        raise CorpusError(f"{table}: no such file; a table has the columns {', '.join(REQUIRED_COLUMNS)}") from None
    except UnicodeDecodeError:
        raise CorpusError(f"{table}: not UTF-8 text; save it as a CSV file in UTF-8") from None
    except csv.Error as error:
        raise CorpusError(f"{table}, line {reader.line_num}: not CSV: {error}") from None
    except OSError as error:
        raise CorpusError(f"{table}: can't be read: {error.strerror}") from None


def _uri(path: str, root: Path, where: str) -> str:
    address = re.fullmatch(r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?P<host>[^/]*)(?P<path>.*)", path, re.IGNORECASE)
    if address is not None:
        if address["scheme"].lower() != "file" or address["host"] not in ("", "localhost") or not address["path"]:
            raise CorpusError(f"{where}: path {path!r} must be a file on this machine; mount or copy it first")
        place = Path(os.fsdecode(unquote_to_bytes(address["path"])))
    else:
        place = Path(os.path.normpath(path))
        if place.parts[:1] == ("..",):
            raise CorpusError(f"{where}: path {path!r} leaves {root}; give an absolute path, or another root folder")
    try:
        return (root / place).resolve().as_uri()
    except (OSError, RuntimeError, ValueError) as error:
        raise CorpusError(f"{where}: path {path!r} can't be followed: {error}") from None
