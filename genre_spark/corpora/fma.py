"""The Free Music Archive (FMA): `fma_metadata/tracks.csv` and the clips of one subset.

Layout as its authors publish it (https://github.com/mdeff/fma): `fma_small/000/000002.mp3` is track 2. The metadata
file has two header rows that are read together (`artist` over `name`), a third that holds only `track_id`, and quoted
fields with line breaks in them.
"""

import csv
import itertools
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from genre_spark.corpora.tracks import track_table
from genre_spark.errors import CorpusError

# The subsets nest: the archive of the one also holds the tracks of those before it. `full` has the tracks of `large`
# in their whole length.
SUBSETS = ("small", "medium", "large", "full")

HEADER_ROWS = 3
METADATA = Path("fma_metadata", "tracks.csv")

_COLUMNS = {
    "genre": ("track", "genre_top"),
    "artist": ("artist", "name"),
    "album": ("album", "title"),
    "split": ("set", "split"),
    "subset": ("set", "subset"),
}
# A row must fit into one block; the longest biographies have some ten thousand characters.
_BLOCK_BYTES = 4 << 20

logger = logging.getLogger(__name__)


def load_fma(root: Path, subset: str = "small") -> pa.Table:
    """Tracks of an FMA subset whose audio is there.

    Parameters
    ----------
    root : Path
        Folder that holds `fma_metadata/` and `fma_<subset>/`.
    subset : {"small", "medium", "large", "full"}
        Which archive's clips to take; each contains the ones before it.

    Returns
    -------
    pa.Table
        The track table; `genre` is FMA's top genre, `split` its own split.

    Raises
    ------
    CorpusError
        If the subset is unknown, a folder or the metadata is missing or not FMA's, or no track has audio.
    """
    root = Path(root)
    if subset not in SUBSETS:
        raise CorpusError(f"fma: unknown subset {subset!r}; known are {', '.join(SUBSETS)}")
    if not root.is_dir():
        raise CorpusError(f"{root}: no such folder; unpack fma_metadata.zip and fma_{subset}.zip into it")
    audio = root / f"fma_{subset}"
    listed = _metadata_rows(root / METADATA, subset)
    uris = _clip_uris(audio)
    rows: list[dict[str, str | None]]
    rows = [{**row, "uri": uris[row["track_id"]]} for row in listed if row["track_id"] in uris]
    if not rows:
        raise CorpusError(
            f"{audio}: none of the {len(listed)} tracks of subset {subset} has audio here; "
            f"unpack fma_{subset}.zip into {root}, so that {audio}/000 exists"
        )
    if len(rows) < len(listed):
        missing = len(listed) - len(rows)
        logger.warning(
            "%d of %d tracks of subset %s have no audio file under %s: left out", missing, len(listed), subset, audio
        )
    return track_table(rows, str(root / METADATA))


def _metadata_rows(file: Path, subset: str) -> list[dict[str, str]]:
    positions = _positions(file)
    members = SUBSETS if subset in ("large", "full") else SUBSETS[: SUBSETS.index(subset) + 1]
    names = [str(position) for position in range(len(positions))]
    wanted = {"track_id": "0"} | {name: str(positions.index(column)) for name, column in _COLUMNS.items()}
    rows: list[dict[str, str]] = []
    try:
        # The values of FMA's two header rows are unique only together, so columns go by position.
        with pyarrow.csv.open_csv(
            file,
            read_options=pyarrow.csv.ReadOptions(
                skip_rows=HEADER_ROWS, column_names=names, block_size=_BLOCK_BYTES, use_threads=False
            ),
            parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True),
            convert_options=pyarrow.csv.ConvertOptions(
                include_columns=list(wanted.values()), column_types={name: pa.string() for name in names}
            ),
        ) as batches:
            for batch in batches:
                table = pa.Table.from_batches([batch]).rename_columns(list(wanted))
                table = table.filter(pc.is_in(table["subset"], pa.array(members)))
                rows.extend(_clean(row, file) for row in table.drop_columns(["subset"]).to_pylist())
    except pa.ArrowInvalid as error:
        reason = " ".join(str(error).split())[:200]
        raise CorpusError(f"{file}: damaged or not FMA's: {reason}; unpack fma_metadata.zip again") from None
    if not rows:
        raise CorpusError(f"{file}: lists no track of subset {subset}; unpack fma_metadata.zip again")
    return rows


def _clean(row: dict[str, str], file: Path) -> dict[str, str]:
    if not row["track_id"].isdecimal():
        raise CorpusError(f"{file}: track_id {row['track_id']!r} is not a number; unpack fma_metadata.zip again")
    # Some artists' names end in a line break. What is left out is null in the track table.
    filled = {name: value.strip() for name, value in row.items() if value.strip()}
    return {**filled, "track_id": str(int(row["track_id"]))}


def _positions(file: Path) -> list[tuple[str, str]]:
    """Names of the columns, read from the two header rows."""
    try:
        with file.open(newline="", encoding="utf-8-sig") as lines:
            header = list(itertools.islice(csv.reader(lines), HEADER_ROWS))
    except FileNotFoundError:
        raise CorpusError(f"{file}: no such file; unpack fma_metadata.zip into {file.parent.parent}") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise CorpusError(f"{file}: can't be read: {error}") from None
    if len(header) < HEADER_ROWS or header[2][:1] != ["track_id"] or len({len(row) for row in header}) != 1:
        raise CorpusError(f"{file}: not FMA's tracks.csv: its third row must begin with track_id; unpack it again")
    positions = list(zip(header[0], header[1], strict=True))
    for column in _COLUMNS.values():
        if column not in positions:
            raise CorpusError(f"{file}: column {'/'.join(column)} is missing; unpack fma_metadata.zip again")
    return positions


def _clip_uris(audio: Path) -> dict[str, str]:
    # Listing the 156 folders once takes a moment; asking for 100,000 files one by one takes minutes on a network disk.
    uris: dict[str, str] = {}
    for folder in _entries(audio):
        if folder.name.isdecimal() and folder.is_dir():
            resolved = Path(folder).resolve()
            for clip in _entries(Path(folder)):
                stem, dot, extension = clip.name.rpartition(".")
                if dot and stem.isdecimal() and extension == "mp3" and clip.is_file():
                    path = Path(clip).resolve() if clip.is_symlink() else resolved / clip.name
                    uris[str(int(stem))] = path.as_uri()
    return uris


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            yield from entries
    except FileNotFoundError:
        raise CorpusError(f"{folder}: no such folder; unpack {folder.name}.zip into {folder.parent}") from None
    except OSError as error:
        raise CorpusError(f"{folder}: can't be listed: {error.strerror}") from None
