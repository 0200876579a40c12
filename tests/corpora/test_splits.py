"""Splits: whole, repeatable, independent of the order of rows, and free of leaks where they promise it."""

from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genre_spark.corpora.folder import load_folder
from genre_spark.corpora.groups import KINDS
from genre_spark.corpora.splits import (
    SPLIT_SCHEMA,
    make_split,
    read_split,
    split_digest,
    write_split,
)
from genre_spark.corpora.tracks import PARTS, track_table
from genre_spark.errors import SplitError
from genre_spark.settings import SplitSettings

EMOTIFY = Path(__file__).parents[3] / "shared" / "data" / "emotify"
DEFAULTS = SplitSettings()
SCHEMES = ("study", "official", "artist", "artist-kfold")


def tracks_of(*rows):
    """Track table from (genre, artist, split, album, pcm_hash); where a row ends before it, a hash of its own."""
    columns = ("genre", "artist", "split", "album", "pcm_hash")
    return track_table(
        [
            {"track_id": f"{number:05}", "uri": f"file:///{number}.mp3", "pcm_hash": f"{number:032x}"}
            | dict(zip(columns, row, strict=False))
            for number, row in enumerate(rows)
        ],
        "test",
    )


def even_tracks(genres=4, artists=10, clips=4):
    return tracks_of(
        *(
            (f"genre {genre}", f"artist {genre}-{artist}", PARTS[0 if artist < 8 else artist % 2 + 1])
            for genre in range(genres)
            for artist in range(artists)
            for _ in range(clips)
        )
    )


def parts_by_genre(split):
    genres = sorted(set(split["genre"].to_pylist()))
    return {g: Counter(row["part"] for row in split.to_pylist() if row["genre"] == g) for g in genres}


@st.composite
def corpora(draw):
    """Corpora with artists in several genres, shared albums and copies, and tracks of which little is known."""
    genres = draw(st.integers(2, 5))
    row = st.tuples(
        st.sampled_from([f"g{genre}" for genre in range(genres)]),
        st.sampled_from([None, *"ABCDEFGHIJKLMNOP"]),
        st.sampled_from(PARTS),
        st.sampled_from([None, None, None, "live", "hits", "one", "two"]),
        st.sampled_from([None, None, None, "00", "01", "02"]),
    )
    # Three artists who are nowhere else, so that no corpus is too small for three parts; and tracks without a genre.
    anchors = [
        (f"g{genre}", f"{genre}-{number}", "training") for genre in range(2) for number in range(3) for _ in "ab"
    ]
    anchors[0] = (*anchors[0][:2], "test")
    unknown = [(None, artist, None) for artist in draw(st.lists(st.sampled_from([None, "A"]), max_size=3))]
    return tracks_of(*anchors, *draw(st.lists(row, min_size=8, max_size=60)), *unknown)


def torn_apart(tracks, split, by):
    """Sets of connected track ids that stand in more than one part, by a union-find."""
    part_of = {row["track_id"]: row["part"] for row in split.to_pylist()}
    leader = {track: track for track in part_of}

    def find(track):
        return track if leader[track] == track else find(leader[track])

    first = {}
    for row in tracks.to_pylist():
        for kind in by:
            value = row["pcm_hash" if kind == "pcm" else kind]
            if value is not None and row["track_id"] in part_of:
                leader[find(row["track_id"])] = find(first.setdefault((kind, value), row["track_id"]))
    parts = {}
    for track, part in part_of.items():
        parts.setdefault(find(track), set()).add(part)
    return [group for group, found in parts.items() if len(found) > 1]


@pytest.mark.parametrize("scheme", SCHEMES)
@settings(max_examples=20)
@given(tracks=corpora(), seed=st.integers(0, 2**32 - 1), shuffle=st.randoms(use_true_random=False))
def test_every_track_with_a_genre_is_in_one_part_whatever_the_order_of_rows(scheme, tracks, seed, shuffle):
    split = make_split(tracks, scheme, SplitSettings(seed=seed))
    genres = {row["track_id"]: row["genre"] for row in tracks.to_pylist() if row["genre"] is not None}
    assert split.schema == SPLIT_SCHEMA
    assert split.num_rows == len(genres)
    assert {row["track_id"]: row["genre"] for row in split.to_pylist()} == genres
    assert set(split["part"].to_pylist()) <= set(PARTS)

    order = shuffle.sample(range(tracks.num_rows), tracks.num_rows)
    chunks = [tracks.take(order[:7]), tracks.take(order[7:])]
    assert make_split(pa.concat_tables(chunks), scheme, SplitSettings(seed=seed)).equals(split)


