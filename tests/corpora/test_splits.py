"""Splits: whole, repeatable, independent of the order of rows, and free of leaks where they promise it."""

import random
from collections import Counter, defaultdict
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genre_spark.corpora.folder import load_folder
from genre_spark.corpora.splits import (
    SPLIT_SCHEMA,
    assert_no_leak,
    leaking_artists,
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
SCHEMES = ("study", "official", "artist")


def tracks_of(*rows):
    """Track table from (genre, artist) or (genre, artist, split)."""
    return track_table(
        [
            {"track_id": f"{number:05}", "uri": f"file:///{number}.mp3", "genre": genre, "artist": artist}
            | ({"split": part[0]} if part else {})
            for number, (genre, artist, *part) in enumerate(rows)
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
    """Corpora with artists in several genres, tracks without an artist or a genre, and genres of one track."""
    genres = draw(st.integers(2, 5))
    groups = draw(
        st.lists(
            st.tuples(st.integers(0, genres - 1), st.sampled_from([None, *"ABCDEFGHIJKLMNOP"]), st.integers(1, 6)),
            min_size=8,
            max_size=40,
        )
    )
    # Three artists who are nowhere else, so that no corpus is too small for three parts; and tracks without a genre.
    anchors = [(genre, f"{genre}-{number}", 2) for genre in range(2) for number in range(3)]
    rows = [(f"g{genre}", artist) for genre, artist, clips in [*groups, *anchors] for _ in range(clips)]
    official = draw(st.lists(st.sampled_from(PARTS), min_size=len(rows), max_size=len(rows)))
    official[0:2] = ["training", "test"]
    unknown = [(None, artist, None) for artist in draw(st.lists(st.sampled_from([None, "A"]), max_size=3))]
    return tracks_of(*((*row, part) for row, part in zip(rows, official, strict=True)), *unknown)


@pytest.mark.parametrize("scheme", SCHEMES)
@settings(max_examples=25, deadline=None)
@given(tracks=corpora(), seed=st.integers(0, 2**32 - 1), shuffle=st.randoms(use_true_random=False))
def test_every_track_with_a_genre_is_in_one_part_whatever_the_order_of_rows(scheme, tracks, seed, shuffle):
    split = make_split(tracks, scheme, SplitSettings(seed=seed))
    genres = {row["track_id"]: row["genre"] for row in tracks.to_pylist() if row["genre"] is not None}
    assert split.schema == SPLIT_SCHEMA
    assert split.num_rows == len(genres)
    assert {row["track_id"]: row["genre"] for row in split.to_pylist()} == genres
    assert set(split["part"].to_pylist()) <= set(PARTS)

    order = shuffle.sample(range(tracks.num_rows), tracks.num_rows)
    assert make_split(tracks.take(order), scheme, SplitSettings(seed=seed)).equals(split)


@settings(max_examples=40, deadline=None)
@given(tracks=corpora(), seed=st.integers(0, 99))
def test_no_artist_stands_on_two_sides_and_every_genre_is_trained(tracks, seed):
    split = make_split(tracks, "artist", SplitSettings(seed=seed))
    part_of = {row["track_id"]: row["part"] for row in split.to_pylist()}
    parts = defaultdict(set)
    for row in tracks.to_pylist():
        if row["artist"] and row["genre"]:
            parts[row["artist"]].add(part_of[row["track_id"]])
    assert all(len(found) == 1 for found in parts.values())
    assert_no_leak(tracks, split)
    assert all(count["training"] > 0 for count in parts_by_genre(split).values())
    assert set(part_of.values()) == set(PARTS)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 99),
    sizes=st.lists(st.lists(st.integers(1, 5), min_size=20, max_size=40), min_size=2, max_size=5),
    validation=st.floats(0.1, 0.25),
    test=st.floats(0.1, 0.25),
)
def test_shares_are_near_to_what_is_asked_for_in_every_genre(seed, sizes, validation, test):
    tracks = tracks_of(
        *(
            (f"g{genre}", f"{genre}-{a}")
            for genre, row in enumerate(sizes)
            for a, size in enumerate(row)
            for _ in range(size)
        )
    )
    wanted = {"training": 1 - validation - test, "validation": validation, "test": test}
    chosen = SplitSettings(seed=seed, artist_validation=validation, artist_test=test)
    for count in parts_by_genre(make_split(tracks, "artist", chosen)).values():
        # Artists are moved whole: nearer than one large artist is more than can be promised.
        assert all(abs(count[part] - share * count.total()) <= 5 for part, share in wanted.items())


@pytest.mark.parametrize(("share", "training"), [(0.7, 70), (0.5, 50)])
def test_the_study_s_split_is_stratified_to_the_track(share, training):
    split = make_split(even_tracks(genres=8, artists=10, clips=10), "study", SplitSettings(study_training=share))
    assert len(parts_by_genre(split)) == 8
    assert all(
        count == {"training": training, "validation": 100 - training} for count in parts_by_genre(split).values()
    )


@pytest.mark.parametrize("scheme", ["study", "artist"])
def test_the_same_seed_gives_the_same_split_and_another_seed_another(scheme):
    digests = [split_digest(make_split(even_tracks(), scheme, SplitSettings(seed=seed))) for seed in [0, 0, 1, 2]]
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3


def test_other_seeds_judge_on_other_artists():
    # Else several seeds would say nothing about how much the accuracy hangs on who is in the test.
    tested = [
        set(split.filter(pc.equal(split["part"], "test"))["track_id"].to_pylist())
        for split in (make_split(even_tracks(), "artist", SplitSettings(seed=seed)) for seed in range(5))
    ]
    overlaps = [len(a & b) / len(a) for i, a in enumerate(tested) for b in tested[:i]]
    assert sum(overlaps) / len(overlaps) < 0.5


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


@pytest.mark.parametrize("seed", range(10))
def test_three_artists_in_each_genre_are_enough_for_all_parts(seed):
    split = make_split(even_tracks(genres=8, artists=3), "artist", SplitSettings(seed=seed))
    assert all(set(count) == set(PARTS) for count in parts_by_genre(split).values())


def test_an_artist_with_most_of_a_genre_trains():
    rows = (
        [("a", "giant")] * 80
        + [("a", f"a{number}") for number in range(20)]
        + [("b", f"b{n % 20}") for n in range(100)]
    )
    for seed in range(5):
        split = make_split(tracks_of(*rows), "artist", SplitSettings(seed=seed))
        assert set(split["part"].to_pylist()[:80]) == {"training"}


def test_tracks_without_an_artist_count_as_artists_of_their_own(caplog):
    split = make_split(tracks_of(*[("a", None), ("b", " ")] * 50), "artist", DEFAULTS)
    for count in parts_by_genre(split).values():
        assert count["training"] == 35
        assert sorted((count["validation"], count["test"])) == [7, 8]
    assert caplog.messages == ["100 of 100 tracks have no artist: each counts as an artist of its own"]


def test_one_artist_in_two_spellings_is_one_artist():
    spellings = ["The Band", "the band", " The  Band "]
    tracks = tracks_of(*(("a", name) for name in spellings), *((g, f"{g}{n}") for g in "ab" for n in range(10)))
    for seed in range(10):
        assert len(set(make_split(tracks, "artist", SplitSettings(seed=seed))["part"].to_pylist()[:3])) == 1


def test_a_large_corpus_is_split_almost_exactly():
    random_state = random.Random(0)
    main = [random_state.randrange(8) for _ in range(800)]
    artists = [int(800 * random_state.random() ** 2) for _ in range(4000)]
    tracks = tracks_of(
        *((f"g{main[a] if random_state.random() < 0.9 else random_state.randrange(8)}", f"a{a}") for a in artists)
    )
    for count in parts_by_genre(make_split(tracks, "artist", DEFAULTS)).values():
        shares = {part: number / count.total() for part, number in count.items()}
        assert shares == pytest.approx({"training": 0.7, "validation": 0.15, "test": 0.15}, abs=0.01)


def test_real_music_is_split_by_artist_within_two_points():
    if not EMOTIFY.is_dir():
        pytest.skip("the Emotify clips are not at ../shared/data/emotify")
    tracks = load_folder(EMOTIFY, EMOTIFY / "tracks.csv")
    split = make_split(tracks, "artist", DEFAULTS)
    assert_no_leak(tracks, split)
    for count in parts_by_genre(split).values():
        shares = {part: number / count.total() for part, number in count.items()}
        assert shares == pytest.approx({"training": 0.7, "validation": 0.15, "test": 0.15}, abs=0.02)
    assert len(leaking_artists(tracks, make_split(tracks, "study", DEFAULTS))) > 20


def test_leaking_artists_are_named_and_refused():
    tracks = tracks_of(("a", "B"), ("a", "b"), ("a", "C"), ("b", "C"), ("b", None), ("b", None), ("b", "D"))
    parts = ["training", "test", "training", "validation", "training", "test", "training"]
    split = pa.table([tracks["track_id"], tracks["genre"], pa.array(parts)], schema=SPLIT_SCHEMA)
    assert leaking_artists(tracks, split) == ["B", "C"]
    with pytest.raises(SplitError, match=r"^2 artists stand in more than one part: B, C; use the scheme artist$"):
        assert_no_leak(tracks, split)
    # A dataset lacks the tracks that could not be decoded: the others are looked at.
    assert leaking_artists(tracks.slice(1), split) == ["C"]


@pytest.mark.parametrize(
    ("rows", "scheme", "message"),
    [
        ([("a", "x")] * 9, "study", "a split needs tracks of two genres or more, found only 'a'"),
        ([("a", "x", "test")] * 9, "official", "two genres or more, found only 'a'"),
        ([("a", "x"), ("a", "y"), ("a", "z")], "artist", "two genres or more, found only 'a'"),
        ([(None, "x")] * 9, "study", "two genres or more, found none"),
        ([("a", "x"), ("b", "y")] * 9, "random", "unknown split scheme 'random'; known are study, official, artist"),
        ([("a", "x"), ("b", "y")], "study", "0 tracks of 0 genres are too few for split.study_training=0.7"),
        ([(g, "x") for g in "abc"] * 2, "study", "6 tracks of 3 genres are too few for split.study_training=0.7"),
        ([("a", "x"), ("b", "y")] * 9, "official", "no official split; use the scheme artist or study"),
        ([("a", "x", "test"), ("b", "y", "test")], "official", "holds only test; use the scheme artist or study"),
        ([("a", "x"), ("b", "y")] * 9, "artist", "too few artists: none is left for the test part"),
        ([("a", "x"), ("b", "y"), ("a", "z")] * 9, "artist", "none is left for the validation part; add artists"),
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
