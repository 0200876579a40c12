"""What a model takes for what: the pairs of genres that it confuses most, with the tracks that it is surest of.

`RUN/evaluation/confused.parquet` is bounded: at most `PAIRS` pairs of a true and a predicted genre, with at most
`TRACKS_PER_PAIR` tracks each, whatever the size of the dataset.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from genre_spark.errors import RunError
from genre_spark.evaluation.metrics_file import evaluate_bundle_again, evaluate_run_again
from genre_spark.files import check_ordinary
from genre_spark.models.run import EVALUATION

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

CONFUSED = "confused.parquet"

PAIRS = 10
TRACKS_PER_PAIR = 5

# `rank` 1 is the track of its pair that the model gave the wrong genre the highest probability of. The probabilities
# are calibrated; `artist` is null where it isn't known.
CONFUSED_SCHEMA = pa.schema(
    [
        ("true", pa.string()),
        ("predicted", pa.string()),
        ("pair_count", pa.int64()),
        ("rank", pa.int32()),
        ("track_id", pa.string()),
        ("uri", pa.string()),
        ("artist", pa.string()),
        ("p_true", pa.float32()),
        ("p_predicted", pa.float32()),
    ]
)


@dataclass(frozen=True)
class ConfusedPair:
    """Tracks of one genre that a model takes for another one.

    Parameters
    ----------
    true, predicted : int
        Row and column of the confusion matrix.
    count : int
        Tracks, at least one.
    """

    true: int
    predicted: int
    count: int


def confused_pairs(confusion: np.ndarray, labels: Sequence[str], *, most: int = PAIRS) -> list[ConfusedPair]:
    """Find the pairs of genres with most tracks off the diagonal.

    Parameters
    ----------
    confusion : np.ndarray [shape=(genres, genres)]
        Counts, rows true, columns predicted.
    labels : sequence of str
        Genres in the order of the rows; they decide between pairs with as many tracks.
    most : int
        Pairs at most.

    Returns
    -------
    list of ConfusedPair
        By falling count, then by the names of the true and the predicted genre; none without a mistake.
    """
    rows, columns = np.nonzero(confusion * ~np.eye(len(labels), dtype=bool))
    pairs = [
        ConfusedPair(true, predicted, int(confusion[true, predicted]))
        for true, predicted in zip(rows.tolist(), columns.tolist(), strict=True)
    ]
    return sorted(pairs, key=lambda pair: (-pair.count, labels[pair.true], labels[pair.predicted]))[:most]


def confused_tracks(predictions: "DataFrame", pairs: Sequence[ConfusedPair], labels: Sequence[str]) -> "DataFrame":
    """Choose the tracks of each pair whose wrong genre got the highest probability.

    Parameters
    ----------
    predictions : DataFrame
        The judged tracks: `track_id`, `uri`, `artist`, `genre`, `predicted`, `probabilities`.
    pairs : sequence of ConfusedPair
        From `confused_pairs`.
    labels : sequence of str
        Genres in the order of the probabilities.

    Returns
    -------
    DataFrame
        Columns of `CONFUSED_SCHEMA`, in one partition: by falling `pair_count`, then by the names of the genres and by
        `rank`. Tracks of the same probability stand in the order of their ids.
    """
    from pyspark.sql import Window
    from pyspark.sql import functions as F  # noqa: N812 - as everybody calls it

    chosen = pa.table(
        {
            "genre": pa.array([labels[pair.true] for pair in pairs], pa.string()),
            "predicted": pa.array([labels[pair.predicted] for pair in pairs], pa.string()),
            "pair_count": pa.array([pair.count for pair in pairs], pa.int64()),
            # Spark counts the elements of an array from 1.
            "at_true": pa.array([pair.true + 1 for pair in pairs], pa.int32()),
            "at_predicted": pa.array([pair.predicted + 1 for pair in pairs], pa.int32()),
        }
    )
    surest = Window.partitionBy("true", "predicted").orderBy(F.desc("p_predicted"), "track_id")
    mistaken = predictions.join(
        F.broadcast(predictions.sparkSession.createDataFrame(chosen)), on=["genre", "predicted"], how="inner"
    ).select(
        F.col("genre").alias("true"),
        "predicted",
        "pair_count",
        "track_id",
        "uri",
        "artist",
        F.expr("element_at(probabilities, at_true)").alias("p_true"),
        F.expr("element_at(probabilities, at_predicted)").alias("p_predicted"),
    )
    return (
        mistaken.withColumn("rank", F.row_number().over(surest))
        .where(F.col("rank") <= TRACKS_PER_PAIR)
        .select(*CONFUSED_SCHEMA.names)
        .coalesce(1)
        .sortWithinPartitions(F.desc("pair_count"), "true", "predicted", "rank")
    )


def read_confused(run: Path) -> pa.Table | None:
    """Read the tracks behind the most confused pairs of a run.

    Parameters
    ----------
    run : Path
        The run folder.

    Returns
    -------
    pa.Table or None
        Columns of `CONFUSED_SCHEMA`, in the order that `confused_tracks` gives; without a row where the model made no
        mistake. None where the run has no such table: an older version evaluated it, or none did.

    Raises
    ------
    RunError
        If it is damaged, has other columns, or more rows than one has.
    """
    return read_confused_of(run / EVALUATION, again=evaluate_run_again(run))


def read_confused_of(folder: Path, *, again: str | None = None) -> pa.Table | None:
    """Read the tracks behind the most confused pairs from the folder of an evaluation, as `read_confused` does.

    Parameters
    ----------
    folder : Path
        What `genre-spark evaluate --bundle` wrote, or `evaluation/` of a run.
    again : str, optional
        What an error tells to run; by default, what makes the evaluation of a bundle.

    Raises
    ------
    RunError
        As `read_confused` does.
    """
    path = folder / CONFUSED
    if not path.exists():
        return None
    again = f"{again or evaluate_bundle_again(folder)} again"
    tables, most = [], PAIRS * TRACKS_PER_PAIR
    try:
        # Spark writes a folder of files.
        for file in sorted(path.glob("[!._]*.parquet")):
            check_ordinary(file)
            with pq.ParquetFile(file) as parquet:
                found = parquet.schema_arrow
                # Spark knows of some columns that they hold no null.
                if _columns(found) != _columns(CONFUSED_SCHEMA):
                    raise RunError(f"{file}: has columns {_columns(found)}, not {_columns(CONFUSED_SCHEMA)}; {again}")
                if parquet.metadata.num_rows > most:
                    raise RunError(f"{file}: has {parquet.metadata.num_rows:,} rows, more than {most}; {again}")
                tables.append(parquet.read().cast(CONFUSED_SCHEMA))
        # A file may say that it is text, and hold something else.
        for table in tables:
            table.validate(full=True)
    except (OSError, pa.ArrowException, ValueError) as error:
        raise RunError(f"{path}: can't be read: {' '.join(str(error).split())}; {again}") from None
    if not tables:
        raise RunError(f"{path}: holds no Parquet file; {again}")
    return pa.concat_tables(tables)


def _columns(schema: pa.Schema) -> str:
    return ", ".join(f"{field.name} {field.type}" for field in schema)
