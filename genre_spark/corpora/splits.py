"""Which track trains, which steers, which judges: the same split for the same seed, in whatever order the rows come.

What scikit-learn draws from a seed may differ from version to version, so a run keeps its split.
"""

import hashlib
import logging
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from genre_spark.corpora.dealing import deal_groups, fill_parts
from genre_spark.corpora.groups import group_tracks, value_codes, warn_of_large_group
from genre_spark.corpora.tracks import PARTS, tracks_digest
from genre_spark.errors import EnvironmentSetupError, SplitError
from genre_spark.files import complete_file
from genre_spark.settings import SplitSettings

Scheme = Literal["study", "official", "artist", "artist-kfold", "all"]
# Schemes that promise that no group of tracks stands in two parts.
GROUPED: tuple[Scheme, ...] = ("artist", "artist-kfold")

SPLIT_SCHEMA = pa.schema([pa.field(name, pa.string(), nullable=False) for name in ("track_id", "genre", "part")])

# Parts in the order in which a genre with few groups gets them: without training there is nothing to judge, and
# without a test no judgement.
_PARTS_BY_NEED = ("training", "test", "validation")

logger = logging.getLogger(__name__)

# Takes the tracks that have a genre, and the number of that genre; returns the part of each, None where it has none.
_Splitter = Callable[[pa.Table, np.ndarray, SplitSettings], np.ndarray]


def make_split(tracks: pa.Table, scheme: Scheme, settings: SplitSettings) -> pa.Table:
    """Put every track that has a genre into one part.

    Parameters
    ----------
    tracks : pa.Table
        A track table, rows in any order.
    scheme : {"study", "official", "artist", "artist-kfold", "all"}
        `study`: training and validation at random, stratified by genre, as in the study. `official`: the corpus's own.
        `artist`: training, validation and test with whole groups of tracks in each (`split.group_by`: same artist, same
        album title, same audio), near to stratified. `artist-kfold`: the same groups in `split.folds` folds of equal
        size, of which number `split.fold` is the test part and the one after it validation; over all values of
        `split.fold` every track is tested once. `all`: everything is training, for a model that goes out to be used
        once the others have told what to expect of it.
    settings : SplitSettings
        Seed, shares, groups and folds.

    Returns
    -------
    pa.Table
        Columns `track_id`, `genre`, `part`, sorted by `track_id`.

    Raises
    ------
    SplitError
        If there are fewer than two genres, or too few tracks or groups, no such fold, or no official split.
    """
    schemes: Mapping[str, _Splitter] = {
        "study": _study,
        "official": _official,
        "artist": _artist,
        "artist-kfold": _artist_kfold,
        "all": _all,
    }
    if scheme not in schemes:
        raise SplitError(f"unknown split scheme {scheme!r}; known are {', '.join(get_args(Scheme))}")
    # Nothing below may depend on the order in which files were found.
    known = tracks.filter(pc.is_valid(tracks["genre"])).sort_by("track_id")
    if known.num_rows < tracks.num_rows:
        logger.warning(
            "%d of %d tracks have no genre: left out of the split", tracks.num_rows - known.num_rows, tracks.num_rows
        )
    genres = sorted(pc.unique(known["genre"]).to_pylist())
    if len(genres) < 2:
        found = f"only {genres[0]!r}" if genres else "none"
        raise SplitError(f"a split needs tracks of two genres or more, found {found}; label more tracks")
    genre_of = pc.index_in(known["genre"], value_set=pa.array(genres, pa.string())).to_numpy()
    parts = pa.array(schemes[scheme](known, genre_of, settings), pa.string())
    split = known.select(["track_id", "genre"]).append_column("part", parts).filter(pc.is_valid(parts))
    return split.cast(SPLIT_SCHEMA)


