"""Which tracks belong together: those of an artist, of an album, and copies of each other stand in one part or none.

A model that heard an artist, an album or the very recording in training is not tested by it (A. Flexer, "A closer look
on artist filters for musical genre classification", ISMIR 2007).
"""

import logging
import re
import unicodedata
from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from genre_spark.errors import EnvironmentSetupError, SplitError

Kind = Literal["artist", "album", "pcm"]
KINDS: tuple[Kind, ...] = get_args(Kind)
COLUMNS: dict[Kind, str] = {"artist": "artist", "album": "album", "pcm": "pcm_hash"}

# From this share of the tracks on, a group leaves little to choose where it goes.
_LARGE = 0.1

# One tagger writes "Guns N\u2019 Roses" and "Jay\u2010Z" (MusicBrainz does), another one what a keyboard has.
_PLAIN = str.maketrans(
    dict.fromkeys("\u2018\u2019\u201a\u201b\u2032\u02bc\u00b4", "'")
    | dict.fromkeys("\u201c\u201d\u201e\u201f\u2033", '"')
    | dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2015\u2212", "-")
    | dict.fromkeys("\u2044\u2215", "/")
)
# What is not seen makes no other name: the zero-width and other format characters, and variation selectors.
_UNSEEN = re.compile("[\u00ad\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff]")
# A guest makes no other artist.
_GUEST = re.compile(r"(?<=\S)\s+[(\[]?(?:f(?:ea)?t\.|feat\s|featuring\s).*")

logger = logging.getLogger(__name__)


def group_tracks(tracks: pa.Table, by: Sequence[Kind] = KINDS) -> np.ndarray:
    """Number the groups of tracks that must not be torn apart.

    Two tracks are in one group if they share an artist, an album title or the decoded signal, or if a chain of such
    tracks leads from the one to the other. That is cautious: albums of different artists may have the same title by
    chance ("Live", "Greatest Hits").

    Parameters
    ----------
    tracks : pa.Table
        A track table, rows in any order.
    by : sequence of {"artist", "album", "pcm"}
        What joins tracks. An unknown one joins nothing.

    Returns
    -------
    np.ndarray [shape=(tracks,), dtype=int]
        The group of each row. Groups are numbered from 0 in the order of the smallest `track_id` in each.

    Raises
    ------
    SplitError
        If `by` names something else.
    EnvironmentSetupError
        If SciPy is missing.
    """
    by_id = pc.sort_indices(tracks["track_id"]).to_numpy()
    groups = np.empty(tracks.num_rows, dtype=np.int64)
    groups[by_id] = join_codes([value_codes(tracks, kind)[by_id] for kind in by], tracks.num_rows)
    return groups


def join_codes(codes: Sequence[np.ndarray], n_tracks: int) -> np.ndarray:
    """Number the groups of tracks that are joined by equal codes.

    Parameters
    ----------
    codes : sequence of np.ndarray [shape=(n_tracks,), dtype=int]
        From `value_codes`, one array for each kind.
    n_tracks : int

    Returns
    -------
    np.ndarray [shape=(n_tracks,), dtype=int]
        From 0, in the order of appearance.

    Raises
    ------
    EnvironmentSetupError
        If SciPy is missing.
    """
    # Imported here: reading a split must not ask for SciPy on a node that only computes features.
    try:
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components
    except ImportError:
        raise EnvironmentSetupError("scipy is missing; install it with `pip install genre-spark[train]`") from None
    rows, values, n_nodes = [], [], n_tracks
    for numbers in codes:
        known = np.flatnonzero(numbers >= 0)
        rows.append(known)
        values.append(numbers[known] + n_nodes)
        n_nodes += int(numbers.max(initial=-1)) + 1
    # Tracks and what they share are the nodes: far fewer edges than one between each two tracks of an artist.
    edges = (np.concatenate([*rows, []]).astype(np.int64), np.concatenate([*values, []]).astype(np.int64))
    graph = coo_array((np.ones(len(edges[0]), dtype=np.int8), edges), shape=(n_nodes, n_nodes))
    _, components = connected_components(graph, directed=False)
    _, first, group = np.unique(components[:n_tracks], return_index=True, return_inverse=True)
    in_order = np.empty(len(first), dtype=np.int64)
    in_order[np.argsort(first)] = np.arange(len(first))
    return in_order[group]


