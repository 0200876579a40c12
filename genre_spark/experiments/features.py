"""A feature of all tracks in memory, for methods that want one row of numbers for a track or a segment."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from genre_spark.dataset.rows import tensors_of
from genre_spark.dataset.segments import row_columns, whole_tracks
from genre_spark.dataset.store import Dataset
from genre_spark.dataset.table_files import open_parquet
from genre_spark.errors import ExperimentError
from genre_spark.features.spec import FeatureSpec


@dataclass(frozen=True, eq=False)
class Rows:
    """Numbers of tracks.

    Parameters
    ----------
    track_ids : list of str
        Sorted.
    x : np.ndarray [shape=(tracks, segments, numbers), dtype=float32]
        One segment where the feature is of whole clips.
    """

    track_ids: list[str]
    x: np.ndarray

    def of(self, track_ids: list[str]) -> np.ndarray:
        """Rows of some tracks `[shape=(len(track_ids), segments, numbers)]`, in their order."""
        place = {track_id: position for position, track_id in enumerate(self.track_ids)}
        return self.x[[place[track_id] for track_id in track_ids]]


def read_rows(dataset: Dataset, feature: str) -> Rows:
    """Read a summary feature.

    Raises
    ------
    ExperimentError
        If it is no summary: its tensor has more axes than one.
    DatasetError
        If the dataset lacks it, or can't be read.
    """
    spec = dataset.spec(feature)
    if len(spec.shape) != 1:
        raise not_a_summary(dataset, spec)
    track_ids: list[str] = []
    parts: list[np.ndarray] = []
    for file in dataset.files():
        with open_parquet(file) as parquet:
            rows: pa.Table = parquet.read(columns=[*row_columns(spec), feature])
        of_file = whole_tracks(rows, spec.segments, file)
        track_ids += of_file
        parts.append(tensors_of(rows[feature], spec).reshape(len(of_file), len(spec.segment_starts_s), -1))
    x = np.concatenate(parts)
    order = np.argsort(track_ids, kind="stable")
    return Rows([track_ids[position] for position in order], x[order])


def not_a_summary(dataset: Dataset, spec: FeatureSpec) -> ExperimentError:
    """The error to raise for a feature whose tensor has more axes than one."""
    return ExperimentError(
        f"{dataset}: {spec.name} is of shape {spec.shape}; scikit-learn's methods want a summary, for instance "
        "fma_518, mfcc_mean, or a spec of your own with `summary: [mean, std]`"
    )