def split_digest(split: pa.Table) -> str:
    """SHA-256 over the rows in the order of `track_id`: 16 hexadecimal digits of it."""
    digest = hashlib.sha256()
    ordered = split.select(SPLIT_SCHEMA.names).sort_by("track_id")
    for row in zip(*(column.to_pylist() for column in ordered.columns), strict=True):
        digest.update(repr(row).encode())
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


def audio_digest(tracks: pa.Table, split: pa.Table) -> str:
    """Digest of which signals stand in a split: it stays the same when other tracks come, or one is renamed or moved.

    Parameters
    ----------
    tracks : pa.Table
        A dataset's tracks.
    split : pa.Table
        From `make_split`.
    """
    return tracks_digest(tracks.filter(pc.is_in(tracks["track_id"], split["track_id"])), ("track_id", "pcm_hash"))


def _study(tracks: pa.Table, genre_of: np.ndarray, settings: SplitSettings) -> np.ndarray:
    # Imported here: reading a split must not ask for scikit-learn on a node that only computes features.
    try:
        from sklearn.model_selection import train_test_split
    except ImportError:
        raise _scikit_learn_missing() from None
    sizes = np.bincount(genre_of)
    single = np.flatnonzero(sizes == 1)
    if len(single):
        logger.warning(
            "genres with a single track, which is trained on and never validated: %s", _names(tracks, genre_of, single)
        )
    rows = np.flatnonzero(sizes[genre_of] > 1)
    try:
        _, validation = train_test_split(
            rows, train_size=settings.study_training, stratify=genre_of[rows], random_state=settings.seed
        )
    except ValueError:
        raise SplitError(
            f"{len(rows)} tracks of {len(sizes) - len(single)} genres are too few for split.study_training="
            f"{settings.study_training}: every genre needs a track in both parts; add tracks or change the share"
        ) from None
    parts = np.full(len(genre_of), "training", dtype=object)
    parts[validation] = "validation"
    return parts


def _official(tracks: pa.Table, genre_of: np.ndarray, settings: SplitSettings) -> np.ndarray:
    found = set(pc.unique(tracks["split"]).to_pylist()) - {None}
    without = tracks["split"].null_count
    if not found:
        raise SplitError("this corpus has no official split; use the scheme artist or study")
    if without:
        logger.warning("%d of %d tracks have no official part: left out of the split", without, tracks.num_rows)
    if "training" not in found or len(found) < 2:
        names = ", ".join(sorted(found))
        raise SplitError(f"the official split of these tracks holds only {names}; use the scheme artist or study")
    return np.array(tracks["split"].to_pylist(), dtype=object)


def _artist(tracks: pa.Table, genre_of: np.ndarray, settings: SplitSettings) -> np.ndarray:
    groups = _groups(tracks, settings)
    counts = _count(groups, genre_of)
    test, validation = settings.artist_test, settings.artist_validation
    targets = np.outer([1 - test - validation, test, validation], counts.sum(axis=0))
    part_of = deal_groups(counts, targets, settings.seed)
    for part, got, wanted in zip(_PARTS_BY_NEED, fill_parts(part_of, counts, 3).sum(1), targets.sum(1), strict=True):
        logger.info(
            "%s: %.1f %% of the tracks, asked for %.1f %%", part, *(100 * n / len(groups) for n in (got, wanted))
        )
    parts = np.array(_PARTS_BY_NEED, dtype=object)[part_of[groups]]
    _check_parts(tracks, genre_of, parts, "add artists or use the scheme study")
    return parts


