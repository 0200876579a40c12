"""A music library of one's own: a folder per genre, or a CSV file that says what is what.

It may lie on this machine or wherever `genre_spark.filesystems` reaches: `s3://bucket/music`.
"""

import contextlib
import csv
import functools
import io
import logging
import math
import os
import re
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any, TextIO
from urllib.parse import quote_from_bytes

import pyarrow as pa

from genre_spark.corpora.tracks import CONTROL_CHARACTERS, PARTS, track_table
from genre_spark.errors import CorpusError
from genre_spark.filesystems import is_remote, join_address, list_files, local_path, masked, open_file, remote_address

# Only whose name says audio is listed; whether it can be decoded is found out when it is.
# fmt: off
AUDIO_EXTENSIONS = frozenset({
    ".aac", ".aif", ".aifc", ".aiff", ".au", ".caf", ".flac", ".m4a", ".mka", ".mp2", ".mp3", ".mp4", ".oga", ".ogg",
    ".opus", ".w64", ".wav", ".wma",
})
# fmt: on

REQUIRED_COLUMNS = ("track_id", "path")
TEXT_COLUMNS = ("genre", "artist", "album", "split", "licence")
# Both spellings are found in tables that people have.
_RENAMED = {"license": "licence"}

# As Python writes what pyarrow's expressions write \x{...}.
_CONTROL_CHARACTERS = re.compile(re.sub(r"\\x\{(\w+)\}", lambda code: chr(int(code[1], 16)), CONTROL_CHARACTERS))

# Of a table's files, how many are looked for: on a network disk a look takes milliseconds.
_LOOKED_FOR = 200

logger = logging.getLogger(__name__)


def load_folder(root: str | Path, table: str | Path | None = None) -> pa.Table:
    """Tracks of a music library.

    Parameters
    ----------
    root : str or Path
        Folder or address. Without a table: `ROOT/<genre>/` holds the genre's audio files, in sub-folders if you like. A
        track's id is its path below `root` without the extension (with it where two files differ in nothing else).
    table : str or Path, optional
        CSV file, or its address, with the columns `track_id, path` and, if known, `genre, artist, album, split,
        duration_s, licence`. A path is relative to `root`, absolute, or an address; of these only an address is
        percent-encoded. What is empty is unknown. Without any genre the tracks are good for prediction only. A file
        that is listed but missing stays in the table: the extraction reports it.

    Raises
    ------
    CorpusError
        If a folder or the table is missing or holds no track, a column is missing, or a row is impossible.
    """
    if is_remote(root):
        root = remote_address(str(root), CorpusError).rstrip("/")
    else:
        root = local_path(root, CorpusError)
        if not root.is_dir():
            raise CorpusError(f"{root}: no such folder; give the folder that holds your music")
    if table is None:
        return track_table(_genre_folder_rows(root), masked(root))
    if not is_remote(table):
        table = local_path(table, CorpusError)
    return track_table(_table_rows(table, root), masked(table))


def _genre_folder_rows(root: str | Path) -> list[dict[str, Any]]:
    files: list[tuple[PurePosixPath, str]] = []
    others, tables = 0, list[str]()
    for path, uri in _files_below(root) if isinstance(root, Path) else _remote_files(root):
        if _is_a_genres_audio(path):
            files.append((path, uri))
        else:
            others += 1
            if path.suffix.lower() == ".csv" and not tables:
                tables.append(_text(path))
    if not files:
        raise CorpusError(
            f"{root}: no audio below a genre's folder; it must hold {root}/<genre>/<file>, or give a table"
        )
    if others:
        hint = f"; if {tables[0]} says what is what, give it as --table" if tables else ""
        logger.warning("%d files under %s are not audio in a genre's folder: ignored%s", others, root, hint)
    stems = [_text(path.with_suffix("")) for path, _ in files]
    counts = Counter(stems)
    ids = [_text(path) if counts[stem] > 1 else stem for (path, _), stem in zip(files, stems, strict=True)]
    if len(set(ids)) < len(ids):  # a/b.mp3 and a/b.wav beside a/b.mp3.wav
        ids = [_text(path) for path, _ in files]
    return [
        {"track_id": track_id, "uri": uri, "genre": _text(path.parts[0])}
        for track_id, (path, uri) in zip(ids, files, strict=True)
    ]


