"""What stands on both sides of a split: artists, albums and copies that make an accuracy look better than it is.

The borders differ in weight. What training shares with the part that judges inflates the accuracy; what it shares with
validation, if another part judges, misleads only the choice of the model.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict

from genre_spark.corpora.groups import COLUMNS, KINDS, Kind, join_codes, value_codes, warn_of_other_genres
from genre_spark.corpora.tracks import PARTS
from genre_spark.errors import SplitError

LeakKind = Literal["artist", "album", "pcm", "group"]

CROSSING_SCHEMA = pa.schema(
    [pa.field(name, pa.string(), nullable=False) for name in ("kind", "value", "track_id", "part")]
)

_EXAMPLES = 10
_NOUNS: dict[Kind, str] = {"artist": "artist", "album": "album", "pcm": "recording"}


class BorderLeak(BaseModel):
    """What stands on both sides of the border between two parts: how many values, with how many tracks in the two."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    crossing: int
    tracks: int


class LeakExample(BaseModel):
    """One artist, album, recording or group that stands in several parts, with its number of tracks in each part."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    value: str
    tracks: dict[str, int]


class KindLeak(BaseModel):
    """What stands in more than one part, of one kind.

    Parameters
    ----------
    crossing : int
        How many artists (albums, recordings, groups) do.
    tracks : int
        How many tracks they have.
    judged_with_fellow : int
        How many tracks of the judged part share the artist (album, ...) with one in training.
    borders : dict of str to BorderLeak
        By pair of parts: `training-test`, ...
    examples : list of LeakExample
        Those with most tracks of the judged part first.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    crossing: int
    tracks: int
    judged_with_fellow: int
    borders: dict[str, BorderLeak]
    examples: list[LeakExample]


