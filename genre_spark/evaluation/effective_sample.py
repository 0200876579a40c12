"""How many tracks that are independent of each other a sample of whole artists is worth.

Tracks of one artist are right or wrong together, so that n of them tell less of other artists' tracks than n tracks of
n artists would: as much as n divided by the design effect (L. Kish 1965, "Survey Sampling", section 5.4). An interval
of the proportion follows from that number, with the t quantile of the number of groups (E. L. Korn and B. I. Graubard
1998, "Confidence intervals for proportions with small expected number of positive counts estimated from survey data",
Survey Methodology 24). Drawing artists anew would do the same where there are many; of ten, or where nearly all tracks
are right, its percentiles are far too near to each other, and equal where all are.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# Of fewer artists than that, a spread between them is hardly known: of one, not at all.
FEWEST_GROUPS = 10


@dataclass(frozen=True)
class GroupCounts:
    """Groups that are alike.

    Parameters
    ----------
    n, hits : int
        Judged tracks of each of them, and those that were right.
    groups : int
        How many there are.
    """

    n: int
    hits: int
    groups: int


@dataclass(frozen=True)
class EffectiveSample:
    """Independent tracks that would tell as much as the judged ones do.

    Parameters
    ----------
    hits, n : float
        Right ones, and all of them; no more than were judged.
    quantile : float
        97.5 % quantile of Student's t distribution with one degree of freedom less than there are groups: what stands
        in an interval for that of the normal one.
    """

    hits: float
    n: float
    quantile: float


def effective_sample(counts: Sequence[GroupCounts]) -> EffectiveSample | None:
    """Work out from groups of tracks what they are worth.

    Parameters
    ----------
    counts : sequence of GroupCounts
        Each (n, hits) once.

    Returns
    -------
    EffectiveSample or None
        Share of hits as in all tracks together, whatever the groups; as many tracks as a simple random sample needs for
        the variance between the groups (linearized, of a ratio), and as many as groups where they don't vary at all.
        None of fewer than `FEWEST_GROUPS` groups.
    """
    from scipy.special import stdtrit  # the inverse of Student's t; scipy.stats takes a second to import

    n_groups = sum(found.groups for found in counts)
    if n_groups < FEWEST_GROUPS:
        return None
    # In one order, whoever counted: sums of floats depend on it.
    ordered = sorted(counts, key=lambda found: (found.n, found.hits))
    n = np.array([found.n for found in ordered], np.float64)
    hits = np.array([found.hits for found in ordered], np.float64)
    groups = np.array([found.groups for found in ordered], np.float64)
    judged = groups @ n
    share = groups @ hits / judged
    variance = n_groups / (n_groups - 1) * (groups @ (hits - share * n) ** 2) / judged**2
    # Groups that don't differ at all may differ by a hair in floating point.
    alike = variance <= np.finfo(float).eps ** 2
    size = float(n_groups if alike else min(judged, share * (1 - share) / variance))
    return EffectiveSample(hits=float(share * size), n=size, quantile=float(stdtrit(n_groups - 1, 0.975)))