def _artist_kfold(tracks: pa.Table, genre_of: np.ndarray, settings: SplitSettings) -> np.ndarray:
    try:
        from sklearn.model_selection import StratifiedGroupKFold
    except ImportError:
        raise _scikit_learn_missing() from None
    n_folds = settings.folds
    if settings.fold >= n_folds:
        raise SplitError(
            f"split.fold={settings.fold}: there is no such fold; with split.folds={n_folds} the last is {n_folds - 1}"
        )
    groups = _groups(tracks, settings)
    if groups.max() + 1 < n_folds:
        raise SplitError(
            f"split.folds={n_folds}: the tracks make only {groups.max() + 1} groups of the same "
            f"{' or '.join(settings.group_by)}; lower split.folds or add artists"
        )
    few = np.flatnonzero((_count(groups, genre_of) > 0).sum(axis=0) < n_folds)
    if len(few):
        logger.warning(
            "genres with fewer groups than split.folds=%d, missing from a fold: %s",
            n_folds, _names(tracks, genre_of, few),
        )  # fmt: skip
    splitter = StratifiedGroupKFold(n_folds, shuffle=True, random_state=settings.seed)
    parts = np.full(len(groups), "training", dtype=object)
    try:
        with warnings.catch_warnings():
            # Of genres with few tracks: said above, by name.
            warnings.simplefilter("ignore", UserWarning)
            folds = [rows for _, rows in splitter.split(groups, genre_of, groups)]
    except ValueError:
        raise SplitError(
            f"split.folds={n_folds}: no genre has as many tracks; lower split.folds or add tracks"
        ) from None
    parts[folds[settings.fold]] = "test"
    parts[folds[(settings.fold + 1) % n_folds]] = "validation"
    _check_parts(tracks, genre_of, parts, "lower split.folds or add artists")
    return parts


def _all(tracks: pa.Table, genre_of: np.ndarray, settings: SplitSettings) -> np.ndarray:
    return np.full(len(genre_of), "training", dtype=object)


def _groups(tracks: pa.Table, settings: SplitSettings) -> np.ndarray:
    alone = (value_codes(tracks, "artist") < 0).sum()
    if alone and "artist" in settings.group_by:
        logger.warning(
            "%d of %d tracks have no artist: each counts as an artist of its own, unless something else joins it",
            alone, tracks.num_rows,
        )  # fmt: skip
    unknown = [kind for kind in settings.group_by if not (value_codes(tracks, kind) >= 0).any()]
    if len(unknown) == len(settings.group_by):
        logger.warning(
            "nothing is known of what split.group_by names (%s): nothing is kept together, and the split is random",
            ", ".join(settings.group_by),
        )
    elif "pcm" in unknown:
        logger.warning(
            "no track has a pcm_hash: copies of a recording may stand in two parts; take the tracks of "
            "`genre-spark corpus validate ... --clean`, or give the audit"
        )
    groups = group_tracks(tracks, settings.group_by)
    if "album" in settings.group_by:
        warn_of_large_group(tracks, groups)
    return groups


def _count(groups: np.ndarray, genre_of: np.ndarray) -> np.ndarray:
    """Tracks of each group in each genre [shape=(groups, genres)]."""
    counts = np.zeros((groups.max() + 1, genre_of.max() + 1))
    np.add.at(counts, (groups, genre_of), 1)
    return counts


def _check_parts(tracks: pa.Table, genre_of: np.ndarray, parts: np.ndarray, advice: str) -> None:
    """Refuse a part without tracks, and name the genres that are missing from one."""
    for part in _PARTS_BY_NEED:
        sizes = np.bincount(genre_of[parts == part], minlength=genre_of.max() + 1)
        if not sizes.any():
            raise SplitError(f"too few artists: none is left for the {part} part; {advice}")
        if not sizes.all():
            logger.warning(
                "genres with too few artists for the %s part: %s",
                part, _names(tracks, genre_of, np.flatnonzero(sizes == 0)),
            )  # fmt: skip


def _names(tracks: pa.Table, genre_of: np.ndarray, chosen: np.ndarray) -> str:
    return ", ".join(tracks["genre"][int((genre_of == number).argmax())].as_py() for number in chosen)


def _scikit_learn_missing() -> EnvironmentSetupError:
    return EnvironmentSetupError("scikit-learn is missing; install it with `pip install genre-spark[train]`")
