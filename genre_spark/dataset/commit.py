"""How a job's files become part of a dataset: all of them at once, or none.

The order is what makes it safe, on a disk and on an object store, which knows no rename of a folder:

1. `_work/<job>/commit.json` is written: what is to be moved, and the new manifest. From here on the commit is decided;
   whoever finds that file carries it out to the end.
2. The files are moved to their final names. Nobody reads them: no list of files names them yet.
3. The new list of files is written, then `extraction.json` is replaced in one step. Readers see the new commit.
4. What the list no longer names is removed.

A job that dies before 1 leaves files in `_work` that the next one takes over, as far as they are complete.
"""

import io
import json
import logging
import re
from collections.abc import Iterable, Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from genre_spark.dataset.progress import WrittenFile
from genre_spark.dataset.rows import ERRORS, FEATURES
from genre_spark.dataset.store import FILES_SCHEMA, FORMAT_VERSION, MANIFEST, Manifest
from genre_spark.dataset.table_files import read_rows
from genre_spark.errors import INSTALL_NEWER, DatasetError
from genre_spark.filesystems import masked
from genre_spark.folders import Folder

logger = logging.getLogger(__name__)

WORK = "_work"
JOURNAL = "commit.json"
ATTEMPT = "attempt.json"


def commit(folder: Folder, work: str, manifest: Manifest, kept: pa.Table, written: Iterable[WrittenFile]) -> None:
    """Make a job's files part of the dataset.

    Parameters
    ----------
    folder : Folder
        The dataset's.
    work : str
        The job's folder, by its name below it.
    manifest : Manifest
        The new one.
    kept : pa.Table
        Rows of the list of files that stay, as `FILES_SCHEMA` says.
    written : iterable of WrittenFile
        The job's files, in the order that they shall have; their names are relative to `folder`.
    """
    moves: list[tuple[str, str]] = []
    rows = kept.to_pylist()
    numbers = {FEATURES: 0, ERRORS: 0}
    for file in written:
        final = f"{file.table}/part-{manifest.commit:05d}-{numbers[file.table]:06d}.parquet"
        numbers[file.table] += 1
        moves.append((file.name, final))
        rows.append({"table": file.table, "name": final, "rows": file.rows, "bytes": file.bytes})
    journal = {"moves": moves, "files": rows, "manifest": manifest.model_dump(mode="json")}
    folder.write(f"{work}/{JOURNAL}", json.dumps(journal).encode())
    _carry_out(folder, journal)


def finish_commits(folder: Folder) -> None:
    """Carry out to the end what a job that died had decided."""
    for work in attempts(folder):
        where = f"{work}/{JOURNAL}"
        try:
            journal = json.loads(folder.read(where))
            version = journal["manifest"]["format_version"]
        except FileNotFoundError:
            continue
        except (ValueError, LookupError, TypeError):
            raise DatasetError(
                f"{masked(folder.join(where))}: can't be read: the disk is damaged; delete it to go on"
            ) from None
        if version != FORMAT_VERSION:
            raise DatasetError(
                f"{masked(folder.join(where))}: format_version={version!r}, this program writes {FORMAT_VERSION}; "
                f"{INSTALL_NEWER}"
            )
        logger.warning("%s: another job died while it committed; its commit is completed first", folder)
        _carry_out(folder, journal)


def _carry_out(folder: Folder, journal: dict[str, Any]) -> None:
    manifest = Manifest.model_validate(journal["manifest"])
    folder.move((source, target) for source, target in journal["moves"])
    listed = pa.Table.from_pylist(journal["files"], schema=FILES_SCHEMA)
    sink = io.BytesIO()
    pq.write_table(listed, sink)
    folder.write(manifest.files, sink.getvalue())
    folder.write(MANIFEST, (manifest.model_dump_json(indent=2) + "\n").encode())
    sweep(folder, manifest, set(listed["name"].to_pylist()))


def sweep(folder: Folder, manifest: Manifest, named: set[str]) -> None:
    """Remove what the dataset no longer names, and what jobs left."""
    files = [file.name for table in (FEATURES, ERRORS) for file in folder.files(table)]
    lists = [name for name in folder.names() if is_list(name) and name != manifest.files]
    folder.delete([*(name for name in files if name not in named), *lists])
    folder.delete_folder(WORK)


def is_list(name: str) -> bool:
    """Tell whether a name is one that `commit` gives lists of files: others of a like name are somebody else's."""
    return re.fullmatch(r"files-\d{5,}-[0-9a-f]{8}\.parquet", name) is not None


def attempts(folder: Folder) -> list[str]:
    """Names of the folders that jobs left, below the dataset's."""
    work = Folder(folder.join(WORK), DatasetError)
    return [f"{WORK}/{name}" for name in sorted(work.names())] if work.exists() else []


def begin_attempt(folder: Folder, work: str, fingerprint: dict[str, Any]) -> None:
    """Say what a job computes: only one that computes the same may take over what it leaves."""
    folder.write(f"{work}/{ATTEMPT}", json.dumps(fingerprint, sort_keys=True).encode())


def left_files(folder: Folder, fingerprint: dict[str, Any]) -> Iterator[tuple[str, str, pa.Table]]:
    """Yield table, name and rows of each complete file that a job of the same kind left behind."""
    wanted = json.loads(json.dumps(fingerprint))
    for work in attempts(folder):
        try:
            if json.loads(folder.read(f"{work}/{ATTEMPT}")) != wanted:
                continue
        except (FileNotFoundError, ValueError):
            continue
        for table in (FEATURES, ERRORS):
            for file in folder.files(f"{work}/{table}"):
                try:
                    yield table, file.name, read_rows(folder, table, file.name)
                except DatasetError:
                    logger.info("%s: %s is not complete, and computed anew", folder, file.name)