def value_codes(tracks: pa.Table, kind: Kind) -> np.ndarray:
    """Number what tracks share, so that equal values have equal numbers.

    Upper and lower case, extra spaces, typographic quotes and dashes, characters that are not seen, and the ways in
    which Unicode writes one letter make no other artist or album; a guest ("feat. ...") makes no other artist. Accents,
    articles ("The") and other punctuation do, and a guest is not looked for among the artists.

    Parameters
    ----------
    tracks : pa.Table
    kind : {"artist", "album", "pcm"}

    Returns
    -------
    np.ndarray [shape=(tracks,), dtype=int]
        From 0, in the order of appearance; -1 where the value is null or blank.

    Raises
    ------
    SplitError
        If the kind is unknown.
    """
    if kind not in COLUMNS:
        raise SplitError(f"split.group_by: unknown {kind!r}; known are {', '.join(KINDS)}")
    column = tracks[COLUMNS[kind]].combine_chunks()
    if kind == "pcm":
        # Hashes are no names: a million of them, each another one, would only be slow to compare like that.
        column = pc.if_else(pc.equal(pc.utf8_trim_whitespace(column), ""), pa.scalar(None, pa.string()), column)
    encoded = column.dictionary_encode()
    indices = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    if kind == "pcm":
        return indices
    number_of: dict[str, int] = {}
    names = (_same_name(name) for name in encoded.dictionary.to_pylist())
    if kind == "artist":
        names = (_GUEST.sub("", name) if "f" in name else name for name in names)
    numbers = [number_of.setdefault(name, len(number_of)) if name else -1 for name in names]
    # A null's index is -1: the last entry.
    return np.array([*numbers, -1])[indices]


def warn_of_large_group(tracks: pa.Table, groups: np.ndarray) -> None:
    """Warn if one of `groups` holds a large share of the tracks because album titles join artists."""
    sizes = np.bincount(groups)
    largest = int(sizes.argmax())
    if sizes[largest] <= _LARGE * len(groups):
        return
    members = tracks.filter(pa.array(groups == largest)).sort_by("track_id")
    pairs = np.stack([value_codes(members, "album"), value_codes(members, "artist")], axis=1)
    albums, artists = np.unique(np.unique(pairs[(pairs >= 0).all(axis=1)], axis=0)[:, 0], return_counts=True)
    joining = np.flatnonzero(artists > 1)
    joining = joining[np.argsort(-artists[joining], kind="stable")]
    shown = [f"{_title(members, pairs[:, 0] == albums[n])!r} ({artists[n]} artists)" for n in joining[:3]]
    if shown:
        logger.warning(
            "one group holds %d of %d tracks; album titles that join most artists: %s%s; titles may be equal by "
            "chance: `--set 'split.group_by=[artist,pcm]'` leaves albums out",
            sizes[largest], len(groups), ", ".join(shown), ", ..." if len(joining) > 3 else "",
        )  # fmt: skip


def warn_of_other_genres(placed: pa.Table, split: pa.Table) -> None:
    """Warn if tracks have another genre in a split: two corpora may number their tracks alike."""
    genres = split["genre"].take(pc.index_in(placed["track_id"], value_set=split["track_id"].combine_chunks()))
    other = pc.sum(pc.invert(pc.fill_null(pc.equal(placed["genre"], genres), False))).as_py()
    if other:
        logger.warning(
            "%d of %d tracks have another genre in the split than in the track table: do the two belong together?",
            other, placed.num_rows,
        )  # fmt: skip


def _title(members: pa.Table, chosen: np.ndarray) -> str:
    # As the first track spells it.
    return " ".join(members["album"][int(chosen.argmax())].as_py().split())


def _same_name(name: str) -> str:
    if not name.isascii():
        name = _UNSEEN.sub("", name).translate(_PLAIN)
        # Folding may take a letter apart again.
        name = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
    return " ".join(name.casefold().replace("`", "'").split())