def _is_a_genres_audio(path: PurePosixPath) -> bool:
    return len(path.parts) > 1 and path.suffix.lower() in AUDIO_EXTENSIONS


def _files_below(root: Path) -> Iterator[tuple[PurePosixPath, str]]:
    """Files that are not hidden: path below the root, and address.

    Links are followed, but no folder is listed twice for one genre: links can lead in a circle, and a dozen of them to
    the same files in thousands of ways.
    """
    # Links last: a file is known by the path on which it lies.
    folders, links = deque([(PurePosixPath(), root.resolve())]), deque[tuple[PurePosixPath, Path]]()
    seen: set[tuple[str, Path]] = set()
    while folders or links:
        below, folder = (folders or links).popleft()
        genre = below.parts[0] if below.parts else ""
        if not seen.isdisjoint({(genre, folder), ("", folder)}):
            continue
        seen.add((genre, folder))
        try:
            with os.scandir(folder) as entries:
                # Sorted, or which of two links to one folder is taken would differ from disk to disk.
                visible = sorted((entry for entry in entries if not entry.name.startswith(".")), key=lambda e: e.name)
        except OSError as error:
            where = root / below
            raise CorpusError(f"{where}: can't be listed: {error.strerror}; make it readable or move it away") from None
        address = folder.as_uri().rstrip("/")
        for entry in visible:
            path = below / entry.name
            is_folder, place = _followed(entry, folder) if entry.is_symlink() else (entry.is_dir(), None)
            if not is_folder:
                name = quote_from_bytes(os.fsencode(entry.name))
                yield path, f"{address}/{name}" if place is None else place.as_uri()
                continue
            if place is None:
                folders.append((path, folder / entry.name))
            else:
                links.append((path, place))


def _followed(entry: os.DirEntry[str], folder: Path) -> tuple[bool, Path]:
    """Tell whether a link leads to a folder, and where it leads; one that leads nowhere stands for itself."""
    link = folder / entry.name
    try:
        return entry.is_dir(), link.resolve() if link.exists() else link
    except (OSError, RuntimeError):
        return False, link


def _remote_files(root: str) -> Iterator[tuple[PurePosixPath, str]]:
    for path in list_files(root, CorpusError):
        # Object stores have keys such as `a//b.mp3`, which no file system opens; what is no audio may have any name.
        known = PurePosixPath(path)
        yield known, remote_address(join_address(root, path), CorpusError) if _is_a_genres_audio(known) else ""


def _text(path: PurePosixPath | str) -> str:
    # A name that is not UTF-8, or holds control characters, can't be text in a table: these are written out. Its
    # address is percent-encoded and keeps the very bytes.
    text = os.fsencode(str(path)).decode("utf-8", "backslashreplace")
    return _CONTROL_CHARACTERS.sub(lambda found: ascii(found[0])[1:-1], text)