class LeakAudit(BaseModel):
    """What stands in more than one part of a split. Made by `audit_leaks`.

    Parameters
    ----------
    judged : {"test", "validation"}
        The part that a model is judged on: test, or validation where there is no test.
    tracks : dict of str to int
        Tracks in each part.
    tracks_not_found : int
        Tracks of the split that the track table lacks: nothing is known of them.
    tracks_without_artist : int
        Tracks that name no artist: whose they are can't be told.
    tracks_without_album : int
        Tracks that name no album.
    tracks_without_pcm_hash : int
        Tracks whose decoded signal is unknown, or digital silence: copies of them can't be seen.
    by : tuple of {"artist", "album", "pcm"}
        What joins tracks to the groups of kind `group`.
    kinds : dict of {"artist", "album", "pcm", "group"} to KindLeak
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    judged: Literal["test", "validation"]
    tracks: dict[str, int]
    tracks_not_found: int
    tracks_without_artist: int
    tracks_without_album: int
    tracks_without_pcm_hash: int
    by: tuple[Kind, ...]
    kinds: dict[LeakKind, KindLeak]


def audit_leaks(tracks: pa.Table, split: pa.Table, by: Sequence[Kind] = KINDS) -> LeakAudit:
    """Count what stands in more than one part of a split.

    Parameters
    ----------
    tracks : pa.Table
        A track table, rows in any order; tracks that are not in the split are not looked at.
    split : pa.Table
        From `make_split` or `read_split`.
    by : sequence of {"artist", "album", "pcm"}
        What joins tracks to groups; see `genre_spark.corpora.groups.group_tracks`.

    Returns
    -------
    LeakAudit

    Raises
    ------
    SplitError
        If the table has none of the split's tracks.
    """
    placed, part_of = _place(tracks, split)
    warn_of_other_genres(placed, split)
    sizes = dict(zip(PARTS, np.bincount(part_of, minlength=len(PARTS)).tolist(), strict=True))
    judged: Literal["test", "validation"] = "test" if sizes["test"] else "validation"
    sharings = _sharings(placed, part_of, by)
    return LeakAudit(
        judged=judged,
        tracks={part: size for part, size in sizes.items() if size},
        tracks_not_found=split.num_rows - placed.num_rows,
        tracks_without_artist=int((sharings["artist"].codes < 0).sum()),
        tracks_without_album=int((sharings["album"].codes < 0).sum()),
        tracks_without_pcm_hash=int((sharings["pcm"].codes < 0).sum()),
        by=tuple(by),
        kinds={kind: _leak(sharing, judged, sizes) for kind, sharing in sharings.items()},
    )


def crossing_tracks(tracks: pa.Table, split: pa.Table, by: Sequence[Kind] = KINDS) -> pa.Table:
    """List every track of what stands in more than one part.

    Parameters
    ----------
    tracks, split, by
        As for `audit_leaks`.

    Returns
    -------
    pa.Table
        Columns `kind` (artist, album, pcm, group, in this order), `value`, `track_id` and `part`, sorted by value and
        track within a kind. A recording goes by its first `track_id`, a group by its first artist (or else album, or
        recording).

    Raises
    ------
    SplitError
        If the table has none of the split's tracks.
    """
    placed, part_of = _place(tracks, split)
    parts = pa.DictionaryArray.from_arrays(pa.array(part_of), pa.array(PARTS)).cast(pa.string())
    tables = []
    for kind, sharing in _sharings(placed, part_of, by).items():
        by_name = np.argsort(np.array(sharing.names, dtype=object), kind="stable")
        rank_of = np.zeros(len(sharing.crossing), dtype=np.int64)
        rank_of[np.flatnonzero(sharing.crossing)[by_name]] = np.arange(len(by_name))
        rows = np.flatnonzero(sharing.codes >= 0)
        rows = rows[sharing.crossing[sharing.codes[rows]]]
        # Stable: within a value the tracks keep their order.
        rows = rows[np.argsort(rank_of[sharing.codes[rows]], kind="stable")]
        names = (
            pa.array(sharing.names, pa.string()).take(pa.array(by_name)).take(pa.array(rank_of[sharing.codes[rows]]))
        )
        columns = [pa.repeat(kind, len(rows)), names, placed["track_id"].take(rows), parts.take(pa.array(rows))]
        tables.append(pa.table(columns, names=CROSSING_SCHEMA.names))
    return pa.concat_tables(tables).cast(CROSSING_SCHEMA)


def assert_no_leak(tracks: pa.Table, split: pa.Table, by: Sequence[Kind] = KINDS) -> None:
    """Check that every artist, album and recording stands in one part only.

    Raises
    ------
    SplitError
        If one stands in more, or the table has none of the split's tracks; the message names up to three.
    """
    placed, part_of = _place(tracks, split)
    leaking = {kind: _sharing(placed, part_of, kind, value_codes(placed, kind)).names for kind in by}
    found = ", ".join(
        f"{len(names)} {_NOUNS[kind]}{'s' if len(names) > 1 else ''}" for kind, names in leaking.items() if names
    )
    if found:
        names = [f"{_NOUNS[kind]} {name!r}" for kind, names in leaking.items() for name in sorted(names)]
        shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
        raise SplitError(f"{found} in more than one part: {shown}; use the scheme artist or artist-kfold")


@dataclass(frozen=True)
class _Sharing:
    """Which tracks share what, of one kind.

    Parameters
    ----------
    codes : np.ndarray [shape=(tracks,), dtype=int]
        Number of the value of each track, -1 where it is unknown.
    counts : np.ndarray [shape=(values, 3), dtype=int]
        Tracks of a value in each of `PARTS`.
    crossing : np.ndarray [shape=(values,), dtype=bool]
        Which values stand in more than one part.
    names : list of str
        The crossing values for display, in the order of their numbers.
    """

    codes: np.ndarray
    counts: np.ndarray
    crossing: np.ndarray
    names: list[str]


def _place(tracks: pa.Table, split: pa.Table) -> tuple[pa.Table, np.ndarray]:
    """Tracks that stand in the split, sorted by `track_id`, and their places in `PARTS`."""
    row_of = pc.index_in(tracks["track_id"], value_set=split["track_id"].combine_chunks())
    if row_of.null_count == tracks.num_rows:
        raise SplitError("the track table has none of the split's tracks; they don't belong together")
    part_of = pc.index_in(split["part"], value_set=pa.array(PARTS)).take(row_of)
    placed = tracks.append_column("place", part_of).filter(pc.is_valid(row_of)).sort_by("track_id")
    return placed.drop_columns(["place"]), placed["place"].to_numpy()


def _sharings(placed: pa.Table, part_of: np.ndarray, by: Sequence[Kind]) -> dict[LeakKind, _Sharing]:
    codes = {kind: value_codes(placed, kind) for kind in KINDS}
    found: dict[LeakKind, _Sharing] = {kind: _sharing(placed, part_of, kind, codes[kind]) for kind in KINDS}
    # The tracks are sorted: these are the numbers that `group_tracks` gives.
    groups = join_codes([codes[kind] for kind in by], placed.num_rows)
    counts, crossing = _count(groups, part_of)
    names = _group_names(placed, groups, crossing, {kind: codes[kind] for kind in by})
    return {**found, "group": _Sharing(groups, counts, crossing, names)}


def _sharing(placed: pa.Table, part_of: np.ndarray, kind: Kind, codes: np.ndarray) -> _Sharing:
    counts, crossing = _count(codes, part_of)
    numbers, first = np.unique(codes, return_index=True)
    return _Sharing(codes, counts, crossing, _names(placed, kind, first[numbers >= 0][crossing]))


def _names(placed: pa.Table, kind: Kind, rows: np.ndarray) -> list[str]:
    """What the artist, album or recording of some tracks goes by: nobody knows a recording by its hash."""
    spelled = placed["track_id" if kind == "pcm" else COLUMNS[kind]].take(rows).to_pylist()
    return [" ".join(name.split()) for name in spelled]


def _count(codes: np.ndarray, part_of: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Tracks of each value in each part [shape=(values, 3)], and which values stand in more than one."""
    known = codes >= 0
    n_values = int(codes.max(initial=-1)) + 1
    cells = np.bincount(codes[known] * len(PARTS) + part_of[known], minlength=n_values * len(PARTS))
    counts = cells.reshape(n_values, len(PARTS))
    return counts, (counts > 0).sum(axis=1) > 1


