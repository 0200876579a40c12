"""The leak audit: known answers, a count by brute force, and real corpora."""

import csv
import os
from itertools import combinations
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from genre_spark.corpora.groups import KINDS, group_tracks
from genre_spark.corpora.leaks import CROSSING_SCHEMA, LeakAudit, assert_no_leak, audit_leaks, crossing_tracks
from genre_spark.corpora.splits import SPLIT_SCHEMA, make_split
from genre_spark.corpora.tracks import PARTS, track_table
from genre_spark.errors import SplitError
from genre_spark.settings import SplitSettings

DATA = Path(__file__).parents[3] / "shared" / "data"
TRAINING, VALIDATION, TEST = PARTS

# artist, album, pcm_hash, part
ROWS = [
    ("A", "x", "01", TRAINING),
    ("a ", "x", "02", TRAINING),
    ("A", "x", "03", TEST),
    ("B", "live", "04", VALIDATION),
    ("B", "live", "05", TEST),
    ("B", None, "06", TEST),
    ("C", "Live", "07", TRAINING),
    ("D", "d", "08", TRAINING),
    ("E", "e", "08", VALIDATION),
    (None, " ", None, TRAINING),
    (None, None, None, TEST),
]


def corpus(rows):
    """Track table and split from (artist, album, pcm_hash, part)."""
    tracks = track_table(
        [
            {"track_id": f"{number:04}", "uri": f"file:///{number}", "genre": "g"}
            | {"artist": artist, "album": album, "pcm_hash": pcm, "split": part}
            for number, (artist, album, pcm, part) in enumerate(rows)
        ],
        "test",
    )
    return tracks, pa.table([tracks["track_id"], tracks["genre"], tracks["split"]], schema=SPLIT_SCHEMA)


def test_every_number_of_a_small_audit_is_right():
    audit = audit_leaks(*corpus(ROWS))
    assert audit.judged == "test"
    assert audit.tracks == {"training": 5, "validation": 2, "test": 4}
    assert (audit.tracks_not_found, audit.tracks_without_artist) == (0, 2)
    assert (audit.tracks_without_album, audit.tracks_without_pcm_hash) == (3, 2)
    assert audit.by == KINDS
    # crossing, tracks, test tracks with a fellow in training
    assert {kind: (leak.crossing, leak.tracks, leak.judged_with_fellow) for kind, leak in audit.kinds.items()} == {
        "artist": (2, 6, 1),
        "album": (2, 6, 2),
        "pcm": (1, 2, 0),
        "group": (3, 9, 3),
    }
    assert {border: (leak.crossing, leak.tracks) for border, leak in audit.kinds["album"].borders.items()} == {
        "training-validation": (1, 2),
        "training-test": (2, 5),
        "validation-test": (1, 2),
    }
    assert [(example.value, example.tracks) for example in audit.kinds["group"].examples] == [
        ("artist B and 1 more", {"training": 1, "validation": 1, "test": 2}),
        ("artist A", {"training": 2, "test": 1}),
        ("artist D and 1 more", {"training": 1, "validation": 1}),
    ]
    assert [example.value for example in audit.kinds["pcm"].examples] == ["0007"]


def test_every_crossing_track_is_listed_in_a_stable_order():
    tracks, split = corpus(ROWS)
    table = crossing_tracks(tracks, split)
    assert table.schema == CROSSING_SCHEMA
    rows = [tuple(row.values()) for row in table.to_pylist()]
    assert rows[:3] == [
        ("artist", "A", "0000", TRAINING),
        ("artist", "A", "0001", TRAINING),
        ("artist", "A", "0002", TEST),
    ]
    assert rows[6:9] == [
        ("album", "live", "0003", VALIDATION),
        ("album", "live", "0004", TEST),
        ("album", "live", "0006", TRAINING),
    ]
    assert rows[12:14] == [("pcm", "0007", "0007", TRAINING), ("pcm", "0007", "0008", VALIDATION)]
    assert len(rows) == 6 + 6 + 2 + 9
    backwards = list(reversed(range(len(ROWS))))
    assert crossing_tracks(tracks.take(backwards), split.take(backwards)).equals(table)
    assert audit_leaks(tracks.take(backwards), split.take(backwards)) == audit_leaks(tracks, split)