@pytest.mark.parametrize("scheme", ["artist", "artist-kfold"])
@settings(max_examples=30)
@given(
    tracks=corpora(),
    seed=st.integers(0, 99),
    by=st.lists(st.sampled_from(KINDS), min_size=1, unique=True),
    fold=st.integers(0, 3),
)
def test_no_group_stands_on_two_sides(scheme, tracks, seed, by, fold):
    split = make_split(tracks, scheme, SplitSettings(seed=seed, group_by=tuple(by), folds=4, fold=fold))
    assert torn_apart(tracks, split, by) == []
    assert set(split["part"].to_pylist()) == set(PARTS)
    if scheme == "artist":
        assert all(count["training"] > 0 for count in parts_by_genre(split).values())


@pytest.mark.parametrize("folds", [3, 5])
def test_over_all_folds_every_track_is_tested_once_and_is_validation_once(folds):
    tracks, parts = even_tracks(), {"test": [], "validation": []}
    for fold in range(folds):
        split = make_split(tracks, "artist-kfold", SplitSettings(folds=folds, fold=fold))
        for part, found in parts.items():
            found.append(sorted(row["track_id"] for row in split.to_pylist() if row["part"] == part))
        assert [set(count) for count in parts_by_genre(split).values()] == [set(PARTS)] * 4
    assert sorted(track for fold in parts["test"] for track in fold) == tracks["track_id"].to_pylist()
    assert parts["validation"] == [*parts["test"][1:], parts["test"][0]]
    with pytest.raises(SplitError, match=rf"^split.fold={folds}: there is no such fold; with split.folds={folds} the"):
        make_split(tracks, "artist-kfold", SplitSettings(folds=folds, fold=folds))


def test_what_joins_tracks_is_a_setting():
    rows = [(f"g{number % 2}", f"artist {number}", None, "Live" if number < 6 else None, None) for number in range(40)]
    together = SplitSettings(group_by=("artist", "album"))
    for seed in range(5):
        parts = make_split(tracks_of(*rows), "artist", together.model_copy(update={"seed": seed}))["part"].to_pylist()
        assert len(set(parts[:6])) == 1
    apart = [
        set(
            make_split(tracks_of(*rows), "artist", SplitSettings(seed=seed, group_by=("artist",)))["part"].to_pylist()[
                :6
            ]
        )
        for seed in range(5)
    ]
    assert max(map(len, apart)) > 1


def test_album_titles_that_join_much_of_a_corpus_are_warned_of(caplog):
    rows = [(f"g{number % 2}", f"artist {number}", None, "mp3" if number < 8 else None) for number in range(40)]
    make_split(tracks_of(*rows), "artist", DEFAULTS)
    assert [message[:92] for message in caplog.messages] == [
        "one group holds 8 of 40 tracks; album titles that join most artists: 'mp3' (8 artists); titl"
    ]
    caplog.clear()
    make_split(tracks_of(*rows), "artist", SplitSettings(group_by=("artist", "pcm")))
    assert not caplog.messages


def test_a_genre_with_fewer_groups_than_folds_is_named(caplog):
    rows = [("many", f"m{number}") for number in range(12)] + [("few", f"f{number % 2}") for number in range(8)]
    make_split(tracks_of(*rows), "artist-kfold", SplitSettings(folds=3))
    assert caplog.messages[0] == "genres with fewer groups than split.folds=3, missing from a fold: few"
    assert all(message.endswith("part: few") for message in caplog.messages[1:])


@pytest.mark.parametrize(("share", "training"), [(0.7, 70), (0.5, 50)])
def test_the_study_s_split_is_stratified_to_the_track(share, training):
    split = make_split(even_tracks(genres=8, artists=10, clips=10), "study", SplitSettings(study_training=share))
    assert len(parts_by_genre(split)) == 8
    assert all(
        count == {"training": training, "validation": 100 - training} for count in parts_by_genre(split).values()
    )


