"""The track table: which tracks exist, one row each, in a fixed schema."""

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from genre_spark.errors import CorpusError
from genre_spark.files import complete_file

# `genre` is null when unknown; `split` is the corpus's own (training, validation, test), null where it has none.
TRACK_SCHEMA = pa.schema(
    [
        pa.field("track_id", pa.string(), nullable=False),
        pa.field("uri", pa.string(), nullable=False),
        pa.field("genre", pa.string()),
        pa.field("artist", pa.string()),
        pa.field("album", pa.string()),
        pa.field("split", pa.string()),
    ]
)

PARTS = ("training", "validation", "test")


def track_table(rows: list[dict[str, str | None]], source: str) -> pa.Table:
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
    table = pa.Table.from_pylist(rows, schema=TRACK_SCHEMA)
    return check_tracks(table, source).sort_by("track_id")


def check_tracks(table: pa.Table, source: str) -> pa.Table:
    """Return `table` in `TRACK_SCHEMA`, or say what is wrong with it.

    Raises
    ------
    CorpusError
        If a column is missing or of another type, the table is empty, an id or uri is empty, an id stands twice, or
        a split is none of `PARTS`.
    """
    missing = [name for name in TRACK_SCHEMA.names if name not in table.column_names]
    if missing:
        raise CorpusError(f"{source}: not a track table: column {missing[0]!r} is missing")
    try:
        table = table.select(TRACK_SCHEMA.names).cast(TRACK_SCHEMA)
    except (pa.ArrowException, ValueError) as error:
        raise CorpusError(f"{source}: not a track table: {' '.join(str(error).split())}") from None
    if table.num_rows == 0:
        raise CorpusError(f"{source}: no tracks")
    for name in ("track_id", "uri"):
        if pc.any(pc.equal(table[name], "")).as_py():
            raise CorpusError(f"{source}: a row has an empty {name}")
    counts = table["track_id"].value_counts()
    twice = counts.filter(pc.greater(counts.field("counts"), 1))
    if len(twice):
        raise CorpusError(f"{source}: track_id {twice[0]['values'].as_py()!r} stands {twice[0]['counts']} times")
    known_split = pc.or_kleene(pc.is_null(table["split"]), pc.is_in(table["split"], pa.array(PARTS)))
    if not pc.all(known_split).as_py():
        strange = table.filter(pc.invert(known_split))["split"][0].as_py()
        raise CorpusError(f"{source}: split {strange!r} is none of {', '.join(PARTS)}")
    return table


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
    if not path.is_file():
        raise CorpusError(f"{path}: no such track table; make one with `genre-spark corpus ... --out {path}`")
    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise CorpusError(f"{path}: not a Parquet file: {' '.join(str(error).split())}") from None
    return check_tracks(table, str(path))


def tracks_digest(table: pa.Table) -> str:
    """SHA-256 over the rows in the order of `track_id`: 16 hexadecimal digits of it."""
    digest = hashlib.sha256()
    for row in table.select(TRACK_SCHEMA.names).sort_by("track_id").to_pylist():
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
    chosen = check_genres(genres, table["genre"].drop_null().unique().to_pylist())
    return table.filter(pc.is_in(table["genre"], pa.array(chosen)))