def _table_rows(table: str | Path, root: str | Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    lines: dict[str, int] = {}
    name = masked(table)
    resolved = functools.lru_cache(maxsize=1 << 16)(Path.resolve)
    for line, row in _csv_rows(table):
        where = f"{name}, line {line}"
        track_id, path = row["track_id"], row["path"]
        if not track_id or not path:
            raise CorpusError(f"{where}: {'path' if track_id else 'track_id'} is empty; fill it in or delete the row")
        if track_id in lines:
            raise CorpusError(f"{where}: track_id {track_id!r} stands in line {lines[track_id]} too; make it unique")
        lines[track_id] = line
        known: dict[str, Any] = {name: row.get(name) or None for name in TEXT_COLUMNS}
        if known["split"] not in (None, *PARTS):
            raise CorpusError(f"{where}: split {known['split']!r} must be one of {', '.join(PARTS)}, or empty")
        duration_s = _seconds(row.get("duration_s"), where)
        rows.append({"track_id": track_id, "uri": _uri(path, root, where, resolved), "duration_s": duration_s, **known})
    if not rows:
        raise CorpusError(f"{name}: has no rows below its header; list at least one track")
    _warn_of_missing_files(rows, name, root)
    if "genre" not in row:
        logger.warning("%s: has no column genre: its tracks are good for prediction, not for training", name)
    return rows


def _warn_of_missing_files(rows: Sequence[dict[str, Any]], name: str, root: str | Path) -> None:
    looked_for = [row["uri"] for row in islice((row for row in rows if not is_remote(row["uri"])), _LOOKED_FOR)]
    missing = [uri for uri in looked_for if not local_path(uri, CorpusError).exists()]
    if missing:
        logger.warning(
            "%s: of the first %d files, %d don't exist, such as %s; is %s the folder that its paths are relative to?",
            name, len(looked_for), len(missing), local_path(missing[0], CorpusError), masked(root),
        )  # fmt: skip


def _seconds(text: str | None, where: str) -> float | None:
    if not text:
        return None
    with contextlib.suppress(ValueError):
        seconds = float(text)
        if math.isfinite(seconds) and seconds >= 0:
            return seconds
    raise CorpusError(f"{where}: duration_s {text!r} must be a number of seconds, or empty")


def _csv_rows(table: str | Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Rows of a CSV file, values stripped, and the numbers of the lines on which they end."""
    name = masked(table)
    try:
        with _opened(table) as file:
            reader = csv.reader(file, strict=True)
            found = [column.strip() for column in next(reader, [])]
            header = [_RENAMED.get(column, column) for column in found]
            for column in REQUIRED_COLUMNS:
                if column not in header:
                    raise CorpusError(
                        f"{name}: column {column!r} is missing (found {', '.join(found) or 'nothing'}); "
                        "separate columns by commas"
                    )
            repeated = [column for column, count in Counter(header).items() if column and count > 1]
            if repeated:
                raise CorpusError(f"{name}: column {repeated[0]!r} stands twice; rename or delete one")
            for values in reader:
                if not any(value.strip() for value in values):
                    continue
                if len(values) != len(header):
                    raise CorpusError(
                        f"{name}, line {reader.line_num}: {len(values)} values for {len(header)} columns; "
                        "put a value with commas in it between double quotes"
                    )
                stripped = (value.strip() for value in values)
                yield reader.line_num, dict(zip(header, stripped, strict=True))
    except FileNotFoundError:
        raise CorpusError(f"{name}: no such file; a table has the columns {', '.join(REQUIRED_COLUMNS)}") from None
    except UnicodeDecodeError:
        raise CorpusError(f"{name}: not UTF-8 text; save it as a CSV file in UTF-8") from None
    except csv.Error as error:
        raise CorpusError(f"{name}, line {reader.line_num}: not CSV: {error}") from None
    except OSError as error:
        raise CorpusError(f"{name}: can't be read: {error.strerror}") from None


def _opened(table: str | Path) -> TextIO:
    # Spreadsheets put a byte order mark before the first column's name.
    if isinstance(table, Path):
        return table.open(newline="", encoding="utf-8-sig")
    with open_file(table, CorpusError) as file:
        content = file.read()
    return io.TextIOWrapper(io.BytesIO(content), newline="", encoding="utf-8-sig")


def _uri(path: str, root: str | Path, where: str, resolved: Callable[[Path], Path]) -> str:
    """Address of a file that a table names; `resolved` follows the links on the way to a folder."""
    try:
        if is_remote(path):
            return remote_address(path, CorpusError)
        place = local_path(path, CorpusError)
    except CorpusError as error:
        raise CorpusError(f"{where}: path {error}") from None
    if "\0" in str(place):
        raise CorpusError(f"{where}: path {path!r} can't be followed: no file has a NUL in its name")
    if not path.lower().startswith("file://"):
        place = Path(os.path.normpath(path))
        if place.parts[:1] == ("..",):
            raise CorpusError(
                f"{where}: path {path!r} leaves {masked(root)}; give an absolute path, or another root folder"
            )
    try:
        if isinstance(root, Path):
            folder = resolved((root / place).parent)
            # Asking for each part of each path anew takes minutes on a network disk.
            last = folder / place.name
            # A link that leads nowhere is named itself: its target alone would tell nobody which one to mend.
            return (last.resolve() if last.is_symlink() and last.exists() else last).as_uri()
        # Whoever reads the table may do so on another machine, where such a file must lie too.
        return place.as_uri() if place.is_absolute() else remote_address(join_address(root, str(place)), CorpusError)
    except (OSError, RuntimeError, ValueError) as error:
        raise CorpusError(f"{where}: path {path!r} can't be followed: {error}") from None