@pytest.mark.parametrize("scheme", ["study", "artist", "artist-kfold"])
def test_the_same_seed_gives_the_same_split_and_another_seed_another(scheme):
    digests = [split_digest(make_split(even_tracks(), scheme, SplitSettings(seed=seed))) for seed in [0, 0, 1, 2]]
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3


def test_the_official_split_is_taken_as_it_is_and_what_has_no_place_in_it_is_counted(caplog):
    known = [("a", None, "training"), ("b", None, "test"), ("a", None, "validation")]
    split = make_split(tracks_of(*known, ("b", None, None), (None, None, "test")), "official", DEFAULTS)
    assert split["part"].to_pylist() == ["training", "test", "validation"]
    assert caplog.messages == [
        "1 of 5 tracks have no genre: left out of the split",
        "1 of 4 tracks have no official part: left out of the split",
    ]


def test_a_genre_with_a_single_track_trains_and_is_named(caplog):
    split = make_split(tracks_of(*[("a", "x"), ("b", "y")] * 5, ("lone", "z")), "study", DEFAULTS)
    assert parts_by_genre(split)["lone"] == {"training": 1}
    assert caplog.messages == ["genres with a single track, which is trained on and never validated: lone"]


def test_a_genre_with_few_artists_is_trained_first_then_tested(caplog):
    rows = [("many", f"m{number}") for number in range(9)]
    split = make_split(tracks_of(*rows, ("one", "a"), ("one", "a"), ("two", "b"), ("two", "c")), "artist", DEFAULTS)
    counts = parts_by_genre(split)
    assert counts["one"] == {"training": 2}
    assert counts["two"] == {"training": 1, "test": 1}
    assert set(counts["many"]) == set(PARTS)
    assert caplog.messages == [
        "genres with too few artists for the test part: one",
        "genres with too few artists for the validation part: one, two",
    ]


def test_tracks_without_an_artist_count_as_artists_of_their_own(caplog):
    split = make_split(tracks_of(*[("a", None), ("b", " ")] * 50), "artist", DEFAULTS)
    for count in parts_by_genre(split).values():
        assert count["training"] == 35
        assert sorted((count["validation"], count["test"])) == [7, 8]
    assert caplog.messages == [
        "100 of 100 tracks have no artist: each counts as an artist of its own, unless something else joins it"
    ]


@pytest.mark.parametrize("scheme", ["artist", "artist-kfold"])
def test_copies_that_can_not_be_seen_and_groups_that_join_nothing_are_warned_of(scheme, caplog):
    rows = [(f"g{number % 2}", f"artist {number}", None, None, None) for number in range(40)]
    make_split(tracks_of(*rows), scheme, DEFAULTS)
    assert [message[:80] for message in caplog.messages] == [
        "no track has a pcm_hash: copies of a recording may stand in two parts; take the "
    ]
    caplog.clear()
    make_split(tracks_of(*rows), scheme, SplitSettings(group_by=("album", "pcm")))
    assert caplog.messages == [
        "nothing is known of what split.group_by names (album, pcm): nothing is kept together, and the split is random"
    ]
    caplog.clear()
    make_split(tracks_of(*rows, ("g0", "x", None, None, "00")), scheme, DEFAULTS)
    make_split(tracks_of(*rows), scheme, SplitSettings(group_by=("artist", "album")))
    assert not caplog.messages


def test_real_music_is_split_by_artist_within_two_points():
    if not EMOTIFY.is_dir():
        pytest.skip("the Emotify clips are not at ../shared/data/emotify")
    split = make_split(load_folder(EMOTIFY, EMOTIFY / "tracks.csv"), "artist", DEFAULTS)
    for count in parts_by_genre(split).values():
        shares = {part: number / count.total() for part, number in count.items()}
        assert shares == pytest.approx({"training": 0.7, "validation": 0.15, "test": 0.15}, abs=0.02)