def test_an_audit_comes_back_from_json_and_can_not_be_changed():
    audit = audit_leaks(*corpus(ROWS), ["artist", "pcm"])
    assert LeakAudit.model_validate_json(audit.model_dump_json()) == audit
    with pytest.raises(ValidationError, match="frozen"):
        audit.judged = "validation"


def test_groups_are_joined_by_what_is_asked_for():
    tracks, split = corpus(ROWS)
    assert audit_leaks(tracks, split, ["artist"]).kinds["group"].crossing == 2
    assert audit_leaks(tracks, split, ["album"]).kinds["group"].examples[0].value == "album live"
    assert audit_leaks(tracks, split, ["album"]).kinds["artist"].crossing == 2


def test_without_a_test_part_the_validation_part_is_judged():
    rows = [("A", None, None, TRAINING), ("A", None, None, VALIDATION), ("B", None, None, VALIDATION)]
    audit = audit_leaks(*corpus(rows))
    assert audit.judged == "validation"
    assert audit.kinds["artist"].judged_with_fellow == 1
    assert list(audit.kinds["artist"].borders) == ["training-validation"]


def test_the_examples_are_those_that_concern_most_judged_tracks():
    rows = [(f"artist {n}", None, None, part) for n in range(20) for part in [TRAINING, *[TEST] * n]]
    examples = audit_leaks(*corpus(rows)).kinds["artist"].examples
    assert [example.value for example in examples] == [f"artist {n}" for n in range(19, 9, -1)]
    assert examples[0].tracks == {"training": 1, "test": 19}


def test_only_tracks_of_the_split_are_looked_at_and_those_that_the_table_lacks_are_counted():
    tracks, split = corpus(ROWS)
    audit = audit_leaks(tracks, split.slice(3))
    assert audit.tracks_not_found == 0
    assert audit.kinds["artist"].examples[0].value == "B"
    audit = audit_leaks(tracks.slice(3), split)
    assert audit.tracks_not_found == 3
    assert audit.kinds["artist"].crossing == 1
    with pytest.raises(SplitError, match="the track table has none of the split's tracks; they don't belong together"):
        audit_leaks(tracks.slice(0, 3), split.slice(3))


def test_a_split_of_other_tracks_that_are_numbered_alike_is_warned_of(caplog):
    tracks, split = corpus(ROWS)
    audit_leaks(tracks, split)
    assert not caplog.messages
    audit_leaks(tracks, split.set_column(1, SPLIT_SCHEMA.field("genre"), [["g", "h", "i"] + ["g"] * (len(ROWS) - 3)]))
    assert caplog.messages == [
        "2 of 11 tracks have another genre in the split than in the track table: do the two belong together?"
    ]


def test_a_leak_is_refused_by_name():
    tracks, split = corpus(ROWS)
    message = r"^2 artists, 2 albums, 1 recording in more than one part: artist 'A', artist 'B', album 'live', \.\.\.;"
    with pytest.raises(SplitError, match=message):
        assert_no_leak(tracks, split)
    with pytest.raises(
        SplitError, match=r"^1 recording in more than one part: recording '0007'; use the scheme artist"
    ):
        assert_no_leak(tracks, split, ["pcm"])
    apart, split = corpus([(name, name, name, part) for name, part in zip("abc", PARTS, strict=True)])
    assert_no_leak(apart, split)


