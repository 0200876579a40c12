"""Runs that were judged on the very same tracks: whether the best one is better, or was lucky.

Two models are right on much the same tracks, so their difference is known better than either accuracy. Whole artists
are drawn anew, as `genre_spark.evaluation.bootstrap.accuracy_difference` does for experiments; here from counts of
artists that are alike, so that a million tracks take no more room than a thousand.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from genre_spark.corpora.groups import group_tracks
from genre_spark.evaluation.bootstrap import RESAMPLES, Estimate
from genre_spark.evaluation.comparison import difference_interval
from genre_spark.evaluation.effective_sample import FEWEST_GROUPS
from genre_spark.evaluation.summary import SummaryRow
from genre_spark.files import check_ordinary
from genre_spark.models.run import EVALUATION

# The table that `genre_spark.evaluation.score` writes; that module starts what writes it.
PREDICTIONS = "predictions.parquet"
# `artist` came later.
_COLUMNS = {"track_id": pa.string(), "part": pa.string(), "genre": pa.string(), "predicted": pa.string()}
_ARTIST = "artist"

_SEED = 0
# Numbers that are drawn at a time.
_AT_A_TIME = 2_000_000


@dataclass(frozen=True)
class JudgedRun:
    """A run folder and its line in the summary."""

    folder: Path
    row: SummaryRow


def no_clear_difference(best: JudgedRun, others: Sequence[JudgedRun]) -> list[SummaryRow]:
    """Find the runs that the best one may be ahead of by chance.

    Parameters
    ----------
    best : JudgedRun
    others : sequence of JudgedRun
        Runs of the same split, judged part and genres.

    Returns
    -------
    list of SummaryRow
        Those whose 95 % interval of the difference holds 0, in their order. It is that on the same tracks; where the
        predictions of a run can't be read, don't tell artists that the evaluation knew of, or are of other tracks, it
        is that of two samples that have nothing to do with each other, which is wider.
    """
    first = _answers(best) if others else None
    return [other.row for other in others if not _is_ahead(best.row, first, other.row, _answers(other))]


def difference_on_same_tracks(right: np.ndarray, other_right: np.ndarray, groups: np.ndarray) -> Estimate | None:
    """Accuracy of one model minus that of another on the same tracks, with its 95 % interval over groups of tracks.

    Parameters
    ----------
    right, other_right : np.ndarray [shape=(tracks,), dtype=bool]
        Whether each model named a track rightly.
    groups : np.ndarray [shape=(tracks,), dtype=int]
        Number of each track's artist, from 0.

    Returns
    -------
    Estimate or None
        None of fewer groups than `genre_spark.evaluation.effective_sample.FEWEST_GROUPS`.
    """
    gained = right.astype(np.int64) - other_right
    sizes = np.bincount(groups)
    sums = np.bincount(groups, gained).astype(np.int64)
    kinds, counts = np.unique(np.stack([sizes, sums])[:, sizes > 0], axis=1, return_counts=True)
    if counts.sum() < FEWEST_GROUPS:
        return None
    resampled = np.concatenate([(draws @ kinds[1]) / (draws @ kinds[0]) for draws in _draws(counts)])
    low, high = np.percentile(resampled, [2.5, 97.5])
    return Estimate(float(gained.mean()), float(low), float(high))


@dataclass(frozen=True, eq=False)
class _Answers:
    """The judged tracks of a run, sorted by `track_id`, and whether each was named rightly."""

    tracks: pa.Table
    right: np.ndarray

    def groups(self, row: SummaryRow) -> np.ndarray | None:
        """Number of each track's artist; None where only the evaluation knew them."""
        if _ARTIST in self.tracks.column_names:
            return group_tracks(self.tracks, ("artist",))
        return np.arange(self.tracks.num_rows) if row.interval_by_artist is None else None


def _is_ahead(best: SummaryRow, answers: _Answers | None, other: SummaryRow, its: _Answers | None) -> bool:
    """Tell whether the interval of the difference lies above 0."""
    if answers is not None and its is not None and _same_tracks(answers, its):
        groups = answers.groups(best)
        if groups is not None:
            difference = difference_on_same_tracks(answers.right, its.right, groups)
            return difference is not None and difference.low > 0
    interval = difference_interval(best.accuracy, best.honest_interval, other.accuracy, other.honest_interval)
    return interval[0] > 0


def _same_tracks(one: _Answers, other: _Answers) -> bool:
    return all(one.tracks[name].equals(other.tracks[name]) for name in ("track_id", "genre"))


def _answers(run: JudgedRun) -> _Answers | None:
    """Read what a run said of its judged tracks; None where that can't be read or isn't what it was judged by."""
    path = run.folder / EVALUATION / PREDICTIONS
    try:
        # Spark writes a folder of files.
        files = sorted(path.glob("[!._]*.parquet")) if path.is_dir() else [path]
        tracks = pa.concat_tables([_judged(file, run.row.judged_part) for file in files]).sort_by("track_id")
        right = pc.equal(tracks["genre"], tracks["predicted"]).to_numpy()
    except (OSError, pa.ArrowException, ValueError, KeyError):
        return None
    # Predictions of another evaluation than the metrics are.
    if len(right) != run.row.n or right.dtype != bool or abs(right.mean() - run.row.accuracy) > 1e-9:
        return None
    return _Answers(tracks, right)


def _judged(file: Path, part: str) -> pa.Table:
    check_ordinary(file)
    with pq.ParquetFile(file) as parquet:
        found = parquet.schema_arrow
        wanted = _COLUMNS | ({_ARTIST: pa.string()} if _ARTIST in found.names else {})
        table = parquet.read(columns=list(wanted)).select(list(wanted)).cast(pa.schema(list(wanted.items())))
    # A file may say that it is text, and hold something else.
    table.validate(full=True)
    return table.filter(pc.equal(table["part"], part))


def _draws(counts: np.ndarray) -> Iterator[np.ndarray]:
    """Yield how many groups of each kind are drawn [shape=(some, len(counts))]."""
    random = np.random.default_rng(_SEED)
    n_groups, left = int(counts.sum()), RESAMPLES
    while left:
        size = min(left, max(1, _AT_A_TIME // len(counts)))
        left -= size
        yield random.multinomial(n_groups, counts / n_groups, size=size)
