"""Which track trains, which steers, which judges: the same split for the same seed, in whatever order the rows come."""

import hashlib
import logging
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from genre_spark.corpora.tracks import PARTS
from genre_spark.errors import EnvironmentSetupError, SplitError
from genre_spark.files import complete_file
from genre_spark.settings import SplitSettings

Scheme = Literal["study", "official", "artist"]

SPLIT_SCHEMA = pa.schema([pa.field(name, pa.string(), nullable=False) for name in ("track_id", "genre", "part")])

# Parts in the order in which a genre with few artists gets them: without training there is nothing to judge, and
# without a test no judgement.
_PARTS_BY_NEED = ("training", "test", "validation")
# The artists are dealt out this often, and the assignment nearest to the shares is kept.
_DEALS = 20

logger = logging.getLogger(__name__)


def make_split(tracks: pa.Table, scheme: Scheme, settings: SplitSettings) -> pa.Table:
    """Put every track that has a genre into one part.

    Parameters
    ----------
    tracks : pa.Table
        A track table, rows in any order.
    scheme : {"study", "official", "artist"}
        `study`: training and validation at random, stratified by genre, as in the study. `official`: the corpus's own.
        `artist`: training, validation and test with whole artists in each, near to stratified; a track without an
        artist counts as an artist of its own.
    settings : SplitSettings
        Seed and shares.

    Returns
    -------
    pa.Table
        Columns `track_id`, `genre`, `part`, sorted by `track_id`.

    Raises
    ------
    SplitError
        If there are fewer than two genres, or too few tracks or artists, or no official split.
    """
    schemes: Mapping[str, Callable[[pa.Table, SplitSettings], list[str | None]]] = {
        "study": _study,
        "official": _official,
        "artist": _artist,
    }
    if scheme not in schemes:
        raise SplitError(f"unknown split scheme {scheme!r}; known are {', '.join(get_args(Scheme))}")
    # Nothing below may depend on the order in which files were found.
    known = tracks.filter(pc.is_valid(tracks["genre"])).sort_by("track_id")
    if known.num_rows < tracks.num_rows:
        logger.warning(
            "%d of %d tracks have no genre: left out of the split", tracks.num_rows - known.num_rows, tracks.num_rows
        )
    genres = pc.unique(known["genre"]).to_pylist()
    if len(genres) < 2:
        found = f"only {genres[0]!r}" if genres else "none"
        raise SplitError(f"a split needs tracks of two genres or more, found {found}; label more tracks")
    parts = pa.array(schemes[scheme](known, settings), pa.string())
    split = known.select(["track_id", "genre"]).append_column("part", parts).filter(pc.is_valid(parts))
    return split.cast(SPLIT_SCHEMA)


def leaking_artists(tracks: pa.Table, split: pa.Table) -> list[str]:
    """Artists with tracks in more than one part, sorted; upper and lower case and extra spaces make no other artist."""
    part_of = dict(zip(split["track_id"].to_pylist(), split["part"].to_pylist(), strict=True))
    names: dict[str, str] = {}
    parts: dict[str, set[str]] = defaultdict(set)
    ordered = tracks.select(["track_id", "artist"]).sort_by("track_id")
    for track_id, artist in zip(ordered["track_id"].to_pylist(), ordered["artist"].to_pylist(), strict=True):
        if track_id in part_of and artist and artist.strip():
            names.setdefault(_same_artist(artist), artist)
            parts[_same_artist(artist)].add(part_of[track_id])
    return sorted(names[key] for key, stands_in in parts.items() if len(stands_in) > 1)


def assert_no_leak(tracks: pa.Table, split: pa.Table) -> None:
    """Check that every artist stands in one part only.

    Raises
    ------
    SplitError
        If one stands in more; the message names up to three.
    """
    leaking = leaking_artists(tracks, split)
    if leaking:
        shown = ", ".join(leaking[:3]) + (", ..." if len(leaking) > 3 else "")
        raise SplitError(f"{len(leaking)} artists stand in more than one part: {shown}; use the scheme artist")


