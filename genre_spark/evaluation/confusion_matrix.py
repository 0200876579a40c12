"""What is shown of a confusion matrix: all of a small one; of a large one the genres that are confused most."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# More rows and columns nobody reads, and a page or a picture of thousands of genres would never open.
MOST_SHOWN = 40


@dataclass(frozen=True, eq=False)
class ShownMatrix:
    """The rows and columns that are shown.

    Parameters
    ----------
    labels : list of str
        Genres that have a row and a column of their own, in the order of the matrix.
    counts : np.ndarray [shape=(rows, rows)]
        Rows true, columns predicted. Where genres are left out, the last row and the last column hold them all, so that
        every row still adds up to the tracks of its genre.
    left_out : int
        Number of genres in the last row and column; 0 where all are shown.
    """

    labels: list[str]
    counts: np.ndarray
    left_out: int

    @property
    def names(self) -> list[str]:
        """Headings of the rows."""
        return [*self.labels, f"{self.left_out:,} others"] if self.left_out else self.labels


def most_confused(confusion: np.ndarray, labels: Sequence[str], *, most: int = MOST_SHOWN) -> ShownMatrix:
    """Choose the genres with most mistakes, as true or predicted genre; between equals those with most tracks.

    Parameters
    ----------
    confusion : np.ndarray [shape=(genres, genres)]
        Counts, rows true, columns predicted.
    labels : sequence of str
        Genres in the order of the rows.
    most : int
        Largest number of genres with a row of their own.
    """
    counts = np.asarray(confusion)
    if len(labels) <= most:
        return ShownMatrix(list(labels), counts, 0)
    support, predicted, hits = counts.sum(axis=1), counts.sum(axis=0), np.diag(counts)
    # The last key counts first; equal in both, genres stay in their order.
    ranked = np.lexsort((np.arange(len(labels)), -support, 2 * hits - support - predicted))
    shown, rest = np.sort(ranked[:most]), np.sort(ranked[most:])
    joined = np.block(
        [
            [counts[np.ix_(shown, shown)], counts[np.ix_(shown, rest)].sum(axis=1, keepdims=True)],
            [counts[np.ix_(rest, shown)].sum(axis=0, keepdims=True), counts[np.ix_(rest, rest)].sum(keepdims=True)],
        ]
    )
    return ShownMatrix([labels[index] for index in shown], joined, len(rest))
