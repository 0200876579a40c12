"""The most confused pairs of genres as the report shows them: with tracks to look at and, where they are, to hear."""

import posixpath
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import Any
from urllib.parse import unquote

import pyarrow as pa

from genre_spark.evaluation.track_excerpts import Excerpt, excerpts
from genre_spark.files import printable
from genre_spark.filesystems import masked
from genre_spark.settings_sections import AudioSettings

# Tracks of a pair that can be heard; the others are named.
HEARD_PER_PAIR = 3
NO_ROOM = "no room in this page for more audio (--audio-mb)"


@dataclass(frozen=True)
class ShownTrack:
    """A track that was taken for another genre.

    Parameters
    ----------
    track_id, uri : str
    file : str
        Last part of the address.
    artist : str or None
    p_true, p_predicted : float
        Calibrated probability of its own genre and of the one that it was taken for.
    excerpt : Excerpt or None
    note : str or None
        Why there is no excerpt; None where none was asked for.
    """

    track_id: str
    uri: str
    file: str
    artist: str | None
    p_true: float
    p_predicted: float
    excerpt: Excerpt | None = None
    note: str | None = None


@dataclass(frozen=True)
class ShownPair:
    """Tracks of one genre that were taken for another.

    Parameters
    ----------
    true, predicted : str
    count, support : int
        How many of how many tracks of the true genre.
    tracks : tuple of ShownTrack
        Some of them, those first of which the model was surest.
    """

    true: str
    predicted: str
    count: int
    support: int
    tracks: tuple[ShownTrack, ...]


def confused_pairs(table: pa.Table | None, metrics: Mapping[str, Any]) -> list[ShownPair] | None:
    """Put the tracks below their pairs, most tracks first.

    Parameters
    ----------
    table : pa.Table or None
        As `genre_spark.evaluation.confused.read_confused` gives it: None where an older version evaluated.
    metrics : mapping
        As `metrics.json` holds it.

    Returns
    -------
    list of ShownPair or None
        None without a table.
    """
    if table is None:
        return None
    tracks: dict[tuple[str, str, int], list[ShownTrack]] = {}
    for row in table.to_pylist():
        tracks.setdefault((row["true"], row["predicted"], row["pair_count"]), []).append(_track(row))
    return [
        ShownPair(true, predicted, count, metrics["per_genre"].get(true, {}).get("support", count), tuple(found))
        for (true, predicted, count), found in tracks.items()
    ]


def with_excerpts(
    runs: Sequence[list[ShownPair] | None],
    audio: AudioSettings,
    *,
    budget: int,
    on_tracks: Callable[[int], Callable[[], None]] | None = None,
) -> list[list[ShownPair] | None]:
    """Add what can be heard and seen of the tracks.

    Parameters
    ----------
    runs : sequence of list of ShownPair or None
        For each run what `confused_pairs` gave.
    audio : AudioSettings
        Limits on what is decoded.
    budget : int
        Bytes that the excerpts of the whole page may take. The first track of every pair comes before the second of
        any.
    on_tracks : callable, optional
        Called once with the number of tracks; what it returns is called after each.
    """
    pairs = [pair for run in runs for pair in run or ()]
    in_turn = zip_longest(*(pair.tracks[:HEARD_PER_PAIR] for pair in pairs))
    uris = list(dict.fromkeys(track.uri for rank in in_turn for track in rank if track))
    sizes: dict[str, int] = {}
    for pair in pairs:
        for track in pair.tracks[:HEARD_PER_PAIR]:
            sizes[track.uri] = sizes.get(track.uri, 0) + 1
    made = excerpts(uris, audio, budget=budget, copies=sizes, on_track=on_tracks(len(uris)) if on_tracks else None)
    return [run if run is None else [_heard(pair, made) for pair in run] for run in runs]


def _heard(pair: ShownPair, made: Mapping[str, Excerpt | str | None]) -> ShownPair:
    tracks = []
    for number, track in enumerate(pair.tracks):
        if number < HEARD_PER_PAIR:
            found = made[track.uri]
            if isinstance(found, Excerpt):
                track = replace(track, excerpt=found)
            else:
                track = replace(track, note=found or NO_ROOM)
        tracks.append(track)
    return replace(pair, tracks=tuple(tracks))


def left_out(judged: Sequence[list[ShownPair] | None]) -> int:
    """Count the tracks that nobody hears because the page had no room for more audio."""
    return sum(track.note == NO_ROOM for pairs in judged for pair in pairs or () for track in pair.tracks)


def _track(row: Mapping[str, Any]) -> ShownTrack:
    uri = row["uri"] or ""
    name = posixpath.basename(masked(uri).rstrip("/"))
    return ShownTrack(
        track_id=printable(row["track_id"] or ""),
        uri=uri,
        file=unquote(name) if "://" in uri else name,
        artist=row["artist"],
        p_true=row["p_true"],
        p_predicted=row["p_predicted"],
    )