def split_digest(split: pa.Table) -> str:
    """SHA-256 over the rows in the order of `track_id`: 16 hexadecimal digits of it."""
    digest = hashlib.sha256()
    for row in split.select(SPLIT_SCHEMA.names).sort_by("track_id").to_pylist():
        digest.update(repr(tuple(row.values())).encode())
    return digest.hexdigest()[:16]


def write_split(split: pa.Table, path: Path) -> None:
    """Write a split as Parquet; the file appears under its name only when it is complete."""
    with complete_file(path, SplitError) as partial:
        pq.write_table(split, partial)


def read_split(path: Path) -> pa.Table:
    """Read and check a split.

    Raises
    ------
    SplitError
        If there is no such file, or it is no split: a column is missing, a part unknown, or a track in two rows.
    """
    if not path.is_file():
        raise SplitError(f"{path}: no such split; training writes one into its run folder")
    try:
        split = pq.read_table(path).select(SPLIT_SCHEMA.names).cast(SPLIT_SCHEMA)
    except (pa.ArrowException, OSError, KeyError, ValueError) as error:
        raise SplitError(f"{path}: not a split: {' '.join(str(error).split())}") from None
    if split.num_rows == 0:
        raise SplitError(f"{path}: not a split: it has no rows")
    strange = set(pc.unique(split["part"]).to_pylist()) - set(PARTS)
    if strange:
        raise SplitError(f"{path}: part {min(strange)!r} is none of {', '.join(PARTS)}")
    if pc.count_distinct(split["track_id"]).as_py() < split.num_rows:
        raise SplitError(f"{path}: a track_id stands in more than one row")
    return split


def _study(tracks: pa.Table, settings: SplitSettings) -> list[str | None]:
    # Imported here: reading a split must not ask for scikit-learn on a node that only computes features.
    try:
        from sklearn.model_selection import train_test_split
    except ImportError:
        raise EnvironmentSetupError(
            "scikit-learn is missing; install it with `pip install genre-spark[train]`"
        ) from None
    genres = np.array(tracks["genre"].to_pylist())
    names, sizes = np.unique(genres, return_counts=True)
    single = names[sizes == 1]
    if len(single):
        logger.warning("genres with a single track, which is trained on and never validated: %s", ", ".join(single))
    rows = np.flatnonzero(~np.isin(genres, single))
    try:
        _, validation = train_test_split(
            rows, train_size=settings.study_training, stratify=genres[rows], random_state=settings.seed
        )
    except ValueError:
        raise SplitError(
            f"{len(rows)} tracks of {len(names) - len(single)} genres are too few for split.study_training="
            f"{settings.study_training}: every genre needs a track in both parts; add tracks or change the share"
        ) from None
    parts = np.full(len(genres), "training", dtype=object)
    parts[validation] = "validation"
    return list(parts)


def _official(tracks: pa.Table, settings: SplitSettings) -> list[str | None]:
    parts: list[str | None] = tracks["split"].to_pylist()
    without = parts.count(None)
    if without == len(parts):
        raise SplitError("this corpus has no official split; use the scheme artist or study")
    if without:
        logger.warning("%d of %d tracks have no official part: left out of the split", without, len(parts))
    if "training" not in parts or len(set(parts) - {None}) < 2:
        found = ", ".join(sorted({part for part in parts if part}))
        raise SplitError(f"the official split of these tracks holds only {found}; use the scheme artist or study")
    return parts


