"""What Spark counts in predictions, so that no track's row comes to the driver."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from genre_spark.evaluation.effective_sample import GroupCounts
from genre_spark.models.reliability import BINS, ReliabilityBin

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


@dataclass(frozen=True)
class Counted:
    """How many tracks of which genre got which answer.

    Parameters
    ----------
    confusions : mapping of str to np.ndarray [shape=(genres, genres)]
        The confusion matrix of each part, rows true, columns predicted.
    unseen : mapping of str to int
        Tracks of genres that the model doesn't know, by genre, most tracks first. They stand in no part.
    unlabelled : int
        Tracks without a genre.
    """

    confusions: Mapping[str, np.ndarray]
    unseen: Mapping[str, int]
    unlabelled: int


def count_answers(predictions: "DataFrame", labels: Sequence[str]) -> Counted:
    """Count tracks by part, true and predicted genre.

    Parameters
    ----------
    predictions : DataFrame
        `part`, `genre`, `predicted`.
    labels : sequence of str
        Genres in the order of the matrices' rows.
    """
    from pyspark.sql import functions as F  # noqa: N812 - as everybody calls it

    index = {label: position for position, label in enumerate(labels)}
    confusions: dict[str, np.ndarray] = {}
    in_parts = predictions.where("part is not null").groupBy("part", "genre", "predicted").count()
    for part, genre, predicted, count in _rows(in_parts):
        confusion = confusions.setdefault(part, np.zeros((len(labels), len(labels)), np.int64))
        confusion[index[genre], index[predicted]] = count
    outside = dict(_rows(predictions.where("part is null").groupBy("genre").agg(F.count("*"))))
    unlabelled = outside.pop(None, 0)
    return Counted(confusions, dict(sorted(outside.items(), key=lambda item: (-item[1], item[0]))), unlabelled)


def count_groups(judged: "DataFrame") -> list[GroupCounts]:
    """Count how many groups have as many tracks, and as many of them right.

    Parameters
    ----------
    judged : DataFrame
        The judged tracks: `group`, `genre`, `predicted`.

    Returns
    -------
    list of GroupCounts
        Far fewer than groups: of a million tracks there can't be more than about ten thousand kinds.
    """
    from pyspark.sql import functions as F  # noqa: N812 - as everybody calls it

    of_groups = judged.groupBy("group").agg(
        F.count("*").alias("n"), F.expr("count_if(genre = predicted)").alias("hits")
    )
    return [
        GroupCounts(n=n, hits=hits, groups=groups) for n, hits, groups in _rows(of_groups.groupBy("n", "hits").count())
    ]


def count_reliability(judged: "DataFrame") -> list[ReliabilityBin]:
    """Count as `genre_spark.models.reliability.reliability_table` does; at most `BINS` rows come back.

    Parameters
    ----------
    judged : DataFrame
        The judged tracks: `genre`, `predicted`, `probabilities`.
    """
    from pyspark.sql import functions as F  # noqa: N812 - as everybody calls it

    bins = (
        # A softmax in float32 may give a hair more than 1.
        judged.selectExpr("least(double(array_max(probabilities)), 1d) as confidence", "int(genre = predicted) as hit")
        .groupBy(F.expr(f"greatest(ceil(confidence * {BINS}) - 1, 0)").alias("number"))
        # Decimals add up to the same sum in every order, so that an evaluation gives the same numbers each time.
        .agg(F.expr("count(*)"), F.expr("sum(cast(confidence as decimal(11, 10)))"), F.expr("sum(hit)"))
        .orderBy("number")
    )
    return [
        ReliabilityBin(
            low=number / BINS, high=(number + 1) / BINS, n=n, confidence=float(confidence / n), accuracy=hits / n
        )
        for number, n, confidence, hits in bins.collect()
    ]


def _rows(counts: "DataFrame") -> Iterator[tuple]:
    """Values of a table of counts, row by row; as Arrow, as thousands of genres make a million cells."""
    for batch in counts.toArrow().to_batches(max_chunksize=10_000):
        yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)
