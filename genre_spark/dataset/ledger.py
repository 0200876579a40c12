"""Which tracks a job has to compute, and which rows of a dataset no longer hold: track table against dataset.

The ledger is a DuckDB database in a temporary folder of the driver: a library of a hundred million tracks is compared
on the disk, with the same few hundred megabytes of memory as one of ten thousand.
"""

import logging
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa

from genre_spark.corpora.tracks import TRACK_SCHEMA
from genre_spark.dataset.identity import sizes_and_times
from genre_spark.dataset.rows import ERRORS, FEATURES, IDENTITY_SCHEMA
from genre_spark.dataset.store import Dataset
from genre_spark.dataset.track_rows import rows_of
from genre_spark.errors import CorpusError, EnvironmentSetupError
from genre_spark.filesystems import masked

logger = logging.getLogger(__name__)

MEMORY = "256MB"
_THREADS = 2

# What a row of the dataset repeats of the track table. The signal's hash is the extraction's own.
_TOLD = [name for name in TRACK_SCHEMA.names if name not in ("track_id", "pcm_hash")]
# A task's rows: the track, its file's identity, and the hash that the dataset's row was computed from.
PLAN_SCHEMA = pa.schema([*TRACK_SCHEMA, *IDENTITY_SCHEMA])
# What becomes of a row: it goes, or its track is told otherwise now. A track's new row may be joined to the file of its
# old one, so that the id alone doesn't tell which of them is meant.
CHANGE_SCHEMA = pa.schema(
    [
        pa.field("file", pa.string(), nullable=False),
        pa.field("track_id", pa.string(), nullable=False),
        pa.field("dropped", pa.bool_(), nullable=False),
        *(TRACK_SCHEMA.field(name).with_nullable(True) for name in _TOLD),
    ]
)

_TYPES = {pa.string(): "VARCHAR", pa.float64(): "DOUBLE", pa.int64(): "BIGINT", pa.bool_(): "BOOLEAN"}


def _columns(schema: pa.Schema) -> str:
    return ", ".join(f"{field.name} {_TYPES[field.type]}" for field in schema)


def _differ(one: str, other: str, names: Iterable[str]) -> str:
    return "(" + " OR ".join(f"{one}.{name} IS DISTINCT FROM {other}.{name}" for name in names) + ")"