@settings(max_examples=40)
@given(
    rows=st.lists(
        st.tuples(
            st.sampled_from([None, "A", "B", "C"]),
            st.sampled_from([None, "x", "y"]),
            st.sampled_from([None, "1", "2", "3"]),
            st.sampled_from(PARTS),
        ),
        min_size=1,
        max_size=25,
    )
)
def test_an_audit_counts_what_brute_force_counts(rows):
    tracks, split = corpus(rows)
    audit = audit_leaks(tracks, split)
    values = {kind: [row[place] for row in rows] for place, kind in enumerate(KINDS)}
    values["group"] = group_tracks(tracks).tolist()
    crossing = crossing_tracks(tracks, split)["kind"].to_pylist()
    for kind, column in values.items():
        shared = [(value, row[3]) for value, row in zip(column, rows, strict=True) if value is not None]
        parts = {value: {part for other, part in shared if other == value} for value, _ in shared}
        leak = audit.kinds[kind]
        assert leak.crossing == sum(len(found) > 1 for found in parts.values())
        assert leak.tracks == sum(len(parts[value]) > 1 for value, _ in shared) == crossing.count(kind)
        assert leak.judged_with_fellow == sum(
            part == audit.judged and TRAINING in parts[value] and part != TRAINING for value, part in shared
        )
        for one, other in combinations([part for part in PARTS if part in audit.tracks], 2):
            both = [value for value, found in parts.items() if {one, other} <= found]
            border = leak.borders[f"{one}-{other}"]
            assert border.crossing == len(both)
            assert border.tracks == sum(value in both and part in (one, other) for value, part in shared)


def fma_tracks(file):
    """Tracks of FMA-small in a `tracks.csv`, whether their audio is here or not."""
    with file.open(newline="", encoding="utf-8") as lines:
        first, second, _, *rows = csv.reader(lines)
    place = {names: number for number, names in enumerate(zip(first, second, strict=True))}
    wanted = {
        "genre": ("track", "genre_top"),
        "artist": ("artist", "name"),
        "album": ("album", "title"),
        "split": ("set", "split"),
    }
    return track_table(
        [
            {"track_id": row[0], "uri": f"file:///{row[0]}"}
            | {key: row[place[at]].strip() or None for key, at in wanted.items()}
            for row in rows
            if row[place["set", "subset"]] == "small"
        ],
        str(file),
    )


def test_genuine_tracks_of_fma_small_are_audited_as_their_rows_say():
    file = DATA / "fma" / "fma_metadata" / "tracks.csv"
    if not file.is_file():
        pytest.skip(f"no FMA metadata at {file}")
    tracks = fma_tracks(file)
    split = make_split(tracks, "official", SplitSettings())
    audit = audit_leaks(tracks, split)
    assert sum(audit.tracks.values()) == tracks.num_rows == 58
    assert audit.tracks_without_pcm_hash == 58
    for kind in ("artist", "album"):
        parts = {}
        for row in tracks.to_pylist():
            if row[kind] is not None:
                parts.setdefault(row[kind].casefold(), []).append(row["split"])
        crossing = [found for found in parts.values() if len(set(found)) > 1]
        assert audit.kinds[kind].crossing == len(crossing)
        assert audit.kinds[kind].tracks == sum(map(len, crossing))


def test_the_whole_of_fma_small_leaks_as_its_published_audit_says_and_the_artist_split_does_not():
    root = os.environ.get("GENRE_SPARK_FMA")
    if root is None:
        pytest.skip("GENRE_SPARK_FMA names no folder with the whole fma_metadata/tracks.csv")
    tracks = fma_tracks(Path(root, "fma_metadata", "tracks.csv"))
    assert tracks.num_rows == 8_000
    group = audit_leaks(tracks, make_split(tracks, "official", SplitSettings()), ("artist", "album")).kinds["group"]
    assert (group.crossing, group.tracks) == (66, 1_072)
    for scheme in ("artist", "artist-kfold"):
        audit = audit_leaks(tracks, make_split(tracks, scheme, SplitSettings()))
        assert all(leak.crossing == 0 for leak in audit.kinds.values())


def test_emotify_leaks_when_it_is_split_at_random():
    file = DATA / "emotify" / "tracks.csv"
    if not file.is_file():
        pytest.skip(f"no Emotify clips at {file.parent}")
    with file.open(newline="", encoding="utf-8") as lines:
        rows = [{name: row[name] for name in ("track_id", "genre", "artist", "album")} for row in csv.DictReader(lines)]
    tracks = track_table([{**row, "uri": row["track_id"]} for row in rows], str(file))
    leaks = {
        scheme: audit_leaks(tracks, make_split(tracks, scheme, SplitSettings())).kinds
        for scheme in ("study", "artist", "artist-kfold")
    }
    assert leaks["study"]["artist"].judged_with_fellow > 50
    assert leaks["artist"]["group"].crossing == leaks["artist-kfold"]["group"].crossing == 0