def _group_names(
    placed: pa.Table, groups: np.ndarray, crossing: np.ndarray, codes_of: Mapping[Kind, np.ndarray]
) -> list[str]:
    """What tells a reader which group it is: the first artist (or else album, or else recording), and how many more."""
    names: dict[int, str] = {}
    for kind, codes in codes_of.items():
        inside = np.flatnonzero((codes >= 0) & crossing[groups])
        # A value stands in one group only: as many values have their first track in a group as are in it.
        first_of_value = inside[np.unique(codes[inside], return_index=True)[1]]
        n_values = np.bincount(groups[first_of_value], minlength=len(crossing))
        first_of_group = inside[np.unique(groups[inside], return_index=True)[1]]
        spelled = _names(placed, kind, first_of_group)
        for group, name in zip(groups[first_of_group].tolist(), spelled, strict=True):
            more = f" and {n_values[group] - 1} more" if n_values[group] > 1 else ""
            names.setdefault(group, f"{_NOUNS[kind]} {name}{more}")
    return [names[group] for group in np.flatnonzero(crossing).tolist()]


def _leak(sharing: _Sharing, judged: str, sizes: Mapping[str, int]) -> KindLeak:
    counts = sharing.counts[sharing.crossing]
    in_training, in_judged = counts[:, PARTS.index("training")], counts[:, PARTS.index(judged)]
    with_fellow = np.where(in_training > 0, in_judged, 0)
    borders = {}
    for one, other in itertools.combinations([part for part in PARTS if sizes[part]], 2):
        pair = counts[:, [PARTS.index(one), PARTS.index(other)]]
        pair = pair[(pair > 0).all(axis=1)]
        borders[f"{one}-{other}"] = BorderLeak(crossing=len(pair), tracks=int(pair.sum()))
    totals = counts.sum(axis=1)
    ranked = sorted(range(len(counts)), key=lambda n: (-with_fellow[n], -totals[n], sharing.names[n]))
    examples = [
        LeakExample(
            value=sharing.names[n],
            tracks={part: tracks for part, tracks in zip(PARTS, counts[n].tolist(), strict=True) if tracks},
        )
        for n in ranked[:_EXAMPLES]
    ]
    return KindLeak(
        crossing=len(counts),
        tracks=int(counts.sum()),
        judged_with_fellow=int(with_fellow.sum()),
        borders=borders,
        examples=examples,
    )
