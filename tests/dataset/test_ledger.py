"""The ledger's queries against the same rules in plain Python."""

import os
from itertools import chain

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from genre_spark.corpora.tracks import TRACK_SCHEMA, check_tracks
from genre_spark.dataset.ledger import Ledger
from genre_spark.dataset.rows import ERROR_SCHEMA, ERRORS, FEATURES, ROW_SCHEMA
from genre_spark.dataset.store import FILES_SCHEMA, Dataset
from genre_spark.errors import CorpusError, DatasetError
from genre_spark.folders import Folder

# Two are of one size, two of one time, and the last one is missing.
SIZES_AND_TIMES = [(1, 100.0), (1, 200.0), (2, 200.5), (None, None)]
IDS = ["a", "b", "c", "ö'", "e", "f", "g"]
FILES = ["_work/1/errors/f", "_work/1/features/f", "_work/2/features/f", "_work/2/features/g"]


@pytest.fixture(scope="module")
def audio(tmp_path_factory):
    folder = tmp_path_factory.mktemp("audio")
    for number, (size, time) in enumerate(SIZES_AND_TIMES):
        if size is not None:
            (folder / str(number)).write_bytes(bytes(size))
            os.utime(folder / str(number), (0, time))
    return [(folder / str(number)).as_uri() for number in range(len(SIZES_AND_TIMES))]


@st.composite
def states(draw):
    """A track: where its file is said to be, what the file was when it was looked at, and its genre."""
    uri, seen = draw(st.integers(0, 3)), draw(st.integers(0, 3))
    return uri, draw(st.sampled_from([uri, seen])), draw(st.sampled_from([None, "Folk", "Rock"]))


def row_of(audio, name, state):
    uri, seen, genre = state
    size, time = SIZES_AND_TIMES[seen]
    return {"track_id": name, "uri": audio[uri], "genre": genre, "audio_bytes": size, "audio_modified": time}


def as_table(audio, rows, *, is_error):
    rows = [row_of(audio, name, state) for name, state in rows.items()]
    if not is_error:
        return pa.Table.from_pylist(rows, schema=ROW_SCHEMA)
    rows = [
        {key: value for key, value in row.items() if key != "genre"} | {"error": "E", "detail": "d"} for row in rows
    ]
    return pa.Table.from_pylist(rows, schema=ERROR_SCHEMA)


