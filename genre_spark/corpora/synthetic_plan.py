"""Which tracks a synthetic corpus has, and FMA's table of them."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from genre_spark.corpora.synthesis_styles import STYLES
from genre_spark.errors import CorpusError
from genre_spark.files import complete_file
from genre_spark.settings import SyntheticSettings

_PLAN = 0  # spawn key of the plan's random numbers
_FIRST_ID = 2  # as in FMA
_IDS = 1_000_000 - _FIRST_ID
_TRACKS_PER_ALBUM = 3
# Names of Creative Commons' licences, as FMA has them; an artist keeps to one.
_LICENCES = (
    "Attribution 4.0 International",
    "Attribution-ShareAlike 4.0 International",
    "Attribution-NonCommercial 4.0 International",
    "Attribution-NonCommercial-ShareAlike 4.0 International",
)

BIT_RATE = 192_000  # LAME is faster at 192 kbit/s than at 160 or 256

# Header of FMA's tracks.csv, in its order.
_FMA_COLUMNS = {
    "album": "comments date_created date_released engineer favorites id information listens producer tags title tracks "
    "type",
    "artist": "active_year_begin active_year_end associated_labels bio comments date_created favorites id latitude "
    "location longitude members name related_projects tags website wikipedia_page",
    "set": "split subset",
    "track": "bit_rate comments composer date_created date_recorded duration favorites genre_top genres genres_all "
    "information interest language_code license listens lyricist number publisher tags title",
}
# FMA's own loader evaluates these as Python literals and stumbles over an empty cell.
_LISTS = (("album", "tags"), ("artist", "tags"), ("track", "genres"), ("track", "genres_all"), ("track", "tags"))

_QUALITIES = ("Amber", "Broken", "Copper", "Distant", "Electric", "Fading", "Golden", "Hollow", "Idle", "Open")
_THINGS = ("Anchors", "Bridges", "Canyons", "Engines", "Feathers", "Gardens", "Lanterns", "Rivers", "Signals")


@dataclass(frozen=True, slots=True)
class PlannedTrack:
    """One clip to compose."""

    track_id: int
    genre: str
    artist_id: int
    album_id: int
    part: str


def plan_tracks(settings: SyntheticSettings, genres: Sequence[str]) -> list[PlannedTrack]:
    """All tracks in the order of their numbers; the order says nothing about genre, artist or part.

    An artist belongs to one genre and one part; about 80, 10 and 10 % of each genre's artists are training,
    validation and test.

    Raises
    ------
    CorpusError
        If a genre is unknown or stands twice, or the numbers of FMA's layout do not suffice.
    """
    unknown = [genre for genre in genres if genre not in STYLES]
    if unknown:
        raise CorpusError(f"genre {unknown[0]!r} has no style; there are {', '.join(STYLES)}")
    if not genres or len(set(genres)) < len(genres):
        raise CorpusError(f"genres {', '.join(genres)!r}: name at least one, and each only once")
    count = len(genres) * settings.clips_per_genre
    if count > _IDS:
        raise CorpusError(
            f"synthetic.clips_per_genre={settings.clips_per_genre} with {len(genres)} genres are {count} tracks; "
            f"FMA's layout has room for {_IDS}"
        )
    rng = np.random.default_rng(np.random.SeedSequence(settings.seed, spawn_key=(_PLAN,)))
    # With fewer clips than artists, the artists left over have no track and need no part.
    artists = min(settings.artists_per_genre, settings.clips_per_genre)
    artist_ids = (1 + rng.permutation(artists * len(genres))).tolist()
    albums_per_artist = -(-settings.clips_per_genre // (artists * _TRACKS_PER_ALBUM))
    parts = _parts(artists)
    # Gaps spread a small corpus over many of the layout's folders; FMA-small's numbers reach 155,320.
    stride = max(1, min(97, 155_000 // count))
    tracks = []
    for place, draft in enumerate(rng.permutation(count).tolist()):
        genre, clip = divmod(draft, settings.clips_per_genre)
        nth, seat = divmod(clip, artists)
        artist_id = artist_ids[genre * artists + seat]
        album_id = 1 + (artist_id - 1) * albums_per_artist + nth // _TRACKS_PER_ALBUM
        tracks.append(PlannedTrack(_FIRST_ID + stride * place, genres[genre], artist_id, album_id, parts[seat]))
    return tracks


def _parts(artists: int) -> list[str]:
    """Part of each of a genre's artists: a tenth each for test and validation, at least one where there are three."""
    tenth = max(1, round(artists / 10))
    test = tenth if artists > 1 else 0
    validation = tenth if artists > 2 else 0
    return ["test"] * test + ["validation"] * validation + ["training"] * (artists - test - validation)


def write_metadata(path: Path, settings: SyntheticSettings, tracks: Sequence[PlannedTrack]) -> None:
    """Write FMA's `tracks.csv`; the file appears under its name only when it is complete.

    Raises
    ------
    CorpusError
        If it can't be written.
    """
    columns = [(group, name) for group, names in _FMA_COLUMNS.items() for name in names.split()]
    with complete_file(path, CorpusError) as partial, partial.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["", *(group for group, _ in columns)])
        writer.writerow(["", *(name for _, name in columns)])
        writer.writerow(["track_id", *([""] * len(columns))])
        same = _same_cells(settings)
        filled = [columns.index(column) + 1 for column in _OWN_COLUMNS]
        row = ["", *(same.get(column, "") for column in columns)]
        for track in tracks:
            row[0] = str(track.track_id)
            for place, cell in zip(filled, _own_cells(track), strict=True):
                row[place] = cell
            writer.writerow(row)


def _same_cells(settings: SyntheticSettings) -> dict[tuple[str, str], str]:
    return {
        **dict.fromkeys(_LISTS, "[]"),
        ("set", "subset"): "small",
        ("track", "bit_rate"): str(BIT_RATE),
        ("track", "duration"): str(max(1, round(settings.duration_s))),
    }


_OWN_COLUMNS = (
    ("album", "id"),
    ("album", "title"),
    ("artist", "id"),
    ("artist", "name"),
    ("set", "split"),
    ("track", "genre_top"),
    ("track", "license"),
    ("track", "title"),
)


def _own_cells(track: PlannedTrack) -> tuple[str, ...]:
    """A track's values of `_OWN_COLUMNS`."""
    return (
        str(track.album_id),
        f"Album {track.album_id}",
        str(track.artist_id),
        _artist_name(track.artist_id),
        track.part,
        track.genre,
        _LICENCES[track.artist_id % len(_LICENCES)],
        f"Track {track.track_id}",
    )


def _artist_name(artist_id: int) -> str:
    """Name of an artist; no two have the same, since a split may group by it."""
    round_, place = divmod(artist_id, len(_QUALITIES) * len(_THINGS))
    thing, quality = divmod(place, len(_QUALITIES))
    return f"{_QUALITIES[quality]} {_THINGS[thing]}{f' {round_ + 1}' if round_ else ''}"
