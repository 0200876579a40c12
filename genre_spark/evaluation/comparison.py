"""The same model under two splits: one that lets it know the artists it is judged on, and one that doesn't."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from genre_spark.evaluation.summary import SummaryRow


@dataclass(frozen=True)
class Comparison:
    """Accuracies of one model on the same tracks, split in two ways.

    Parameters
    ----------
    model : str
    leaking, disjoint : SummaryRow
        A run whose judged tracks share artists, albums or recordings with its training tracks, and one where none does.
    difference : float
        Accuracy of `leaking` minus that of `disjoint`.
    interval : tuple of float
        95 % interval of the difference.
    """

    model: str
    leaking: SummaryRow
    disjoint: SummaryRow
    difference: float
    interval: tuple[float, float]


def compare_splits(rows: Sequence[SummaryRow]) -> list[Comparison]:
    """Pair the runs that differ in the split alone: every leaking one with the first disjoint one of its model.

    Runs are of the same kind when model, feature, track table and genres are the same.
    """
    comparisons = []
    for leaking in rows:
        if not leaking.leaks.kinds["group"].judged_with_fellow:
            continue
        disjoint = next(
            (
                row
                for row in rows
                if row.same_task == leaking.same_task and not row.leaks.kinds["group"].judged_with_fellow
            ),
            None,
        )
        if disjoint is not None:
            comparisons.append(
                Comparison(
                    model=leaking.model,
                    leaking=leaking,
                    disjoint=disjoint,
                    difference=leaking.accuracy - disjoint.accuracy,
                    interval=difference_interval(
                        leaking.accuracy, leaking.interval, disjoint.accuracy, disjoint.interval
                    ),
                )
            )
    return comparisons


def difference_interval(
    first: float, first_interval: tuple[float, float], second: float, second_interval: tuple[float, float]
) -> tuple[float, float]:
    """Interval of the difference of two proportions from the interval of each.

    R. G. Newcombe 1998, "Interval estimation for the difference between independent proportions", method 10 (Wilson's
    intervals without continuity correction).

    Parameters
    ----------
    first, second : float
        Proportions of two samples that have nothing to do with each other.
    first_interval, second_interval : tuple of float
        Wilson's interval of each.

    Returns
    -------
    tuple of float
        Lower and upper end of the interval of ``first - second``.
    """
    (first_low, first_high), (second_low, second_high) = first_interval, second_interval
    difference = first - second
    return (
        difference - math.hypot(first - first_low, second_high - second),
        difference + math.hypot(first_high - first, second - second_low),
    )
