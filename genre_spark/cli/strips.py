"""A timeline in a few lines of text: stretches of one genre, and the course of a probability in block characters."""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from genre_spark.models.timeline import Moment

# Nothing, and an eighth to eight eighths of a line's height.
_LEVELS = " ▁▂▃▄▅▆▇█"
# Leads where no genre is sure.
_NOBODY = -1


class Stretch(NamedTuple):
    """Time in which one genre leads, or none is sure, and the mean probability of each genre in it."""

    start_s: float
    end_s: float
    genre: str | None
    probabilities: dict[str, float]


def stretches(moments: Sequence[Moment], *, sure_from: float = 0.0, most: int = 24) -> list[Stretch]:
    """Join neighbouring moments with the same most probable genre.

    Parameters
    ----------
    moments : sequence of Moment
        Of one file. Where two of them overlap, each stands for its half of what they share.
    sure_from : float
        Probability below which no genre leads.
    most : int
        Where it would be more stretches than that, neighbours are taken together, and whoever leads most of them leads.
    """
    genres, p, edges = list(moments[0].probabilities), _matrix(moments), _edges(moments)
    leading = np.where(p.max(axis=1) >= sure_from, p.argmax(axis=1), _NOBODY)
    found = _joined(genres, p, edges, leading)
    if len(found) > most:
        groups = np.array_split(np.arange(len(p)), most)
        edges = np.array([*(edges[group[0]] for group in groups), edges[-1]])
        leading = np.array([_most_frequent(leading[group], p[group]) for group in groups])
        found = _joined(genres, np.array([p[group].mean(axis=0) for group in groups]), edges, leading)
    return found


def mean_probabilities(moments: Sequence[Moment]) -> dict[str, float]:
    """Mean over the moments, of each genre."""
    return dict(zip(moments[0].probabilities, map(float, _matrix(moments).mean(axis=0)), strict=True))


def strip(moments: Sequence[Moment], genre: str, columns: int) -> str:
    """Draw the course of a genre's probability.

    Parameters
    ----------
    moments : sequence of Moment
        Of one file.
    genre : str
    columns : int
        Characters, each as long as the others. A full block is a probability of 1.
    """
    p = np.array([moment.probabilities[genre] for moment in moments])
    edges = _edges(moments)
    if len(p) > columns:
        values = np.array([group.mean() for group in np.array_split(p, columns)])
    else:
        middles = edges[0] + (np.arange(columns) + 0.5) / columns * (edges[-1] - edges[0])
        values = p[np.searchsorted(edges[1:-1], middles, side="right")]
    return "".join(_LEVELS[round(8 * float(value))] for value in values)


def clock(seconds: float) -> str:
    """Write a time as a player does: 3:07, 1:02:59."""
    minutes, whole = divmod(int(seconds + 0.5), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{whole:02}" if hours else f"{minutes}:{whole:02}"


def _matrix(moments: Sequence[Moment]) -> np.ndarray:
    return np.array([list(moment.probabilities.values()) for moment in moments])


def _edges(moments: Sequence[Moment]) -> np.ndarray:
    """Times between which each moment stands for the music."""
    between = [(one.end_s + other.start_s) / 2 for one, other in pairwise(moments)]
    return np.array([moments[0].start_s, *between, moments[-1].end_s])


def _most_frequent(leading: np.ndarray, p: np.ndarray) -> int:
    """Who leads most often, and of those who do so equally often the most probable one."""
    votes = np.bincount(leading + 1, minlength=p.shape[1] + 1).astype(float)
    votes[1:] += p.mean(axis=0) / 2
    return int(votes.argmax()) - 1


def _joined(genres: Sequence[str], p: np.ndarray, edges: np.ndarray, leading: np.ndarray) -> list[Stretch]:
    firsts = [0, *(np.flatnonzero(leading[1:] != leading[:-1]) + 1)]
    found = []
    for first, end in zip(firsts, [*firsts[1:], len(p)], strict=True):
        genre = None if leading[first] == _NOBODY else genres[leading[first]]
        mean = map(float, p[first:end].mean(axis=0))
        found.append(Stretch(float(edges[first]), float(edges[end]), genre, dict(zip(genres, mean, strict=True))))
    return found
