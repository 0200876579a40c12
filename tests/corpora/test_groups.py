"""Groups of tracks that belong together, against a union-find that was written for the tests."""

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genre_spark.corpora.groups import KINDS, group_tracks, value_codes, warn_of_large_group
from genre_spark.corpora.tracks import track_table
from genre_spark.errors import SplitError

NAMES = st.sampled_from(
    [None, "", " ", "A", "a", " A ", "B", "b  c", "B C", "\u00c5", "A\u030a", "\ufb01n", "Fin", "D", "E"]
)
HASHES = st.sampled_from([None, "", "00ff", "aa11", "bb22", "cc33"])


def tracks_of(*rows):
    """Track table from (artist, album, pcm_hash)."""
    return track_table(
        [
            {
                "track_id": f"{number:04}",
                "uri": f"file:///{number}",
                "genre": "g",
                "artist": artist,
                "album": album,
                "pcm_hash": pcm,
            }
            for number, (artist, album, pcm) in enumerate(rows)
        ],
        "test",
    )


def united(tracks, by):
    """Sets of track ids, by a union-find over pairs of tracks."""

    def same(name):
        return " ".join(unicodedata.normalize("NFKC", name or "").casefold().split())

    leader = {row["track_id"]: row["track_id"] for row in tracks.to_pylist()}

    def find(track):
        while leader[track] != track:
            track = leader[track]
        return track

    rows = tracks.to_pylist()
    for one in rows:
        for other in rows:
            for column in ({"artist": "artist", "album": "album", "pcm": "pcm_hash"}[kind] for kind in by):
                if same(one[column]) and same(one[column]) == same(other[column]):
                    leader[find(one["track_id"])] = find(other["track_id"])
    groups = {}
    for track in leader:
        groups.setdefault(find(track), set()).add(track)
    return sorted(map(sorted, groups.values()))


@settings(max_examples=60)
@given(
    rows=st.lists(st.tuples(NAMES, NAMES, HASHES), min_size=1, max_size=25),
    by=st.lists(st.sampled_from(KINDS), min_size=1, unique=True),
    shuffle=st.randoms(use_true_random=False),
)
def test_groups_are_the_connected_tracks_numbered_by_their_smallest_id(rows, by, shuffle):
    tracks = tracks_of(*rows)
    expected = united(tracks, by)
    order = shuffle.sample(range(len(rows)), len(rows))
    shuffled = tracks.take(order)
    groups = group_tracks(shuffled, by)
    found = {}
    for track, group in zip(shuffled["track_id"].to_pylist(), groups.tolist(), strict=True):
        found.setdefault(group, []).append(track)
    # `expected` is in the order of the smallest ids, as the numbers are to be.
    assert [sorted(found[group]) for group in range(len(found))] == expected


def test_a_chain_of_shared_things_makes_one_group():
    tracks = tracks_of(("A", "x", None), ("B", "x", None), ("B", "y", "01"), ("C", "z", "01"), ("D", "w", "02"))
    assert group_tracks(tracks).tolist() == [0, 0, 0, 0, 1]
    assert group_tracks(tracks, ["artist", "pcm"]).tolist() == [0, 1, 1, 1, 2]
    assert group_tracks(tracks, ["album"]).tolist() == [0, 0, 1, 2, 3]


def test_an_artist_and_an_album_of_the_same_name_are_not_the_same():
    assert group_tracks(tracks_of(("Weezer", None, None), ("B", "Weezer", None))).tolist() == [0, 1]


def test_what_is_unknown_joins_nothing():
    tracks = tracks_of((None, None, None), (None, None, None), ("", " ", ""), ("\u00a0", "\u2003", " "))
    assert group_tracks(tracks).tolist() == [0, 1, 2, 3]
    for kind in KINDS:
        assert value_codes(tracks, kind).tolist() == [-1, -1, -1, -1]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("The Band", " the  BAND "),
        ("Bj\u00f6rk", "Bjo\u0308rk"),
        ("Stra\u00dfe", "STRASSE"),
        ("\uff2d\uff29\uff21", "mia"),
        ("\u0130", "i\u0307"),
        ("Guns N' Roses", "Guns N\u2019 Roses"),
        ("Jay-Z", "Jay\u2010Z"),
        ('"Weird Al" Yankovic', "\u201cWeird Al\u201d Yankovic"),
        ("AC/DC", "AC\u2215DC"),
        ("Amon Tobin", "Amon\u200b Tobin\ufeff"),
        ("Pole", "Po\u00adle"),
        ("\u2665", "\u2665\ufe0e"),
    ],
)
def test_spellings_of_one_name_are_one_name(one, other):
    assert group_tracks(tracks_of((one, None, None), ("x", None, None), (other, None, None))).tolist() == [0, 1, 0]


@pytest.mark.parametrize(
    "guest", ["A feat. B", "a (feat. B & C)", "A ft. B", "A feat.B", "A  [Featuring B]", "A feat B"]
)
def test_a_guest_makes_no_other_artist_and_no_other_album(guest):
    assert group_tracks(tracks_of(("A", None, None), (guest, None, None))).tolist() == [0, 0]
    assert group_tracks(tracks_of((None, "A", None), (None, guest, None))).tolist() == [0, 1]


@pytest.mark.parametrize("name", ["Featuring B", "A featurette", "A ft B", "A Feather B"])
def test_a_name_that_only_looks_like_one_with_a_guest_stays_whole(name):
    assert group_tracks(tracks_of(("A", None, None), (name, None, None), ("", "x", None))).tolist() == [0, 1, 2]


def test_a_name_of_nothing_that_is_seen_is_unknown():
    assert value_codes(tracks_of(("\u200b\ufeff", None, None)), "artist").tolist() == [-1]


def test_punctuation_makes_another_name():
    assert group_tracks(tracks_of(("AC/DC", None, None), ("AC DC", None, None))).tolist() == [0, 1]


def test_no_tracks_make_no_groups():
    assert group_tracks(tracks_of(("A", None, None)).slice(1)).tolist() == []


def test_an_unknown_kind_is_refused_by_name():
    with pytest.raises(SplitError, match=r"split.group_by: unknown 'label'; known are artist, album, pcm"):
        group_tracks(tracks_of(("A", None, None)), ["label"])


def test_titles_that_make_a_large_group_are_named_with_a_way_out(caplog):
    live = [(f"artist {number}", "Live" if number < 5 else "live  ", None) for number in range(8)]
    hits = [(f"artist {number}", "Greatest Hits", None) for number in range(7, 12)]
    alone = [(f"other {number}", f"album {number}", None) for number in range(60)]
    tracks = tracks_of(*live, *hits, *alone)
    warn_of_large_group(tracks, group_tracks(tracks))
    assert caplog.messages == [
        "one group holds 13 of 73 tracks; album titles that join most artists: 'Live' (8 artists), 'Greatest Hits' "
        "(5 artists); titles may be equal by chance: `--set 'split.group_by=[artist,pcm]'` leaves albums out"
    ]


def test_a_large_group_that_no_title_joins_and_a_small_one_are_no_reason_to_warn(caplog):
    one_artist = [("A", f"album {number % 3}", None) for number in range(50)]
    tracks = tracks_of(*one_artist, ("B", "Live", None), ("C", "Live", None), *[(None, None, None)] * 10)
    warn_of_large_group(tracks, group_tracks(tracks))
    assert not caplog.messages
