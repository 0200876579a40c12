"""Which tracks, files and row groups a feed reads: one part of a split, or one share of it."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from genre_spark.dataset.petastorm_adapter import refuse_pickles
from genre_spark.dataset.store import Dataset
from genre_spark.dataset.table_files import open_parquet, read_track_ids
from genre_spark.errors import FeedError
from genre_spark.features.spec import FeatureSpec
from genre_spark.filesystems import masked


class Part(NamedTuple):
    """Some tracks of a dataset.

    Attributes
    ----------
    track_ids : list of str
        In the order of files and rows.
    files : list of str
        That hold them.
    skip : mapping of str to (int, list of int)
        By file, how many row groups it has, and which of them hold none of the tracks.
    """

    track_ids: list[str]
    files: list[str]
    skip: Mapping[str, tuple[int, list[int]]]


def find_part(
    dataset: Dataset, spec: FeatureSpec, wanted: set[str], cur_shard: int | None = None, shard_count: int | None = None
) -> Part:
    """Find tracks in the files of a dataset.

    Parameters
    ----------
    dataset : Dataset
    spec : FeatureSpec
    wanted : set of str
        Ids of tracks.
    cur_shard, shard_count : int, optional
        Of `shard_count` shares, as even as can be, take the one of this number.

    Raises
    ------
    DatasetError
        If a file may hold pickled code, or lacks a column or a track's segments.
    FeedError
        If no track is wanted, one is not there or stands there twice, or the shares are impossible.
    """
    if not wanted:
        raise FeedError(f"{dataset}: no track is asked for; check the split and the genres of its tracks")
    shard, n_shards = _checked_shard(cur_shard, shard_count, len(wanted))
    files = dataset.files()
    if not files:
        raise FeedError(
            f"{dataset}: holds no file with features; extract it with `genre-spark extract --out {dataset}`"
        )
    refuse_pickles(files)
    tracks_in = {file: read_track_ids(file, spec) for file in files}
    file_of: dict[str, str] = {}
    for file, track_ids in tracks_in.items():
        for track_id in track_ids:
            if track_id in file_of:
                raise FeedError(
                    f"{masked(file)}: track {track_id!r} stands in {masked(file_of[track_id])} too; extract again"
                )
            file_of[track_id] = file
    missing = sorted(wanted - set(file_of))
    if missing:
        raise FeedError(
            f"{dataset}: {len(missing)} of {len(wanted)} tracks have no features, among them {missing[0]!r}; "
            "make the split from the dataset's own tracks"
        )
    chosen = [track_id for track_id in file_of if track_id in wanted]
    # Neighbours in the files make a share: it then reads few row groups that belong to others.
    chosen = chosen[shard * len(chosen) // n_shards : (shard + 1) * len(chosen) // n_shards]
    of_share = set(chosen)
    needed = [file for file in files if not of_share.isdisjoint(tracks_in[file])]
    per_track = len(spec.segment_starts_s)
    return Part(
        chosen, needed, {file: _row_groups_without(of_share, file, tracks_in[file], per_track) for file in needed}
    )


def _checked_shard(cur_shard: int | None, shard_count: int | None, n_tracks: int) -> tuple[int, int]:
    if cur_shard is None and shard_count is None:
        return 0, 1
    if cur_shard is None or shard_count is None or not 0 <= cur_shard < shard_count:
        raise FeedError(f"cur_shard={cur_shard} must be one of 0 to shard_count - 1, and shard_count={shard_count}")
    if shard_count > n_tracks:
        raise FeedError(f"shard_count={shard_count} is more than the {n_tracks} tracks of the part; lower it")
    return cur_shard, shard_count


def _row_groups_without(wanted: set[str], file: str, track_ids: Sequence[str], per_track: int) -> tuple[int, list[int]]:
    with open_parquet(file) as parquet:
        metadata = parquet.metadata
        ends = np.cumsum([metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)])
    rows = np.repeat([track_id in wanted for track_id in track_ids], per_track)
    needed = np.searchsorted(ends, np.flatnonzero(rows), side="right")
    return len(ends), sorted(set(range(len(ends))).difference(needed.tolist()))
