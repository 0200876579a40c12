"""The track table: which tracks exist, one row each, in a fixed schema.

Spark's workers only need the schema: `pyarrow.compute`, 45 ms to import, is left to the functions that use it.
"""

import hashlib
import logging
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from genre_spark.errors import CorpusError
from genre_spark.files import complete_file
from genre_spark.filesystems import is_remote, masked, remote_address

# All but the first two are null where unknown. `split` is the corpus's own (training, validation, test). `duration_s`
# is what the corpus says, of the whole track: FMA's clips are shorter. `pcm_hash` is the decoded signal's, known once
# the audio was read: tracks with the same one are copies of each other.
TRACK_SCHEMA = pa.schema(
    [
        pa.field("track_id", pa.string(), nullable=False),
        pa.field("uri", pa.string(), nullable=False),
        pa.field("genre", pa.string()),
        pa.field("artist", pa.string()),
        pa.field("album", pa.string()),
        pa.field("split", pa.string()),
        pa.field("duration_s", pa.float64()),
        pa.field("licence", pa.string()),
        pa.field("pcm_hash", pa.string()),
    ]
)
# A table made by hand or by an earlier version may lack the others.
REQUIRED_COLUMNS = ("track_id", "uri", "genre")

PARTS = ("training", "validation", "test")

# What people, terminals and pages are shown. Control characters break lines, and those of writing direction make a name
# read as another one; emoji, accents and punctuation are names as good as any.
NAME_COLUMNS = ("track_id", "genre", "artist", "album")
CONTROL_CHARACTERS = r"[\x00-\x1f\x7f-\x{9f}\x{61c}\x{200e}\x{200f}\x{2028}-\x{202e}\x{2066}-\x{2069}]"

logger = logging.getLogger(__name__)

_ROWS_PER_PIECE = 50_000


def track_table(rows: list[dict[str, Any]], source: str) -> pa.Table:
    """Build and check a track table from rows, sorted by `track_id`.

    Parameters
    ----------
    rows : list of dict
        Keys are columns of `TRACK_SCHEMA`; one that is left out is null.
    source : str
        What the rows were read from, for the error messages.

    Raises
    ------
    CorpusError
        If there is no row, an id stands twice, or a value is impossible.
    """
    try:
        table = pa.Table.from_pylist(rows, schema=TRACK_SCHEMA)
    except UnicodeEncodeError as error:
        raise CorpusError(f"{source}: {error.object!r} holds half a character (a lone surrogate); rename it") from None
    return check_tracks(table, source).sort_by("track_id")


def check_tracks(table: pa.Table, source: str) -> pa.Table:
    """Return `table` in `TRACK_SCHEMA`, columns that it may lack filled with nulls, or say what is wrong with it.

    Raises
    ------
    CorpusError
        If a column is missing or of another type, the table is empty, an id or uri is empty, an id stands twice, a
        split is none of `PARTS`, a name holds control characters, a uri credentials, or a duration is impossible.
    """
    import pyarrow.compute as pc

    if table.num_rows == 0:
        raise CorpusError(f"{source}: no tracks")
    table = check_tracks_piece(table, source)
    counts = table["track_id"].value_counts()
    twice = counts.filter(pc.greater(counts.field("counts"), 1))
    if len(twice):
        raise CorpusError(f"{source}: track_id {twice[0]['values'].as_py()!r} stands {twice[0]['counts']} times")
    _warn_of_alike_genres(table, source)
    _warn_of_shared_files(table, source)
    return table


def check_tracks_piece(table: pa.Table, source: str) -> pa.Table:
    """Return some rows of a track table in `TRACK_SCHEMA`, or say what is wrong with one of them, as `check_tracks`."""
    import pyarrow.compute as pc

    for field in TRACK_SCHEMA:
        if field.name not in table.column_names:
            if field.name in REQUIRED_COLUMNS:
                raise CorpusError(f"{source}: not a track table: column {field.name!r} is missing")
            table = table.append_column(field, pa.nulls(table.num_rows, field.type))
    try:
        table = table.select(TRACK_SCHEMA.names).cast(TRACK_SCHEMA)
        table.validate(full=True)  # text in a file of another's making may be no UTF-8
    except (pa.ArrowException, ValueError) as error:
        raise CorpusError(f"{source}: not a track table: {' '.join(str(error).split())}") from None
    for name in ("track_id", "uri"):
        if pc.any(pc.equal(table[name], "")).as_py():
            raise CorpusError(f"{source}: a row has an empty {name}")
    known_split = pc.or_kleene(pc.is_null(table["split"]), pc.is_in(table["split"], pa.array(PARTS)))
    if not pc.all(known_split).as_py():
        strange = table.filter(pc.invert(known_split))["split"][0].as_py()
        raise CorpusError(f"{source}: split {strange!r} is none of {', '.join(PARTS)}")
    duration = table["duration_s"]
    if not pc.all(pc.and_(pc.is_finite(duration), pc.greater_equal(duration, 0)), min_count=0).as_py():
        raise CorpusError(f"{source}: a duration_s is negative or no number; leave it empty where it is unknown")
    _check_names(table, source)
    _check_addresses(table, source)
    return table


def _check_names(table: pa.Table, source: str) -> None:
    import pyarrow.compute as pc

    for name in NAME_COLUMNS:
        odd = pc.match_substring_regex(table[name], CONTROL_CHARACTERS)
        if pc.any(odd).as_py():
            value = table.filter(odd)[name][0].as_py()
            raise CorpusError(f"{source}: {name} {value!a} holds control characters; rename it")