def tracks_of(audio, wanted):
    rows = [{"track_id": name, "uri": audio[uri], "genre": genre} for name, (uri, _, genre) in wanted.items()]
    return check_tracks(pa.Table.from_pylist(rows, schema=TRACK_SCHEMA), "test")


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    wanted=st.dictionaries(st.sampled_from(IDS), states(), min_size=4),
    have=st.dictionaries(st.sampled_from(IDS), st.tuples(st.booleans(), states()), min_size=3),
    found=st.dictionaries(
        st.sampled_from(FILES), st.dictionaries(st.sampled_from(IDS), states(), min_size=1, max_size=2), min_size=1
    ),
    retry=st.booleans(),
    by_hash=st.booleans(),
    prune=st.booleans(),
    copied=st.booleans(),
    moved=st.booleans(),
)
def test_what_is_computed_taken_over_dropped_and_told_follows_the_rules(
    audio, tmp_path, wanted, have, found, retry, by_hash, prune, copied, moved
):
    wanted = {name: (uri, uri, genre) for name, (uri, _, genre) in wanted.items()}
    if copied:  # or hardly any file would be one that is wanted
        found = {file: {name: wanted.get(name, state) for name, state in rows.items()} for file, rows in found.items()}
    if moved:  # of the audio that the rows know, under another name perhaps
        have = {
            name: (failed, (uri, wanted.get(name, (0, seen))[1], genre))
            for name, (failed, (uri, seen, genre)) in have.items()
        }
    folder = Folder(tmp_path, DatasetError)
    listed = []
    for table, is_error in ((FEATURES, False), (ERRORS, True)):
        rows = {name: state for name, (failed, state) in have.items() if failed == is_error}
        with folder.created(f"{table}/part.parquet") as file:
            pq.write_table(as_table(audio, rows, is_error=is_error), file)
        listed.append({"table": table, "name": f"{table}/part.parquet", "rows": len(rows), "bytes": 0})
    with Ledger(by_hash=by_hash) as ledger:
        assert ledger.add_tracks([tracks_of(audio, wanted)], "test") == len(wanted)
        ledger.add_dataset(Dataset(folder, None, pa.Table.from_pylist(listed, schema=FILES_SCHEMA)))
        for file, rows in found.items():
            is_error = ERRORS in file
            ledger.add_found(ERRORS if is_error else FEATURES, file, as_table(audio, rows, is_error=is_error))
        taken = ledger.plan(retry_errors=retry)

        todo = set()
        for name, (uri, seen, _) in wanted.items():
            failed, (old_uri, old_seen, _) = have.get(name, (True, (-1, -1, None)))
            changed = SIZES_AND_TIMES[seen] != (None, None) and seen != old_seen
            again = (uri != old_uri or retry) if failed else (by_hash and seen != 3)
            if name not in have or changed or again:
                todo.add(name)

        def fits(file, name, state):
            if ERRORS in file:
                return name in todo and not retry and state[:2] == wanted[name][:2]
            return name in todo and state == wanted[name]

        whole = sorted(file for file, rows in found.items() if all(fits(file, *item) for item in rows.items()))
        first = {name: file for file in reversed(whole) for name in found[file]}
        accepted = [file for file in whole if all(first[name] == file for name in found[file])]
        assert [name for _, name in taken] == accepted
        assert [table for table, _ in taken] == [ERRORS if ERRORS in file else FEATURES for file in accepted]
        salvaged = set(chain.from_iterable(found[file] for file in accepted))
        todo -= salvaged
        assert (ledger.salvaged, ledger.to_compute) == (len(salvaged), len(todo))

        sizes = [3, *[1] * (len(todo) - 3)] if len(todo) > 3 else [len(todo)] * bool(todo)
        tasks = list(ledger.tasks(sizes))
        assert sorted(name for task in tasks for name in task["track_id"].to_pylist()) == sorted(todo)
        assert [len(task) for task in tasks] == sizes
        assert ledger.twice() is None
        assert ledger.missing() == (len(todo), min(todo, default=None))
        if todo:
            ledger.add_fresh(FEATURES, "new", pa.chunked_array([sorted(todo)]))
        assert ledger.missing() == (0, None)

        ledger.note_changes(prune=prune)
        fresh = todo | salvaged
        dropped = {name for name in have if name in fresh or (prune and name not in wanted)}
        told = {
            name: wanted[name]
            for name, (failed, (uri, _, genre)) in have.items()
            if not failed and name in wanted and name not in fresh and (uri, genre) != wanted[name][::2]
        }
        counts = {"dropped": len(dropped), "told": len(told), "unwanted": len(have.keys() - wanted.keys())}
        assert ledger.counts() == counts
        assert ledger.standing == len(have) - len(dropped) + len(fresh)
        files = {f"{ERRORS if have[name][0] else FEATURES}/part.parquet" for name in {*dropped, *told}}
        assert ledger.changed_files() == files
        changes = ledger.changes_of(files).to_pylist()
        assert {row["track_id"] for row in changes if row["dropped"]} == dropped
        assert {row["track_id"]: (row["uri"], row["genre"]) for row in changes if not row["dropped"]} == {
            name: (audio[uri], genre) for name, (uri, _, genre) in told.items()
        }


def test_a_track_in_two_new_files_is_noticed(audio):
    with Ledger() as ledger:
        ledger.add_tracks([tracks_of(audio, {"a": (0, 0, None), "b": (1, 1, None)})], "test")
        ledger.plan(retry_errors=False)
        ledger.add_fresh(FEATURES, "one", pa.chunked_array([["a", "b"]]))
        assert ledger.twice() is None
        ledger.add_fresh(ERRORS, "two", pa.chunked_array([["b"]]))
        assert ledger.twice() == "b"


def test_an_id_that_stands_in_two_pieces_of_the_table_is_named(audio):
    piece = tracks_of(audio, {"a": (0, 0, None)})
    with Ledger() as ledger, pytest.raises(CorpusError, match="library: track_id 'a' stands 2 times"):
        ledger.add_tracks([piece, piece], "library")


def test_tasks_are_the_same_whatever_the_order_of_the_table(audio):
    names = [f"track {number}" for number in range(5_000)]
    sizes = [64] * 70 + [32] * 16 + [8]
    cut = []
    for order in (names, names[::-1]):
        with Ledger() as ledger:
            table = tracks_of(audio, dict.fromkeys(order, (0, 0, None)))
            ledger.add_tracks([table.slice(begin, 700) for begin in range(0, 5_000, 700)], "test")
            ledger.plan(retry_errors=False)
            cut.append([task["track_id"].to_pylist() for task in ledger.tasks(sizes)])
    assert cut[0] == cut[1]
    assert [len(task) for task in cut[0]] == sizes
    assert sorted(chain.from_iterable(cut[0])) == sorted(names)
    assert cut[0][0] != names[:64], "long and short clips are mixed"
