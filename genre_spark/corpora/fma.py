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

from genre_spark.corpora.tracks import CONTROL_CHARACTERS, TRACK_SCHEMA, check_tracks
from genre_spark.errors import CorpusError

# The subsets nest: the archive of the one also holds the tracks of those before it. `full` has the tracks of `large`
# in their whole length.
SUBSETS = ("small", "medium", "large", "full")

HEADER_ROWS = 3
METADATA = Path("fma_metadata", "tracks.csv")

_COLUMNS = {
    "track_id": ("", ""),
    "genre": ("track", "genre_top"),
    "artist": ("artist", "name"),
    "album": ("album", "title"),
    "split": ("set", "split"),
    "duration_s": ("track", "duration"),
    "licence": ("track", "license"),
    "subset": ("set", "subset"),
}
_CLIP_SCHEMA = pa.schema([TRACK_SCHEMA.field(name) for name in ("track_id", "uri")])
_METADATA_SCHEMA = pa.schema([TRACK_SCHEMA.field(name) for name in _COLUMNS if name != "subset"])
# A row must fit into one block; the longest biographies have some ten thousand characters. With blocks four times as
# large pyarrow holds four times as much of the file at a time (150 MB), and is no faster.
_BLOCK_BYTES = 1 << 20

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
        The track table; `genre` is FMA's top genre, `split` its own split, `duration_s` that of the whole track.

    Raises
    ------
    CorpusError
        If the subset is unknown, a folder or the metadata is missing or not FMA's, or no track has audio.
    """
    root = Path(root)
    if subset not in SUBSETS:
        raise CorpusError(f"fma: unknown subset {subset!r}; known are {', '.join(SUBSETS)}")
    if not root.is_dir():
        raise CorpusError(
            f"{root}: no such folder; unpack fma_metadata.zip and fma_{subset}.zip into it, or fetch it with --download"
        )
    audio = root / f"fma_{subset}"
    listed = _metadata(root / METADATA, subset)
    clips = _clips(audio)
    position = pc.index_in(listed["track_id"], clips["track_id"])
    table = listed.append_column("uri", clips["uri"].take(position)).filter(pc.is_valid(position))
    if not table.num_rows:
        raise CorpusError(
            f"{audio}: none of the {listed.num_rows} tracks of subset {subset} has audio here; "
            f"unpack fma_{subset}.zip into {root}, so that {audio}/000 exists, or fetch it with --download"
        )
    if table.num_rows < listed.num_rows:
        missing = listed.num_rows - table.num_rows
        logger.warning(
            "%d of %d tracks of subset %s have no audio file under %s: left out",
            missing, listed.num_rows, subset, audio,
        )  # fmt: skip
    return check_tracks(table, str(root / METADATA)).sort_by("track_id")


def _metadata(file: Path, subset: str) -> pa.Table:
    """Columns of the track table, but for `uri`, of all tracks of a subset."""
    positions = _positions(file)
    members = SUBSETS if subset in ("large", "full") else SUBSETS[: SUBSETS.index(subset) + 1]
    names = [str(position) for position in range(len(positions))]
    wanted = {name: str(positions.index(column)) for name, column in _COLUMNS.items()}
    kept: list[pa.RecordBatch] = []
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
                named = batch.rename_columns(list(wanted))
                kept.append(_cleaned(named.filter(pc.is_in(named["subset"], pa.array(members))), file))
    except pa.ArrowInvalid as error:
        reason = " ".join(str(error).split())[:200]
        raise CorpusError(f"{file}: damaged or not FMA's: {reason}; unpack fma_metadata.zip again") from None
    table = pa.Table.from_batches(kept, schema=_METADATA_SCHEMA)
    if not table.num_rows:
        raise CorpusError(f"{file}: lists no track of subset {subset}; unpack fma_metadata.zip again")
    return table


def _cleaned(batch: pa.RecordBatch, file: Path) -> pa.RecordBatch:
    numbers = batch["track_id"]
    strange = pc.invert(pc.match_substring_regex(numbers, "^[0-9]{1,18}$"))
    if pc.any(strange).as_py():
        value = numbers.filter(strange)[0].as_py()
        raise CorpusError(f"{file}: track_id {value!r} is not a number; unpack fma_metadata.zip again")
    columns = {"track_id": numbers.cast(pa.int64()).cast(pa.string())}
    for name in ("genre", "artist", "album", "split", "licence", "duration_s"):
        # Some artists' names end in a line break. What is left out is null in the track table.
        text = pc.utf8_trim_whitespace(pc.replace_substring_regex(batch[name], CONTROL_CHARACTERS, " "))
        columns[name] = pc.if_else(pc.equal(text, ""), None, text)
    seconds = columns["duration_s"].cast(pa.float64())
    # A track that lasts no time was never measured.
    columns["duration_s"] = pc.if_else(pc.equal(seconds, 0), None, seconds)
    return pa.RecordBatch.from_pydict(columns, schema=_METADATA_SCHEMA)


def _positions(file: Path) -> list[tuple[str, str]]:
    """Names of the columns, read from the two header rows."""
    try:
        with file.open(newline="", encoding="utf-8-sig") as lines:
            header = list(itertools.islice(csv.reader(lines), HEADER_ROWS))
    except FileNotFoundError:
        raise CorpusError(
            f"{file}: no such file; unpack fma_metadata.zip into {file.parent.parent}, or fetch it with --download"
        ) from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise CorpusError(f"{file}: can't be read: {error}") from None
    if len(header) < HEADER_ROWS or header[2][:1] != ["track_id"] or len({len(row) for row in header}) != 1:
        raise CorpusError(f"{file}: not FMA's tracks.csv: its third row must begin with track_id; unpack it again")
    positions = list(zip(header[0], header[1], strict=True))
    positions[0] = _COLUMNS["track_id"]
    for column in _COLUMNS.values():
        if column not in positions:
            raise CorpusError(f"{file}: column {'/'.join(column)} is missing; unpack fma_metadata.zip again")
    return positions


def _clips(audio: Path) -> pa.Table:
    """Columns `track_id` and `uri` of the clips that are there."""
    # Listing the 156 folders once takes a moment; asking for 100,000 files one by one takes minutes on a network disk.
    folders = []
    for folder in _entries(audio):
        if folder.name.isdecimal() and folder.is_dir():
            resolved = Path(folder).resolve()
            ids, uris = [], []
            for clip in _entries(Path(folder)):
                stem, dot, extension = clip.name.rpartition(".")
                if dot and stem.isdecimal() and extension == "mp3" and clip.is_file():
                    path = Path(clip).resolve() if clip.is_symlink() else resolved / clip.name
                    ids.append(str(int(stem)))
                    uris.append(path.as_uri())
            folders.append(pa.RecordBatch.from_pydict({"track_id": ids, "uri": uris}, schema=_CLIP_SCHEMA))
    # One chunk: `take` from many is slow.
    return pa.Table.from_batches(folders, schema=_CLIP_SCHEMA).combine_chunks()


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            yield from entries
    except FileNotFoundError:
        raise CorpusError(
            f"{folder}: no such folder; unpack {folder.name}.zip into {folder.parent}, or fetch it with --download"
        ) from None
    except OSError as error:
        raise CorpusError(f"{folder}: can't be listed: {error.strerror}") from None