class Ledger:
    """Track table, dataset and earlier attempts, side by side. A context manager.

    Parameters
    ----------
    by_hash : bool
        A file that looks unchanged is looked into all the same.
    """

    def __init__(self, *, by_hash: bool = False) -> None:
        self._by_hash = by_hash

    def __enter__(self) -> Self:
        try:
            import duckdb
        except ImportError:
            raise EnvironmentSetupError(
                "extraction needs DuckDB on the driver; `pip install 'genre-spark[spark]'`"
            ) from None
        self._folder = tempfile.TemporaryDirectory(prefix="genre_spark-ledger-")
        place = Path(self._folder.name)
        config: dict[str, Any] = {
            "memory_limit": MEMORY,
            "threads": _THREADS,
            "temp_directory": str(place / "spill"),
            "preserve_insertion_order": False,
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
        }
        self._database = duckdb.connect(str(place / "ledger.duckdb"), config=config)
        known = _columns(PLAN_SCHEMA)
        for table, columns in {
            "wanted": known,
            "have": f"{known}, is_error BOOLEAN, file VARCHAR",
            "found": f"{known}, is_error BOOLEAN, file VARCHAR",
            "todo": known,
            "fresh": "track_id VARCHAR, is_error BOOLEAN, file VARCHAR",
            "changes": _columns(CHANGE_SCHEMA),
        }.items():
            self._database.execute(f"CREATE TABLE {table} ({columns})")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._database.close()
        self._folder.cleanup()

    # -- what there is ------------------------------------------------------------------------------------------------

    def add_tracks(self, pieces: Iterable[pa.Table], source: str) -> int:
        """Take in the track table, with size and time of each file; return how many there are.

        Raises
        ------
        CorpusError
            If an id stands twice.
        """
        for piece in pieces:
            sizes, times = sizes_and_times(piece["uri"].to_pylist())
            table = piece.append_column("audio_bytes", sizes).append_column("audio_modified", times)
            self._insert("wanted", table.append_column("audio_hash", pa.nulls(len(table), pa.string())))
        for name, count in self._rows("SELECT track_id, count(*) FROM wanted GROUP BY 1 HAVING count(*) > 1 LIMIT 1"):
            raise CorpusError(f"{source}: track_id {name!r} stands {count} times")
        shared = "SELECT uri FROM wanted GROUP BY uri HAVING count(*) > 1"
        ((files, example),) = self._rows(f"SELECT count(*), min(uri) FROM ({shared})")
        if files:
            logger.warning(
                "%s: %d files stand for more than one track each, such as %s: a random split can put a file on both "
                "sides", source, files, masked(example),
            )  # fmt: skip
        return self._count("wanted")

    def add_dataset(self, dataset: Dataset) -> None:
        """Take in what a dataset holds."""
        files = [(table, name) for table in (FEATURES, ERRORS) for name in dataset.names(table)]
        for table, name, rows in rows_of(dataset.folder, files):
            self._insert("have", _known(rows, table, name))

    def add_found(self, table: str, name: str, rows: pa.Table) -> None:
        """Take in a file that an earlier attempt left."""
        self._insert("found", _known(rows, table, name))

    def add_fresh(self, table: str, name: str, ids: pa.ChunkedArray) -> None:
        """Take in what a file of this job holds."""
        count = len(ids)
        rows = pa.table({"track_id": ids, "is_error": [table == ERRORS] * count, "file": [name] * count})
        self._insert("fresh", rows)

    # -- what is to be done -------------------------------------------------------------------------------------------

    def plan(self, *, retry_errors: bool) -> list[tuple[str, str]]:
        """Decide what is to be computed.

        Parameters
        ----------
        retry_errors : bool
            Try tracks again that are error rows, though their files are as they were.

        Returns
        -------
        list of (str, str)
            Table and name of the files of earlier attempts that hold a part of it already, and that are as good.
        """
        changed = _differ("w", "h", ("audio_bytes", "audio_modified"))
        # The audio of a row that was computed may be in an archive by now: that is no change.
        conditions = [f"w.audio_bytes IS NOT NULL AND {changed}", "h.is_error AND w.uri IS DISTINCT FROM h.uri"]
        if retry_errors:
            conditions.append("h.is_error")
        if self._by_hash:
            conditions.append("NOT h.is_error AND w.audio_bytes IS NOT NULL")
        columns = ", ".join(f"w.{name}" for name in (*TRACK_SCHEMA.names, "audio_bytes", "audio_modified"))
        self._database.execute(
            f"INSERT INTO todo SELECT {columns}, h.audio_hash FROM wanted w LEFT JOIN have h USING (track_id) "
            f"WHERE h.track_id IS NULL OR {' OR '.join(f'({each})' for each in conditions)}"
        )
        accepted = self._accept_found(with_errors=not retry_errors)
        self._database.execute("DELETE FROM todo WHERE track_id IN (SELECT track_id FROM fresh)")
        return accepted

    def _accept_found(self, *, with_errors: bool) -> list[tuple[str, str]]:
        """Take files of earlier attempts whose rows are all wanted, as they are, and in no other such file."""
        same = "NOT " + _differ("t", "f", (*_TOLD, "audio_bytes", "audio_modified"))
        same_error = "NOT " + _differ("t", "f", ("uri", "audio_bytes", "audio_modified"))
        errors_too = "TRUE" if with_errors else "NOT f.is_error"
        self._database.execute(
            f"""
            INSERT INTO fresh
            WITH fit AS (
                SELECT f.track_id, f.is_error, f.file,
                       t.track_id IS NOT NULL AND {errors_too}
                       AND CASE WHEN f.is_error THEN {same_error} ELSE {same} END AS is_wanted
                FROM found f LEFT JOIN todo t USING (track_id)
            ), whole AS (
                SELECT track_id, is_error, file, min(file) OVER (PARTITION BY track_id) = file AS is_first
                FROM fit WHERE file IN (SELECT file FROM fit GROUP BY file HAVING bool_and(is_wanted))
            )
            SELECT track_id, is_error, file FROM whole
            WHERE file IN (SELECT file FROM whole GROUP BY file HAVING bool_and(is_first))
            """
        )
        rows = self._rows("SELECT DISTINCT is_error, file FROM fresh ORDER BY file")
        return [(ERRORS if is_error else FEATURES, name) for is_error, name in rows]

    def tasks(self, sizes: Sequence[int]) -> Iterator[pa.Table]:
        """Yield the tracks to be computed, task by task, of the sizes that are named.

        In the order of a hash, which mixes long and short clips, and does not depend on the table's order.
        """
        names = ", ".join(PLAN_SCHEMA.names)
        # One thread for a fixed order; only so many rows are in memory as a task has.
        reader = self._database.sql(f"SELECT {names} FROM todo ORDER BY md5(track_id), track_id").to_arrow_reader(
            max(sizes, default=1)
        )
        held = PLAN_SCHEMA.empty_table()
        for size in sizes:
            while len(held) < size:
                batch = pa.Table.from_batches([reader.read_next_batch()]).cast(PLAN_SCHEMA)
                held = pa.concat_tables([held, batch])
            yield held.slice(0, size)
            held = held.slice(size)

    # -- what no longer holds -----------------------------------------------------------------------------------------

    def note_changes(self, *, prune: bool) -> None:
        """Note which rows of the dataset are replaced, or (with `prune`) no longer wanted, or told otherwise now."""
        told = ", ".join(f"w.{name}" for name in _TOLD)
        nothing = ", ".join("NULL" for _ in _TOLD)
        pruned = "h.track_id NOT IN (SELECT track_id FROM wanted)" if prune else "FALSE"
        self._database.execute(
            f"INSERT INTO changes SELECT h.file, h.track_id, TRUE, {nothing} FROM have h "
            f"WHERE h.track_id IN (SELECT track_id FROM fresh) OR {pruned}"
        )
        self._database.execute(
            f"INSERT INTO changes SELECT h.file, h.track_id, FALSE, {told} FROM have h JOIN wanted w USING (track_id) "
            f"WHERE NOT h.is_error AND {_differ('h', 'w', _TOLD)} AND h.track_id NOT IN (SELECT track_id FROM fresh)"
        )

    def changed_files(self) -> set[str]:
        """Names of the dataset's files that hold rows which change."""
        return {name for (name,) in self._rows("SELECT DISTINCT file FROM changes")}

    def changes_of(self, files: Iterable[str]) -> pa.Table:
        """The changes to the rows of some files, as `CHANGE_SCHEMA` says."""
        names = ", ".join(CHANGE_SCHEMA.names)
        query = f"SELECT {names} FROM changes WHERE file IN (SELECT unnest(?))"
        found: pa.Table = self._database.sql(query, params=[list(files)]).to_arrow_table()
        return found.cast(CHANGE_SCHEMA)

    # -- counts -------------------------------------------------------------------------------------------------------

    @property
    def to_compute(self) -> int:
        """Tracks that no row and no file of an earlier attempt answers for."""
        return self._count("todo")

    @property
    def salvaged(self) -> int:
        """Tracks that files of earlier attempts answer for; asked before the job's own files are added."""
        return self._count("fresh")

    def counts(self) -> dict[str, int]:
        """Rows that are replaced or dropped (`dropped`), told otherwise (`told`), and not in the table (`unwanted`)."""
        ((dropped, told),) = self._rows(
            "SELECT coalesce(sum(dropped::INT), 0), coalesce(sum((NOT dropped)::INT), 0) FROM changes"
        )
        unwanted = self._count("have WHERE track_id NOT IN (SELECT track_id FROM wanted)")
        return {"dropped": int(dropped), "told": int(told), "unwanted": unwanted}

    @property
    def standing(self) -> int:
        """Tracks that the dataset has after the changes, those of the job's own files among them."""
        return self._count("have") - self._count("changes WHERE dropped") + self._count("fresh")

    def missing(self) -> tuple[int, str | None]:
        """How many tracks were to be computed and stand in no file of this job, and the first of them."""
        ((count, first),) = self._rows(
            "SELECT count(*), min(track_id) FROM todo WHERE track_id NOT IN (SELECT track_id FROM fresh)"
        )
        return int(count), first

    def twice(self) -> str | None:
        """Tell the first track that stands in the files of this job more than once, if any does."""
        ((first,),) = self._rows(
            "SELECT min(track_id) FROM (SELECT track_id FROM fresh GROUP BY 1 HAVING count(*) > 1)"
        )
        return None if first is None else str(first)

    def _insert(self, name: str, rows: pa.Table) -> None:
        if len(rows):
            self._database.register("rows", rows)
            self._database.execute(f"INSERT INTO {name} BY NAME SELECT * FROM rows")
            self._database.unregister("rows")

    def _rows(self, query: str) -> list[tuple[Any, ...]]:
        return self._database.execute(query).fetchall()

    def _count(self, of: str) -> int:
        ((count,),) = self._rows(f"SELECT count(*) FROM {of}")
        return int(count)


def _known(rows: pa.Table, table: str, name: str) -> pa.Table:
    columns = {field.name: _column(rows, field.name).cast(field.type) for field in PLAN_SCHEMA}
    count = len(rows)
    return pa.table(columns | {"is_error": pa.array([table == ERRORS] * count), "file": pa.array([name] * count)})


def _column(rows: pa.Table, name: str) -> pa.ChunkedArray | pa.Array:
    return rows[name] if name in rows.column_names else pa.nulls(len(rows), PLAN_SCHEMA.field(name).type)