def _check_addresses(table: pa.Table, source: str) -> None:
    import pyarrow.compute as pc

    # A track table is copied, shown and kept. Only an address with one of these characters can hold credentials.
    remote = pc.match_substring_regex(table["uri"], r"(?is)^[a-z][a-z0-9+.-]*://([^/]*[:@]|.*[?#])")
    for address in table.filter(remote)["uri"].to_pylist():
        if is_remote(address):
            try:
                remote_address(address, CorpusError)
            except CorpusError as error:
                raise CorpusError(f"{source}: {error}") from None


def _warn_of_alike_genres(table: pa.Table, source: str) -> None:
    seen: dict[str, str] = {}
    for genre in sorted(table["genre"].drop_null().unique().to_pylist()):
        plain = "".join(unicodedata.normalize("NFKC", genre).casefold().split())
        if plain in seen:
            logger.warning(
                "%s: genres %a and %a differ only in case, blanks or Unicode form and are surely one: rename one",
                source, seen[plain], genre,
            )  # fmt: skip
        seen.setdefault(plain, genre)


def _warn_of_shared_files(table: pa.Table, source: str) -> None:
    import pyarrow.compute as pc

    counts = table["uri"].value_counts()
    shared = counts.filter(pc.greater(counts.field("counts"), 1))
    if len(shared):
        logger.warning(
            "%s: %d files stand for more than one track each, such as %s: a random split can put a file on both sides",
            source, len(shared), masked(shared[0]["values"].as_py()),
        )  # fmt: skip


def write_tracks(table: pa.Table, path: Path) -> None:
    """Write a track table; the file appears under its name only when it is complete."""
    with complete_file(path, CorpusError) as partial:
        pq.write_table(table, partial)


def read_tracks(path: Path) -> pa.Table:
    """Read and check a track table.

    Raises
    ------
    CorpusError
        If there is no such file, or it is no track table.
    """
    _check_is_file(path)
    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise _not_parquet(path, error) from None
    return check_tracks(table, str(path))


def _check_is_file(path: Path) -> None:
    if path.is_dir():
        raise CorpusError(
            f"{path}: is a folder, not a track table; make one of the music in it with "
            f"`genre-spark corpus folder --root {path} --out tracks.parquet`"
        )
    if not path.is_file():
        raise CorpusError(f"{path}: no such track table; make one with `genre-spark corpus ... --out {path}`")


def _not_parquet(path: Path, error: Exception) -> CorpusError:
    made = ""
    if path.suffix.lower() in (".csv", ".tsv", ".txt"):
        made = f"; make a track table of it with `genre-spark corpus folder --root DIR --table {path}`"
    return CorpusError(f"{path}: not a Parquet file: {' '.join(str(error).split())}{made}")


def stream_tracks(tracks: pa.Table | Path, source: str) -> Iterator[pa.Table]:
    """Yield a track table in checked pieces: a library of any size in the same memory.

    What only the whole table shows is left to the reader: an id that stands twice, genres that differ in case alone.

    Parameters
    ----------
    tracks : pa.Table or Path
        A track table, or its file.
    source : str
        For the error messages.

    Raises
    ------
    CorpusError
        If there is no such file, or it is no track table.
    """
    if isinstance(tracks, pa.Table):
        check_tracks(tracks, source)
        yield from (
            check_tracks_piece(tracks.slice(begin, _ROWS_PER_PIECE), source)
            for begin in range(0, tracks.num_rows, _ROWS_PER_PIECE)
        )
        return
    _check_is_file(tracks)
    count = 0
    try:
        with pq.ParquetFile(tracks) as file:
            for batch in file.iter_batches(_ROWS_PER_PIECE):
                count += len(batch)
                yield check_tracks_piece(pa.Table.from_batches([batch]), source)
    except (pa.ArrowException, OSError) as error:
        raise _not_parquet(tracks, error) from None
    if count == 0:
        raise CorpusError(f"{source}: no tracks")


def tracks_digest(table: pa.Table, columns: Sequence[str] = tuple(TRACK_SCHEMA.names)) -> str:
    """SHA-256 over the rows in the order of `track_id`: 16 hexadecimal digits of it."""
    digest = hashlib.sha256()
    for row in table.select(list(columns)).sort_by("track_id").to_pylist():
        digest.update(repr(tuple(row.values())).encode())
    return digest.hexdigest()[:16]


def check_genres(genres: Sequence[str], known: Iterable[str]) -> list[str]:
    """Return `genres` if all of them are known.

    Raises
    ------
    CorpusError
        If one is not; the message names it and the known ones.
    """
    known = sorted(known)
    unknown = [genre for genre in genres if genre not in known]
    if unknown or not genres:
        what = f"unknown genre {unknown[0]!r}" if unknown else "no genre is named"
        raise CorpusError(f"{what}; known are {', '.join(known)}")
    return list(genres)


def keep_genres(table: pa.Table, genres: Sequence[str]) -> pa.Table:
    """Keep the tracks of some genres.

    Raises
    ------
    CorpusError
        If no track has one of them.
    """
    import pyarrow.compute as pc

    chosen = check_genres(genres, table["genre"].drop_null().unique().to_pylist())
    return table.filter(pc.is_in(table["genre"], pa.array(chosen)))