@pytest.mark.parametrize(
    ("rows", "scheme", "message"),
    [
        ([("a", "x")] * 9, "study", "a split needs tracks of two genres or more, found only 'a'"),
        ([("a", "x", "test")] * 9, "official", "two genres or more, found only 'a'"),
        ([("a", "x"), ("a", "y"), ("a", "z")], "artist", "two genres or more, found only 'a'"),
        ([(None, "x")] * 9, "study", "two genres or more, found none"),
        (
            [("a", "x"), ("b", "y")] * 9,
            "random",
            "unknown split scheme 'random'; known are study, official, artist, artist-kfold",
        ),
        ([("a", "x"), ("b", "y")], "study", "0 tracks of 0 genres are too few for split.study_training=0.7"),
        ([(g, "x") for g in "abc"] * 2, "study", "6 tracks of 3 genres are too few for split.study_training=0.7"),
        ([("a", "x"), ("b", "y")] * 9, "official", "no official split; use the scheme artist or study"),
        ([("a", "x", "test"), ("b", "y", "test")], "official", "holds only test; use the scheme artist or study"),
        ([("a", "x"), ("b", "y")] * 9, "artist", "too few artists: none is left for the test part"),
        ([("a", "x"), ("b", "y"), ("a", "z")] * 9, "artist", "none is left for the validation part; add artists"),
        ([("a", "x"), ("b", "y")], "artist", "too few artists: none is left for the test part"),
        (
            [("a", "x"), ("b", "y"), ("a", "z")] * 9,
            "artist-kfold",
            "split.folds=5: the tracks make only 3 groups of the same artist or album or pcm; lower split.folds",
        ),
        (
            [(g, f"{g}{n}") for g in "abc" for n in range(4)],
            "artist-kfold",
            "split.folds=5: no genre has as many tracks",
        ),
    ],
)
def test_what_can_not_be_split_is_refused_with_a_way_out(rows, scheme, message):
    with pytest.raises(SplitError, match=message) as caught:
        make_split(tracks_of(*rows), scheme, DEFAULTS)
    assert "\n" not in str(caught.value)


def test_a_split_comes_back_from_its_file_and_leaves_nothing_beside_it(tmp_path):
    split = make_split(even_tracks(), "artist", DEFAULTS)
    write_split(split, tmp_path / "run" / "split.parquet")
    assert read_split(tmp_path / "run" / "split.parquet").equals(split)
    assert [file.name for file in (tmp_path / "run").iterdir()] == ["split.parquet"]


def test_the_digest_depends_on_the_rows_and_not_on_their_order():
    split = make_split(even_tracks(), "study", DEFAULTS)
    digest = split_digest(split)
    assert len(digest) == len(f"{int(digest, 16):016x}") == 16
    assert split_digest(split.take(list(reversed(range(split.num_rows))))) == digest
    assert split_digest(split.slice(1)) != digest


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (pa.table({"track_id": ["a"]}), "not a split: .*genre"),
        (pa.table({"track_id": ["a"], "genre": [None], "part": ["test"]}), "not a split: .*genre"),
        (pa.table({"track_id": ["a"], "genre": [["x"]], "part": ["test"]}), "not a split: "),
        (SPLIT_SCHEMA.empty_table(), "not a split: it has no rows"),
        (pa.table({"track_id": ["a"], "genre": ["x"], "part": ["train"]}), "part 'train' is none of training"),
        (
            pa.table({"track_id": ["a"] * 2, "genre": ["x"] * 2, "part": ["test"] * 2}),
            "a track_id stands in more than one row",
        ),
    ],
)
def test_a_file_that_is_no_split_is_refused_by_name(tmp_path, table, message):
    path = tmp_path / "split.parquet"
    pq.write_table(table, path)
    with pytest.raises(SplitError, match=f"^[^\n]*split.parquet: {message}[^\n]*$"):
        read_split(path)


def test_a_missing_or_damaged_split_is_refused_by_name(tmp_path):
    with pytest.raises(SplitError, match=r"split.parquet: no such split"):
        read_split(tmp_path / "split.parquet")
    (tmp_path / "split.parquet").write_bytes(b"track_id,part")
    with pytest.raises(SplitError, match=r"split.parquet: not a split: "):
        read_split(tmp_path / "split.parquet")
