"""What a job makes of tracks: rows of features, or (see `genre_spark.models.library`) of predictions."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from genre_spark.dataset.part import Part
from genre_spark.dataset.rows import ROW_SCHEMA, feature_schema
from genre_spark.dataset.segments import common_segments
from genre_spark.dataset.store import Predictor
from genre_spark.errors import DatasetError
from genre_spark.features.spec import FeatureSpec
from genre_spark.settings import Settings


@dataclass(frozen=True)
class Features:
    """Rows with a tensor for each spec, one per track or segment.

    Parameters
    ----------
    specs : sequence of FeatureSpec

    Raises
    ------
    DatasetError
        If they cut clips in different ways, or one is named like a column that every dataset has.
    """

    specs: Sequence[FeatureSpec]

    def __post_init__(self) -> None:
        common_segments(self.specs)
        for spec in self.specs:
            if spec.name in ROW_SCHEMA.names:
                raise DatasetError(f"feature {spec.name!r}: every dataset has a column of this name; take another")

    @property
    def predictor(self) -> Predictor | None:
        """Model whose predictions the rows hold, if that is what they hold."""
        return None

    @property
    def rows_per_track(self) -> int:
        """Rows of a track that could be read."""
        return len(self.specs[0].segment_starts_s)

    @property
    def bytes_per_track(self) -> int:
        """Bytes of the numbers of a track."""
        return sum(4 * math.prod(spec.shape) * len(spec.segment_starts_s) for spec in self.specs)

    def schema(self) -> pa.Schema:
        """Columns of the rows."""
        return feature_schema(self.specs)

    def part(self, work: str, settings: Settings) -> Part:
        """Make the function of the tasks that work in the folder `work`."""
        return Part(
            work=work,
            specs=self.specs,
            audio=settings.audio,
            tracks_per_row_group=settings.extract.tracks_per_row_group,
            by_hash=settings.extract.changed_by == "hash",
        )