def _artist(tracks: pa.Table, settings: SplitSettings) -> list[str | None]:
    artists = [_same_artist(artist or "") for artist in tracks["artist"].to_pylist()]
    alone = artists.count("")
    if alone:
        logger.warning("%d of %d tracks have no artist: each counts as an artist of its own", alone, len(artists))
    # A tuple can't be mistaken for an artist's name.
    groups = [artist or (track_id,) for artist, track_id in zip(artists, tracks["track_id"].to_pylist(), strict=True)]
    row_of = {group: row for row, group in enumerate(dict.fromkeys(groups))}
    group_of = np.array([row_of[group] for group in groups])
    genres, genre_of = np.unique(np.array(tracks["genre"].to_pylist()), return_inverse=True)
    counts = np.zeros((len(row_of), len(genres)))
    np.add.at(counts, (group_of, genre_of), 1)

    test, validation = settings.artist_test, settings.artist_validation
    targets = np.outer([1 - test - validation, test, validation], counts.sum(axis=0))
    rng = np.random.default_rng(settings.seed)
    deals = [_deal(counts, targets, rng) for _ in range(_DEALS)]
    part_of = min(deals, key=lambda deal: _distance(deal, counts, targets))

    filled = _fill(part_of, counts)
    for part, row in zip(_PARTS_BY_NEED, filled, strict=True):
        if not row.any():
            raise SplitError(f"too few artists: none is left for the {part} part; add artists or use the scheme study")
        if not row.all():
            logger.warning("genres with too few artists for the %s part: %s", part, ", ".join(genres[row == 0]))
    for part, got, wanted in zip(_PARTS_BY_NEED, filled.sum(1), targets.sum(1), strict=True):
        logger.info(
            "%s: %.1f %% of the tracks, asked for %.1f %%", part, *(100 * n / len(groups) for n in (got, wanted))
        )
    return [_PARTS_BY_NEED[part] for part in part_of[group_of]]


def _deal(counts: np.ndarray, targets: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Deal the artists out to the parts.

    Parameters
    ----------
    counts : np.ndarray [shape=(artists, genres)]
        Tracks of an artist in a genre.
    targets : np.ndarray [shape=(parts, genres)]
        Tracks that each part should get of each genre.
    rng : np.random.Generator
        Decides the order.

    Returns
    -------
    np.ndarray [shape=(artists,), dtype=int]
        Part of each artist.
    """
    part_of = np.full(len(counts), -1)
    filled = np.zeros_like(targets)
    shuffled = rng.permutation(len(counts))

    def cost(artists: np.ndarray) -> np.ndarray:
        # How much chi-square, the sum of (filled - target)^2 / target, grows [shape=(artists, parts)].
        growth = counts[artists, None, :] * (counts[artists, None, :] + 2 * (filled - targets))
        return (growth / targets).sum(axis=2)

    def put(artist: int, part: int) -> None:
        part_of[artist] = part
        filled[part] += counts[artist]

    # First an artist of every genre for every part, the genre with the fewest artists first. Training comes before all
    # else, so it can't miss a genre: one without artists left has them all in training.
    for part in range(len(targets)):
        for genre in np.argsort((counts > 0).sum(axis=0), kind="stable"):
            free = shuffled[(part_of[shuffled] < 0) & (counts[shuffled, genre] > 0)]
            if filled[part, genre] == 0 and len(free):
                small = free[counts[free, genre] <= targets[part, genre]]
                # A random one that fits into test or validation, or other seeds would test on the same artists.
                put(small[0] if part > 0 and len(small) else free[cost(free)[:, part].argmin()], part)
    # Then the others to where they are most wanted, the large roughly before the small: those level out what is left.
    free = shuffled[part_of[shuffled] < 0]
    sizes = counts[free].sum(axis=1) * rng.uniform(0.5, 1.0, len(free))
    for artist in free[np.argsort(-sizes, kind="stable")]:
        put(artist, cost(np.array([artist]))[0].argmin())
    return part_of


def _distance(part_of: np.ndarray, counts: np.ndarray, targets: np.ndarray) -> tuple[float, ...]:
    """How far parts are from what is wanted: first genres missing from a part, then chi-square to the targets."""
    filled = _fill(part_of, counts)
    return float((filled == 0).sum()), float(((filled - targets) ** 2 / targets).sum())


def _fill(part_of: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Tracks in each part of each genre [shape=(parts, genres)]."""
    return np.stack([counts[part_of == part].sum(axis=0) for part in range(len(_PARTS_BY_NEED))])


def _same_artist(artist: str) -> str:
    return " ".join(artist.casefold().split())
